//! The receiving role: a delivery goes in, a receipt comes out.
//! The host calls it for each leased delivery; a vendor implements it for one product.
//! It must never retry, sleep or spawn: the hub owns every retry.
//! Read next: `receipt.rs`, then `host/deliver.rs`, which calls it.

use async_trait::async_trait;

use crate::hub::{DeliveredUnit, Delivery, Receipt};
use crate::receipt::Refusal;
use crate::spec::Spec;

/// Turns a delivered unit into the product's own request.
///
/// Pure: the same unit gives the same request, with no clock and no I/O. A path that is not in
/// `granted_paths` is left untouched in the product; a granted path that is absent in the data
/// is empty now. What the product cannot express is refused, never altered silently.
pub trait Translate: Send + Sync {
    /// The product's own request.
    type Request;

    /// Translates one unit.
    fn translate(&self, unit: &DeliveredUnit) -> Result<Self::Request, Refusal>;
}

/// Hands deliveries to a product.
///
/// - Called concurrently, at most [`Spec::in_flight_max`] at a time; never twice at the same time
///   for one delivery id. Units of one subject arrive one after the other, or together as a run.
/// - An adapter that names `batch_units` above 1 gets units of different subjects in one delivery,
///   in no order between subjects. It answers each unit for itself ([`crate::receipt::run_receipt`]):
///   one that is refused, put off or unknown fails none of the others. Without `runs` no subject
///   is in a batch twice. The hub never waits to fill a batch; protection comes alone.
/// - When [`Delivery::outcome_unknown`] is set, an earlier attempt may have had its effect: an
///   adapter with `lookup` asks its product by the idempotency key before it sends, and answers
///   `DUPLICATE` for what is there.
/// - What was sent and not answered in time is `UNKNOWN`; only what surely was not sent is a retry.
/// - The future may stay pending as long as the product needs, up to nine tenths of the
///   `answer_within` that it named: a file product answers hours later. Then the host drops it and
///   answers `UNKNOWN`. The host keeps the lease meanwhile.
/// - The future may be dropped at any `await`, also when the stream to the hub ends. The unit then
///   comes again with the same idempotency key, in a new delivery: the effect must be found, not
///   repeated.
/// - Units that are withheld never reach it: the host answers them.
/// - A panic is answered as a retry; it ends no other delivery.
#[async_trait]
pub trait Deliver: Send + Sync {
    /// Who it is and what it can do.
    fn spec(&self) -> &Spec;

    /// Delivers once and reports how it ended. [`crate::receipt::receipt`] builds the answer.
    async fn deliver(&self, delivery: Delivery) -> Receipt;
}
