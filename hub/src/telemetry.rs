//! What the hub says about itself: spans, metrics, one canonical line per unit of work.
//! Called where something became true (after the decision, before or with its commit).
//! Must never hold a name, an address, a number or a 宛名番号: pseudonyms, ids and counts only.
//! Read next: `docs/telemetry.md`, `telemetry/publish.rs`, `telemetry/delivery.rs`.
//!
//! It speaks to the OpenTelemetry API alone, which does nothing until the program sets providers.

/// One canonical line: of live work at INFO; of a mass run at DEBUG, which would fill the log.
macro_rules! line {
    ($stream:expr, $($rest:tt)*) => {
        match $stream {
            $crate::event::Stream::Live => tracing::info!($($rest)*),
            $crate::event::Stream::Bulk => tracing::debug!($($rest)*),
        }
    };
}

mod alarms;
mod closed;
mod delivery;
mod gauges;
mod metrics;
mod publish;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use alarms::{alarms, stable_reason};
pub(crate) use delivery::{Attempt, closed, delivered, parked, paused, retried};
pub(crate) use gauges::watch;
pub(crate) use publish::{Appending, Publishing};
