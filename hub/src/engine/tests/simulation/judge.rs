//! The rules, computed from the log and from what the store has.

use super::books::Logged;
use super::world::World;
use super::*;
use std::collections::HashSet;

fn share(one: &Work<()>, other: &Work<()>) -> bool {
    one.subjects
        .iter()
        .any(|name| other.subjects.contains(name))
}

impl World {
    /// Units of the same kind and stream that stand before one and concern one of its subjects.
    fn before(&self, work: &Work<()>) -> Vec<UnitKey> {
        let earlier = |key: &&UnitKey| {
            key.stream == work.key.stream
                && **key < work.key
                && self.works[*key].protection == work.protection
        };
        let keys = work.subjects.iter().flat_map(|name| &self.by_subject[name]);
        keys.filter(earlier).copied().collect()
    }

    pub(super) fn judge_delivery(&mut self, delivery: &Delivery<()>) {
        assert!(!self.paused, "a paused binding got a delivery");
        assert!(self.credits > 0, "a delivery without a credit");
        self.credits -= 1;
        let mut earlier_in_run: HashSet<UnitKey> = HashSet::new();
        for work in &delivery.works {
            assert!(
                !self.stored.done.contains(&work.key),
                "{work:?} was done before"
            );
            for before in self.before(work) {
                let parked = self.stored.parked.contains_key(&before);
                let ended = self.stored.done.contains(&before)
                    || earlier_in_run.contains(&before)
                    // Protection passes a parked measure: its state counts on by versions.
                    || (work.protection && parked);
                assert!(ended, "{work:?} passed {before:?}");
            }
            for other in self.in_flight.values().flatten() {
                let apart = other.protection != work.protection || !share(other, work);
                assert!(apart, "{work:?} beside {other:?} of the same subject");
            }
            earlier_in_run.insert(work.key);
        }
        self.judge_run(delivery);
    }

    fn judge_run(&self, delivery: &Delivery<()>) {
        let keys: Vec<UnitKey> = delivery.works.iter().map(|work| work.key).collect();
        let stored = self.stored.runs.iter().find(|run| run.keys[0] == keys[0]);
        match stored {
            // Stored before it was sent, and never changed.
            Some(run) => assert_eq!(run.keys, keys, "a run changed"),
            None => assert_eq!(keys.len(), 1, "a run that is not stored"),
        }
        if keys.len() > 1 {
            let first = &delivery.works[0];
            let same = |work: &Work<()>| work.subjects == first.subjects;
            let of_one = delivery.works.iter().all(same);
            assert!(keys.len() <= self.settings.batch_units || (of_one && self.settings.runs));
            assert!(delivery.works.iter().all(|work| !work.protection));
        }
    }

    pub(super) fn judge_decision(&self, decision: &Decision<()>) {
        match decision {
            Decision::Done { work, origin, .. } => {
                assert!(
                    !self.stored.done.contains(&work.key),
                    "{work:?} ended twice"
                );
                let parked = self.stored.parked.contains_key(&work.key);
                assert_eq!(*origin == Origin::Parked, parked, "{work:?}");
            }
            Decision::Park { work, parking, .. } => {
                let news = *parking != Parking::Waiting;
                assert!(
                    !self.stored.done.contains(&work.key),
                    "{work:?} ended twice"
                );
                let parked = self.stored.parked.contains_key(&work.key);
                // A unit that waits is parked once; only a refusal is news about a parked one.
                assert!(news || !parked, "{work:?} parked twice");
                assert!(news || self.has_cause(work), "{work:?} waits for nothing");
            }
            Decision::Attempts(key, _) => assert!(!self.stored.done.contains(key)),
            Decision::Deliver(_) | Decision::RunClosed(_) | Decision::Paused(..) => {}
        }
    }

    /// Something parked stands before it.
    fn has_cause(&self, work: &Work<()>) -> bool {
        self.stored.parked.keys().any(|key| {
            let parked = &self.works[key];
            share(parked, work) && (key.stream != work.key.stream || *key < work.key)
        })
    }

    pub(super) fn judge_cursors(&mut self, before: &HashMap<Stream, Cursor>) {
        for stream in Stream::ALL {
            let now = self.stored.cursors[&stream];
            if let Some(was) = before.get(&stream) {
                assert!(now.position >= was.position, "a cursor went back");
                assert!(now.sequence >= was.sequence, "a cursor went back");
            }
            let ended = self.ended.get(&stream).copied().unwrap_or(0);
            let open = |unit: &Logged| unit.works.iter().any(|work| !self.ended(work.key));
            let mut rest = self.log[&stream].iter().enumerate().skip(ended);
            let first = rest.find(|(_, unit)| open(unit));
            if let Some((place, first)) = first {
                self.ended.insert(stream, place);
                assert!(
                    now.position.0 <= first.first,
                    "the cursor passed an open unit"
                );
                assert!(
                    now.sequence <= first.sequence,
                    "the cursor passed an open unit"
                );
            }
        }
    }

    fn ended(&self, key: UnitKey) -> bool {
        self.stored.done.contains(&key) || self.stored.parked.contains_key(&key)
    }

    /// Every unit is done or parked, and only one of these; nothing is left in the machine.
    pub(super) fn judge_all_ended(&self) {
        for (key, work) in &self.works {
            let (done, parked) = (&self.stored.done, &self.stored.parked);
            let once = done.contains(key) != parked.contains_key(key);
            assert!(once, "{work:?} is open");
        }
        for group in self.parked_groups() {
            let refused = group.iter().any(|key| self.stored.parked[key]);
            assert!(refused, "{group:?} waits for nothing");
        }
        assert_eq!(self.engine.open(), 0);
        for stream in Stream::ALL {
            let last = self.log[&stream].last().map_or(1, |unit| unit.after);
            let at = self.stored.cursors[&stream].position.0;
            assert_eq!(at, last, "the cursor is not at the end");
        }
    }
}
