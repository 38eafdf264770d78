//! What the hub says about itself: one canonical line per unit of work.
//! Called where something became true (after the decision, before or with its commit).
//! Must never hold a name, an address, a number or a 宛名番号: pseudonyms and counts only.
//! Read next: `docs/telemetry.md`.

use crate::server::runner::Payload;
use crate::store::{Done, ParkedRow, SubscriptionRow};
use musubi_proto::hub::v1::Outcome;

/// A unit got its outcome.
pub(crate) fn delivered(row: &SubscriptionRow, done: &Done, payload: &Payload) {
    let outcome = Outcome::try_from(done.outcome)
        .unwrap_or_default()
        .as_str_name();
    tracing::debug!(
        target: "musubi::delivery",
        subscription = row.id,
        product = done.product,
        outcome,
        attempt = done.attempt,
        events = payload.events.len(),
        position = payload.position.0,
        "delivery.done"
    );
}

/// A unit was parked.
pub(crate) fn parked(row: &SubscriptionRow, product: &str, parked: &ParkedRow) {
    tracing::debug!(
        target: "musubi::delivery",
        subscription = row.id,
        product,
        reason = parked.reason,
        attempt = parked.attempts,
        "delivery.parked"
    );
}

/// A unit is tried again.
pub(crate) fn retried(row: &SubscriptionRow, product: &str, attempt: u32) {
    tracing::debug!(
        target: "musubi::delivery",
        subscription = row.id,
        product,
        attempt,
        "delivery.retried"
    );
}

/// A binding stopped.
pub(crate) fn paused(row: &SubscriptionRow, product: &str, reason: &str) {
    tracing::error!(
        target: "musubi::delivery",
        subscription = row.id,
        product,
        reason,
        "delivery.paused: the adapter asked to stop; mend its configuration and start it again"
    );
}
