//! What may be forgotten: retention by time and size, and who still needs the log.
//! Pure; asked by the keeper of each municipality, which trims.
//! Must never let a number of days or bytes win over somebody who needs the record.
//! Read next: `server/retention.rs`, `docs/specs/log.md` (retention).
//!
//! ```text
//!  first           allowed by days and bytes       next
//!    │ may go ......│ must not go for its age        │
//!  ──┴────────┬─────┴────────────────────────────────┴──▶
//!             └ held: the slowest cursor, the last complete snapshot, a replay that runs
//! ```

use crate::event::Position;
use crate::limits::{RETENTION_HELD_CRITICAL, RETENTION_HELD_WARNING};
use crate::log::Kept;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// How much is kept; without a number all of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Keep {
    /// Days that the log keeps.
    pub log_days: Option<u32>,
    /// Bytes of content that each stream of a municipality's log keeps.
    pub log_bytes: Option<u64>,
    /// Days that the store keeps outcomes, and the content of closed held units.
    pub history_days: Option<u32>,
}

impl Keep {
    /// Refuses what would forget before it may, or nothing at all.
    ///
    /// # Errors
    /// One line that names the value and what to do.
    pub fn check(self) -> Result<Self, String> {
        let numbers = [
            ("retention_days", self.log_days.map(u64::from)),
            ("retention_bytes", self.log_bytes),
            ("history_days", self.history_days.map(u64::from)),
        ];
        if let Some((name, _)) = numbers.iter().find(|(_, number)| *number == Some(0)) {
            return Err(format!(
                "{name} is 0, which would keep nothing; leave it out to keep everything"
            ));
        }
        if self.history_days.is_some() && !self.trims() {
            return Err(
                "history_days forgets the outcomes of events that the log keeps no longer; set \
                 retention_days or retention_bytes too"
                    .to_owned(),
            );
        }
        Ok(self)
    }

    /// True when the log is not kept for ever.
    pub fn trims(&self) -> bool {
        self.log_days.is_some() || self.log_bytes.is_some()
    }

    /// How much of what is allowed is kept from a record on, in percent, rounded up: the larger
    /// one of age and bytes. Above 100 the record may go.
    pub fn share(&self, kept: Option<Kept>, now_ms: i64) -> u64 {
        let Some(kept) = kept else { return 0 };
        let percent = |part: u64, whole: u64| part.saturating_mul(100).div_ceil(whole.max(1));
        let age_s = (now_ms / 1_000).saturating_sub(kept.since_s).max(0);
        let by_age = self.log_days.map(|days| {
            let allowed = u64::from(days) * DAY_MS.unsigned_abs() / 1_000;
            percent(age_s.unsigned_abs(), allowed)
        });
        let by_bytes = self.log_bytes.map(|bytes| percent(kept.bytes, bytes));
        by_age.max(by_bytes).unwrap_or(0)
    }

    /// Time before which the store may forget outcomes, and the content of closed held units.
    pub fn history_before_ms(&self, now_ms: i64) -> Option<i64> {
        let days = self.history_days;
        days.map(|days| now_ms - i64::from(days) * DAY_MS)
    }
}

/// Who needs the log from a position on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Who {
    /// A subscription: by its cursor, or by a replay that runs and may reach back to the beginning.
    Subscription(String),
    /// A source: by its last complete snapshot, or by its first one on its way.
    Source(String),
    /// The store, which has not committed it.
    Store,
}

/// A need of one stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Who.
    pub who: Who,
    /// First position that is needed.
    pub from: Position,
}

/// How near the log is to what it may keep, because somebody holds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Held {
    /// Far from it.
    Little,
    /// From half of it on.
    Warning,
    /// Nearly, or more.
    Critical,
}

impl Held {
    /// Judges a share in percent.
    pub fn of(share: u64) -> Self {
        match share {
            share if share >= RETENTION_HELD_CRITICAL => Held::Critical,
            share if share >= RETENTION_HELD_WARNING => Held::Warning,
            _ => Held::Little,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = 1_800_000_000_000;

    fn kept(age_days: i64, bytes: u64) -> Option<Kept> {
        let since_s = (NOW_MS - age_days * DAY_MS) / 1_000;
        Some(Kept { since_s, bytes })
    }

    #[test]
    fn the_larger_share_of_age_and_bytes_counts() {
        let keep = |log_days, log_bytes| Keep {
            log_days,
            log_bytes,
            ..Keep::default()
        };
        for (keep, kept, share) in [
            (keep(None, None), kept(10_000, 1 << 40), 0),
            (keep(Some(10), None), None, 0),
            (keep(Some(10), None), kept(5, 1 << 40), 50),
            (keep(Some(10), None), kept(10, 0), 100),
            (keep(Some(10), None), kept(11, 0), 110),
            (keep(Some(10), None), kept(-3, 0), 0),
            (keep(None, Some(1_000)), kept(900, 1_000), 100),
            (keep(None, Some(1_000)), kept(900, 1_001), 101),
            (keep(Some(10), Some(1_000)), kept(9, 100), 90),
            (keep(Some(10), Some(1_000)), kept(1, 700), 70),
            (keep(None, Some(u64::MAX)), kept(1, u64::MAX), 1),
        ] {
            assert_eq!(keep.share(kept, NOW_MS), share, "{keep:?} {kept:?}");
        }
    }

    #[test]
    fn half_warns_and_nine_tenths_are_critical() {
        let levels = [49, 50, 89, 90, 300].map(Held::of);
        let (little, warning, critical) = (Held::Little, Held::Warning, Held::Critical);
        assert_eq!(levels, [little, warning, warning, critical, critical]);
    }

    #[test]
    fn what_would_forget_too_early_is_refused_by_name() {
        let keep = |log_days, log_bytes, history_days| Keep {
            log_days,
            log_bytes,
            history_days,
        };
        for (keep, named) in [
            (keep(Some(0), None, None), "retention_days"),
            (keep(None, Some(0), None), "retention_bytes"),
            (
                keep(None, None, Some(3)),
                "retention_days or retention_bytes",
            ),
            (keep(Some(3), None, Some(0)), "history_days"),
        ] {
            let error = keep.check().unwrap_err();
            assert!(error.contains(named), "{keep:?}: {error}");
        }
        for keep in [
            Keep::default(),
            keep(Some(3), None, None),
            keep(None, Some(1), Some(1)),
            keep(Some(3), Some(1), Some(9)),
        ] {
            assert_eq!(keep.check(), Ok(keep));
        }
    }
}
