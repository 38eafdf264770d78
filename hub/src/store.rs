//! The store seam: what the hub knows beside the log, in a few roles with atomic deltas.
//! Serves publish (event index, held units) and delivery (subscriptions, cursors, parked units).
//! Must never hold a payload that is not sealed, or a 宛名番号 in clear.
//! Read next: `store/publish.rs`, `store/delivery.rs`, then `store/sqlite.rs`.

use thiserror::Error;

use crate::event::Municipality;

pub mod acts;
pub mod alarms;
#[cfg(test)]
mod contract;
pub mod delivery;
pub mod memory;
pub mod owners;
pub mod postgres;
pub mod publish;
pub mod replay;
pub mod retention;
pub mod sqlite;

pub use acts::{ActRow, ActStore, NewAct, ParkedFilter};
pub use alarms::{
    AlarmStore, Followed, HeldPile, Pile, Piles, RhythmRow, RhythmStore, StandingRow,
};
pub use delivery::{
    BindingRow, BindingState, Cursor, DeliveryDelta, DeliveryStore, Done, HistoryRow, OutcomeTally,
    ParkedRow, ParkedState, Pause, PausedBy, RunRow, SubscriptionRow, UnitKey,
};
pub use owners::{Owner, Owners};
pub use publish::{
    CaptureState, Claim, HeldFilter, HeldKind, HeldRow, HeldState, IndexedEvent, Known, NewHeld,
    Placed, ProtectionMark, PublishDelta, PublishStore, SnapshotMark, VersionOf,
};
pub use replay::{
    HadEvent, ReplayAt, ReplayProgress, ReplayRow, ReplayState, ReplayStore, Selected, Selection,
};
pub use retention::{Forgotten, RetentionStore};

/// What a commit survives. Every commit survives the end of the process; they differ by what a
/// power cut may take back. Commits are taken back from the last one on, never out of their middle.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// A power cut cannot take it back.
    Now,
    /// A power cut may take it back until the next commit with `Now`: the log's tail brings it
    /// again, or what it says is done once more.
    WithLog,
}

/// A store operation failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The backend failed; nothing of the delta was written.
    #[error("the store failed while {action}")]
    Backend {
        /// What was tried.
        action: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// There is no room on the disk; nothing of the delta was written.
    #[error("the store found no room on the disk while {action}")]
    Full {
        /// What was tried.
        action: &'static str,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another owner or binding took over: what the caller knows is out of date.
    #[error("`{0}` is owned by another epoch now")]
    Fenced(String),
    /// Another instance owns the municipality, and its lease holds.
    #[error("`{municipality}` is owned by the instance at `{holder}`, whose lease still holds")]
    Leased {
        /// Which.
        municipality: Municipality,
        /// Address of the instance.
        holder: String,
    },
}

/// All roles of one backend.
pub trait Store:
    PublishStore + DeliveryStore + ActStore + ReplayStore + AlarmStore + RhythmStore + RetentionStore
{
}

impl<T> Store for T where
    T: PublishStore
        + DeliveryStore
        + ActStore
        + ReplayStore
        + AlarmStore
        + RhythmStore
        + RetentionStore
{
}
