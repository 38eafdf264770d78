//! The role of retention in memory.
//! Used in tests and simulations.
//! Must never forget more than SQLite does.
//! Read next: `store/contract/retention.rs`.

use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::event::{Municipality, Position, Stream};
use crate::store::StoreError;
use crate::store::retention::{Forgotten, RetentionStore};

impl State {
    fn first(&self, m: &Municipality, stream: Stream) -> Position {
        let kept = self.kept.get(&(m.clone(), stream));
        kept.copied().unwrap_or(Position(1))
    }

    fn forget(&mut self, m: &Municipality, before_ms: i64) -> u64 {
        let first = Stream::ALL.map(|stream| (stream, self.first(m, stream)));
        let trimmed = |(stream, position)| {
            first
                .iter()
                .any(|(s, first)| *s == stream && position < *first)
        };
        let Some(published) = self.published.get(m) else {
            return 0;
        };
        let mut forgotten = 0;
        for event in published.events() {
            let claim = &event.claim;
            if event.at.is_some_and(trimmed) && !self.delivered.is_parked(m, &claim.subject) {
                forgotten += self.delivered.forget(m, &claim.id, before_ms);
            }
        }
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

    async fn forget_history(&self, before_ms: i64, _after: u64) -> Result<Forgotten, StoreError> {
        let mut state = self.lock();
        let towns: Vec<Municipality> = state.published.keys().cloned().collect();
        let outcomes = towns.iter().map(|m| state.forget(m, before_ms)).sum();
        Ok(Forgotten {
            outcomes,
            next: None,
        })
    }

    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError> {
        let mut state = self.lock();
        let towns = state.published.values_mut();
        Ok(towns
            .map(|published| published.forget_held(before_ms))
            .sum())
    }
}
