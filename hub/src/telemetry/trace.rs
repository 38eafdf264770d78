//! Trace contexts of events: read from and written to `traceparent`.
//! Used by the publish and the delivery side.
//! Must never change the context that an event was created with.
//! Read next: `telemetry/publish.rs`.

use std::borrow::Cow;

use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{
    Link, Span, SpanBuilder, SpanContext, SpanKind, TraceContextExt, TraceId, Tracer,
};
use opentelemetry::{Context, KeyValue, global};

use crate::event::Event;
use crate::limits::SPAN_LINKS_MAX;

/// The only kind of span that is kept here.
pub(super) type BoxedSpan = global::BoxedSpan;

/// Scope of the hub's spans and metrics.
pub(super) const SCOPE: &str = "musubi.hub";

/// Length of a trace id in hex.
const TRACE_ID_HEX: usize = 32;

struct Carrier<'a>(&'a str);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent" && !self.0.is_empty()).then_some(self.0)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

/// The context of an event's creation; an empty one when there is none, or telemetry is off.
pub(super) fn context_of(traceparent: &str) -> Context {
    let nothing = Context::new();
    global::get_text_map_propagator(|propagator| {
        propagator.extract_with_context(&nothing, &Carrier(traceparent))
    })
}

/// What an event carries of a context; `None` when telemetry is off.
pub(super) fn traceparent_of(context: &SpanContext) -> Option<String> {
    context.is_valid().then(|| {
        let flags = context.trace_flags().to_u8();
        format!(
            "00-{}-{}-{flags:02x}",
            context.trace_id(),
            context.span_id()
        )
    })
}

/// Trace id of a `traceparent`, for log lines; empty when there is none.
pub(super) fn trace_id(traceparent: &str) -> String {
    let hex = traceparent.split('-').nth(1).unwrap_or_default();
    TraceId::from_hex(hex)
        .ok()
        .filter(|id| hex.len() == TRACE_ID_HEX && *id != TraceId::INVALID)
        .map(|id| id.to_string())
        .unwrap_or_default()
}

/// Runs `emit` inside an event's context, so that an exported line carries its trace.
pub(super) fn within(traceparent: &str, emit: impl FnOnce()) {
    let entered = context_of(traceparent).attach();
    emit();
    drop(entered);
}

/// Starts a span.
pub(super) fn start(
    name: impl Into<Cow<'static, str>>,
    kind: SpanKind,
    parent: &Context,
    attributes: Vec<KeyValue>,
    links: Vec<Link>,
) -> BoxedSpan {
    let builder = SpanBuilder::from_name(name)
        .with_kind(kind)
        .with_attributes(attributes);
    start_built(builder.with_links(links), parent)
}

/// Starts a span that was described elsewhere.
pub(super) fn start_built(builder: SpanBuilder, parent: &Context) -> BoxedSpan {
    global::tracer(SCOPE).build_with_context(builder, parent)
}

/// Links to the creation of events, as many as a span takes.
pub(super) fn links<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Link> {
    events
        .filter_map(|event| {
            let context = context_of(&event.traceparent);
            let context = context.span().span_context().clone();
            context.is_valid().then(|| Link::with_context(context))
        })
        .take(SPAN_LINKS_MAX)
        .collect()
}

/// `messaging.*` attributes that all spans have.
pub(super) fn messaging(
    operation: &'static str,
    kind: &'static str,
    stream: &str,
) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "musubi"),
        KeyValue::new("messaging.operation.name", operation),
        KeyValue::new("messaging.operation.type", kind),
        KeyValue::new("messaging.destination.name", format!("musubi.{stream}")),
    ]
}

/// Ends a span with the outcome that it had.
pub(super) fn end(mut span: BoxedSpan, attributes: Vec<KeyValue>) {
    span.set_attributes(attributes);
    span.end();
}
