//! What the store knows of what is wrong: piles of parked units, and alarms that stand.
//! Read and written by the look for alarms, once in a named period; never on the way of an event.
//! Must never hold more of an alarm than its name and since when it stands.
//! Read next: `alarms.rs`, `server/town/alarms.rs`.

use async_trait::async_trait;

use super::StoreError;
use crate::event::Municipality;

/// Parked units of one state.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pile {
    /// How many.
    pub count: u64,
    /// Since when the oldest lies there, in milliseconds since 1970.
    pub oldest_ms: i64,
    /// Why the oldest does.
    pub reason: String,
}

/// Parked units of one subscription that wait for a human.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Piles {
    /// Refused.
    pub refused: Pile,
    /// Dead letters.
    pub dead: Pile,
}

/// An alarm that stands.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct StandingRow {
    /// Kind as on the wire (`musubi.hub.v1.AlarmKind`).
    pub kind: i32,
    /// Subscription; may be empty.
    pub subscription: String,
    /// Source; may be empty.
    pub source: String,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// The role of alarms.
#[async_trait]
pub trait AlarmStore: Send + Sync + std::fmt::Debug {
    /// What waits for a human at a subscription.
    async fn piles(&self, subscription: &str) -> Result<Piles, StoreError>;
    /// Alarms that stood at the last look.
    async fn standing(&self, m: &Municipality) -> Result<Vec<StandingRow>, StoreError>;
    /// Replaces them. A power cut may take it back: the next look finds the same again.
    async fn put_standing(
        &self,
        m: &Municipality,
        rows: Vec<StandingRow>,
    ) -> Result<(), StoreError>;
}
