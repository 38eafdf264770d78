//! The delivery role of the store in memory.
//! Used by the runner of each subscription in tests and simulations.
//! Must never apply a part of a delta: the fence is asked before anything is written.
//! Read next: `store/contract.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;

use super::MemoryStore;
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::delivery::{
    BindingRow, Cursor, DeliveryDelta, DeliveryStore, Done, HistoryRow, OutcomeTally, ParkedRow,
    ParkedState, RunRow, SubscriptionRow, UnitKey,
};
use crate::store::{NewAct, StoreError};

type GrantsVersion = ((Position, Position), String);

/// What is kept of deliveries, of all municipalities.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    owners: HashMap<Municipality, u64>,
    subscriptions: BTreeMap<String, Subscription>,
    /// Steps with their order among all.
    history: HashMap<(Municipality, String), Vec<(u64, HistoryRow)>>,
    steps: u64,
    grants: HashMap<Municipality, Vec<GrantsVersion>>,
}

#[derive(Debug)]
struct Subscription {
    /// Its tally counts outcomes only; what is parked is counted when it is read.
    row: SubscriptionRow,
    ahead: HashSet<UnitKey>,
    attempts: BTreeMap<UnitKey, u32>,
    runs: Vec<RunRow>,
    parked: BTreeMap<UnitKey, ParkedRow>,
}

impl Subscription {
    fn new(mut row: SubscriptionRow) -> Self {
        row.tally = OutcomeTally::default();
        Self {
            row,
            ahead: HashSet::new(),
            attempts: BTreeMap::new(),
            runs: Vec::new(),
            parked: BTreeMap::new(),
        }
    }

    /// Takes a control record's word for everything that deliveries do not move.
    fn rewrite(&mut self, mut new: SubscriptionRow) {
        let old = &self.row;
        for binding in &mut new.bindings {
            if let Some(known) = old
                .bindings
                .iter()
                .find(|known| known.epoch == binding.epoch)
            {
                binding.paused.clone_from(&known.paused);
            }
        }
        self.row = SubscriptionRow {
            live: old.live,
            bulk: old.bulk,
            filled: old.filled || new.filled,
            closed: old.closed || new.closed,
            tally: old.tally,
            ..new
        };
    }

    fn shown(&self) -> SubscriptionRow {
        let mut row = self.row.clone();
        for parked in self.parked.values() {
            let events = parked.event_ids.len() as u64;
            match parked.state {
                ParkedState::Rejected | ParkedState::Dead => row.tally.rejected += events,
                ParkedState::Waiting | ParkedState::Due => row.tally.waiting += events,
            }
        }
        row
    }

    fn binding_mut(&mut self) -> Option<&mut BindingRow> {
        let epoch = self.row.binding()?.epoch;
        self.row
            .bindings
            .iter_mut()
            .find(|binding| binding.epoch == epoch)
    }

    fn cursor_mut(&mut self, stream: Stream) -> &mut Cursor {
        match stream {
            Stream::Live => &mut self.row.live,
            Stream::Bulk => &mut self.row.bulk,
        }
    }

    fn apply(&mut self, delta: DeliveryDelta) {
        for (stream, cursor) in delta.cursors {
            *self.cursor_mut(stream) = cursor;
        }
        self.attempts.extend(delta.attempts);
        for done in delta.done {
            count(&mut self.row.tally, &done);
            self.attempts.remove(&done.key);
            self.ahead.insert(done.key);
        }
        for done in delta.replayed {
            self.attempts.remove(&done.key);
        }
        for row in delta.park {
            self.ahead.insert(row.key);
            let before = self
                .parked
                .get(&row.key)
                .map_or(0, |before| before.revision);
            let revision = before + 1;
            self.parked.insert(row.key, ParkedRow { revision, ..row });
        }
        for key in delta.unpark {
            self.parked.remove(&key);
        }
        let row = &self.row;
        self.ahead
            .retain(|key| key.sequence >= row.cursor(key.stream).sequence);
        self.runs.retain(|run| !delta.runs_close.contains(&run.id));
        for run in delta.runs_open {
            if self.runs.iter().all(|open| open.id != run.id) {
                self.runs.push(run);
            }
        }
        self.row.filled |= delta.filled;
        if let (Some(pause), Some(binding)) = (delta.paused, self.binding_mut()) {
            binding.paused = pause;
        }
    }

    /// Closes a filling subscription and gives away what its successor takes over.
    fn close(&mut self) -> (BTreeMap<UnitKey, ParkedRow>, OutcomeTally) {
        self.row.closed = true;
        self.ahead.clear();
        self.attempts.clear();
        self.runs.clear();
        (
            std::mem::take(&mut self.parked),
            std::mem::take(&mut self.row.tally),
        )
    }

    fn take_over(&mut self, parked: BTreeMap<UnitKey, ParkedRow>, tally: OutcomeTally) {
        for (key, row) in parked {
            self.parked.entry(key).or_insert(row);
        }
        let sum = &mut self.row.tally;
        sum.applied += tally.applied;
        sum.duplicate += tally.duplicate;
        sum.superseded += tally.superseded;
        sum.skipped += tally.skipped;
        sum.not_relevant += tally.not_relevant;
        sum.pending_review += tally.pending_review;
    }
}

