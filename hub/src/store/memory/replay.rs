//! The role of replays in memory.
//! Used in tests and simulations.
//! Must never let two replays of one subscription run at once.
//! Read next: `store/contract/replay.rs`.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;

use super::{MemoryStore, State};
use crate::event::{Municipality, Stream, Subject};
use crate::store::replay::{
    HadEvent, ReplayProgress, ReplayRow, ReplayState, ReplayStore, Selected, Selection,
};
use crate::store::{NewAct, StoreError};

impl State {
    /// All that a subscription had, bulk before live, by sequence and position; last outcomes.
    fn had(&self, subscription: &str) -> Vec<HadEvent> {
        let mut all = BTreeMap::new();
        for (m, event_id, number, row) in self.delivered.steps() {
            // What was refused lies parked.
            if row.subscription != subscription || row.outcome == Outcome::Rejected as i32 {
                continue;
            }
            let published = self.published.get(m);
            let event = published.and_then(|published| published.event(event_id));
            let Some((event, (stream, position))) = event.and_then(|e| Some((e, e.at?))) else {
                continue;
            };
            let order = (stream == Stream::Live, row.key.sequence, position);
            let had = HadEvent {
                id: event_id.clone(),
                event_type: event.claim.event_type.clone(),
                subject: event.claim.subject.clone(),
                published_ms: event.claim.published_ms,
                stream,
                position,
                sequence: row.key.sequence,
                member: row.key.member,
                ended: number,
                outcome: row.outcome,
                reason: row.reason.clone(),
            };
            all.insert(order, had);
        }
        all.into_values().collect()
    }
}

fn unit(event: &HadEvent) -> (i64, u64) {
    (event.stream.number(), event.sequence)
}

/// Selected, and not skipped by an operator.
fn counts(of: &Selection, event: &HadEvent) -> bool {
    event.outcome != Outcome::Skipped as i32 && of.names(event)
}

#[async_trait]
impl ReplayStore for MemoryStore {
    async fn start_replay(&self, row: ReplayRow, act: NewAct) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let runs = |known: &ReplayRow| {
            known.subscription == row.subscription && known.progress.state == ReplayState::Running
        };
        if state.replays.iter().any(runs) {
            return Ok(false);
        }
        if let Some(m) = municipality(&row.subscription) {
            state.acted.record(&m, act);
        }
        state.replays.push(row);
        Ok(true)
    }

    async fn move_replay(
        &self,
        id: &str,
        progress: ReplayProgress,
        act: Option<NewAct>,
    ) -> Result<bool, StoreError> {
        let mut state = self.lock();
        let mut replays = state.replays.iter_mut();
        let running = replays.find(|row| row.id == id);
        let Some(row) = running.filter(|row| row.progress.state == ReplayState::Running) else {
            return Ok(false);
        };
        row.progress = progress;
        let m = municipality(&row.subscription);
        if let (Some(act), Some(m)) = (act, m) {
            state.acted.record(&m, act);
        }
        Ok(true)
    }

    async fn running_replay(&self, subscription: &str) -> Result<Option<ReplayRow>, StoreError> {
        let state = self.lock();
        let mut replays = state.replays.iter();
        let running = replays.find(|row| {
            row.subscription == subscription && row.progress.state == ReplayState::Running
        });
        Ok(running.cloned())
    }

    async fn replays(&self, m: &Municipality, limit: usize) -> Result<Vec<ReplayRow>, StoreError> {
        let state = self.lock();
        let of_town = |row: &&ReplayRow| municipality(&row.subscription).is_some_and(|of| of == *m);
        let mut rows: Vec<_> = state.replays.iter().filter(of_town).cloned().collect();
        rows.sort_by(|a, b| b.id.cmp(&a.id));
        rows.truncate(limit);
        Ok(rows)
    }

    async fn selected(&self, subscription: &str, of: &Selection) -> Result<Selected, StoreError> {
        let had = self.lock().had(subscription);
        let named: Vec<_> = had.iter().filter(|event| counts(of, event)).collect();
        let units: BTreeSet<_> = named.iter().map(|event| unit(event)).collect();
        let subjects: BTreeSet<_> = named.iter().map(|event| &event.subject).collect();
        let first = |stream| {
            let of_stream = named.iter().filter(|event| event.stream == stream);
            of_stream.map(|event| event.position).min()
        };
        Ok(Selected {
            units: units.len() as u64,
            subjects: subjects.len() as u64,
            first: [first(Stream::Live), first(Stream::Bulk)],
        })
    }

    async fn had(
        &self,
        subscription: &str,
        stream: Stream,
        after: u64,
        of: Option<&Selection>,
        limit: usize,
    ) -> Result<Vec<HadEvent>, StoreError> {
        let mut had = self.lock().had(subscription);
        had.retain(|event| event.stream == stream && event.sequence > after);
        let named = had
            .iter()
            .filter(|event| of.is_none_or(|of| counts(of, event)));
        let units: BTreeSet<_> = named.map(|event| event.sequence).collect();
        let units: BTreeSet<_> = units.into_iter().take(limit).collect();
        had.retain(|event| units.contains(&event.sequence));
        Ok(had)
    }

    async fn had_of(
        &self,
        subscription: &str,
        subject: &Subject,
    ) -> Result<Vec<HadEvent>, StoreError> {
        let mut had = self.lock().had(subscription);
        had.retain(|event| event.subject == *subject);
        Ok(had)
    }

    async fn touched(
        &self,
        subscription: &str,
        of: &Selection,
        whole: bool,
        after: Option<&Subject>,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        let had = self.lock().had(subscription);
        let named = had.iter().filter(|event| counts(of, event));
        let units: BTreeSet<_> = named.map(unit).collect();
        let touched = |event: &HadEvent| match whole {
            true => units.contains(&unit(event)),
            false => counts(of, event),
        };
        let named = had.iter().filter(|event| touched(event));
        let subjects: BTreeSet<_> = named.map(|event| event.subject.clone()).collect();
        let behind = subjects.into_iter();
        Ok(behind
            .filter(|subject| after.is_none_or(|after| subject > after))
            .take(limit)
            .collect())
    }
}

fn municipality(subscription: &str) -> Option<Municipality> {
    Municipality::parse(subscription.split('/').next()?)
}
