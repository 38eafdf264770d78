//! The rules: each looks at the facts and says what is wrong.
//! Asked one after the other; a new kind is one more function in `ALL`.
//! Must never find the same name twice.
//! Read next: `alarms/words.rs`.

use super::{Facts, Found, Kind, Name};
use crate::limits::ALARM_PARKED_LONG;
use crate::store::{PausedBy, Pile};

/// A rule.
type Rule = fn(&Facts, i64, &mut Vec<Found>);

/// All rules.
pub(super) const ALL: &[Rule] = &[stopped, parked, dead];

/// A stopped binding sends nothing; when no operator wanted it, somebody has to act.
fn stopped(facts: &Facts, _now_ms: i64, found: &mut Vec<Found>) {
    for receiver in &facts.receivers {
        let Some(pause) = &receiver.paused else {
            continue;
        };
        let kind = match pause.by {
            PausedBy::Adapter | PausedBy::Hub => Kind::BindingStopped,
            PausedBy::Operator => Kind::StoppedByOperator,
        };
        // An operator's own words stand in the record of the act.
        let reason = match pause.by {
            PausedBy::Operator => "",
            // The hub says behind its own reason which refusal it was.
            _ => pause.reason.split(':').next().unwrap_or_default(),
        };
        found.push(Found {
            name: Name::of(kind, &receiver.subscription),
            reason: reason.to_owned(),
            count: 1,
            since_ms: None,
        });
    }
}

/// A refused subject waits for a human from the first second on.
fn parked(facts: &Facts, now_ms: i64, found: &mut Vec<Found>) {
    let long = ALARM_PARKED_LONG.as_millis() as i64;
    for receiver in &facts.receivers {
        let about = |kind| Name::of(kind, &receiver.subscription);
        found.extend(of_pile(about(Kind::SubjectParked), &receiver.refused));
        let piles = [&receiver.refused, &receiver.dead];
        let oldest = piles.into_iter().filter(|pile| pile.count > 0);
        let oldest = oldest.min_by_key(|pile| pile.oldest_ms);
        let left_alone = oldest.filter(|pile| pile.oldest_ms.saturating_add(long) <= now_ms);
        found.extend(left_alone.and_then(|pile| of_pile(about(Kind::ParkedLong), pile)));
    }
}

/// A dead letter is tried no more.
fn dead(facts: &Facts, _now_ms: i64, found: &mut Vec<Found>) {
    for receiver in &facts.receivers {
        let name = Name::of(Kind::DeadLetter, &receiver.subscription);
        found.extend(of_pile(name, &receiver.dead));
    }
}

fn of_pile(name: Name, pile: &Pile) -> Option<Found> {
    (pile.count > 0).then(|| Found {
        name,
        reason: pile.reason.clone(),
        count: pile.count,
        since_ms: Some(pile.oldest_ms),
    })
}
