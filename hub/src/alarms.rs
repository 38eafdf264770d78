//! What is wrong, said before somebody looks: a pure function from facts to the alarms that stand.
//! The facts come from store and runners (`server/town/alarms.rs`), which also keep `since`.
//! Must never read a clock, nor hold a name, an address or a number.
//! Read next: `alarms/rules.rs`, `alarms/words.rs`, `docs/specs/alarms.md`.

use std::collections::BTreeMap;
use std::time::Duration;

pub use musubi_proto::hub::v1::AlarmKind as Kind;

use crate::limits;
use crate::log::Concerns;
use crate::retention::Who;
use crate::store::{HeldPile, Pause, Pile, RhythmRow};

mod rules;
#[cfg(test)]
mod tests;
mod words;

use words::counts_people;
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

    /// Names an alarm about a source.
    pub fn of_source(kind: Kind, source: &str) -> Self {
        Self {
            kind,
            subscription: String::new(),
            source: source.to_owned(),
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
    /// Since when, where something says so; else since it was first seen.
    since_ms: Option<i64>,
}

/// What is known of one municipality at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    /// Subscriptions that are served or filled.
    pub receivers: Vec<Receiver>,
    /// Held units by source.
    pub held: Vec<HeldPile>,
    /// Sources that have a rhythm.
    pub rhythms: Vec<RhythmRow>,
    /// Since when the disk refuses writes.
    pub disk_full_since_ms: Option<i64>,
    /// Who holds the log, and how many percent of what it may keep.
    pub log_held: BTreeMap<Who, u64>,
    /// What is wrong with the log and does not stop it.
    pub concerns: Concerns,
}

/// What is known of one subscription.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Receiver {
    /// Subscription.
    pub subscription: String,
    /// Why its binding is stopped.
    pub paused: Option<Pause>,
    /// Its office is closed now.
    pub closed: bool,
    /// Its adapter is attached.
    pub attached: bool,
    /// Units that wait for a human after a refusal.
    pub refused: Pile,
    /// Dead letters.
    pub dead: Pile,
    /// Units that were put off, since anything ended: how many, since when, why.
    pub put_off: Pile,
    /// Something waits for it, and since when nothing moved: how many positions or units.
    pub still: Pile,
    /// When each support measure was accepted that has no outcome here, oldest first.
    pub measures_ms: Vec<i64>,
}

/// From which age on things alarm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// A parked unit counts as left alone.
    pub parked_long: Duration,
    /// A support measure counts as late.
    pub protection: Duration,
    /// A unit that a version is missing before counts as incomplete.
    pub incomplete: Duration,
    /// A receiver at which nothing moves counts as stalled, or its adapter as away.
    pub still: Duration,
    /// A receiver that puts everything off counts as down.
    pub down: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            parked_long: limits::ALARM_PARKED_LONG,
            protection: limits::ALARM_PROTECTION,
            incomplete: limits::ALARM_INCOMPLETE,
            still: limits::ALARM_STILL,
            down: limits::ALARM_DOWN,
        }
    }
}

/// Alarms by name.
pub type Standing = BTreeMap<Name, Alarm>;

/// The alarms that stand. Those of `before` keep the time since which they do.
pub fn standing(facts: &Facts, limits: &Limits, before: &Standing, now_ms: i64) -> Standing {
    let look = rules::Look {
        facts,
        limits,
        now_ms,
    };
    let found = rules::ALL.iter().flat_map(|rule| rule(&look));
    let alarms = found.map(|found| {
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

/// What is to be said after a look: what appeared, or concerns more people than before; and what
/// went.
pub fn changes<'a>(before: &'a Standing, now: &'a Standing) -> (Vec<&'a Alarm>, Vec<&'a Alarm>) {
    let said = |alarm: &&Alarm| match before.get(&alarm.name) {
        None => true,
        // Nothing is known of the count of a former process.
        Some(old) => old.count > 0 && alarm.count > old.count && counts_people(alarm.name.kind),
    };
    let went = |alarm: &&Alarm| !now.contains_key(&alarm.name);
    (
        now.values().filter(said).collect(),
        before.values().filter(went).collect(),
    )
}
