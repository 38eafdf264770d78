//! The receiving role: a `process` span a delivery, and below it the call of the product.
//! Wraps `Deliver::deliver` in the host; vendors' code knows nothing of it.
//! It must never change a delivery or a receipt.
//! Read next: `../host/session.rs`.

use std::sync::Arc;
use std::time::Instant;

use opentelemetry::trace::{FutureExt, SpanKind, Status, TraceContextExt};
use opentelemetry::{Context, KeyValue};

use super::{instruments, reason, trace};
use crate::deliver::Deliver;
use crate::host::answer;
use crate::hub::{Delivery, Event, Outcome, Receipt, Stream};

/// Delivers once, inside the trace of the event.
///
/// The span is a child of the first event's creation, so that one trace leads from the capture to
/// the product's answer, and links to the creations of all events of the delivery.
pub(crate) async fn process(adapter: Arc<dyn Deliver>, delivery: Delivery) -> Receipt {
    let started = Instant::now();
    let work = Work::of(adapter.as_ref(), &delivery);
    let parent = trace::context_of(&work.traceparent);
    let events = delivery.units.iter().flat_map(|unit| &unit.events);
    let links = trace::links(events.filter_map(|delivered| delivered.event.as_ref()));
    let name = format!("process {}", delivery.subscription);
    let span = trace::start(
        name,
        SpanKind::Consumer,
        &parent,
        work.attributes.clone(),
        links,
    );
    let processing = parent.with_span(span);
    let receipt = call(adapter, delivery, &work)
        .with_context(processing.clone())
        .await;
    let entered = processing.clone().attach();
    work.line(&receipt, started);
    drop(entered);
    settle(&processing, &receipt);
    let mut labels = work.labels;
    labels.push(KeyValue::new("outcome", outcome_name(receipt.outcome)));
    labels.push(KeyValue::new("reason", reason(&receipt.reason).to_owned()));
    instruments()
        .delivered
        .record(started.elapsed().as_secs_f64(), &labels);
    receipt
}

/// The call of the product.
async fn call(adapter: Arc<dyn Deliver>, delivery: Delivery, work: &Work) -> Receipt {
    let attributes = vec![
        KeyValue::new("musubi.product", work.product.clone()),
        KeyValue::new("musubi.attempt", i64::from(delivery.attempt)),
    ];
    let name = format!("deliver {}", work.product);
    let span = trace::start(
        name,
        SpanKind::Client,
        &Context::current(),
        attributes,
        Vec::new(),
    );
    let calling = Context::current_with_span(span);
    let receipt = answer::deliver(adapter.as_ref(), delivery)
        .with_context(calling.clone())
        .await;
    settle(&calling, &receipt);
    receipt
}

/// Notes the outcome and ends the span.
fn settle(context: &Context, receipt: &Receipt) {
    let span = context.span();
    let reason = reason(&receipt.reason).to_owned();
    span.set_attribute(KeyValue::new(
        "musubi.outcome",
        outcome_name(receipt.outcome),
    ));
    if !reason.is_empty() {
        span.set_attribute(KeyValue::new("musubi.reason", reason.clone()));
    }
    let outcome = receipt.outcome();
    if matches!(
        outcome,
        Outcome::Rejected | Outcome::Retry | Outcome::Pause | Outcome::Unknown
    ) {
        span.set_attribute(KeyValue::new("error.type", reason.clone()));
        span.set_status(Status::error(reason));
    }
    span.end();
}

fn outcome_name(outcome: i32) -> &'static str {
    let name = Outcome::try_from(outcome).unwrap_or_default().as_str_name();
    name.strip_prefix("OUTCOME_").unwrap_or(name)
}

/// What spans, labels and the line say of a delivery.
struct Work {
    product: String,
    subscription: String,
    stream: &'static str,
    event: String,
    traceparent: String,
    events: usize,
    attempt: u32,
    labels: Vec<KeyValue>,
    attributes: Vec<KeyValue>,
}

impl Work {
    fn of(adapter: &dyn Deliver, delivery: &Delivery) -> Self {
        let spec = adapter.spec();
        let events = || delivery.units.iter().flat_map(|unit| &unit.events);
        let none = Event::default();
        let first = events()
            .find_map(|delivered| delivered.event.as_ref())
            .unwrap_or(&none);
        let unit = delivery.units.first();
        let stream = unit.map_or(Stream::Live, crate::hub::DeliveredUnit::stream);
        let stream = trace::stream_name(stream);
        let count = events().count();
        Self {
            product: spec.product.clone(),
            subscription: delivery.subscription.clone(),
            stream,
            event: first.id.clone(),
            traceparent: first.traceparent.clone(),
            events: count,
            attempt: delivery.attempt,
            labels: vec![
                KeyValue::new("subscription", delivery.subscription.clone()),
                KeyValue::new("product", spec.product.clone()),
                KeyValue::new("stream", stream),
            ],
            attributes: vec![
                KeyValue::new("messaging.system", "musubi"),
                KeyValue::new("messaging.operation.name", "process"),
                KeyValue::new("messaging.operation.type", "process"),
                KeyValue::new("messaging.destination.name", format!("musubi.{stream}")),
                KeyValue::new(
                    "messaging.destination.subscription.name",
                    delivery.subscription.clone(),
                ),
                KeyValue::new("messaging.batch.message_count", count as i64),
                KeyValue::new("musubi.product", spec.product.clone()),
                KeyValue::new("musubi.attempt", i64::from(delivery.attempt)),
                KeyValue::new("cloudevents.event_id", first.id.clone()),
                KeyValue::new("cloudevents.event_type", first.r#type.clone()),
            ],
        }
    }

    /// One canonical line: of live work at INFO; of a mass run at DEBUG, which would fill the log.
    fn line(&self, receipt: &Receipt, started: Instant) {
        let millis = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        macro_rules! emit {
            ($level:ident) => {
                tracing::$level!(target: "musubi::delivery", product = self.product,
                    subscription = self.subscription, stream = self.stream,
                    outcome = outcome_name(receipt.outcome), reason = reason(&receipt.reason),
                    attempt = self.attempt, events = self.events, event = self.event, millis,
                    trace = trace::trace_id(&self.traceparent), "delivery.processed")
            };
        }
        if self.stream == "bulk" {
            emit!(debug);
        } else {
            emit!(info);
        }
    }
}
