//! What the log and the store of a simulated town hold, and how decisions get into the store.
//! Keeps a plain model beside the store itself.
//! Must never forgive a difference between the two.
//! Read next: `simulation/judge.rs`.

use std::collections::{BTreeMap, HashSet};

use super::world::World;
use super::*;
use crate::event::Municipality;
use crate::event::seal::Sealed;
use crate::store::memory::MemoryStore;
use crate::store::{
    DeliveryDelta, DeliveryStore, Done, OutcomeTally, ParkedRow, ParkedState, StoreError,
    SubscriptionRow,
};

/// A unit of the log; no works when it is not for this receiver.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) first: u64,
    pub(super) after: u64,
    /// Gap-free among the units that are for this receiver.
    pub(super) sequence: u64,
    pub(super) works: Vec<Work<()>>,
}

/// What the store has committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) cursors: HashMap<Stream, Cursor>,
    pub(super) ahead: HashSet<UnitKey>,
    /// Parked units, and whether each was refused or waits.
    pub(super) parked: BTreeMap<UnitKey, bool>,
    pub(super) done: HashSet<UnitKey>,
    pub(super) attempts: BTreeMap<UnitKey, u32>,
    pub(super) runs: Vec<RunRow>,
}

const SUBSCRIPTION: &str = "142042/026";

fn town() -> Municipality {
    Municipality::parse("142042").expect("a municipality")
}

/// The memory store answers at once.
fn ready<T>(call: impl Future<Output = Result<T, StoreError>>) -> T {
    let answer = futures::FutureExt::now_or_never(call);
    answer.expect("nothing waits").expect("nothing fails")
}

pub(super) fn opened() -> MemoryStore {
    let store = MemoryStore::default();
    assert_eq!(ready(store.own(&town())), 1);
    let start = cursor(1, 1);
    ready(store.put_subscription(SubscriptionRow {
        id: SUBSCRIPTION.to_owned(),
        municipality: town(),
        system: "026".to_owned(),
        live: start,
        bulk: start,
        filled: true,
        until: None,
        closed: false,
        bindings: Vec::new(),
        tally: OutcomeTally::default(),
    }));
    store
}

fn done(key: UnitKey, outcome: i32) -> Done {
    Done {
        key,
        event_ids: Vec::new(),
        attempt: 1,
        outcome,
        reason: String::new(),
        at_ms: 0,
        product: String::new(),
    }
}

fn parked(work: &Work<()>, parking: &Parking, now: i64) -> ParkedRow {
    let (state, due_ms) = match parking {
        Parking::Refused(_) => (ParkedState::Rejected, None),
        Parking::Waiting => (ParkedState::Waiting, None),
        Parking::Due(after, _) => (ParkedState::Due, Some(now + after)),
        Parking::Dead(_) => (ParkedState::Dead, None),
    };
    ParkedRow {
        key: work.key,
        subjects: work.subjects.clone(),
        state,
        reason: String::new(),
        field: String::new(),
        message: String::new(),
        attempts: 1,
        at_ms: now,
        due_ms,
        revision: 1,
        position: Position(1),
        event_ids: Vec::new(),
        content: Sealed::seal(Vec::new()),
    }
}

/// A log of one stream, by chance.
pub(super) fn written(dice: &mut Dice, stream: Stream) -> Vec<Logged> {
    let (mut position, mut sequence) = (1, 1);
    let people = 3 + dice.below(8);
    let count = 20 + dice.below(60);
    let mut units = Vec::new();
    for _ in 0..count {
        position += dice.below(3);
        let members = if dice.chance(10) {
            0
        } else {
            1 + dice.below(3)
        };
        let whole = members == 1 && dice.chance(30);
        let works = (1..=members).map(|member| {
            let mut subjects: Vec<Subject> = Vec::new();
            for _ in 0..if whole { 1 + dice.below(4) } else { 1 } {
                let name = subject(&format!("S{}", dice.below(people)));
                if !subjects.contains(&name) {
                    subjects.push(name);
                }
            }
            Work {
                key: key(stream, sequence, if whole { 0 } else { member as u32 }),
                protection: subjects.len() == 1 && dice.chance(8),
                subjects,
                payload: (),
            }
        });
        let works: Vec<_> = works.collect();
        let after = position + members.max(1);
        units.push(Logged {
            first: position,
            after,
            sequence,
            works: works.clone(),
        });
        position = after;
        sequence += u64::from(members > 0);
    }
    units
}

