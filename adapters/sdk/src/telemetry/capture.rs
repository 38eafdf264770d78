//! The giving role: one `capture` span a unit, from the product's file to the hub's answer.
//! Its context becomes that of the unit's events: here the trace of an event begins.
//! It must never reach into a payload.
//! Read next: `deliver.rs` of this folder.

use opentelemetry::global::BoxedSpan;
use opentelemetry::trace::{Span, SpanKind, Status};
use opentelemetry::{Context, KeyValue};

use super::trace;
use super::{instruments, reason};
use crate::capture::{Page, SourceSpec};
use crate::hub::{
    Event, Origin, PublishResponse, PublishUnit, publish_unit::Content, unit_answer::Answer,
};

/// The units of one page on their way to the hub.
pub(crate) struct Captured {
    municipality: String,
    product: String,
    stream: crate::hub::Stream,
    spans: Vec<BoxedSpan>,
    origin: Option<Origin>,
}

impl Captured {
    /// Starts the trace of each unit. An event that brings a context of its product keeps it; any
    /// other gets that of the capture, when telemetry is on.
    pub(crate) fn start(source: &SourceSpec, page: &mut Page) -> Self {
        let origin = page.units.first().and_then(|unit| unit.origin.clone());
        let spans = page
            .units
            .iter_mut()
            .map(|unit| capture(&source.product, unit))
            .collect();
        Self {
            municipality: source.municipality.clone(),
            product: source.product.clone(),
            stream: page.stream,
            spans,
            origin,
        }
    }

    /// The hub answered; one answer a unit.
    pub(crate) fn answered(mut self, response: &PublishResponse) {
        let mut held = 0;
        let units = self.spans.len();
        for (mut span, answer) in self.spans.drain(..).zip(&response.answers) {
            let (said, rule) = match &answer.answer {
                Some(Answer::Accepted(accepted)) if accepted.duplicate => ("duplicate", ""),
                Some(Answer::Accepted(_)) => ("accepted", ""),
                Some(Answer::Held(unit)) => ("held", reason(&unit.rule)),
                Some(Answer::Refused(_)) | None => ("refused", ""),
            };
            held += u64::from(said == "held");
            let labels = [
                KeyValue::new("municipality", self.municipality.clone()),
                KeyValue::new("product", self.product.clone()),
                KeyValue::new("stream", trace::stream_name(self.stream)),
                KeyValue::new("answer", said),
                KeyValue::new("reason", rule.to_owned()),
            ];
            instruments().captured.add(1, &labels);
            span.set_attribute(KeyValue::new("musubi.answer", said));
            if said == "refused" {
                span.set_status(Status::error("refused"));
            }
            span.end();
        }
        if units > 0 {
            let origin = self.origin.unwrap_or_default();
            tracing::info!(target: "musubi::capture", product = self.product,
                municipality = self.municipality, stream = trace::stream_name(self.stream),
                units, held, file = origin.file, line = origin.line, "page.captured");
        }
    }
}

fn capture(product: &str, publish: &mut PublishUnit) -> BoxedSpan {
    let mut attributes = vec![KeyValue::new("musubi.product", product.to_owned())];
    if let Some(origin) = &publish.origin {
        attributes.push(KeyValue::new("musubi.origin.file", origin.file.clone()));
        let line = i64::try_from(origin.line).unwrap_or(i64::MAX);
        attributes.push(KeyValue::new("musubi.origin.line", line));
    }
    let events: &mut [Event] = match &mut publish.content {
        Some(Content::Unit(unit)) => &mut unit.events,
        _ => &mut [],
    };
    attributes.push(KeyValue::new(
        "messaging.batch.message_count",
        events.len() as i64,
    ));
    let mut parent = Context::new();
    if let Some(first) = events.first() {
        attributes.push(KeyValue::new("cloudevents.event_id", first.id.clone()));
        attributes.push(KeyValue::new(
            "cloudevents.event_type",
            first.r#type.clone(),
        ));
        if !trace::is_derived(first) {
            parent = trace::context_of(&first.traceparent);
        }
    }
    let name = format!("capture {product}");
    let span = trace::start(name, SpanKind::Internal, &parent, attributes, Vec::new());
    if let Some(created) = trace::traceparent_of(span.span_context()) {
        for event in events.iter_mut().filter(|event| trace::is_derived(event)) {
            event.traceparent.clone_from(&created);
        }
    }
    span
}
