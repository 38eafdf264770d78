//! Makes deliveries: one unit alone, several units of one subject as a run, or a batch of several
//! subjects' units.
//! Between a ready item and its lease.
//! Must never change the composition of a stored run.
//! Read next: `engine/state/receipts.rs`.

use std::collections::{HashSet, VecDeque};

use super::{AfterImage, Decision, Delivery, Engine, Item, Lease, Origin, Phase, turn};
use crate::limits::RUN_UNITS_MAX;
use crate::store::{RunRow, UnitKey};

impl<P: Clone + AfterImage> Engine<P> {
    /// Makes a delivery of a ready item: alone, or with others as one run. `None` while not all of
    /// its stored run could go.
    pub(super) fn compose(
        &mut self,
        id: u64,
        now_ms: i64,
        decisions: &mut Vec<Decision<P>>,
    ) -> Option<Delivery<P>> {
        let key = self.items.get(&id)?.work.key;
        let (ids, stored) = match self.run_of(key) {
            None => (self.new_run(id), None),
            Some(run) => match self.stored_run(&run) {
                // The run's first unit starts it, once all of it could go.
                Some(ids) if run.keys.first() == Some(&key) && self.stand_first(&ids) => {
                    (ids, Some(run.id))
                }
                Some(_) => return None,
                // All is read, and it is not whole or not taken: it can never go again.
                None => {
                    self.close_run(key, decisions);
                    (self.new_run(id), None)
                }
            },
        };
        Some(self.lease(key, ids, stored, now_ms))
    }

    fn lease(
        &mut self,
        key: UnitKey,
        ids: Vec<u64>,
        stored: Option<String>,
        now_ms: i64,
    ) -> Delivery<P> {
        let number = self.next_delivery;
        self.next_delivery += 1;
        let mut works = Vec::with_capacity(ids.len());
        let mut attempt = 0;
        let mut outcome_unknown = false;
        let mut bulk = false;
        for id in &ids {
            let Some(item) = self.items.get_mut(id) else {
                continue;
            };
            if let Phase::Due(at) = item.phase {
                self.due.remove(&(at, *id));
            }
            self.ready.remove(&turn(item, *id));
            item.phase = Phase::Leased;
            item.attempt += 1;
            attempt = attempt.max(item.attempt);
            outcome_unknown |= item.unknown;
            bulk |= turn(item, *id).0 == super::BULK;
            works.push(item.work.clone());
        }
        let new_run = (ids.len() > 1 && stored.is_none()).then(|| RunRow {
            id: run_id(key),
            keys: works.iter().map(|work| work.key).collect(),
        });
        if let Some(run) = &new_run {
            self.keep_run(run.clone());
        }
        let run = stored.or_else(|| new_run.as_ref().map(|run| run.id.clone()));
        let until = now_ms.saturating_add(self.settings.answer_within_ms);
        self.expiries.insert((until, number));
        self.bulk_leased += u32::from(bulk);
        let lease = Lease {
            ids,
            run,
            until,
            bulk,
        };
        self.leased.insert(number, lease);
        Delivery {
            number,
            attempt,
            works,
            new_run,
            outcome_unknown,
        }
    }

    /// Ends a lease; `None` when there is none.
    pub(super) fn end_lease(&mut self, delivery: u64) -> Option<Lease> {
        let lease = self.leased.remove(&delivery)?;
        self.expiries.remove(&(lease.until, delivery));
        self.bulk_leased -= u32::from(lease.bulk);
        Some(lease)
    }

    /// The ready item with what goes with it: more of its subject, and units of other subjects.
    fn new_run(&self, id: u64) -> Vec<u64> {
        let mut ids = self.run_of_subject(id);
        let Some(first) = self.items.get(&id) else {
            return ids;
        };
        if !is_free(first) {
            return ids;
        }
        let others = self.ready.iter().map(|(_, other)| *other);
        for other in others {
            if ids.len() >= self.settings.batch_units {
                break;
            }
            let joins = |item: &Item<P>| {
                is_free(item)
                    && item.work.key.stream == first.work.key.stream
                    && self.run_of(item.work.key).is_none()
            };
            if other != id && self.items.get(&other).is_some_and(joins) {
                let more = self.run_of_subject(other);
                if ids.len() + more.len() <= self.settings.batch_units {
                    ids.extend(more);
                }
            }
        }
        ids
    }

    /// Units of one stream only: after a restart the streams can be read in another order.
    fn run_of_subject(&self, id: u64) -> Vec<u64> {
        let Some(item) = self.items.get(&id) else {
            return Vec::new();
        };
        let alone = !self.settings.runs || !is_free(item);
        let (false, [subject]) = (alone, item.work.subjects.as_slice()) else {
            return vec![id];
        };
        let Some(lane) = self.lanes.get(&(subject.clone(), false)) else {
            return vec![id];
        };
        let joins = |other: &Item<P>| {
            is_free(other)
                && other.phase == Phase::Queued
                && other.work.subjects.len() == 1
                && other.work.key.stream == item.work.key.stream
        };
        lane.iter()
            .copied()
            .take(RUN_UNITS_MAX)
            .take_while(|id| self.items.get(id).is_some_and(joins))
            .collect()
    }

    /// The first unit of each subject stands at the head of its lanes.
    fn stand_first(&self, ids: &[u64]) -> bool {
        let mut seen = HashSet::new();
        let mut items = ids.iter().filter_map(|id| Some((id, self.items.get(id)?)));
        items.all(|(id, item)| {
            item.work.subjects.iter().all(|subject| {
                let lane = self.lanes.get(&(subject.clone(), false));
                !seen.insert(subject) || lane.and_then(VecDeque::front) == Some(id)
            })
        })
    }

    /// The units of a stored run in its order, when all are read again and the adapter still takes
    /// such; units of the other stream may stand between those of one subject.
    fn stored_run(&self, run: &RunRow) -> Option<Vec<u64>> {
        let ids: Option<Vec<u64>> = run
            .keys
            .iter()
            .map(|key| self.by_key.get(key).copied())
            .collect();
        let ids = ids?;
        let subjects = |id: &u64| self.items.get(id).map(|item| &item.work.subjects);
        let mut others = ids.iter().skip(1);
        let of_one = others.all(|id| subjects(id) == ids.first().and_then(subjects));
        let fits = if of_one {
            self.settings.runs
        } else {
            ids.len() <= self.settings.batch_units
        };
        fits.then_some(ids)
    }

    fn keep_run(&mut self, run: RunRow) {
        for key in &run.keys {
            self.in_run.insert(*key, run.id.clone());
        }
        self.runs.insert(run.id.clone(), run);
    }

    fn run_of(&self, key: UnitKey) -> Option<RunRow> {
        let id = self.in_run.get(&key)?;
        self.runs.get(id).cloned()
    }

    /// Forgets the stored run that a unit belongs to.
    pub(super) fn close_run(&mut self, key: UnitKey, decisions: &mut Vec<Decision<P>>) {
        let Some(run) = self.in_run.get(&key).and_then(|id| self.runs.remove(id)) else {
            return;
        };
        for key in &run.keys {
            self.in_run.remove(key);
        }
        decisions.push(Decision::RunClosed(run.id));
    }
}

/// May become part of a run: what lies parked keeps its own copy, a replay its own order, and
/// protection waits for nothing.
fn is_free<P>(item: &Item<P>) -> bool {
    item.origin == Origin::Log && !item.work.protection
}

fn run_id(first: UnitKey) -> String {
    format!(
        "{}-{}-{}",
        first.stream.name(),
        first.sequence,
        first.member
    )
}
