//! The role of retention in memory.
//! Used in tests and simulations.
//! Must never forget in another order than SQLite: outcomes first, then ids without outcomes.
//! Read next: `store/contract/retention.rs`.

use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::event::{Municipality, Position, Stream};
use crate::store::StoreError;
use crate::store::retention::{Before, Forgotten, RetentionStore};

impl State {
    fn first(&self, m: &Municipality, stream: Stream) -> Position {
        let kept = self.kept.get(&(m.clone(), stream));
        kept.copied().unwrap_or(Position(1))
    }

    fn forget(&mut self, m: &Municipality, before: Before) -> Forgotten {
        let first = Stream::ALL.map(|stream| (stream, self.first(m, stream)));
        let trimmed = |stream, position| {
            first
                .iter()
                .any(|(s, first)| *s == stream && position < *first)
        };
        let mut forgotten = Forgotten::default();
        let Some(published) = self.published.get_mut(m) else {
            return forgotten;
        };
        let delivered = &mut self.delivered;
        let mut nameless = Vec::new();
        for event in published.events() {
            let claim = &event.claim;
            let old = claim.published_ms < before.history_ms
                && event
                    .at
                    .is_some_and(|(stream, position)| trimmed(stream, position));
            if !old || delivered.is_parked(m, &claim.subject) {
                continue;
            }
            let (gone, left) = delivered.forget(m, &claim.id, before.history_ms);
            forgotten.outcomes += gone;
            let too_old = before
                .index_ms
                .is_some_and(|index_ms| claim.published_ms < index_ms);
            if too_old && left == 0 {
                nameless.push(claim.id.clone());
            }
        }
        forgotten.events = nameless.len() as u64;
        published.forget(&nameless);
        forgotten
    }
}

#[async_trait]
impl RetentionStore for MemoryStore {
    async fn keep_from(
        &self,
        m: &Municipality,
        stream: Stream,
        first: Position,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        let kept = state.kept.entry((m.clone(), stream)).or_insert(first);
        *kept = first.max(*kept);
        Ok(())
    }

    async fn kept_from(&self, m: &Municipality, stream: Stream) -> Result<Position, StoreError> {
        Ok(self.lock().first(m, stream))
    }

    async fn forget_history(&self, before: Before, _after: u64) -> Result<Forgotten, StoreError> {
        let mut state = self.lock();
        let towns: Vec<Municipality> = state.published.keys().cloned().collect();
        let mut all = Forgotten::default();
        for m in towns {
            let one = state.forget(&m, before);
            all.outcomes += one.outcomes;
            all.events += one.events;
        }
        Ok(all)
    }

    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let towns = state.published.values_mut();
        Ok(towns
            .map(|published| published.forget_held(before_ms))
            .sum())
    }
}
