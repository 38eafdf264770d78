//! Any gRPC client talks to the hub: `buf curl` knows nothing of it but reflection.
//! Publishes an event, reads it back, asks for health, and is refused with reason and field.
//! Must never use a generated client: that is what this story is about.
//! Read next: `src/event.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use musubi_e2e::Hub;
use musubi_e2e::event::moved;
use musubi_e2e::hub::{MUNICIPALITY, SOURCE};
use musubi_proto::hub::v1::Event;
use serde_json::{Value, json};

const EVENTS: &str = "musubi.hub.v1.EventService";

/// The program that `cargo xtask tools` installs, or the one of the machine.
fn buf() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/bin/buf");
    if own.is_file() { own } else { "buf".into() }
}

async fn call(hub: &Hub, method: &str, request: Value) -> Output {
    // In a file: the command line has a limit.
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(request.to_string().as_bytes()).unwrap();
    let mut command = Command::new(buf());
    command
        .args(["curl", "--protocol", "grpc", "--http2-prior-knowledge"])
        .args(["--data", &format!("@{}", file.path().display())])
        .arg(format!("{}/{method}", hub.url()));
    tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap()
}

async fn ask(hub: &Hub, method: &str, request: Value) -> Value {
    let output = call(hub, method, request).await;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{method}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn from_base64(text: &str) -> Vec<u8> {
    let (mut bytes, mut word, mut bits) = (Vec::new(), 0_u32, 0);
    for digit in text.bytes() {
        let Some(value) = DIGITS.iter().position(|known| *known == digit) else {
            continue;
        };
        word = word << 6 | u32::try_from(value).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits & 255) as u8);
        }
    }
    bytes
}

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = 0;
        for place in 0..3 {
            word = word << 8 | u32::from(chunk.get(place).copied().unwrap_or(0));
        }
        for place in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * place) & 63) as usize];
            text.push(if place <= chunk.len() {
                digit as char
            } else {
                '='
            });
        }
    }
    text
}

fn event_json(event: &Event) -> Value {
    json!({
        "id": event.id,
        "source": event.source,
        "type": event.r#type,
        "municipality": event.municipality,
        "subject": event.subject,
        "subjectVersion": event.subject_version,
        "reason": event.reason,
        "sourceDigest": base64(&event.source_digest),
        "data": base64(&event.data),
    })
}

fn publish(event: Value) -> Value {
    json!({
        "municipality": MUNICIPALITY,
        "source": SOURCE,
        "units": [{"unit": {"events": [event]}}],
    })
}

#[tokio::test]
async fn a_client_that_knows_only_reflection_publishes_and_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let event = moved("0000012345", 1).unwrap();
    let method = format!("{EVENTS}/Publish");
    let answer = ask(&hub, &method, publish(event_json(&event))).await;
    let accepted = &answer["answers"][0]["accepted"];
    assert!(accepted.is_object(), "{answer}");

    let read = json!({"municipality": MUNICIPALITY, "id": event.id});
    let read = ask(&hub, &format!("{EVENTS}/GetEvent"), read).await;
    let stored = &read["stored"];
    assert_eq!(stored["event"]["data"], base64(&event.data));
    assert_eq!(stored["event"]["subject"], "0000012345");
    assert_eq!(stored["position"], accepted["position"]);
    assert!(stored["event"]["recordedAt"].is_string(), "{read}");

    let again = ask(&hub, &method, publish(event_json(&event))).await;
    assert_eq!(again["answers"][0]["accepted"]["duplicate"], true);
}

#[tokio::test]
async fn health_is_told_by_the_standard_service() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    for service in ["", EVENTS] {
        let health = ask(
            &hub,
            "grpc.health.v1.Health/Check",
            json!({"service": service}),
        )
        .await;
        assert_eq!(health["status"], "SERVING", "{service}: {health}");
    }
}

/// Reason and field in the details of one refused unit, as any client sees them.
fn reason_and_field(refused: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let details = refused["details"].as_array().cloned().unwrap_or_default();
    let of = |name: &str| {
        let ends = |detail: &&Value| text(&detail["@type"]).ends_with(name);
        details.iter().find(ends).cloned().unwrap_or_default()
    };
    let violation = &of("google.rpc.BadRequest")["fieldViolations"][0];
    (
        text(&of("google.rpc.ErrorInfo")["reason"]),
        text(&violation["field"]),
    )
}

#[tokio::test]
async fn bad_events_are_refused_with_a_reason_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let good = event_json(&moved("0000012345", 1).unwrap());
    let with = |field: &str, value: Value| {
        let mut event = good.clone();
        event[field] = value;
        event
    };
    let group = json!({"id": "G1", "seq": 1, "size": 2});
    let large = base64(&vec![0; 300 * 1024]);
    let cases = [
        (
            with("type", "musubi.standard.resident.v1.Unknown".into()),
            "UNKNOWN_TYPE",
            "type",
        ),
        (
            with("data", "/////w==".into()),
            "UNDECODABLE_PAYLOAD",
            "data",
        ),
        (with("data", large.into()), "PAYLOAD_TOO_LARGE", "data"),
        (
            with("municipality", "131016".into()),
            "WRONG_MUNICIPALITY",
            "municipality",
        ),
        (with("subject", "".into()), "MISSING_FIELD", "subject"),
        (with("id", "".into()), "MISSING_FIELD", "id"),
        (with("group", group), "GROUP_INCOMPLETE", "group.size"),
    ];
    for (event, reason, field) in cases {
        let answer = ask(&hub, &format!("{EVENTS}/Publish"), publish(event)).await;
        let found = reason_and_field(&answer["answers"][0]["refused"]);
        let field = format!("units[0].unit.events[0].{field}");
        assert_eq!(found, (reason.to_owned(), field), "{answer}");
    }
    let log = hub.client().unwrap();
    let log = log.log(musubi_proto::hub::v1::Stream::Live).await.unwrap();
    assert!(log.is_empty(), "nothing of a refused unit is kept");
}

#[tokio::test]
async fn a_request_that_is_wrong_as_a_whole_fails_with_a_reason_and_the_field() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let event = event_json(&moved("0000012345", 1).unwrap());
    let mut foreign = publish(event);
    foreign["source"] = "urn:jp:lg:131016:system:001".into();
    let output = call(&hub, &format!("{EVENTS}/Publish"), foreign).await;
    assert!(!output.status.success());
    let errors = String::from_utf8_lossy(&output.stderr);
    let refused: Value = serde_json::from_str(&errors).expect(&errors);
    assert_eq!(refused["code"], "invalid_argument", "{refused}");
    let detail = |place: usize| {
        let value = refused["details"][place]["value"].as_str().unwrap();
        String::from_utf8_lossy(&from_base64(value)).into_owned()
    };
    assert!(detail(0).contains("INVALID_FIELD"), "{refused}");
    assert!(detail(1).contains("source"), "{refused}");
}
