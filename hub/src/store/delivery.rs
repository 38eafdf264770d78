//! The delivery side of the store: subscriptions, bindings, cursors, outcomes, parked units.
//! Used by the runner of each subscription.
//! Must never move a cursor over a unit that has no outcome and is not parked.
//! Read next: `engine.rs`.
//!
//! ```text
//!        cursor                 read so far
//!   done │ open  done  open  parked │ not read
//!  ──────┴──┬─────┬─────┬──────┬────┴─────────▶ sequence
//!           │     └ "ahead": kept beside the cursor until it passes
//!           └ the low watermark: every sequence before it is done or parked
//! ```

pub(super) mod group;
pub(super) mod stored;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::{Durability, StoreError};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream, Subject};
use crate::settings::BindingSettings;

/// Names a unit, or one member of it, within a subscription.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct UnitKey {
    /// Stream.
    pub stream: Stream,
    /// Gap-free number within subscription and stream.
    pub sequence: u64,
    /// Member by its place in the group, from 1; 0 is the whole unit.
    pub member: u32,
}

/// Where a subscription stands in one stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Cursor {
    /// Next position that is not wholly done.
    pub position: Position,
    /// Sequence of the next unit at or behind it.
    pub sequence: u64,
}

/// What a binding does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindingState {
    /// Is being filled.
    Filling,
    /// Serves.
    Serving,
    /// Was replaced.
    Replaced,
}

/// Who stopped a binding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PausedBy {
    /// Its adapter; attaching again, after a human has acted, goes on.
    Adapter,
    /// The hub, to protect the town; only an operator's word goes on.
    Hub,
    /// An operator; only an operator's word goes on.
    Operator,
}

/// Why a binding is stopped.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pause {
    /// Who stopped it.
    pub by: PausedBy,
    /// Why.
    pub reason: String,
}

/// A binding of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BindingRow {
    /// Product.
    pub product: String,
    /// Epoch.
    pub epoch: u64,
    /// State.
    pub state: BindingState,
    /// Positions (live, bulk) of the cut from which it serves; `None` for the first.
    pub cut: Option<(Position, Position)>,
    /// Why it is stopped; `None` when it runs.
    pub paused: Option<Pause>,
    /// How much, how fast and when it is served.
    pub settings: BindingSettings,
}

/// Counts of events by how they ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OutcomeTally {
    /// Applied.
    pub applied: u64,
    /// Duplicate.
    pub duplicate: u64,
    /// Superseded, also by a swap.
    pub superseded: u64,
    /// Skipped by an operator.
    pub skipped: u64,
    /// Not relevant.
    pub not_relevant: u64,
    /// Pending review.
    pub pending_review: u64,
    /// Parked after a refusal.
    pub rejected: u64,
    /// Parked behind a refusal.
    pub waiting: u64,
}

/// A subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubscriptionRow {
    /// `<municipality>/<業務ID>`, with `~fill-<epoch>` for one that fills a new product.
    pub id: String,
    /// Municipality.
    pub municipality: Municipality,
    /// 業務ID.
    pub system: String,
    /// Cursor in live.
    pub live: Cursor,
    /// Cursor in bulk.
    pub bulk: Cursor,
    /// The snapshot that fills the product is through.
    pub filled: bool,
    /// For a filling one: positions (live, bulk) at which it ends, once the cut is made.
    pub until: Option<(Position, Position)>,
    /// A filling one that did its work.
    pub closed: bool,
    /// Bindings, oldest first.
    pub bindings: Vec<BindingRow>,
    /// Counts.
    pub tally: OutcomeTally,
}

impl SubscriptionRow {
    /// Cursor in one stream.
    pub fn cursor(&self, stream: Stream) -> Cursor {
        match stream {
            Stream::Live => self.live,
            Stream::Bulk => self.bulk,
        }
    }

    /// True for a subscription that fills a new product.
    pub fn is_filling(&self) -> bool {
        self.id.contains('~')
    }

    /// The binding that serves (or, for a filling subscription, is filled) now.
    pub fn binding(&self) -> Option<&BindingRow> {
        let wanted = self.wanted();
        let mut bindings = self.bindings.iter().rev();
        bindings.find(|binding| binding.state == wanted)
    }

