//! What the store forgets, and what it knows of the log's beginning.
//! Used by the keepers, off the path of events.
//! Must never forget what tells of an event that the log still has, nor what lies parked.
//! Read next: `server/retention.rs`, `docs/specs/store.md` (retention).

use async_trait::async_trait;

use super::StoreError;
use crate::event::{Municipality, Position, Stream};

/// What one batch forgot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Forgotten {
    /// Outcomes.
    pub outcomes: u64,
    /// Where the next batch goes on; `None` behind the last.
    pub next: Option<u64>,
}

/// The role of retention.
#[async_trait]
pub trait RetentionStore: Send + Sync + std::fmt::Debug {
    /// Notes from where on a stream of the log is kept, before the log forgets what stands before.
    /// It never falls. Whatever was committed before survives a power cut then.
    async fn keep_from(
        &self,
        m: &Municipality,
        stream: Stream,
        first: Position,
    ) -> Result<(), StoreError>;
    /// From where on a stream is kept, as it was noted; 1 when nothing was forgotten.
    async fn kept_from(&self, m: &Municipality, stream: Stream) -> Result<Position, StoreError>;
    /// Forgets outcomes from before a time, in milliseconds since 1970, of events that the log has
    /// no longer, in one batch over all municipalities from a place on. What concerns a subject
    /// that has something parked stays. Ids of events stay for ever: the same one is a duplicate.
    async fn forget_history(&self, before_ms: i64, after: u64) -> Result<Forgotten, StoreError>;
    /// Forgets the content of a batch of held units that were held before a time and closed before
    /// it; returns how many. The units stay: the same row again is known.
    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError>;
}
