//! What an answer leads to: done, parked with all behind it, tried again, or paused.
//! Between a receipt and the next start.
//! Must never park what stands before a refused unit, nor what is on its way to the product.
//! Read next: `engine/tests/parking.rs`.

use std::collections::HashMap;

use super::{
    AfterImage, Answered, Decision, Engine, Item, OnUnknown, Origin, Parking, Phase, Refusal,
};
use crate::event::Subject;
use crate::limits::{
    RETRY_AFTER_MAX, RETRY_ATTEMPTS_MAX, RETRY_BASE, RETRY_MAX, RETRY_QUICK_ATTEMPTS, RETRY_SLOW,
    SET_ASIDE_AFTER,
};
use crate::store::{PausedBy, RunRow, UnitKey};
use musubi_proto::hub::v1::Outcome;

/// Reason of a unit about which the adapter said nothing.
const NO_RECEIPT: &str = "NO_RECEIPT";
/// Reason of a binding that the engine stops.
const SAME_REFUSAL: &str = "SAME_REFUSAL";

/// When and with which luck a step happens.
#[derive(Clone, Copy)]
struct Moment {
    now_ms: i64,
    jitter: f64,
    delivery: u64,
}

impl<P: Clone + AfterImage> Engine<P> {
    pub(super) fn answered(
        &mut self,
        delivery: u64,
        answers: Vec<(UnitKey, Answered)>,
        now_ms: i64,
        jitter: f64,
        decisions: &mut Vec<Decision<P>>,
    ) {
        // A second receipt for the same delivery finds nothing and changes nothing.
        let Some(lease) = self.end_lease(delivery) else {
            return;
        };
        let mut answers: HashMap<UnitKey, Answered> = answers.into_iter().collect();
        self.supersede(&lease.ids, &mut answers);
        let retried = answers.values().all(|answer| {
            matches!(
                answer,
                Answered::Retry { .. } | Answered::Unknown(_) | Answered::Pause(_)
            )
        });
        let moment = Moment {
            now_ms,
            jitter,
            delivery,
        };
        // First what ended: a refusal parks what stands behind it, but not what was applied.
        let (ended, open): (Vec<u64>, Vec<u64>) = lease.ids.into_iter().partition(|id| {
            let item = self.items.get(id);
            let answer = item.and_then(|item| answers.get(&item.work.key));
            matches!(answer, Some(Answered::Final(..)))
        });
        for id in ended.into_iter().chain(open) {
            let Some(item) = self.items.get(&id) else {
                continue;
            };
            let answer = answers.remove(&item.work.key);
            self.conclude(id, answer, moment, decisions);
        }
        // A run that is tried again as a whole keeps its composition.
        let kept = |stored: &RunRow| Some(&stored.id) == lease.run.as_ref();
        if !retried
            && let Some(first) = self.runs.values().find(|run| kept(run))
            && let Some(key) = first.keys.first().copied()
        {
            self.close_run(key, decisions);
        }
    }

    /// A delivery whose receipt never came: what it did is unknown. Its credit counts as given
    /// back, or an adapter that forgets receipts would stop its subscription.
    pub(super) fn expire(&mut self, now_ms: i64, jitter: f64, decisions: &mut Vec<Decision<P>>) {
        while let Some(&(until, delivery)) = self.expiries.first() {
            if until > now_ms {
                return;
            }
            let Some(lease) = self.leased.get(&delivery) else {
                self.expiries.pop_first();
                continue;
            };
            let items = lease.ids.iter().filter_map(|id| self.items.get(id));
            let refusal = Refusal {
                reason: NO_RECEIPT.to_owned(),
                ..Refusal::default()
            };
            let answers = items
                .map(|item| (item.work.key, Answered::Unknown(refusal.clone())))
                .collect();
            self.credits = self.credits.saturating_add(1);
            self.answered(delivery, answers, now_ms, jitter, decisions);
        }
    }

    /// What a run's last unit of a subject says, once it was applied, need not be said again by
    /// those before it: whatever was answered for them, they are needless. An older state that
    /// went again behind it would overwrite it.
    fn supersede(&self, ids: &[u64], answers: &mut HashMap<UnitKey, Answered>) {
        let mut last: HashMap<&Subject, Option<&Item<P>>> = HashMap::new();
        for item in ids.iter().rev().filter_map(|id| self.items.get(id)) {
            let [subject] = item.work.subjects.as_slice() else {
                continue;
            };
            let answer = answers.get(&item.work.key);
            let Some(found) = last.get(subject) else {
                let applied = matches!(answer, Some(Answered::Final(outcome, _))
                    if *outcome == Outcome::Applied as i32);
                last.insert(subject, applied.then_some(item));
                continue;
            };
            let covered = found.is_some_and(|last| last.work.payload.covers(&item.work.payload));
            let reason = match answer {
                Some(Answered::Final(..) | Answered::Pause(_)) => continue,
                Some(Answered::Rejected(refusal) | Answered::Unknown(refusal)) => &refusal.reason,
                Some(Answered::Retry { refusal, .. }) => &refusal.reason,
                None => "",
            };
            if covered {
                let superseded = Answered::Final(Outcome::Superseded as i32, reason.to_owned());
                answers.insert(item.work.key, superseded);
            }
        }
    }

