//! What is wrong, said before somebody looks: a pure function from facts to the alarms that stand.
//! The facts come from store and runners (`server/town/alarms.rs`), which also keep `since`.
//! Must never read a clock, nor hold a name, an address or a number.
//! Read next: `alarms/rules.rs`, `alarms/words.rs`, `docs/specs/alarms.md`.

use std::collections::BTreeMap;

pub use musubi_proto::hub::v1::AlarmKind as Kind;

use crate::store::{Pause, Pile};

mod rules;
#[cfg(test)]
mod tests;
mod words;

pub use words::{Severity, advice, severity};

/// What an alarm is about; there is one alarm of a name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name {
    /// Kind.
    pub kind: Kind,
    /// Subscription; empty when it is about none.
    pub subscription: String,
    /// Source; empty when it is about none.
    pub source: String,
}

impl Name {
    /// Names an alarm about a subscription.
    pub fn of(kind: Kind, subscription: &str) -> Self {
        Self {
            kind,
            subscription: subscription.to_owned(),
            source: String::new(),
        }
    }
}

/// An alarm that stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Alarm {
    /// What it is about.
    pub name: Name,
    /// Stable reason; may be empty.
    pub reason: String,
    /// How many.
    pub count: u64,
    /// Since when, in milliseconds since 1970.
    pub since_ms: i64,
}

/// What a rule found.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Found {
    name: Name,
    reason: String,
    count: u64,
    /// Since when, where a stored row says so; else since it was first seen.
    since_ms: Option<i64>,
}

/// What is known of one municipality at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Subscriptions that are served or filled.
    pub receivers: Vec<Receiver>,
}

/// What is known of one subscription.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Receiver {
    /// Subscription.
    pub subscription: String,
    /// Why its binding is stopped.
    pub paused: Option<Pause>,
    /// Units that wait for a human after a refusal.
    pub refused: Pile,
    /// Dead letters.
    pub dead: Pile,
}

/// Alarms by name.
pub type Standing = BTreeMap<Name, Alarm>;

/// The alarms that stand. Those of `before` keep the time since which they do.
pub fn standing(facts: &Facts, before: &Standing, now_ms: i64) -> Standing {
    let mut found = Vec::new();
    for rule in rules::ALL {
        rule(facts, now_ms, &mut found);
    }
    let alarms = found.into_iter().map(|found| {
        let known = before.get(&found.name).map(|alarm| alarm.since_ms);
        let since_ms = found.since_ms.or(known).unwrap_or(now_ms);
        let alarm = Alarm {
            name: found.name.clone(),
            reason: found.reason,
            count: found.count,
            since_ms,
        };
        (found.name, alarm)
    });
    alarms.collect()
}

/// What appeared and what went between two looks.
pub fn changes<'a>(before: &'a Standing, now: &'a Standing) -> (Vec<&'a Alarm>, Vec<&'a Alarm>) {
    let only_in = |one: &'a Standing, other: &Standing| {
        let alarms = one
            .values()
            .filter(|alarm| !other.contains_key(&alarm.name));
        alarms.collect()
    };
    (only_in(now, before), only_in(before, now))
}
