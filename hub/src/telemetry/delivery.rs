//! The delivery side: one `send` span an attempt, outcomes, parked units, their metrics and lines.
//! Called by the runner of a subscription.
//! Must never show more of an event than its id, its type and the pseudonym of its subject.
//! Read next: `telemetry/gauges.rs`.

use std::sync::Arc;
use std::time::Instant;

use musubi_proto::hub::v1::Receipt;
use opentelemetry::KeyValue;
use opentelemetry::trace::{Span, SpanKind, Status};

use super::closed as label;
use super::metrics::instruments;
use super::trace::{self, BoxedSpan};
use crate::clock::now_ms;
use crate::engine::Delivery;
use crate::event::{Event, Stream};
use crate::server::runner::Payload;
use crate::store::{Done, ParkedRow, PausedBy, SubscriptionRow};

/// One attempt, from the sending to its receipt.
pub(crate) struct Attempt {
    labels: Vec<KeyValue>,
    started: Instant,
    span: Option<BoxedSpan>,
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attempt").finish_non_exhaustive()
    }
}

impl Attempt {
    /// The delivery goes out.
    pub(crate) fn started(
        row: &SubscriptionRow,
        product: &str,
        delivery: &Delivery<Arc<Payload>>,
    ) -> Self {
        let events = || delivery.works.iter().flat_map(|work| &work.payload.events);
        let first = delivery.works.first();
        let stream = first.map_or(Stream::Live, |work| work.key.stream);
        let mut attributes = trace::messaging("send", "send", stream.name());
        attributes.extend([
            KeyValue::new("messaging.destination.subscription.name", row.id.clone()),
            KeyValue::new("messaging.batch.message_count", events().count() as i64),
            KeyValue::new("musubi.product", product.to_owned()),
            KeyValue::new("musubi.attempt", i64::from(delivery.attempt)),
        ]);
        let subject = first.and_then(|work| work.subjects.first());
        attributes.extend(subject.map(|s| KeyValue::new("musubi.subject", s.0.clone())));
        if let Some(event) = events().next() {
            attributes.push(KeyValue::new("cloudevents.event_id", event.id.clone()));
            attributes.push(KeyValue::new(
                "cloudevents.event_type",
                event.r#type.clone(),
            ));
        }
        let parent = trace::context_of(events().next().map_or("", |event| &event.traceparent));
        let links = trace::links(events());
        let name = format!("send {}", row.id);
        let span = trace::start(name, SpanKind::Client, &parent, attributes, links);
        Self {
            labels: labels(row, product),
            started: Instant::now(),
            span: Some(span),
        }
    }

    /// The adapter answered.
    pub(crate) fn answered(mut self, receipt: &Receipt) {
        let failed = !receipt.reason.is_empty();
        self.end(
            label::outcome(receipt.outcome),
            label::reason(&receipt.reason),
            failed,
        );
    }

    fn end(&mut self, outcome: &str, reason: &str, failed: bool) {
        let Some(mut span) = self.span.take() else {
            return;
        };
        let outcome = KeyValue::new("outcome", outcome.to_owned());
        let reason = KeyValue::new("reason", reason.to_owned());
        self.labels.extend([outcome.clone(), reason.clone()]);
        let instruments = instruments();
        instruments.attempts.add(1, &self.labels);
        instruments
            .attempt_duration
            .record(self.started.elapsed().as_secs_f64(), &self.labels);
        if failed {
            span.set_status(Status::error(reason.value.to_string()));
        }
        trace::end(
            span,
            vec![
                KeyValue::new("musubi.outcome", outcome.value),
                KeyValue::new("musubi.reason", reason.value),
            ],
        );
    }
}

impl Drop for Attempt {
    /// The stream ended first: the unit will be sent again.
    fn drop(&mut self) {
        self.end("NO_RECEIPT", "", true);
    }
}

