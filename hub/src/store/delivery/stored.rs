//! How the words of deliveries stand in stored rows, and which rows a delta comes to.
//! Shared by the backends that write them with SQL.
//! Must never give a number another meaning: rows outlive versions.
//! Read next: `store/sqlite/delivery.rs`, `store/postgres/delivery.rs`.

use musubi_proto::hub::v1::Outcome;

use super::{
    BindingState, DeliveryDelta, OutcomeTally, ParkedState, Pause, PausedBy, SubscriptionRow,
    UnitKey,
};
use crate::event::{Position, Stream};
use crate::settings::BindingSettings;

impl UnitKey {
    /// Reads its columns.
    pub(in crate::store) fn stored(stream: i64, sequence: i64, member: i64) -> Self {
        Self {
            stream: Stream::from_number(stream),
            sequence: sequence as u64,
            member: member as u32,
        }
    }
}

impl BindingState {
    /// Number in stored rows.
    pub(in crate::store) fn number(self) -> i64 {
        match self {
            BindingState::Filling => 1,
            BindingState::Serving => 2,
            BindingState::Replaced => 3,
        }
    }

    /// Reads a stored number; an unknown one serves nobody.
    pub(in crate::store) fn from_number(number: i64) -> Self {
        match number {
            1 => BindingState::Filling,
            2 => BindingState::Serving,
            _ => BindingState::Replaced,
        }
    }
}

impl PausedBy {
    /// Number in stored rows.
    pub(in crate::store) fn number(self) -> i64 {
        match self {
            PausedBy::Adapter => 1,
            PausedBy::Hub => 2,
            PausedBy::Operator => 3,
        }
    }
}

impl Pause {
    /// Reads its columns; an unknown one waits for an operator.
    pub(in crate::store) fn stored(by: Option<i64>, reason: Option<String>) -> Option<Self> {
        let by = match by? {
            1 => PausedBy::Adapter,
            2 => PausedBy::Hub,
            _ => PausedBy::Operator,
        };
        let reason = reason.unwrap_or_default();
        Some(Self { by, reason })
    }
}

/// Settings that cannot be read limit nothing: a binding that is served too fast is seen, one that
/// stands still for ever may not be.
pub(in crate::store) fn settings_of(subscription: &str, text: &str) -> BindingSettings {
    serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::error!(%error, subscription, "the settings of a binding cannot be read");
        BindingSettings::default()
    })
}

/// Reads a pair of positions (live, bulk).
pub(in crate::store) fn pair(live: Option<i64>, bulk: Option<i64>) -> Option<(Position, Position)> {
    Some((Position(live? as u64), Position(bulk? as u64)))
}

impl OutcomeTally {
    /// Adds a count of the outcomes. A refusal counts as long as its events are parked.
    pub(in crate::store) fn count_done(&mut self, outcome: i64, events: i64) {
        let events = events as u64;
        match Outcome::try_from(outcome as i32) {
            Ok(Outcome::Applied) => self.applied += events,
            Ok(Outcome::Duplicate) => self.duplicate += events,
            Ok(Outcome::NotRelevant) => self.not_relevant += events,
            Ok(Outcome::PendingReview) => self.pending_review += events,
            Ok(Outcome::Superseded | Outcome::SupersededBySwap) => self.superseded += events,
            Ok(Outcome::Skipped) => self.skipped += events,
            _ => {}
        }
    }

    /// Adds a count of what is parked.
    pub(in crate::store) fn count_parked(&mut self, state: i64, events: i64) {
        let events = events as u64;
        match ParkedState::from_number(state) {
            ParkedState::Rejected | ParkedState::Dead => self.rejected += events,
            ParkedState::Waiting | ParkedState::Due => self.waiting += events,
        }
    }
}

/// A subscription's name begins with its municipality.
pub(in crate::store) fn town(subscription: &str) -> &str {
    subscription.split('/').next().unwrap_or_default()
}

impl DeliveryDelta {
    /// True when the delta itself moves the cursor over a unit.
    fn passes(&self, key: UnitKey) -> bool {
        let mut cursors = self.cursors.iter();
        cursors.any(|(stream, cursor)| *stream == key.stream && key.sequence < cursor.sequence)
    }

    /// Units that are done or parked now, although this cursor does not pass them yet.
    pub(in crate::store) fn ahead(&self) -> impl Iterator<Item = UnitKey> {
        let done = self.done.iter().map(|done| done.key);
        let parked = self.park.iter().map(|row| row.key);
        done.chain(parked).filter(|key| !self.passes(*key))
    }

    /// Units that are done and may have attempts noted. One that was done at its first attempt has
    /// none, unless it was parked.
    pub(in crate::store) fn tried(&self) -> impl Iterator<Item = UnitKey> {
        let done = self.done.iter().chain(&self.replayed);
        let tried = done.filter(|done| done.attempt != 1 || self.unpark.contains(&done.key));
        tried.map(|done| done.key)
    }

    /// The state of the binding that a pause concerns.
    pub(in crate::store) fn binding_state(&self) -> BindingState {
        SubscriptionRow::wanted_of(&self.subscription)
    }
}
