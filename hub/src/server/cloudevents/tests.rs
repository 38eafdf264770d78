//! Attributes to fields, modes to units, codes to statuses.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use futures::stream;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::answer::Problem;
use super::read::{Events, events, units};
use super::*;
use crate::server::status::Failure;

const TOWN: &str = "142042";
const MOVED: &str = "musubi.standard.resident.v1.ResidentMovedWithin";
const EXAMPLE: &str = include_str!("../../../../schemas/examples/resident_moved_within.json");

fn headers(attributes: &[(&str, &str)]) -> HeaderMap {
    let head = attributes
        .iter()
        .map(|(name, value)| (HeaderName::try_from(*name).unwrap(), value.parse().unwrap()));
    head.collect()
}

const BINARY: [(&str, &str); 7] = [
    ("content-type", "application/json; charset=utf-8"),
    ("ce-specversion", "1.0"),
    ("ce-id", "0198f0d2-8a5e-7c51-a0e5-0f3a5f1c2d11"),
    ("ce-source", "urn:jp:lg:142042:system:001"),
    ("ce-type", MOVED),
    ("ce-subject", "0000012345"),
    ("ce-subjectversion", "4"),
];

/// The event of a request in binary mode with further headers.
fn binary(further: &[(&str, &str)], body: &[u8]) -> Result<musubi_proto::hub::v1::Event, Problem> {
    let mut all = headers(&BINARY);
    for (name, value) in further {
        let name = HeaderName::try_from(*name).unwrap();
        all.insert(name, value.parse().unwrap());
    }
    events(TOWN, &all, Bytes::copy_from_slice(body))?
        .events
        .remove(0)
}

fn wrong(further: &[(&str, &str)], body: &[u8]) -> (u16, String, String) {
    let problem = binary(further, body).unwrap_err();
    (problem.status.as_u16(), problem.reason, problem.field)
}

