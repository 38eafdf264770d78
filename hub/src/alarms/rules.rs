//! The rules: each looks at the facts and says what is wrong.
//! Asked one after the other; a new kind is one more function in `ALL`.
//! Must never find the same name twice.
//! Read next: `alarms/words.rs`.

use std::time::Duration;

use super::{Facts, Found, Kind, Limits, Name, Receiver};
use crate::retention::{Held, Who};
use crate::store::{PausedBy, Pile};

/// What a rule looks at.
pub(super) struct Look<'a> {
    pub(super) facts: &'a Facts,
    pub(super) limits: &'a Limits,
    pub(super) now_ms: i64,
}

impl Look<'_> {
    fn is_older(&self, since_ms: i64, than: Duration) -> bool {
        let age_ms = u64::try_from(self.now_ms.saturating_sub(since_ms)).unwrap_or(0);
        u128::from(age_ms) >= than.as_millis()
    }

    /// An alarm about a receiver for each pile that there is and that is old enough.
    fn of_receivers(
        &self,
        kind: Kind,
        than: Duration,
        pile: impl Fn(&Receiver) -> Option<&Pile>,
    ) -> Vec<Found> {
        let of_receiver = |receiver| {
            let pile = pile(receiver)?;
            self.of_pile(Name::of(kind, &receiver.subscription), than, pile)
        };
        self.facts
            .receivers
            .iter()
            .filter_map(of_receiver)
            .collect()
    }

    fn of_pile(&self, name: Name, than: Duration, pile: &Pile) -> Option<Found> {
        (pile.count > 0 && self.is_older(pile.oldest_ms, than)).then(|| Found {
            name,
            reason: pile.reason.clone(),
            count: pile.count,
            since_ms: Some(pile.oldest_ms),
        })
    }
}

