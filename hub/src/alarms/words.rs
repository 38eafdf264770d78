//! How much each kind of alarm matters, and what to do next.
//! Said to operators by `AdminService.ListAlarms`, in lines of the log, in gauges.
//! Must never name a person, nor anything but commands that there are.
//! Read next: `docs/specs/alarms.md`.

pub use musubi_proto::hub::v1::AlarmSeverity as Severity;

use super::Kind;

/// How much an alarm matters.
pub fn severity(kind: Kind) -> Severity {
    match kind {
        Kind::Unspecified => Severity::Unspecified,
        Kind::StoppedByOperator => Severity::Info,
        Kind::SubjectParked => Severity::Warning,
        Kind::BindingStopped | Kind::ParkedLong | Kind::DeadLetter => Severity::Error,
    }
}

/// What to do next.
pub fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Unspecified => "",
        Kind::BindingStopped => {
            "mend the product or the adapter's configuration, then `musubi resume`; nothing is \
             sent until then"
        }
        Kind::StoppedByOperator => {
            "`musubi resume` when the reason is gone; see `musubi acts list`"
        }
        Kind::SubjectParked => {
            "`musubi parked list` and `musubi parked show`; mend the cause, then `musubi parked \
             retry`, `edit` or `skip`"
        }
        Kind::ParkedLong => "somebody has waited for days: decide with `musubi parked list`",
        Kind::DeadLetter => {
            "find out why the product never took it, then `musubi parked retry` or `skip`"
        }
    }
}
