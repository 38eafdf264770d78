//! Alarms as lines and levels: one line when one appears, one when it goes.
//! Called by the look for alarms.
//! Must never say the same alarm twice, nor a reason that is no stable word.
//! Read next: `server/town/alarms.rs`.

use super::closed as label;
use super::gauges;
use crate::alarms::{Alarm, Kind, Severity, Standing, advice, severity};
use crate::event::Municipality;

/// The line of an alarm that appears.
macro_rules! raised {
    ($level:path, $m:expr, $alarm:expr) => {{
        use $level as say;
        let alarm = $alarm;
        say!(target: "musubi::alarm", municipality = $m.as_str(),
            kind = name_of(alarm.name.kind), subscription = alarm.name.subscription,
            source = alarm.name.source, reason = label::reason(&alarm.reason),
            count = alarm.count, since_ms = alarm.since_ms,
            "alarm.raised: {}", advice(alarm.name.kind))
    }};
}

/// A look for alarms ended.
pub(crate) fn alarms(m: &Municipality, now: &Standing, new: &[&Alarm], gone: &[&Alarm]) {
    for alarm in new {
        match severity(alarm.name.kind) {
            Severity::Error => raised!(tracing::error, m, alarm),
            Severity::Warning => raised!(tracing::warn, m, alarm),
            Severity::Info | Severity::Unspecified => raised!(tracing::info, m, alarm),
        }
    }
    for alarm in gone {
        tracing::info!(target: "musubi::alarm", municipality = m.as_str(),
            kind = name_of(alarm.name.kind), subscription = alarm.name.subscription,
            source = alarm.name.source, since_ms = alarm.since_ms, "alarm.cleared");
    }
    let count = |kind: Kind| {
        let of_kind = now.keys().filter(|name| name.kind == kind);
        (name_of(kind), of_kind.count() as u64)
    };
    let kinds = (1..).map_while(|number| Kind::try_from(number).ok());
    gauges::alarms(m, kinds.map(count));
}

/// A reason as it may be shown everywhere: a stable word, or `OTHER`.
pub(crate) fn stable_reason(text: &str) -> &str {
    label::reason(text)
}

fn name_of(kind: Kind) -> &'static str {
    let name = kind.as_str_name();
    name.strip_prefix("ALARM_KIND_").unwrap_or(name)
}