/// A rule.
type Rule = fn(&Look<'_>) -> Vec<Found>;

/// All rules.
pub(super) const ALL: &[Rule] = &[
    stopped,
    parked,
    parked_long,
    dead,
    protection_late,
    source_silent,
    held,
    incomplete,
    stalled,
    adapter_away,
    receiver_down,
    disk_full,
    log_held,
    concerns,
];

/// A stopped binding sends nothing; when no operator wanted it, somebody has to act.
fn stopped(look: &Look<'_>) -> Vec<Found> {
    let of_receiver = |receiver: &Receiver| {
        let pause = receiver.paused.as_ref()?;
        let (kind, reason) = match pause.by {
            // The hub says behind its own reason which refusal it was.
            PausedBy::Adapter | PausedBy::Hub => {
                (Kind::BindingStopped, pause.reason.split(':').next())
            }
            // An operator's own words stand in the record of the act.
            PausedBy::Operator => (Kind::StoppedByOperator, None),
        };
        Some(Found {
            name: Name::of(kind, &receiver.subscription),
            reason: reason.unwrap_or_default().to_owned(),
            count: 1,
            since_ms: None,
        })
    };
    let receivers = look.facts.receivers.iter();
    receivers.filter_map(of_receiver).collect()
}

/// A refused subject waits for a human from the first second on.
fn parked(look: &Look<'_>) -> Vec<Found> {
    look.of_receivers(Kind::SubjectParked, Duration::ZERO, |receiver| {
        Some(&receiver.refused)
    })
}

/// Nobody looked at what waits for a human.
fn parked_long(look: &Look<'_>) -> Vec<Found> {
    look.of_receivers(Kind::ParkedLong, look.limits.parked_long, |receiver| {
        let piles = [&receiver.refused, &receiver.dead];
        let piles = piles.into_iter().filter(|pile| pile.count > 0);
        piles.min_by_key(|pile| pile.oldest_ms)
    })
}

/// A dead letter is tried no more.
fn dead(look: &Look<'_>) -> Vec<Found> {
    look.of_receivers(Kind::DeadLetter, Duration::ZERO, |receiver| {
        Some(&receiver.dead)
    })
}

/// A product goes on to show what must be withheld, whatever the reason for that is.
fn protection_late(look: &Look<'_>) -> Vec<Found> {
    let of_receiver = |receiver: &Receiver| {
        let late = |at_ms: &&i64| look.is_older(**at_ms, look.limits.protection);
        let late: Vec<i64> = receiver.measures_ms.iter().filter(late).copied().collect();
        Some(Found {
            name: Name::of(Kind::ProtectionLate, &receiver.subscription),
            reason: String::new(),
            count: late.len() as u64,
            since_ms: Some(*late.iter().min()?),
        })
    };
    let receivers = look.facts.receivers.iter();
    receivers.filter_map(of_receiver).collect()
}

/// A source was not heard for as long as its rhythm says.
fn source_silent(look: &Look<'_>) -> Vec<Found> {
    let of_source = |row: &crate::store::RhythmRow| {
        let rhythm = Duration::from_millis(u64::try_from(row.rhythm_ms).unwrap_or(0));
        look.is_older(row.heard_ms, rhythm).then(|| Found {
            name: Name::of_source(Kind::SourceSilent, &row.source),
            reason: String::new(),
            count: 1,
            since_ms: Some(row.heard_ms),
        })
    };
    look.facts.rhythms.iter().filter_map(of_source).collect()
}

/// Rows of a source broke a rule and wait for their correction.
fn held(look: &Look<'_>) -> Vec<Found> {
    let refused = look.facts.held.iter().filter(|held| held.refused);
    let found = refused.filter_map(|held| {
        let name = Name::of_source(Kind::HeldRefused, &held.source);
        let found = look.of_pile(name, Duration::ZERO, &held.pile)?;
        // The rule stands with each unit; it is the source's own word, not the hub's.
        let reason = String::new();
        Some(Found { reason, ..found })
    });
    found.collect()
}

/// Something that stands before them never came.
fn incomplete(look: &Look<'_>) -> Vec<Found> {
    let waiting = look.facts.held.iter().filter(|held| !held.refused);
    let found = waiting.filter_map(|held| {
        let name = Name::of_source(Kind::Incomplete, &held.source);
        look.of_pile(name, look.limits.incomplete, &held.pile)
    });
    found.collect()
}

fn may_run(receiver: &Receiver) -> bool {
    receiver.paused.is_none() && !receiver.closed
}

/// Work waits, an adapter is attached and free to go on, and nothing is answered.
fn stalled(look: &Look<'_>) -> Vec<Found> {
    look.of_receivers(Kind::Stalled, look.limits.still, |receiver| {
        (receiver.attached && may_run(receiver)).then_some(&receiver.still)
    })
}

/// Work waits, and no adapter is there to take it.
fn adapter_away(look: &Look<'_>) -> Vec<Found> {
    look.of_receivers(Kind::AdapterAway, look.limits.still, |receiver| {
        (!receiver.attached && may_run(receiver)).then_some(&receiver.still)
    })
}

/// Everything is put off.
fn receiver_down(look: &Look<'_>) -> Vec<Found> {
    look.of_receivers(Kind::ReceiverDown, look.limits.down, |receiver| {
        may_run(receiver).then_some(&receiver.put_off)
    })
}

/// Nothing is accepted any more.
fn disk_full(look: &Look<'_>) -> Vec<Found> {
    let since_ms = look.facts.disk_full_since_ms;
    let found = since_ms.map(|_| Found {
        name: Name::of(Kind::DiskFull, ""),
        reason: String::new(),
        count: 1,
        since_ms,
    });
    found.into_iter().collect()
}

/// The log cannot be trimmed, and will soon keep more than it may.
fn log_held(look: &Look<'_>) -> Vec<Found> {
    let found = look.facts.log_held.iter().filter_map(|(who, percent)| {
        let kind = match Held::of(*percent) {
            Held::Little => return None,
            Held::Warning => Kind::LogHeld,
            Held::Critical => Kind::LogOverdue,
        };
        let name = match who {
            Who::Subscription(id) => Name::of(kind, id),
            Who::Source(source) => Name::of_source(kind, source),
            Who::Store => Name::of(kind, ""),
        };
        Some(Found {
            name,
            reason: String::new(),
            count: *percent,
            since_ms: None,
        })
    });
    found.collect()
}

/// The log goes on, and promises less than it should, or has guests.
fn concerns(look: &Look<'_>) -> Vec<Found> {
    let concerns = look.facts.concerns;
    let kinds = [
        (Kind::WeakTopic, concerns.weak),
        (Kind::ForeignRecord, concerns.set_aside),
    ];
    let stand = kinds.into_iter().filter(|(_, count)| *count > 0);
    let found = stand.map(|(kind, count)| Found {
        name: Name::of(kind, ""),
        reason: String::new(),
        count,
        since_ms: None,
    });
    found.collect()
}