    /// The same, to be changed.
    pub fn binding_mut(&mut self) -> Option<&mut BindingRow> {
        let wanted = self.wanted();
        let mut bindings = self.bindings.iter_mut().rev();
        bindings.find(|binding| binding.state == wanted)
    }

    fn wanted(&self) -> BindingState {
        Self::wanted_of(&self.id)
    }

    /// The state of the binding that a subscription of this name delivers to.
    fn wanted_of(id: &str) -> BindingState {
        if id.contains('~') {
            BindingState::Filling
        } else {
            BindingState::Serving
        }
    }
}

/// How one unit ended.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Done {
    /// Unit.
    pub key: UnitKey,
    /// Ids of its events.
    pub event_ids: Vec<String>,
    /// Attempts it took.
    pub attempt: u32,
    /// Final outcome as on the wire (`musubi.hub.v1.Outcome`).
    pub outcome: i32,
    /// Reason.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Product.
    pub product: String,
}

/// Why a unit is parked.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ParkedState {
    /// Was refused.
    Rejected,
    /// Waits behind another parked one.
    Waiting,
    /// Is tried again at `due_ms`.
    Due,
    /// Was tried until the schedule ended: a dead letter.
    Dead,
}

impl ParkedState {
    /// Number in stored rows.
    pub fn number(self) -> i64 {
        match self {
            ParkedState::Rejected => 1,
            ParkedState::Waiting => 2,
            ParkedState::Due => 3,
            ParkedState::Dead => 4,
        }
    }

    /// Reads a stored number; an unknown one waits for a human.
    pub fn from_number(number: i64) -> Self {
        match number {
            2 => ParkedState::Waiting,
            3 => ParkedState::Due,
            4 => ParkedState::Dead,
            _ => ParkedState::Rejected,
        }
    }
}

/// A unit set aside with its own copy of the events.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ParkedRow {
    /// Unit.
    pub key: UnitKey,
    /// Subjects.
    pub subjects: Vec<Subject>,
    /// State.
    pub state: ParkedState,
    /// Reason.
    pub reason: String,
    /// Offending field.
    pub field: String,
    /// Text.
    pub message: String,
    /// Attempts so far.
    pub attempts: u32,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// When it is tried again, in milliseconds since 1970; `None` unless it is due.
    pub due_ms: Option<i64>,
    /// Rises with each refusal and each act: what an operator saw is still so. The store counts;
    /// what a delta says is not read.
    pub revision: u64,
    /// Position of the unit's last event.
    pub position: Position,
    /// Ids of its events.
    pub event_ids: Vec<String>,
    /// The events, an encoded `Unit` as appended (not projected).
    pub content: Sealed,
}

/// A run: its composition is stored before it is sent and never changes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RunRow {
    /// Identifier.
    pub id: String,
    /// Its units in order.
    pub keys: Vec<UnitKey>,
}

/// One step of an event's delivery, for the case view.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HistoryRow {
    /// Subscription.
    pub subscription: String,
    /// Product.
    pub product: String,
    /// Unit.
    pub key: UnitKey,
    /// Attempts.
    pub attempt: u32,
    /// Outcome as on the wire.
    pub outcome: i32,
    /// Reason.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
}

/// All that one step of a subscription changes, applied at once or not at all, and only while
/// the owner's epoch is the stored one.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct DeliveryDelta {
    /// Subscription.
    pub subscription: String,
    /// Epoch of the owner.
    pub owner_epoch: u64,
    /// Act of an operator that this delta carries out.
    pub act: Option<super::NewAct>,
    /// Cursors that move.
    pub cursors: Vec<(Stream, Cursor)>,
    /// Outcomes.
    pub done: Vec<Done>,
    /// Outcomes of units that were delivered once more: they count for nothing but the history.
    pub replayed: Vec<Done>,
    /// Attempts of units that are tried again.
    pub attempts: Vec<(UnitKey, u32)>,
    /// Units to park, or parked ones with a new state.
    pub park: Vec<ParkedRow>,
    /// Parked units that got an outcome.
    pub unpark: Vec<UnitKey>,
    /// Runs to open, after those in `runs_close` are closed.
    pub runs_open: Vec<RunRow>,
    /// Runs that are answered.
    pub runs_close: Vec<String>,
    /// The snapshot is through.
    pub filled: bool,
    /// Stops the binding, or lets it go on (`Some(None)`).
    pub paused: Option<Option<Pause>>,
}

