//! The role of alarms in memory.
//! Used in tests and simulations.
//! Must never find another pile than the store in SQLite.
//! Read next: `store/contract/alarms.rs`.

use async_trait::async_trait;

use super::MemoryStore;
use crate::event::Municipality;
use crate::store::{
    AlarmStore, DeliveryStore, ParkedRow, ParkedState, Pile, Piles, StandingRow, StoreError,
};

#[async_trait]
impl AlarmStore for MemoryStore {
    async fn piles(&self, subscription: &str) -> Result<Piles, StoreError> {
        let rows = self.parked(subscription, None, None, usize::MAX).await?;
        Ok(Piles {
            refused: pile(&rows, ParkedState::Rejected),
            dead: pile(&rows, ParkedState::Dead),
        })
    }

    async fn standing(&self, m: &Municipality) -> Result<Vec<StandingRow>, StoreError> {
        let mut rows = self.lock().standing.get(m).cloned().unwrap_or_default();
        rows.sort();
        Ok(rows)
    }

    async fn put_standing(
        &self,
        m: &Municipality,
        rows: Vec<StandingRow>,
    ) -> Result<(), StoreError> {
        self.lock().standing.insert(m.clone(), rows);
        Ok(())
    }
}

fn pile(rows: &[ParkedRow], state: ParkedState) -> Pile {
    let of_state = || rows.iter().filter(|row| row.state == state);
    let oldest = of_state().min_by_key(|row| row.at_ms);
    oldest.map_or_else(Pile::default, |oldest| Pile {
        count: of_state().count() as u64,
        oldest_ms: oldest.at_ms,
        reason: oldest.reason.clone(),
    })
}
