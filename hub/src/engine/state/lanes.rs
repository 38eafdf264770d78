//! What comes into the lanes: units of the log, seen ahead, back from parking, or replayed.
//! Between the reader and the head of a lane.
//! Must never let a subject's unit past one of it that is parked.
//! Read next: `engine/state/runs.rs`.

use std::collections::HashMap;

use super::{
    AfterImage, Decision, Engine, Item, OpenUnit, Origin, Parking, Phase, UnitIn, Work, turn,
};
use crate::event::{Stream, Subject};
use crate::store::{Cursor, UnitKey};

impl<P: Clone + AfterImage> Engine<P> {
    pub(super) fn offer(&mut self, unit: UnitIn<P>, decisions: &mut Vec<Decision<P>>) {
        let UnitIn {
            stream,
            sequence,
            first,
            after,
            works,
        } = unit;
        self.track(stream).frontier = Cursor {
            position: after,
            sequence: sequence + 1,
        };
        let open: Vec<Work<P>> = works
            .into_iter()
            .filter(|work| !self.ahead.remove(&work.key))
            .collect();
        if open.is_empty() {
            return;
        }
        self.track(stream).open.insert(
            sequence,
            OpenUnit {
                first,
                left: open.len(),
            },
        );
        for work in open {
            // Protection that was seen ahead of the reader is under way already.
            if self.by_key.contains_key(&work.key) {
                continue;
            }
            if self.stands_behind_parked(&work) {
                self.set_parked(&work);
                self.settle(work.key);
                // After a restart: what went as a run before is parked one by one.
                self.close_run(work.key, decisions);
                let attempt = self.attempts.remove(&work.key).unwrap_or(0);
                decisions.push(Decision::Park {
                    work,
                    attempt,
                    parking: Parking::Waiting,
                });
            } else {
                self.enqueue(work, Origin::Log);
            }
        }
    }

    pub(super) fn offer_ahead(&mut self, works: Vec<Work<P>>) {
        for work in works {
            let known = self.by_key.contains_key(&work.key) || self.ahead.contains(&work.key);
            if work.protection && !known {
                self.enqueue(work, Origin::Log);
            }
        }
    }

    pub(super) fn offer_parked(
        &mut self,
        works: Vec<Work<P>>,
        left: HashMap<Subject, UnitKey>,
        decisions: &mut Vec<Decision<P>>,
    ) {
        for work in &works {
            for subject in &work.subjects {
                self.parked.remove(subject);
            }
        }
        self.parked.extend(left);
        self.offer_again(works, Origin::Parked, decisions);
    }

    pub(super) fn offer_again(
        &mut self,
        works: Vec<Work<P>>,
        origin: Origin,
        decisions: &mut Vec<Decision<P>>,
    ) {
        for work in works {
            // Asked for twice, it is delivered once; what lies parked comes back as parked.
            if self.holds(work.key) {
                continue;
            }
            let again = origin == Origin::Replay;
            if again && self.stands_behind_parked(&work) {
                // What was refused of a replay must not end as the product's last state.
                decisions.push(Decision::Park {
                    work,
                    attempt: 0,
                    parking: Parking::Waiting,
                });
            } else if !again || !self.is_parked(&work) {
                self.enqueue(work, origin);
            }
        }
    }

    fn is_parked(&self, work: &Work<P>) -> bool {
        let mut subjects = work.subjects.iter();
        subjects.any(|subject| self.parked.contains_key(subject))
    }

    /// Only units before the first parked one of a stream go on: they were open when the former
    /// engine ended.
    fn stands_behind_parked(&self, work: &Work<P>) -> bool {
        let behind = |first: &UnitKey| first.stream != work.key.stream || *first < work.key;
        !work.protection
            && work
                .subjects
                .iter()
                .any(|subject| self.parked.get(subject).is_some_and(behind))
    }

    pub(super) fn set_parked(&mut self, work: &Work<P>) {
        for subject in &work.subjects {
            let first = self.parked.entry(subject.clone()).or_insert(work.key);
            *first = work.key.min(*first);
        }
    }

    pub(super) fn enqueue(&mut self, work: Work<P>, origin: Origin) {
        let id = self.next_item;
        self.next_item += 1;
        self.by_key.insert(work.key, id);
        self.track(work.key.stream).items += 1;
        let was_sent = self.in_run.contains_key(&work.key);
        for subject in &work.subjects {
            let lane_key = (subject.clone(), work.protection);
            let lane = self.lanes.entry(lane_key).or_default();
            // What a former engine sent as a run stood first then, and does so again, in whatever
            // order the streams are read.
            let of_run = |id: &u64| {
                let item = self.items.get(id);
                item.is_some_and(|item| self.in_run.contains_key(&item.work.key))
            };
            let place = match was_sent {
                true => lane.iter().take_while(|id| of_run(id)).count(),
                false => lane.len(),
            };
            let head = lane.front().copied().filter(|_| place == 0);
            lane.insert(place, id);
            if let Some((head, item)) = head.and_then(|id| Some((id, self.items.get(&id)?))) {
                self.ready.remove(&turn(item, head));
            }
        }
        let attempt = self.attempts.remove(&work.key).unwrap_or(0);
        let doubted = self.doubted.remove(&work.key);
        let sent = origin != Origin::Replay && self.may_be_sent(work.key);
        let unknown = attempt > 0 || doubted || sent;
        self.items.insert(
            id,
            Item {
                work,
                phase: Phase::Queued,
                attempt,
                origin,
                unknown,
                not_before: 0,
            },
        );
        self.consider(id);
    }

    fn may_be_sent(&self, key: UnitKey) -> bool {
        let [live, bulk] = self.maybe_sent;
        let before = if key.stream == Stream::Live {
            live
        } else {
            bulk
        };
        key.sequence < before
    }
}