impl DeliveryDelta {
    /// What its commit has to survive. A cursor, an outcome or an attempt that is taken back makes
    /// the hub deliver once more, under the same key. A run's composition must not be taken back
    /// once it was sent, nor a human's decision, nor a copy that outlives the log's retention.
    pub fn durability(&self) -> Durability {
        let repeatable = self.act.is_none()
            && self.park.is_empty()
            && self.unpark.is_empty()
            && self.runs_open.is_empty()
            && !self.filled
            && self.paused.is_none();
        if repeatable {
            Durability::WithLog
        } else {
            Durability::Now
        }
    }

    /// True when nothing would change.
    pub fn is_empty(&self) -> bool {
        self.act.is_none()
            && self.cursors.is_empty()
            && self.done.is_empty()
            && self.replayed.is_empty()
            && self.attempts.is_empty()
            && self.park.is_empty()
            && self.unpark.is_empty()
            && self.runs_open.is_empty()
            && self.runs_close.is_empty()
            && !self.filled
            && self.paused.is_none()
    }
}

/// The delivery role.
#[async_trait]
pub trait DeliveryStore: Send + Sync + std::fmt::Debug {
    /// Takes ownership of a municipality: raises its epoch and returns it.
    async fn own(&self, m: &Municipality) -> Result<u64, StoreError>;
    /// Municipalities that have subscriptions or events.
    async fn municipalities(&self) -> Result<Vec<Municipality>, StoreError>;
    /// Subscriptions of a municipality, by id.
    async fn subscriptions(&self, m: &Municipality) -> Result<Vec<SubscriptionRow>, StoreError>;
    /// Writes a subscription with its bindings, as a control record of the log says it is; the
    /// cursors of an existing one stay.
    async fn put_subscription(&self, row: SubscriptionRow) -> Result<(), StoreError>;
    /// Moves the parked units of a filling subscription to its system's own, and closes it.
    async fn finish_filling(&self, filling: &str, into: &str) -> Result<(), StoreError>;
    /// Applies a delta.
    async fn commit(&self, delta: DeliveryDelta) -> Result<(), StoreError>;
    /// Outcomes ahead of the cursors.
    async fn ahead(&self, subscription: &str) -> Result<HashSet<UnitKey>, StoreError>;
    /// Attempts of units that were tried more than once and are open.
    async fn attempts(&self, subscription: &str) -> Result<Vec<(UnitKey, u32)>, StoreError>;
    /// Open runs.
    async fn runs(&self, subscription: &str) -> Result<Vec<RunRow>, StoreError>;
    /// Subjects that are parked, each with the first of its parked units.
    async fn parked_subjects(
        &self,
        subscription: &str,
    ) -> Result<HashMap<Subject, UnitKey>, StoreError>;
    /// Parked units of one subject (`None`: of all), behind a key, in order of sequence.
    async fn parked(
        &self,
        subscription: &str,
        subject: Option<&Subject>,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError>;
    /// Set-aside units with the time at which each is due, soonest first.
    async fn due(
        &self,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<(i64, UnitKey)>, StoreError>;
    /// One parked unit.
    async fn parked_unit(
        &self,
        subscription: &str,
        key: UnitKey,
    ) -> Result<Option<ParkedRow>, StoreError>;
    /// Delivery steps of one event.
    async fn history(
        &self,
        m: &Municipality,
        event_id: &str,
    ) -> Result<Vec<HistoryRow>, StoreError>;
    /// Versions of the grants with the position (live, bulk) from which each holds, oldest first.
    async fn grants(
        &self,
        m: &Municipality,
    ) -> Result<Vec<((Position, Position), String)>, StoreError>;
    /// Adds a version of the grants.
    async fn put_grants(
        &self,
        m: &Municipality,
        from: (Position, Position),
        text: &str,
    ) -> Result<(), StoreError>;
}
