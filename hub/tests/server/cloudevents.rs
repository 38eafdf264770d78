//! CloudEvents over HTTP: the same events, the same answers, the same rights as over gRPC.

use musubi_proto::hub::v1::{Event, GetEventRequest};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::auth::tokens;
use super::stage::{EXAMPLE, Hub, MOVED, PATIENCE, SOURCE, TOWN, moved};

const BATCH: &str = "application/cloudevents-batch+json";

/// A publish in binary mode; the body is to follow.
fn binary(hub: &Hub, id: &str, subject: &str, version: u32) -> RequestBuilder {
    headed(post(hub), id, subject, version)
}

fn headed(request: RequestBuilder, id: &str, subject: &str, version: u32) -> RequestBuilder {
    request
        .header("ce-specversion", "1.0")
        .header("ce-id", id)
        .header("ce-source", SOURCE)
        .header("ce-type", MOVED)
        .header("ce-subject", subject)
        .header("ce-subjectversion", version)
        .header("ce-reason", "40")
}

fn post(hub: &Hub) -> RequestBuilder {
    post_to(hub, &format!("/v1/municipalities/{TOWN}/events"))
}

fn post_to(hub: &Hub, path: &str) -> RequestBuilder {
    let client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .build()
        .unwrap();
    client.post(format!("http://{}{path}", hub.address()))
}

fn json_data(request: RequestBuilder) -> RequestBuilder {
    let request = request.header("content-type", "application/json");
    request.body(EXAMPLE)
}

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn stored(hub: &Hub, id: &str) -> Event {
    let ask = GetEventRequest {
        municipality: TOWN.to_owned(),
        id: id.to_owned(),
    };
    let read = hub.events().get_event(ask).await.unwrap().into_inner();
    read.stored.unwrap().event.unwrap()
}

#[tokio::test]
async fn an_event_over_http_is_the_event_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let id = new_id();
    let (status, said) = answer(json_data(binary(&hub, &id, "0000000001", 1))).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let accepted = &said["answers"][0]["accepted"];
    assert_eq!(accepted["duplicate"], false);

    // Over gRPC the same event is known already.
    let mut same = moved("0000000001", 1);
    same.id.clone_from(&id);
    let event = stored(&hub, &id).await;
    let given = |event: &Event| Event {
        recorded_at: None,
        source_digest: Vec::new().into(),
        mode: 0,
        traceparent: String::new(),
        ..event.clone()
    };
    assert_eq!(given(&event), given(&same));
    assert_eq!(accepted["position"], hub.accept(same.clone()).await);

    let protobuf =
        binary(&hub, &id, "0000000001", 1).header("content-type", "application/protobuf");
    let (status, said) = answer(protobuf.body(same.data.clone())).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    assert_eq!(said["answers"][0]["accepted"]["duplicate"], true);

    let other = binary(&hub, &id, "0000000001", 1).header(
        "ce-sourcedigest",
        "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
    );
    let (status, said) = answer(json_data(other)).await;
    assert_eq!(
        (status, &said["reason"]),
        (StatusCode::CONFLICT, &json!("ID_REUSED"))
    );
    assert_eq!(said["type"], "docs/errors/ID_REUSED.md");
    assert_eq!(said["field"], "id");

    let (status, said) = answer(json_data(binary(&hub, &new_id(), "0000000001", 3))).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{said}");
    assert_eq!(said["answers"][0]["held"]["rule"], "VERSION_GAP");
    hub.stop().await;
}

#[tokio::test]
async fn each_unit_of_a_batch_has_its_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let data: Value = serde_json::from_str(EXAMPLE).unwrap();
    let group = new_id();
    let event = |subject: &str, further: Value| {
        let mut event = json!({
            "specversion": "1.0", "id": new_id(), "source": SOURCE, "type": MOVED,
            "subject": subject, "subjectversion": 1, "data": data,
        });
        let further = further.as_object().unwrap().clone();
        event.as_object_mut().unwrap().extend(further);
        event
    };
    let member = |seq| json!({"groupid": group, "groupseq": seq, "groupsize": 2});
    let batch = json!([
        event("0000000001", member(1)),
        event("0000000002", json!({"supercedes": "typo"})),
        event("0000000003", json!({"subjectversion": 0})),
        event("0000000004", member(2)),
    ]);
    let request = post(&hub)
        .header("content-type", BATCH)
        .body(batch.to_string());
    let (status, said) = answer(request).await;
    assert_eq!(status, StatusCode::OK, "{said}");
    let answers = said["answers"].as_array().unwrap();
    assert_eq!(answers.len(), 3, "{said}");
    assert!(answers[0]["accepted"].is_object(), "{said}");
    assert_eq!(answers[1]["refused"]["field"], "supercedes");
    assert_eq!(answers[2]["refused"]["reason"], "MISSING_FIELD");
    assert_eq!(answers[2]["refused"]["field"], "events[0].subject_version");
    hub.stop().await;
}

async fn refused(response: Result<Response, reqwest::Error>) -> (u16, String) {
    let response = response.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers()["content-type"].clone();
    assert_eq!(kind, "application/problem+json");
    let problem: Value = response.json().await.unwrap();
    assert_eq!(problem["status"], status, "{problem}");
    (status, problem["reason"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_request_that_is_wrong_as_a_whole_is_a_problem_with_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let told = |status, reason: &str| (status, reason.to_owned());
    let large = post(&hub)
        .header("content-type", BATCH)
        .body(vec![b' '; 4 << 20]);
    assert_eq!(
        refused(large.send().await).await,
        told(413, "BODY_TOO_LARGE")
    );
    let text = binary(&hub, &new_id(), "1", 1)
        .header("content-type", "text/plain")
        .body("x");
    assert_eq!(refused(text.send().await).await, told(415, "MEDIA_TYPE"));
    for (path, answer) in [
        (
            "/v1/municipalities/142042/events?stream=none",
            told(400, "INVALID_FIELD"),
        ),
        (
            "/v1/municipalities/142043/events",
            told(400, "INVALID_FIELD"),
        ),
        ("/events", told(404, "NOT_FOUND")),
    ] {
        let request = json_data(headed(post_to(&hub, path), &new_id(), "0000000001", 1));
        assert_eq!(refused(request.send().await).await, answer, "{path}");
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_token_opens_over_http_what_it_opens_over_grpc() {
    let folder = tempfile::tempdir().unwrap();
    let file = tokens(folder.path());
    let hub = Hub::with(folder.path(), Some(file)).await;
    for (token, status, reason) in [
        ("unknown", 401, "UNAUTHENTICATED"),
        ("pension", 403, "PERMISSION_DENIED"),
    ] {
        let request = json_data(binary(&hub, &new_id(), "0000000001", 1)).bearer_auth(token);
        assert_eq!(
            refused(request.send().await).await,
            (status, reason.to_owned())
        );
    }
    let request = json_data(binary(&hub, &new_id(), "0000000001", 1)).bearer_auth("registry");
    assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    hub.stop().await;
}
