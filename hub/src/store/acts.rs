//! Acts of operators: who did what, why, when, and what it changed (P12).
//! Written with the change itself where one commit holds both, else right behind it.
//! Must never hold a payload or a 宛名番号; an act is never changed nor deleted.
//! Read next: `server/admin_service/acts.rs`.

use async_trait::async_trait;

use super::{ParkedRow, ParkedState, StoreError, UnitKey};
use crate::event::{Municipality, Subject};

/// An act to record.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct NewAct {
    /// Names it within the municipality: recorded twice, it stands there once.
    pub id: String,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Who.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// What, as on the wire (`musubi.hub.v1.ActKind`).
    pub kind: i32,
    /// Subscription that it changed; empty when it changed none.
    pub subscription: String,
    /// To what: a system and product, a source, a parked unit.
    pub target: String,
    /// Parked units that it concerned; their revision rises.
    pub units: Vec<UnitKey>,
    /// How many subjects.
    pub subjects: u64,
    /// What came of it, in a few words.
    pub note: String,
}

impl NewAct {
    /// An act with a name of its own, now.
    pub fn now(kind: i32, operator: &str, reason: &str) -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            at_ms: crate::clock::now_ms(),
            operator: operator.to_owned(),
            reason: reason.to_owned(),
            kind,
            ..Self::default()
        }
    }
}

/// A recorded act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ActRow {
    /// Number; rises with each act of the hub.
    pub number: u64,
    /// How many units it concerned.
    pub units: u64,
    /// The act; `units` is left empty.
    pub act: NewAct,
}

/// Which parked units are looked for; an empty filter finds all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ParkedFilter {
    /// In one of these states; empty: in any.
    pub states: Vec<ParkedState>,
    /// Last refused with this reason.
    pub reason: Option<String>,
    /// Parked before this time, in milliseconds since 1970.
    pub before_ms: Option<i64>,
    /// Of this subject.
    pub subject: Option<Subject>,
}

impl ParkedFilter {
    /// True when a unit is one of those looked for.
    pub fn finds(&self, row: &ParkedRow) -> bool {
        let any = self.states.is_empty();
        (any || self.states.contains(&row.state))
            && self
                .reason
                .as_ref()
                .is_none_or(|reason| *reason == row.reason)
            && self.before_ms.is_none_or(|before| row.at_ms < before)
            && self
                .subject
                .as_ref()
                .is_none_or(|subject| row.subjects.contains(subject))
    }
}

/// The role of acts, and of what is looked up for them.
#[async_trait]
pub trait ActStore: Send + Sync + std::fmt::Debug {
    /// Records an act that no delta carries.
    async fn record_act(&self, m: &Municipality, act: NewAct) -> Result<(), StoreError>;
    /// Acts below a number (0: from the latest on), latest first.
    async fn acts(
        &self,
        m: &Municipality,
        below: u64,
        limit: usize,
    ) -> Result<Vec<ActRow>, StoreError>;
    /// Acts on one parked unit, oldest first; also after it ended.
    async fn acts_on(&self, subscription: &str, key: UnitKey) -> Result<Vec<ActRow>, StoreError>;
    /// Parked units that a filter finds, behind a key, in order of sequence.
    async fn find_parked(
        &self,
        subscription: &str,
        filter: &ParkedFilter,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError>;
}