#[test]
fn attributes_become_the_fields_of_the_envelope_and_json_the_bytes_of_the_type() {
    let further = [
        ("ce-time", "2026-11-24T09:30:00+09:00"),
        ("ce-reason", "40"),
        ("ce-effectiveon", "2026-11-20"),
        (
            "ce-notifiedon",
            r#"{"kind":"DATE_KIND_PARTIAL","isUnknown":true,"notation":"%E4%B8%8D%E8%A9%B3"}"#,
        ),
        ("ce-correlationid", "a%20b"),
        (
            "ce-sourcedigest",
            "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        ),
        ("ce-groupid", "G"),
        ("ce-groupseq", "1"),
        ("ce-groupsize", "1"),
        ("ce-tracestate", "vendor=1"),
    ];
    let event = binary(&further, EXAMPLE.as_bytes()).unwrap();
    assert_eq!(
        (event.municipality.as_str(), event.subject_version),
        (TOWN, 4)
    );
    assert_eq!(event.occurred_at.unwrap().seconds, 1_795_480_200);
    let effective = event.effective_on.clone().unwrap();
    assert_eq!(
        (effective.year, effective.month, effective.day),
        (2026, 11, 20)
    );
    assert_eq!(event.notified_on.clone().unwrap().notation, "不詳");
    assert_eq!((event.reason, event.correlation_id.as_str()), (40, "a b"));
    assert_eq!(event.source_digest, vec![7; 32]);
    assert_eq!(event.group.clone().unwrap().size, 1);
    // The same data as bytes is the same event.
    let protobuf = [("content-type", "application/protobuf")];
    let bytes = binary(&protobuf, &event.data).unwrap();
    assert_eq!(bytes.data, event.data);
}

#[test]
fn what_is_wrong_with_an_attribute_is_named_and_no_value_repeated() {
    let bad = "400 INVALID_FIELD";
    for (name, value, answer) in [
        ("ce-supercedes", "x", bad),
        ("ce-subjectversion", "four", bad),
        ("ce-groupseq", "-1", bad),
        ("ce-time", "yesterday", bad),
        ("ce-effectiveon", "2026-02-30", bad),
        ("ce-effectiveon", "null", bad),
        ("ce-subject", "%ff", bad),
        ("ce-specversion", "0.3", bad),
        (
            "ce-type",
            "musubi.standard.resident.v1.None",
            "400 UNKNOWN_TYPE",
        ),
    ] {
        let (status, reason, field) = wrong(&[(name, value)], EXAMPLE.as_bytes());
        let found = (format!("{status} {reason}"), format!("ce-{field}"));
        assert_eq!(found, (answer.to_owned(), name.to_owned()));
    }
    let secret = r#"{"record": {"gender": "田中"}}"#;
    let problem = binary(&[], secret.as_bytes()).unwrap_err();
    assert_eq!(
        (problem.reason.as_str(), problem.field.as_str()),
        ("UNDECODABLE_PAYLOAD", "data")
    );
    assert!(!format!("{problem:?}").contains("田中"), "{problem:?}");
    let text = [("content-type", "text/plain")];
    assert_eq!(wrong(&text, b"x").0, 415);
    let format = [("content-type", "application/cloudevents+avro")];
    assert_eq!(wrong(&format, b"x").0, 415);
    let plain = events(TOWN, &headers(&BINARY[..1]), Bytes::new())
        .unwrap()
        .events
        .remove(0);
    assert_eq!(plain.unwrap_err().field, "specversion");
}

fn document(further: Value) -> Value {
    let mut document = json!({
        "specversion": "1.0", "id": "0198f0d2-8a5e-7c51-a0e5-0f3a5f1c2d11", "type": MOVED,
        "source": "urn:jp:lg:142042:system:001", "subject": "0000012345", "subjectversion": 4,
        "data": serde_json::from_str::<Value>(EXAMPLE).unwrap(), "annuls": null,
    });
    let members = document.as_object_mut().unwrap();
    members.extend(further.as_object().unwrap().clone());
    document
}

fn read(kind: &str, body: &Value) -> Result<Events, Problem> {
    events(
        TOWN,
        &headers(&[("content-type", kind)]),
        body.to_string().into(),
    )
}

#[test]
fn an_event_is_the_same_in_every_mode() {
    let event = binary(&[], EXAMPLE.as_bytes()).unwrap();
    let kind = "application/cloudevents+json";
    let structured = |document| read(kind, &document).unwrap().events.remove(0);
    assert_eq!(structured(document(json!({}))).unwrap(), event);
    let mut empty = document(json!({"data_base64": "", "datacontenttype": "application/protobuf"}));
    assert!(structured(empty.clone()).is_err(), "both stand there");
    empty.as_object_mut().unwrap().remove("data");
    assert!(structured(empty).unwrap().data.is_empty());
    let listed = read(
        "application/cloudevents-batch+json",
        &json!([document(json!({}))]),
    );
    let listed = listed.unwrap();
    assert!(listed.batch);
    assert_eq!(listed.events, [Ok(event)]);
}

#[test]
fn events_of_one_group_are_one_unit_at_the_place_of_the_first() {
    let member = |group: &str| document(json!({"groupid": group, "groupseq": 1, "groupsize": 2}));
    let batch = json!([
        member("A"),
        document(json!({})),
        member("B"),
        member("A"),
        5,
        member("B")
    ]);
    let read = read("application/cloudevents-batch+json", &batch).unwrap();
    let sizes: Vec<Option<usize>> = units(read.events)
        .into_iter()
        .map(|unit| unit.ok().map(|unit| unit.events.len()))
        .collect();
    assert_eq!(sizes, [Some(2), Some(1), Some(2), None]);
}

#[test]
fn a_batch_of_more_events_than_a_request_may_have_is_refused_whole() {
    let batch = Value::Array(vec![json!({}); 1_001]);
    let refused = read("application/cloudevents-batch+json", &batch).unwrap_err();
    assert_eq!(refused.reason, "TOO_MANY_UNITS");
}

#[test]
fn a_failure_says_over_http_what_it_says_over_grpc() {
    let failure = Failure {
        retry_ms: 1_500,
        ..Failure::new(Code::ResourceExhausted, "OVERLOADED", "later")
            .field("units[3].unit.events[0].id")
    };
    let response = Problem::of(&failure.rpc()).into_response();
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers()["retry-after"], "2");
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let same = Problem::of_call(&Status::from(failure.clone()));
    assert_eq!(same, Problem::of(&failure.rpc()));
    assert_eq!(
        (same.reason.as_str(), same.field.as_str()),
        ("OVERLOADED", "events[0].id")
    );
    let bare = Problem::of_call(&Status::unauthenticated("no"));
    assert_eq!(bare.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_body_that_is_too_large_or_too_late_is_not_read_on() {
    let chunk = || Ok::<_, std::io::Error>(Bytes::from(vec![0; 64 * 1024]));
    let endless = Body::from_stream(stream::repeat_with(chunk));
    let large = collect(endless, HTTP_BODY_WITHIN).await;
    assert_eq!(large.unwrap_err(), too_large());
    let silent = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
    let waited = collect(silent, Duration::from_millis(1)).await;
    assert_eq!(waited.unwrap_err(), late());
}