    fn conclude(
        &mut self,
        id: u64,
        answer: Option<Answered>,
        moment: Moment,
        decisions: &mut Vec<Decision<P>>,
    ) {
        match answer {
            Some(Answered::Final(outcome, reason)) => {
                self.pace.taken();
                self.is_back(moment.now_ms);
                if let Some(item) = self.remove(id) {
                    decisions.push(Decision::Done {
                        attempt: item.attempt,
                        origin: item.origin,
                        work: item.work,
                        outcome,
                        reason,
                    });
                }
            }
            Some(Answered::Rejected(refusal)) => self.refuse(id, refusal, moment, decisions),
            Some(Answered::Pause(reason)) => {
                // The word of an operator, or of the hub, is not replaced by the adapter's.
                if !self.stopped {
                    self.stopped = true;
                    decisions.push(Decision::Paused(PausedBy::Adapter, reason));
                }
                self.requeue(id, Phase::Queued);
            }
            Some(Answered::Retry { after_ms, refusal }) => {
                if let Some(item) = self.items.get_mut(&id) {
                    item.unknown = false;
                }
                self.put_off(id, after_ms, refusal, moment, decisions);
            }
            Some(Answered::Unknown(refusal)) if self.settings.on_unknown == OnUnknown::Park => {
                let reason = "OUTCOME_UNKNOWN".to_owned();
                let refusal = Refusal { reason, ..refusal };
                self.note_put_off(id, 0, moment);
                self.park(id, Parking::Refused(refusal), decisions);
            }
            Some(Answered::Unknown(refusal)) => {
                if let Some(item) = self.items.get_mut(&id) {
                    item.unknown = true;
                }
                self.put_off(id, 0, refusal, moment, decisions);
            }
            // Behind a refused unit of its run: parked with it already. Otherwise the adapter
            // said nothing about it.
            None => {
                let refusal = Refusal {
                    reason: NO_RECEIPT.to_owned(),
                    ..Refusal::default()
                };
                let unknown = Answered::Unknown(refusal);
                if self.items.contains_key(&id) {
                    self.conclude(id, Some(unknown), moment, decisions);
                }
            }
        }
    }

    /// The receiver answered: what it put off while it was down need not wait longer than it
    /// asked for.
    fn is_back(&mut self, now_ms: i64) {
        if !self.pace.ended() {
            return;
        }
        for (at, id) in std::mem::take(&mut self.due) {
            let not_before = self.items.get(&id).map_or(at, |item| item.not_before);
            self.requeue(id, Phase::Due(at.min(not_before.max(now_ms))));
        }
    }

    fn refuse(
        &mut self,
        id: u64,
        refusal: Refusal,
        moment: Moment,
        decisions: &mut Vec<Decision<P>>,
    ) {
        self.is_back(moment.now_ms);
        let Some(item) = self.items.get(&id) else {
            return;
        };
        let all_alike = self.pace.refused(&refusal, &item.work.subjects);
        if all_alike && self.stopped {
            // Refused after the binding was stopped for the same: it waits in its lane.
            self.requeue(id, Phase::Queued);
            return;
        }
        if all_alike {
            self.stopped = true;
            let reason = format!("{SAME_REFUSAL}: {} {}", refusal.reason, refusal.field);
            decisions.push(Decision::Paused(
                PausedBy::Hub,
                reason.trim_end().to_owned(),
            ));
        }
        self.park(id, Parking::Refused(refusal), decisions);
    }