/// Counts an outcome; refused events are counted as long as they are parked.
fn count(tally: &mut OutcomeTally, done: &Done) {
    let events = done.event_ids.len() as u64;
    match Outcome::try_from(done.outcome) {
        Ok(Outcome::Applied) => tally.applied += events,
        Ok(Outcome::Duplicate) => tally.duplicate += events,
        Ok(Outcome::Superseded | Outcome::SupersededBySwap) => tally.superseded += events,
        Ok(Outcome::Skipped) => tally.skipped += events,
        Ok(Outcome::NotRelevant) => tally.not_relevant += events,
        Ok(Outcome::PendingReview) => tally.pending_review += events,
        _ => {}
    }
}

impl Delivered {
    /// Every step of every event, those of one event in their order.
    pub(super) fn steps(&self) -> impl Iterator<Item = (&Municipality, &String, u64, &HistoryRow)> {
        let steps = self.history.iter();
        steps
            .flat_map(|((m, id), rows)| rows.iter().map(move |(number, row)| (m, id, *number, row)))
    }

    /// True when a subject has something parked at a subscription of the municipality.
    pub(super) fn is_parked(&self, m: &Municipality, subject: &Subject) -> bool {
        let mut of_town = self
            .subscriptions
            .values()
            .filter(|s| s.row.municipality == *m);
        of_town.any(|s| s.parked.values().any(|row| row.subjects.contains(subject)))
    }

    /// Forgets steps of an event before a time; returns how many.
    pub(super) fn forget(&mut self, m: &Municipality, id: &str, before_ms: i64) -> u64 {
        let Some(steps) = self.history.get_mut(&(m.clone(), id.to_owned())) else {
            return 0;
        };
        let all = steps.len();
        steps.retain(|(_, step)| step.at_ms >= before_ms);
        (all - steps.len()) as u64
    }

    fn record(&mut self, m: &Municipality, subscription: &str, done: &Done) {
        for event_id in &done.event_ids {
            let steps = self
                .history
                .entry((m.clone(), event_id.clone()))
                .or_default();
            self.steps += 1;
            let step = HistoryRow {
                subscription: subscription.to_owned(),
                product: done.product.clone(),
                key: done.key,
                attempt: done.attempt,
                outcome: done.outcome,
                reason: done.reason.clone(),
                at_ms: done.at_ms,
            };
            steps.push((self.steps, step));
        }
    }

    fn commit(&mut self, delta: DeliveryDelta) -> Result<Municipality, StoreError> {
        let fenced = || StoreError::Fenced(delta.subscription.clone());
        let m = self
            .subscriptions
            .get(&delta.subscription)
            .ok_or_else(fenced)?;
        let m = m.row.municipality.clone();
        if self.owners.get(&m) != Some(&delta.owner_epoch) {
            return Err(fenced());
        }
        for done in delta.done.iter().chain(&delta.replayed) {
            self.record(&m, &delta.subscription, done);
        }
        for row in &delta.park {
            self.record_refusal(&m, &delta.subscription, row);
        }
        if let Some(subscription) = self.subscriptions.get_mut(&delta.subscription) {
            subscription.apply(delta);
        }
        Ok(m)
    }
}

impl Delivered {
    /// An act raises the revision of the parked units that it concerned.
    pub(super) fn raise(&mut self, act: &NewAct) {
        let Some(found) = self.subscriptions.get_mut(&act.subscription) else {
            return;
        };
        for key in &act.units {
            if let Some(row) = found.parked.get_mut(key) {
                row.revision += 1;
            }
        }
    }

    /// A refusal ends nothing; it stands in the history all the same.
    fn record_refusal(&mut self, m: &Municipality, subscription: &str, row: &ParkedRow) {
        if !matches!(row.state, ParkedState::Rejected | ParkedState::Dead) {
            return;
        }
        let found = self.subscriptions.get(subscription);
        let binding = found.and_then(|found| found.row.binding());
        let refusal = Done {
            key: row.key,
            event_ids: row.event_ids.clone(),
            attempt: row.attempts,
            outcome: Outcome::Rejected as i32,
            reason: row.reason.clone(),
            at_ms: row.at_ms,
            product: binding
                .map(|binding| binding.product.clone())
                .unwrap_or_default(),
        };
        self.record(m, subscription, &refusal);
    }
}

impl MemoryStore {
    fn of<T: Default>(&self, subscription: &str, find: impl FnOnce(&Subscription) -> T) -> T {
        self.lock()
            .delivered
            .subscriptions
            .get(subscription)
            .map(find)
            .unwrap_or_default()
    }
}

