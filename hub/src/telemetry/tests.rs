//! Tests of what leaves the hub as telemetry.

use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::{Event, Mode, PublishRequest, PublishUnit, Unit};
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider};

use super::Publishing;
use super::closed::{event_id, reason, system_of};
use super::trace::trace_id;

const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const ID: &str = "5f0c6c4e-6d0b-5a54-9d10-5d1c2a3b4c5d";

#[test]
fn only_stable_words_become_labels() {
    for stable in ["", "UNMAPPABLE", "HTTP_503", "BEHIND_HELD"] {
        assert_eq!(reason(stable), stable);
    }
    for free in [
        "結城",
        "Yamada",
        "000000000012345",
        "A19800101",
        "12345",
        "A B",
        "x",
    ] {
        assert_eq!(reason(free), "OTHER", "{free}");
    }
    assert_eq!(system_of("urn:jp:lg:142042:system:001"), "001");
    assert_eq!(
        system_of("urn:jp:lg:142042:system:000000000012345"),
        "OTHER"
    );
    assert_eq!(event_id(ID).as_deref(), Some(ID));
    assert_eq!(event_id("000000000012345"), None);
}

#[test]
fn a_trace_id_is_read_from_a_context_and_from_nothing_else() {
    assert_eq!(trace_id(GIVEN), "0af7651916cd43dd8448eb211c80319c");
    for text in ["", "00", "a-b-c-d", "00-000000000012345-1-01"] {
        assert_eq!(trace_id(text), "", "{text}");
    }
}

#[test]
fn an_event_keeps_its_context_and_one_without_gets_that_of_its_creation() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());
    let mut request = PublishRequest {
        municipality: "142042".to_owned(),
        source: "urn:jp:lg:142042:system:001".to_owned(),
        units: vec![unit(&["", ""]), unit(&[GIVEN])],
        ..PublishRequest::default()
    };
    drop(Publishing::start(&mut request));
    provider.force_flush().unwrap();
    let [made, again, given] = traceparents(&request)[..] else {
        panic!("three events");
    };
    assert_eq!(given, GIVEN);
    assert_eq!(made, again);
    let spans = exporter.get_finished_spans().unwrap();
    // Other tests of this process may have written spans as well.
    let of = |traceparent: &str| {
        let trace = trace_id(traceparent);
        let context = |span: &&opentelemetry_sdk::trace::SpanData| {
            span.span_context.trace_id().to_string() == trace
        };
        spans.iter().find(context).cloned().unwrap()
    };
    assert_eq!(
        made,
        format!(
            "00-{}-{}-01",
            trace_id(made),
            of(made).span_context.span_id()
        )
    );
    assert_eq!(of(given).parent_span_id.to_string(), "b7ad6b7169203331");
    assert_eq!(of(given).name, "create musubi.live");
}

fn unit(traceparents: &[&str]) -> PublishUnit {
    let event = |traceparent: &&str| Event {
        id: ID.to_owned(),
        traceparent: (*traceparent).to_owned(),
        mode: Mode::Live as i32,
        ..Event::default()
    };
    let unit = Unit {
        events: traceparents.iter().map(event).collect(),
    };
    PublishUnit {
        content: Some(Content::Unit(unit)),
        ..PublishUnit::default()
    }
}

fn traceparents(request: &PublishRequest) -> Vec<&str> {
    let units = request
        .units
        .iter()
        .filter_map(|unit| unit.content.as_ref());
    units
        .flat_map(|content| match content {
            Content::Unit(unit) => unit.events.as_slice(),
            Content::Refused(_) => &[],
        })
        .map(|event| event.traceparent.as_str())
        .collect()
}