impl World {
    /// What the store tells a new engine; it must be what the model of it says.
    pub(super) fn stored_resume(&self) -> Resume {
        let row = ready(self.store.subscriptions(&town())).remove(0);
        let stored = &self.stored;
        let mut parked: HashMap<Subject, UnitKey> = HashMap::new();
        for key in stored.parked.keys() {
            for name in &self.works[key].subjects {
                parked.entry(name.clone()).or_insert(*key);
            }
        }
        let resume = Resume {
            live: Some(row.live),
            bulk: Some(row.bulk),
            ahead: ready(self.store.ahead(SUBSCRIPTION)),
            parked: ready(self.store.parked_subjects(SUBSCRIPTION)),
            attempts: ready(self.store.attempts(SUBSCRIPTION)),
            runs: ready(self.store.runs(SUBSCRIPTION)),
            stopped: false,
            maybe_sent: [u64::MAX; 2],
            doubted: HashSet::new(),
        };
        // Of what came back from parking, the store keeps nothing behind the cursor.
        let ahead = |key: &&UnitKey| key.sequence >= row.cursor(key.stream).sequence;
        let ahead: HashSet<UnitKey> = stored.ahead.iter().filter(ahead).copied().collect();
        assert_eq!(resume.ahead, ahead);
        assert_eq!(resume.parked, parked);
        let by_id = |runs: &[RunRow]| -> BTreeMap<String, RunRow> {
            runs.iter()
                .map(|run| (run.id.clone(), run.clone()))
                .collect()
        };
        assert_eq!(by_id(&resume.runs), by_id(&stored.runs));
        for (stream, cursor) in &stored.cursors {
            assert_eq!(row.cursor(*stream), *cursor);
        }
        resume
    }

    pub(super) fn commit(&mut self, decisions: Vec<Decision<()>>) -> Vec<Delivery<()>> {
        let mut deliveries = Vec::new();
        let mut closed = Vec::new();
        let mut delta = DeliveryDelta {
            subscription: SUBSCRIPTION.to_owned(),
            owner_epoch: 1,
            ..DeliveryDelta::default()
        };
        for decision in decisions {
            self.judge_decision(&decision);
            let stored = &mut self.stored;
            match decision {
                Decision::Deliver(delivery) => deliveries.push(delivery),
                Decision::Done { work, outcome, .. } => {
                    if stored.parked.contains_key(&work.key) {
                        delta.unpark.push(work.key);
                    }
                    delta.done.push(done(work.key, outcome));
                    stored.done.insert(work.key);
                    stored.ahead.insert(work.key);
                    stored.parked.remove(&work.key);
                    stored.attempts.remove(&work.key);
                }
                Decision::Park { work, parking, .. } => {
                    delta.park.push(parked(&work, &parking, self.now));
                    stored.parked.insert(work.key, parking != Parking::Waiting);
                    stored.ahead.insert(work.key);
                }
                Decision::Attempts(key, count) => {
                    delta.attempts.push((key, count));
                    stored.attempts.insert(key, count);
                }
                Decision::RunClosed(run) => closed.push(run),
                Decision::Paused(..) => self.paused = true,
            }
        }
        let stored = &mut self.stored;
        stored.runs.retain(|run| !closed.contains(&run.id));
        let opened = deliveries
            .iter()
            .filter_map(|d: &Delivery<()>| d.new_run.clone());
        let opened: Vec<RunRow> = opened.collect();
        stored.runs.extend(opened.clone());
        delta.runs_open = opened;
        delta.runs_close = closed;
        for stream in Stream::ALL {
            let cursor = self.engine.cursor(stream);
            if stored.cursors.insert(stream, cursor) != Some(cursor) {
                let passed = |key: &UnitKey| key.stream == stream && key.sequence < cursor.sequence;
                stored.ahead.retain(|key| !passed(key));
                delta.cursors.push((stream, cursor));
            }
        }
        ready(self.store.commit(delta));
        deliveries
    }
}