/// A unit got its outcome.
pub(crate) fn delivered(row: &SubscriptionRow, done: &Done, payload: &Payload) {
    let outcome = label::outcome(done.outcome);
    count_unit(row, done, outcome);
    let labels = labels(row, &done.product);
    // How late a replay is says nothing of the hub.
    let first_time = payload.replay.is_none();
    for event in payload.events.iter().filter(|_| first_time) {
        if let Some(millis) = age_ms(event) {
            let mut labels = labels.clone();
            labels.push(KeyValue::new("stream", done.key.stream.name()));
            labels.push(KeyValue::new("outcome", outcome));
            instruments()
                .end_to_end
                .record(millis as f64 / 1_000.0, &labels);
        }
    }
    let first = payload.events.first();
    let traceparent = first.map_or("", |event| event.traceparent.as_str());
    trace::within(traceparent, || {
        line!(done.key.stream, target: "musubi::delivery", subscription = row.id,
            product = done.product, outcome, reason = label::reason(&done.reason),
            attempt = done.attempt, events = payload.events.len(),
            event = first.map_or("", |event| event.id.as_str()),
            sequence = done.key.sequence, position = payload.position.0,
            age_millis = first.and_then(age_ms).unwrap_or_default(),
            trace = trace::trace_id(traceparent), "delivery.done");
    });
}

/// The hub closed a unit by itself: its product was replaced before it answered.
pub(crate) fn closed(row: &SubscriptionRow, done: &Done) {
    count_unit(row, done, label::outcome(done.outcome));
    line!(done.key.stream, target: "musubi::delivery", subscription = row.id,
        product = done.product, outcome = label::outcome(done.outcome),
        event = done.event_ids.first().map_or("", String::as_str),
        sequence = done.key.sequence, "delivery.closed");
}

/// A unit was parked.
pub(crate) fn parked(row: &SubscriptionRow, product: &str, parked: &ParkedRow) {
    let reason = label::reason(&parked.reason);
    let mut labels = labels(row, product);
    labels.push(KeyValue::new("reason", reason.to_owned()));
    instruments().parked.add(1, &labels);
    tracing::warn!(
        target: "musubi::delivery",
        subscription = row.id,
        product,
        reason,
        attempt = parked.attempts,
        sequence = parked.key.sequence,
        event = parked.event_ids.first().map_or("", String::as_str),
        subject = parked.subjects.first().map_or("", |subject| subject.0.as_str()),
        "delivery.parked"
    );
}

/// A unit is tried again.
pub(crate) fn retried(row: &SubscriptionRow, product: &str, attempt: u32) {
    instruments().retries.add(1, &labels(row, product));
    tracing::debug!(
        target: "musubi::delivery",
        subscription = row.id,
        product,
        attempt,
        "delivery.retried"
    );
}

/// A binding stopped.
pub(crate) fn paused(row: &SubscriptionRow, product: &str, by: PausedBy, reason: &str) {
    let next = match by {
        PausedBy::Adapter => "the adapter asked to stop: mend its configuration and start it again",
        PausedBy::Hub => "the product refuses everybody: mend it, then `musubi resume`",
        PausedBy::Operator => "`musubi resume` lets it go on",
    };
    // The hub says behind its own reason which refusal it was.
    let reason = reason.split_once(':').map_or(reason, |(first, _)| first);
    let reason = label::reason(reason);
    let mut labels = labels(row, product);
    labels.push(KeyValue::new("reason", reason.to_owned()));
    instruments().pauses.add(1, &labels);
    tracing::error!(
        target: "musubi::delivery",
        subscription = row.id,
        product,
        reason,
        "delivery.paused: {next}"
    );
}

fn count_unit(row: &SubscriptionRow, done: &Done, outcome: &'static str) {
    let mut labels = labels(row, &done.product);
    labels.push(KeyValue::new("stream", done.key.stream.name()));
    labels.push(KeyValue::new("outcome", outcome));
    labels.push(KeyValue::new(
        "reason",
        label::reason(&done.reason).to_owned(),
    ));
    instruments().units.add(1, &labels);
}

fn labels(row: &SubscriptionRow, product: &str) -> Vec<KeyValue> {
    vec![
        KeyValue::new("municipality", row.municipality.as_str().to_owned()),
        KeyValue::new("subscription", row.id.clone()),
        KeyValue::new("product", product.to_owned()),
    ]
}

/// Milliseconds since the hub accepted the event.
fn age_ms(event: &Event) -> Option<u64> {
    let recorded = event.recorded_at.as_ref()?;
    let recorded_ms =
        recorded.seconds.saturating_mul(1_000) + i64::from(recorded.nanos) / 1_000_000;
    u64::try_from(now_ms().saturating_sub(recorded_ms)).ok()
}
