//! How a binding is served now: what its adapter takes, within what an operator set, at its hours.
//! Between the binding's row and the engine; a change reaches a running engine at once.
//! Must never widen what the adapter said of itself, nor send while the receiver is closed.
//! Read next: `settings/hours.rs`, `engine/state/pace.rs`.

use std::time::Duration;

use musubi_proto::hub::v1::Capabilities;

use super::State;
use crate::clock::now_ms;
use crate::engine::{Input, OnUnknown, Settings};
use crate::limits::{ANSWER_WITHIN_MAX, BATCH_UNITS_MAX};
use crate::settings::BindingSettings;
use crate::settings::hours::Hours;

/// What an attached adapter and its binding's settings come to.
#[derive(Debug)]
pub(super) struct Serving {
    capabilities: Capabilities,
    set: BindingSettings,
    hours: Hours,
    closed: bool,
    /// Times, in milliseconds since 1970, between which `closed` holds; empty: not looked at yet.
    holds: std::ops::Range<i64>,
}

impl Serving {
    pub(super) fn new(capabilities: Capabilities, set: BindingSettings) -> Self {
        let mut serving = Self {
            capabilities,
            set: BindingSettings::default(),
            hours: Hours::default(),
            closed: false,
            holds: 0..0,
        };
        serving.take(set);
        serving
    }

    /// True when these settings are others than before.
    fn take(&mut self, set: BindingSettings) -> bool {
        if self.set == set {
            return false;
        }
        // They were checked before they came into the log.
        self.hours = set.check().unwrap_or_default();
        self.set = set;
        self.holds = 0..0;
        true
    }

    /// Opens or closes; `None` when nothing changes.
    fn look(&mut self, now_ms: i64) -> Option<bool> {
        if self.holds.contains(&now_ms) {
            return None;
        }
        let until = self.hours.next_change(now_ms).unwrap_or(i64::MAX);
        self.holds = now_ms..until;
        let closed = !self.hours.open_at(now_ms);
        let changed = closed != self.closed;
        self.closed = closed;
        changed.then_some(closed)
    }

    /// What the engine is to keep to.
    pub(super) fn engine(&self) -> Settings {
        let Capabilities {
            runs,
            batch_units,
            idempotent,
            lookup,
            answer_within,
            ..
        } = &self.capabilities;
        let default = Settings::default();
        let asked = answer_within.as_ref().map_or(0, millis);
        let longest = ANSWER_WITHIN_MAX.as_millis() as u64;
        let batch_most = match self.set.batch_units as usize {
            0 => BATCH_UNITS_MAX,
            set => set.min(BATCH_UNITS_MAX),
        };
        Settings {
            runs: *runs,
            batch_units: (*batch_units as usize).clamp(1, batch_most),
            concurrency: match self.set.concurrency {
                0 => default.concurrency,
                set => set.min(default.concurrency),
            },
            per_second: Some(self.set.per_second).filter(|rate| *rate > 0),
            answer_within_ms: match asked.min(longest) {
                0 => default.answer_within_ms,
                asked => asked as i64,
            },
            on_unknown: if *idempotent || *lookup {
                OnUnknown::Again
            } else {
                OnUnknown::Park
            },
        }
    }
}

impl State {
    /// Follows the settings of the binding's row.
    pub(super) fn take_settings(&mut self) {
        let now = self.now();
        let set = self.row.binding().map(|binding| binding.settings.clone());
        let (Some(session), Some(set)) = (self.session.as_mut(), set) else {
            return;
        };
        if session.serving.take(set) {
            let settings = session.serving.engine();
            session.step(Input::Settings(settings), now);
            self.keep_hours();
        }
    }

    /// Tells the engine when the receiver has closed or opened.
    pub(super) fn keep_hours(&mut self) {
        let now = self.now();
        let Some(session) = self.session.as_mut() else {
            return;
        };
        if let Some(closed) = session.serving.look(now_ms()) {
            session.step(Input::Closed(closed), now);
            let subscription = self.row.id.as_str();
            tracing::info!(
                subscription,
                closed,
                "the opening hours of a binding changed"
            );
        }
    }

    /// How long the receiver stays as open or closed as it is.
    pub(super) fn until_hours_change(&self) -> Duration {
        let session = self.session.as_ref();
        let until = session.map_or(i64::MAX, |session| session.serving.holds.end);
        let millis = u64::try_from(until.saturating_sub(now_ms())).unwrap_or(0);
        Duration::from_millis(millis)
    }
}

/// Milliseconds of a wire's duration; a negative one is none.
pub(super) fn millis(duration: &prost_types::Duration) -> u64 {
    u64::try_from(duration.seconds)
        .unwrap_or(0)
        .saturating_mul(1_000)
        .saturating_add(u64::try_from(duration.nanos).unwrap_or(0) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(set: BindingSettings) -> Serving {
        let capabilities = Capabilities {
            batch_units: 100,
            idempotent: true,
            ..Capabilities::default()
        };
        Serving::new(capabilities, set)
    }

    #[test]
    fn settings_narrow_what_the_adapter_takes_and_never_widen_it() {
        let nothing_set = serving(BindingSettings::default()).engine();
        assert_eq!(nothing_set.batch_units, 100);
        assert_eq!(nothing_set.concurrency, Settings::default().concurrency);
        assert_eq!(nothing_set.per_second, None);
        for (set, batch) in [(1, 1), (20, 20), (500, 100)] {
            let settings = BindingSettings {
                batch_units: set,
                concurrency: 7,
                per_second: 3,
                ..BindingSettings::default()
            };
            let engine = serving(settings).engine();
            assert_eq!(engine.batch_units, batch);
            assert_eq!((engine.concurrency, engine.per_second), (7, Some(3)));
        }
    }

    #[test]
    fn the_engine_is_told_once_when_the_receiver_closes_and_when_it_opens() {
        // 2026-11-23 is a Monday; its 08:30 in Japan is Sunday's 23:30 in UTC.
        let opens = 1_795_390_200_000;
        let mut serving = serving(BindingSettings {
            hours: vec!["mon-fri 08:30-17:15".to_owned()],
            ..BindingSettings::default()
        });
        assert_eq!(serving.look(opens - 60_000), Some(true));
        assert_eq!(serving.look(opens - 1), None);
        assert_eq!(serving.holds.end, opens);
        assert_eq!(serving.look(opens), Some(false));
        assert_eq!(serving.look(opens + 60_000), None);
        // The wall clock was set back.
        assert_eq!(serving.look(opens - 60_000), Some(true));
        assert!(serving.take(BindingSettings::default()));
        assert_eq!(serving.look(opens - 60_000), Some(false));
        assert!(!serving.take(BindingSettings::default()));
    }
}
