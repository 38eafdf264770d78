//! How much each kind of alarm matters, and what to do next.
//! Said to operators by `AdminService.ListAlarms` and in lines of the log.
//! Must never name a person, nor anything but commands that there are.
//! Read next: `docs/specs/alarms.md`.

pub use musubi_proto::hub::v1::AlarmSeverity as Severity;

use super::Kind;

/// How much an alarm matters.
pub fn severity(kind: Kind) -> Severity {
    match kind {
        Kind::Unspecified => Severity::Unspecified,
        Kind::StoppedByOperator => Severity::Info,
        Kind::SubjectParked
        | Kind::HeldRefused
        | Kind::Incomplete
        | Kind::AdapterAway
        | Kind::ReceiverDown
        | Kind::LogHeld
        | Kind::WeakTopic
        | Kind::ForeignRecord => Severity::Warning,
        Kind::BindingStopped
        | Kind::ParkedLong
        | Kind::DeadLetter
        | Kind::ProtectionLate
        | Kind::SourceSilent
        | Kind::Stalled
        | Kind::DiskFull
        | Kind::LogOverdue => Severity::Error,
    }
}

/// True when each more of them is somebody else who waits.
pub(super) fn counts_people(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::SubjectParked
            | Kind::ParkedLong
            | Kind::DeadLetter
            | Kind::ProtectionLate
            | Kind::HeldRefused
    )
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
        Kind::ProtectionLate => {
            "the product does not withhold yet what it must: tell its office now, then see \
             `musubi subscriptions` and `musubi parked list`"
        }
        Kind::SourceSilent => {
            "see whether the source's product hands out files and its adapter runs; `musubi \
             source rhythm` changes how long it may be silent"
        }
        Kind::HeldRefused => "`musubi held list`, then `musubi held resubmit` with a correction",
        Kind::Incomplete => {
            "a version or a file before them is missing: `musubi held list`, then have the source \
             send it"
        }
        Kind::Stalled => {
            "the adapter is attached and answers nothing: look at its log and its product, then \
             start it again"
        }
        Kind::AdapterAway => "start the adapter: `musubi adapter run`; everything waits in order",
        Kind::ReceiverDown => {
            "the product puts everything off: see whether it is up; it is tried again by itself"
        }
        Kind::LogHeld | Kind::LogOverdue => {
            "the log cannot forget what this needs: have the subscription served, stop its replay \
             (`musubi replay`), or have the source send a new snapshot"
        }
        Kind::WeakTopic => {
            "an event that was acknowledged can be lost with one disk: `musubi doctor` names each \
             setting and the command that mends it"
        }
        Kind::ForeignRecord => {
            "another program writes into the hub's topics: take its right to write; the hub's \
             lines name each position, and no event is lost"
        }
        Kind::DiskFull => "make room on the hub's disk; nothing that was acknowledged is lost",
    }
}
