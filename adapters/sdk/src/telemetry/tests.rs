//! Tests of what leaves an adapter as telemetry.

use std::sync::Arc;

use async_trait::async_trait;
use opentelemetry::global;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};

use super::{Captured, process, reason, trace};
use crate::capture::{Page, SourceSpec};
use crate::deliver::Deliver;
use crate::hub::{
    Capabilities, DeliveredEvent, DeliveredUnit, Delivery, Event, PublishResponse, PublishUnit,
    Receipt, Stream, Unit, publish_unit::Content,
};
use crate::receipt::{Answer, receipt};
use crate::spec::Spec;

const ID: &str = "5f0c6c4e-6d0b-5a54-9d10-5d1c2a3b4c5d";
const DERIVED: &str = "00-5f0c6c4e6d0b5a549d105d1c2a3b4c5d-9d105d1c2a3b4c5d-01";
const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

struct Product(Spec);

#[async_trait]
impl Deliver for Product {
    fn spec(&self) -> &Spec {
        &self.0
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        receipt(&delivery, Answer::applied())
    }
}

fn event(traceparent: &str) -> Event {
    Event {
        id: ID.to_owned(),
        traceparent: traceparent.to_owned(),
        ..Event::default()
    }
}

fn page(traceparents: &[&str]) -> Page {
    let unit = |traceparent: &&str| PublishUnit {
        content: Some(Content::Unit(Unit {
            events: vec![event(traceparent)],
        })),
        ..PublishUnit::default()
    };
    Page {
        stream: Stream::Live,
        units: traceparents.iter().map(unit).collect(),
        cursor: String::new(),
    }
}

fn traceparents(page: &Page) -> Vec<String> {
    let units = page.units.iter().filter_map(|unit| unit.content.as_ref());
    units
        .filter_map(|content| match content {
            Content::Unit(unit) => unit.events.first().map(|event| event.traceparent.clone()),
            Content::Refused(_) => None,
        })
        .collect()
}

fn spec() -> Spec {
    Spec {
        product: "tax".to_owned(),
        system: "010".to_owned(),
        adapter_version: "1".to_owned(),
        capabilities: Capabilities::default(),
        in_flight_max: 1,
    }
}

fn source() -> SourceSpec {
    SourceSpec {
        municipality: "142042".to_owned(),
        source: "urn:jp:lg:142042:system:001".to_owned(),
        product: "registry".to_owned(),
    }
}

#[test]
fn only_stable_words_become_labels() {
    assert_eq!(reason("HTTP_503"), "HTTP_503");
    for free in ["結城", "Yamada", "000000000012345", "A19800101"] {
        assert_eq!(reason(free), "OTHER", "{free}");
    }
}

#[tokio::test]
async fn one_trace_leads_from_the_capture_to_the_products_answer() {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder()
        .with_simple_exporter(exporter.clone())
        .build();
    global::set_tracer_provider(provider.clone());
    global::set_text_map_propagator(TraceContextPropagator::new());

    let mut page = page(&["", DERIVED, GIVEN]);
    Captured::start(&source(), &mut page).answered(&PublishResponse::default());
    let [empty, derived, given] = &traceparents(&page)[..] else {
        panic!("three events");
    };
    assert_eq!(given, GIVEN);
    assert_ne!(derived, DERIVED);
    assert_ne!(empty, derived);

    let delivered = DeliveredEvent {
        event: Some(event(empty)),
        ..DeliveredEvent::default()
    };
    let delivery = Delivery {
        subscription: "142042/010".to_owned(),
        units: vec![DeliveredUnit {
            events: vec![delivered],
            ..DeliveredUnit::default()
        }],
        ..Delivery::default()
    };
    process(Arc::new(Product(spec())), delivery).await;
    provider.force_flush().unwrap();

    let spans = exporter.get_finished_spans().unwrap();
    // Other tests of this process may have written spans as well.
    let of_trace = |traceparent: &str| -> Vec<SpanData> {
        let wanted = trace::trace_id(traceparent);
        let of = |span: &&SpanData| span.span_context.trace_id().to_string() == wanted;
        spans.iter().filter(of).cloned().collect()
    };
    let names: Vec<_> = of_trace(empty)
        .iter()
        .map(|span| span.name.to_string())
        .collect();
    assert_eq!(
        names,
        ["capture registry", "deliver tax", "process 142042/010"]
    );
    let process = of_trace(empty).pop().unwrap();
    let link = process.links.links.first().unwrap();
    assert_eq!(
        trace::traceparent_of(&link.span_context).as_ref(),
        Some(empty)
    );
    let given = of_trace(GIVEN);
    assert_eq!(
        given.first().unwrap().parent_span_id.to_string(),
        "b7ad6b7169203331"
    );
}
