//! The CloudEvents SDK of another language publishes, and nobody can tell it from a gRPC client.
//! Publishes over HTTP in two modes and over gRPC, and receives all as one receiver.
//! Must never build a request by hand: that is what this story is about.
//! Read next: `src/cloudevents.rs`, `foreign_client.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use musubi_e2e::Hub;
use musubi_e2e::cloudevents::{Data, publish};
use musubi_e2e::event::{EXAMPLE, event, moved_within};
use musubi_e2e::receiver::Receiver;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Capabilities, DeliveredEvent, Delivery, Event, Outcome, Stream, UnitScope,
};
use prost::Message;
use serde_json::json;

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";
const PERSON: &str = "0000012345";

/// The next version of the person, with the payload of the example.
fn next(version: u32) -> Event {
    let data = moved_within().unwrap().encode_to_vec();
    Event {
        // Without it the digest of the data counts, whoever publishes.
        source_digest: Vec::new().into(),
        ..event(PERSON, version, data)
    }
}

/// What a receiver got, without what differs from event to event.
fn content(delivery: &Delivery) -> DeliveredEvent {
    let mut delivered = delivery.units[0].events[0].clone();
    let event = delivered.event.as_mut().unwrap();
    event.id.clear();
    event.subject_version = 0;
    event.traceparent.clear();
    // The SDK always says when; the hub says when it took it.
    (event.occurred_at, event.recorded_at) = (None, None);
    delivered
}

fn json() -> Data {
    Data::Json(serde_json::from_str(EXAMPLE).unwrap())
}

#[tokio::test]
async fn a_receiver_cannot_tell_an_event_over_http_from_one_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let capabilities = Capabilities {
        unit_scope: UnitScope::Event.into(),
        ..Capabilities::default()
    };
    let receiver = Receiver::attach_when_bound(&client, SYSTEM, PRODUCT, capabilities);
    let mut receiver = receiver.await.unwrap();
    receiver.allow(8).await.unwrap();

    let answers = client.publish(vec![vec![next(1)]]).await.unwrap();
    assert!(matches!(answers[0].answer, Some(Answer::Accepted(_))));
    for (version, mode, data) in [
        (2, "binary", json()),
        (3, "binary", Data::Protobuf),
        (4, "structured", json()),
        (5, "structured", Data::Protobuf),
    ] {
        let published = publish(&hub.url(), mode, &next(version), data).await;
        let (status, said) = published.unwrap();
        let fresh = &said["answers"][0]["accepted"]["duplicate"];
        assert_eq!((status, fresh), (200, &json!(false)), "{said}");
    }
    let mut received = Vec::new();
    for _ in 1..=5 {
        let delivery = receiver.delivery().await.unwrap();
        receiver.answer(&delivery, Outcome::Applied).await.unwrap();
        received.push(content(&delivery));
    }
    assert!(!received[0].granted_paths.is_empty());
    for other in &received[1..] {
        assert_eq!(other, &received[0]);
    }
}

#[tokio::test]
async fn the_sdk_gets_the_answers_of_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    let known = next(1);
    client.publish(vec![vec![known.clone()]]).await.unwrap();
    let binary = async |event: &Event, data: Data| {
        let published = publish(&hub.url(), "binary", event, data).await;
        published.unwrap()
    };

    for data in [json(), Data::Protobuf] {
        let (status, said) = binary(&known, data).await;
        let duplicate = &said["answers"][0]["accepted"]["duplicate"];
        assert_eq!((status, duplicate), (200, &json!(true)), "{said}");
    }
    let mut payload = moved_within().unwrap();
    payload
        .record
        .as_mut()
        .unwrap()
        .person
        .as_mut()
        .unwrap()
        .rirekibango += 1;
    let other = Event {
        data: payload.encode_to_vec().into(),
        ..known
    };
    let (status, said) = binary(&other, Data::Protobuf).await;
    assert_eq!(
        (status, &said["reason"]),
        (409, &json!("ID_REUSED")),
        "{said}"
    );
    let (status, said) = binary(&next(1), json()).await;
    assert_eq!(
        (status, &said["reason"]),
        (412, &json!("VERSION_REUSED")),
        "{said}"
    );
    let (status, said) = binary(&next(9), json()).await;
    let rule = &said["answers"][0]["held"]["rule"];
    assert_eq!((status, rule), (202, &json!("VERSION_GAP")), "{said}");
    let foreign = Event {
        source: "urn:jp:lg:131016:system:001".to_owned(),
        ..next(2)
    };
    let (status, said) = binary(&foreign, json()).await;
    assert_eq!(
        (status, &said["reason"]),
        (400, &json!("INVALID_FIELD")),
        "{said}"
    );
    assert_eq!(said["field"], "source");
    assert_eq!(client.log(Stream::Live).await.unwrap().len(), 1);
}