    /// The receiver did not take a unit now: noted for the unit and for the receiver as a whole.
    fn note_put_off(&mut self, id: u64, after_ms: u64, moment: Moment) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        let Moment { now_ms, jitter, .. } = moment;
        let asked_ms = after_ms.min(RETRY_AFTER_MAX.as_millis() as u64) as i64;
        item.not_before = now_ms + asked_ms;
        let subjects = &item.work.subjects;
        self.pace
            .put_off(moment.delivery, subjects, asked_ms, now_ms, jitter);
    }

    fn put_off(
        &mut self,
        id: u64,
        after_ms: u64,
        refusal: Refusal,
        moment: Moment,
        decisions: &mut Vec<Decision<P>>,
    ) {
        let was_down = self.pace.is_down();
        self.note_put_off(id, after_ms, moment);
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        let Moment { now_ms, jitter, .. } = moment;
        if was_down {
            // The receiver, not this unit, is in trouble: its own schedule stands still.
            item.attempt = item.attempt.saturating_sub(1);
            let at = item.not_before;
            self.requeue(id, Phase::Due(at));
            return;
        }
        let (key, attempt) = (item.work.key, item.attempt);
        let delay = retry_delay_ms(attempt, after_ms, jitter);
        // Protection is never set aside or given up; nor is what may have reached the product,
        // which goes again with the same company.
        let stays = item.work.protection || item.unknown;
        let longest = SET_ASIDE_AFTER.as_millis() as i64;
        if attempt >= RETRY_ATTEMPTS_MAX && !item.work.protection {
            let message = format!("{} {}", refusal.reason, refusal.message);
            let refusal = Refusal {
                reason: "RETRIES_EXHAUSTED".to_owned(),
                field: refusal.field,
                message: message.trim_end().to_owned(),
            };
            self.park(id, Parking::Dead(refusal), decisions);
        } else if delay > SET_ASIDE_AFTER.as_millis() as i64 && !stays {
            self.attempts.insert(key, attempt);
            decisions.push(Decision::Attempts(key, attempt));
            self.park(id, Parking::Due(delay, refusal), decisions);
        } else {
            let delay = if stays { delay.min(longest) } else { delay };
            self.requeue(id, Phase::Due(now_ms + delay));
            decisions.push(Decision::Attempts(key, attempt));
        }
    }

    pub(super) fn requeue(&mut self, id: u64, phase: Phase) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        item.phase = phase;
        match phase {
            Phase::Due(at) => {
                self.due.insert((at, id));
            }
            Phase::Queued | Phase::Leased => self.consider(id),
        }
    }

    /// Parks an item and, in order, everything that stands behind it. What stands before it in
    /// the lanes of its other subjects goes on.
    fn park(&mut self, id: u64, parking: Parking, decisions: &mut Vec<Decision<P>>) {
        let mut parking = Some(parking);
        let mut last: HashMap<Subject, (u64, UnitKey)> = HashMap::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(item) = self.remove(id) else { return };
            self.set_parked(&item.work);
            self.close_run(item.work.key, decisions);
            for subject in &item.work.subjects {
                last.insert(subject.clone(), (id, item.work.key));
            }
            // A unit that came out of the parked ones and waits again still lies there.
            if parking.is_some() || item.origin != Origin::Parked {
                decisions.push(Decision::Park {
                    attempt: item.attempt,
                    work: item.work,
                    parking: parking.take().unwrap_or(Parking::Waiting),
                });
            }
            next = self.first_behind(&last);
        }
    }

    /// The oldest item behind what was parked that is not on its way to the product. Within a
    /// stream the log says what stands behind: protection is seen before what stands before it, and
    /// a former run goes to the front. Across streams it is the order of reading.
    fn first_behind(&self, parked: &HashMap<Subject, (u64, UnitKey)>) -> Option<u64> {
        let behind = |(subject, (last, at)): (&Subject, &(u64, UnitKey))| {
            let lane = self.lanes.get(&(subject.clone(), false))?;
            let mut ids = lane.iter().copied();
            ids.find(|id| {
                let key = self.items.get(id).map(|item| item.work.key);
                let later = key.is_some_and(|key| match key.stream == at.stream {
                    true => key > *at,
                    false => id > last,
                });
                later && !self.in_flight(*id)
            })
        };
        parked.iter().filter_map(behind).min()
    }

    /// Units behind a refused one of the same run are leased and not in flight: their run was
    /// answered.
    fn in_flight(&self, id: u64) -> bool {
        let leased = |item: &Item<P>| item.phase == Phase::Leased;
        self.items.get(&id).is_some_and(leased)
            && self.leased.values().any(|lease| lease.ids.contains(&id))
    }
}

/// Exponential schedule with jitter: quick attempts up to a minute apart, then slow ones. A
/// receiver's own wish is honoured within once and twice.
fn retry_delay_ms(attempt: u32, after_ms: u64, jitter: f64) -> i64 {
    let base = RETRY_BASE.as_millis() as u64;
    let quick = base
        .saturating_mul(1 << attempt.saturating_sub(1).min(20))
        .min(RETRY_MAX.as_millis() as u64);
    let scheduled = if attempt <= RETRY_QUICK_ATTEMPTS {
        quick
    } else {
        RETRY_SLOW.as_millis() as u64
    };
    let floor = scheduled.max(after_ms.min(RETRY_AFTER_MAX.as_millis() as u64));
    (floor as f64 * (1.0 + jitter.clamp(0.0, 1.0))) as i64
}