#[async_trait]
impl DeliveryStore for MemoryStore {
    async fn own(&self, m: &Municipality) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let epoch = state.delivered.owners.entry(m.clone()).or_default();
        *epoch += 1;
        Ok(*epoch)
    }

    async fn municipalities(&self) -> Result<Vec<Municipality>, StoreError> {
        let state = self.lock();
        let delivered = &state.delivered;
        let receiving = delivered
            .subscriptions
            .values()
            .map(|s| &s.row.municipality);
        let publishing = state.published.keys();
        let all: BTreeSet<_> = publishing
            .chain(receiving)
            .chain(delivered.owners.keys())
            .collect();
        Ok(all.into_iter().cloned().collect())
    }

    async fn subscriptions(&self, m: &Municipality) -> Result<Vec<SubscriptionRow>, StoreError> {
        let state = self.lock();
        let all = state.delivered.subscriptions.values();
        Ok(all
            .filter(|s| s.row.municipality == *m)
            .map(Subscription::shown)
            .collect())
    }

    async fn put_subscription(&self, row: SubscriptionRow) -> Result<(), StoreError> {
        let mut state = self.lock();
        let subscriptions = &mut state.delivered.subscriptions;
        if let Some(subscription) = subscriptions.get_mut(&row.id) {
            subscription.rewrite(row);
        } else {
            subscriptions.insert(row.id.clone(), Subscription::new(row));
        }
        Ok(())
    }

    async fn finish_filling(&self, filling: &str, into: &str) -> Result<(), StoreError> {
        let mut state = self.lock();
        let subscriptions = &mut state.delivered.subscriptions;
        if !subscriptions.contains_key(into) {
            return Ok(());
        }
        let Some((parked, tally)) = subscriptions.get_mut(filling).map(Subscription::close) else {
            return Ok(());
        };
        if let Some(target) = subscriptions.get_mut(into) {
            target.take_over(parked, tally);
        }
        Ok(())
    }

    async fn commit(&self, delta: DeliveryDelta) -> Result<(), StoreError> {
        let mut state = self.lock();
        let act = delta.act.clone();
        let m = state.delivered.commit(delta)?;
        if let Some(act) = act {
            state.delivered.raise(&act);
            state.acted.record(&m, act);
        }
        Ok(())
    }

    async fn ahead(&self, subscription: &str) -> Result<HashSet<UnitKey>, StoreError> {
        Ok(self.of(subscription, |found| found.ahead.clone()))
    }

    async fn attempts(&self, subscription: &str) -> Result<Vec<(UnitKey, u32)>, StoreError> {
        Ok(self.of(subscription, |found| {
            found
                .attempts
                .iter()
                .map(|(key, attempts)| (*key, *attempts))
                .collect()
        }))
    }

    async fn runs(&self, subscription: &str) -> Result<Vec<RunRow>, StoreError> {
        Ok(self.of(subscription, |found| found.runs.clone()))
    }

    async fn parked_subjects(
        &self,
        subscription: &str,
    ) -> Result<HashMap<Subject, UnitKey>, StoreError> {
        Ok(self.of(subscription, |found| {
            let mut subjects = HashMap::new();
            for (key, row) in &found.parked {
                for subject in &row.subjects {
                    subjects.entry(subject.clone()).or_insert(*key);
                }
            }
            subjects
        }))
    }

    async fn parked(
        &self,
        subscription: &str,
        subject: Option<&Subject>,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let shown = |row: &&ParkedRow| {
            after.is_none_or(|after| row.key > after)
                && subject.is_none_or(|subject| row.subjects.contains(subject))
        };
        Ok(self.of(subscription, |found| {
            found
                .parked
                .values()
                .filter(shown)
                .take(limit)
                .cloned()
                .collect()
        }))
    }

    async fn due(
        &self,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<(i64, UnitKey)>, StoreError> {
        Ok(self.of(subscription, |found| {
            let rows = found.parked.values();
            let mut due: Vec<_> = rows
                .filter_map(|row| Some((row.due_ms?, row.key)))
                .collect();
            due.sort_unstable();
            due.truncate(limit);
            due
        }))
    }

    async fn parked_unit(
        &self,
        subscription: &str,
        key: UnitKey,
    ) -> Result<Option<ParkedRow>, StoreError> {
        Ok(self.of(subscription, |found| found.parked.get(&key).cloned()))
    }

    async fn history(
        &self,
        m: &Municipality,
        event_id: &str,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let key = (m.clone(), event_id.to_owned());
        Ok(self
            .lock()
            .delivered
            .history
            .get(&key)
            .map(|steps| steps.iter().map(|(_, step)| step.clone()).collect())
            .unwrap_or_default())
    }

    async fn grants(&self, m: &Municipality) -> Result<Vec<GrantsVersion>, StoreError> {
        Ok(self
            .lock()
            .delivered
            .grants
            .get(m)
            .cloned()
            .unwrap_or_default())
    }

    async fn put_grants(
        &self,
        m: &Municipality,
        from: (Position, Position),
        text: &str,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        let versions = state.delivered.grants.entry(m.clone()).or_default();
        if versions.iter().all(|(known, _)| *known != from) {
            versions.push((from, text.to_owned()));
        }
        versions.sort_by_key(|(from, _)| *from);
        Ok(())
    }
}
