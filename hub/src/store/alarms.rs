//! What the store knows of what is wrong: piles of work that waits, alarms that stand, the support
//! measures that receivers have to apply, the rhythms of sources.
//! Read and written by the look for alarms, once in a named period, not on the way of an event.
//! Must never hold more of an alarm than its name and since when it stands.
//! Read next: `alarms.rs`, `server/town/alarms.rs`.

use std::collections::HashMap;

use async_trait::async_trait;

use super::{NewAct, StoreError};
use crate::event::{Municipality, Position, Stream};

/// Work of one kind that waits.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Pile {
    /// How many units.
    pub count: u64,
    /// Since when the oldest waits, in milliseconds since 1970.
    pub oldest_ms: i64,
    /// Why the oldest does.
    pub reason: String,
}

/// Parked units of one subscription.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Piles {
    /// Refused.
    pub refused: Pile,
    /// Dead letters.
    pub dead: Pile,
    /// Set aside until a time.
    pub due: Pile,
}

/// Held units of one source.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HeldPile {
    /// Source.
    pub source: String,
    /// Those that wait for a correction; else those that wait for a missing version.
    pub refused: bool,
    /// How many, since when.
    pub pile: Pile,
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

/// An event that each receiver has to apply within a limit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Followed {
    /// Event id.
    pub id: String,
    /// Full type name.
    pub event_type: String,
    /// Stream.
    pub stream: Stream,
    /// Position.
    pub position: Position,
    /// When it was accepted, in milliseconds since 1970.
    pub at_ms: i64,
}

/// How often a source has to be heard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RhythmRow {
    /// Source.
    pub source: String,
    /// In milliseconds; 0 ends the rhythm.
    pub rhythm_ms: i64,
    /// When it was heard last, or the rhythm was set, in milliseconds since 1970.
    pub heard_ms: i64,
}

/// The role of alarms.
#[async_trait]
pub trait AlarmStore: Send + Sync + std::fmt::Debug {
    /// What lies parked, by subscription: those named at which anything does.
    async fn piles(&self, subscriptions: &[String]) -> Result<HashMap<String, Piles>, StoreError>;
    /// What is held, by source: units to correct, then those that a version is missing before.
    async fn held_piles(&self, m: &Municipality) -> Result<Vec<HeldPile>, StoreError>;
    /// Alarms that stood at the last look.
    async fn standing(&self, m: &Municipality) -> Result<Vec<StandingRow>, StoreError>;
    /// Replaces them. A power cut may take it back: the next look finds the same again.
    async fn put_standing(
        &self,
        m: &Municipality,
        rows: Vec<StandingRow>,
    ) -> Result<(), StoreError>;
    /// Followed events, oldest first.
    async fn followed(&self, m: &Municipality, limit: usize) -> Result<Vec<Followed>, StoreError>;
    /// Of the followed events those without an outcome at a subscription, oldest first: not read,
    /// not answered, or parked. Whether they concern it is not asked.
    async fn open_followed(
        &self,
        m: &Municipality,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<Followed>, StoreError>;
    /// Follows these no more.
    async fn unfollow(&self, m: &Municipality, ids: &[String]) -> Result<(), StoreError>;
}

/// The role of the sources' rhythms.
#[async_trait]
pub trait RhythmStore: Send + Sync + std::fmt::Debug {
    /// Rhythms, by source.
    async fn rhythms(&self, m: &Municipality) -> Result<Vec<RhythmRow>, StoreError>;
    /// Sets or ends a rhythm, with its act.
    async fn put_rhythm(
        &self,
        m: &Municipality,
        row: RhythmRow,
        act: NewAct,
    ) -> Result<(), StoreError>;
    /// Notes when sources were heard; a time never goes back, a source without a rhythm is none.
    /// A power cut may take it back.
    async fn heard(&self, m: &Municipality, times: &[(String, i64)]) -> Result<(), StoreError>;
}
