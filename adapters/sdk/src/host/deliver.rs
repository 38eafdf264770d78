//! Keeps an adapter attached to the hub, for ever.
//! It opens one session after the other; `session.rs` runs each of them.
//! It must never end because the hub is away or another product serves: it tries again.
//! Read next: `session.rs`.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::connection::{HubAccess, HubError, Way, chain};
use super::marks::Marks;
use super::session;
use crate::deliver::Deliver;

/// Runs `adapter` until `shutdown`: attaches, delivers, answers, and attaches again.
///
/// Deliveries that are under way at the shutdown may end within
/// [`SHUTDOWN_GRACE`](crate::limits::SHUTDOWN_GRACE); what remains comes again later.
pub async fn run_deliver(hub: HubAccess, adapter: Arc<dyn Deliver>, shutdown: CancellationToken) {
    let product = adapter.spec().product.clone();
    let mut backoff = Backoff::new();
    let mut marks = Marks::default();
    let mut told = String::new();
    let mut way = Way::new(hub);
    while !shutdown.is_cancelled() {
        let mut attached = || {
            backoff.reset();
            told.clear();
        };
        let hub = way.access();
        let ended = session::attach(&hub, &adapter, &shutdown, &mut marks, &mut attached).await;
        let Err(error) = ended else { break };
        tell_once(&product, &error, &mut told);
        way.failed(&error);
        let delay = error.delay().unwrap_or_else(|| backoff.next_delay());
        tokio::select! {
            () = shutdown.cancelled() => break,
            () = tokio::time::sleep(delay) => {}
        }
    }
    tracing::info!(product, "adapter stopped");
}

/// Logs an error when it differs from the one before: a hub that is away fills no log.
fn tell_once(product: &str, error: &HubError, told: &mut String) {
    let text = chain(error);
    if *told == text {
        return;
    }
    match error {
        HubError::Ended | HubError::Connect { .. } => {
            tracing::warn!(product, error = text, "hub lost, attaching again");
        }
        HubError::Fenced { .. } => {
            tracing::warn!(product, error = text, "fenced, deliveries stop");
        }
        HubError::Status { reason, .. } if reason == "NOT_OWNER" => {
            tracing::info!(product, error = text, "looking for the owner");
        }
        HubError::Status { reason, .. } if reason == "NOT_BOUND" => {
            tracing::info!(product, "waiting for an operator to bind the product");
        }
        _ => tracing::error!(product, error = text, "hub refused the adapter"),
    }
    *told = text;
}
