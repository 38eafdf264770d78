//! Trace contexts of events: read from and written to `traceparent`.
//! Used by both roles.
//! It must never change the context that a product gave.
//! Read next: `capture.rs` of this folder.

use std::borrow::Cow;

use opentelemetry::global::{self, BoxedSpan};
use opentelemetry::propagation::Extractor;
use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanKind, TraceContextExt, TraceId, Tracer,
};
use opentelemetry::{Context, KeyValue};
use uuid::Uuid;

use super::SCOPE;
use crate::hub::{Event, Stream};

/// Most links of one span; backends drop what is beyond.
const LINKS_MAX: usize = 127;

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

/// True for a context that nobody started: none at all, or one made from the event's own id.
pub(super) fn is_derived(event: &Event) -> bool {
    event.traceparent.is_empty()
        || Uuid::try_parse(&event.id)
            .is_ok_and(|id| trace_id(&event.traceparent) == id.simple().to_string())
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
    global::tracer(SCOPE).build_with_context(builder.with_links(links), parent)
}

/// Links to the creation of events, as many as a span takes.
pub(super) fn links<'a>(events: impl Iterator<Item = &'a Event>) -> Vec<Link> {
    events
        .filter_map(|event| {
            let context = context_of(&event.traceparent);
            let context = context.span().span_context().clone();
            context.is_valid().then(|| Link::with_context(context))
        })
        .take(LINKS_MAX)
        .collect()
}

/// Lower-case name of a stream.
pub(super) fn stream_name(stream: Stream) -> &'static str {
    match stream {
        Stream::Bulk => "bulk",
        Stream::Live | Stream::Unspecified => "live",
    }
}
