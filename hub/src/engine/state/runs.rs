//! Makes deliveries: one unit alone, or several units of one subject as a run.
//! Between a ready item and its lease.
//! Must never change the composition of a stored run.
//! Read next: `engine/state/receipts.rs`.

use super::{Decision, Delivery, Engine, Item, Phase};
use crate::limits::RUN_UNITS_MAX;
use crate::store::{RunRow, UnitKey};

impl<P: Clone> Engine<P> {
    /// Makes a delivery of a ready item: alone, or with those behind it as one run. `None` while
    /// a stored run is not wholly read again.
    pub(super) fn compose(
        &mut self,
        id: u64,
        decisions: &mut Vec<Decision<P>>,
    ) -> Option<Delivery<P>> {
        let key = self.items.get(&id)?.work.key;
        let (ids, stored) = match self.runs.get(&key) {
            None => (self.new_run(id), None),
            Some(run) => match self.stored_run(id, &run.keys) {
                Some(ids) => (ids, Some(run.id.clone())),
                // Its units were taken differently since: it can never be whole again.
                None if self.may_return(run.keys.iter().copied()) => {
                    self.close_run(key, decisions);
                    (self.new_run(id), None)
                }
                None => return None,
            },
        };
        let number = self.next_delivery;
        self.next_delivery += 1;
        let mut works = Vec::with_capacity(ids.len());
        let mut attempt = 0;
        for id in &ids {
            let item = self.items.get_mut(id)?;
            if let Phase::Due(at) = item.phase {
                self.due.remove(&(at, *id));
            }
            item.phase = Phase::Leased;
            item.attempt += 1;
            attempt = attempt.max(item.attempt);
            works.push(item.work.clone());
        }
        let new_run = (ids.len() > 1 && stored.is_none()).then(|| RunRow {
            id: run_id(key),
            keys: works.iter().map(|work| work.key).collect(),
        });
        if let Some(run) = &new_run {
            self.runs.insert(key, run.clone());
        }
        let run_id = stored.or_else(|| new_run.as_ref().map(|run| run.id.clone()));
        self.leased.insert(number, (ids, run_id));
        Some(Delivery {
            number,
            attempt,
            works,
            new_run,
        })
    }

    /// Units of one stream only: after a restart the streams can be read in another order.
    fn new_run(&self, id: u64) -> Vec<u64> {
        let Some(item) = self.items.get(&id) else {
            return Vec::new();
        };
        let alone = !self.settings.runs || item.work.protection || item.from_parked;
        let (false, [subject]) = (alone, item.work.subjects.as_slice()) else {
            return vec![id];
        };
        let Some(lane) = self.lanes.get(&(subject.clone(), false)) else {
            return vec![id];
        };
        // What lies parked keeps its own copy, so it never becomes part of a run.
        let joins = |other: &Item<P>| {
            other.phase == Phase::Queued
                && other.work.subjects.len() == 1
                && other.work.key.stream == item.work.key.stream
                && !other.from_parked
        };
        lane.iter()
            .copied()
            .take(RUN_UNITS_MAX)
            .take_while(|id| self.items.get(id).is_some_and(joins))
            .collect()
    }

    /// The units of a stored run in its order; units of the other stream may stand between them.
    fn stored_run(&self, id: u64, keys: &[UnitKey]) -> Option<Vec<u64>> {
        if !self.settings.runs {
            return None;
        }
        let subject = self.items.get(&id)?.work.subjects.first()?;
        let lane = self.lanes.get(&(subject.clone(), false))?;
        let of_key = |key: &UnitKey| {
            let mut ids = lane.iter().copied();
            ids.find(|id| self.items.get(id).is_some_and(|item| item.work.key == *key))
        };
        keys.iter().map(of_key).collect()
    }

    /// Forgets the stored run that a unit belongs to.
    pub(super) fn close_run(&mut self, key: UnitKey, decisions: &mut Vec<Decision<P>>) {
        let found = self.runs.values().find(|run| run.keys.contains(&key));
        let Some(id) = found.map(|run| run.id.clone()) else {
            return;
        };
        self.runs.retain(|_, run| run.id != id);
        decisions.push(Decision::RunClosed(id));
    }
}

fn run_id(first: UnitKey) -> String {
    format!(
        "{}-{}-{}",
        first.stream.name(),
        first.sequence,
        first.member
    )
}
