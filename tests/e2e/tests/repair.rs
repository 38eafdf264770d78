//! An operator repairs what a product refused, with the commands that she has.
//! Real hub, real command line; the product is a receiver that refuses one person.
//! Must never count as repaired what the product did not get.
//! Read next: `docs/specs/repair.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::Path;

use musubi_e2e::event::moved;
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::process::musubi;
use musubi_e2e::receiver::Receiver;
use musubi_e2e::{Client, Hub};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Capabilities, Delivery, Event, Outcome, UnitScope};
use serde_json::{Value, json};

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";
const REFUSED: &str = "0000000001";
const OTHER: &str = "0000000002";
const WHO: [&str; 4] = [
    "--operator",
    "desk-1",
    "--reason",
    "the vendor asked for it",
];

fn capabilities() -> Capabilities {
    Capabilities {
        unit_scope: UnitScope::Event.into(),
        protection_flag: true,
        idempotent: true,
        ..Capabilities::default()
    }
}

async fn publish(client: &Client, event: Event) {
    let answers = client.publish(vec![vec![event]]).await.unwrap();
    assert!(matches!(answers[0].answer, Some(Answer::Accepted(_))));
}

async fn attach(client: &Client) -> Receiver {
    let receiver = Receiver::attach_when_bound(client, SYSTEM, PRODUCT, capabilities());
    let receiver = receiver.await.unwrap();
    receiver.allow(10).await.unwrap();
    receiver
}

fn event(delivery: &Delivery) -> &Event {
    delivery.units[0].events[0].event.as_ref().unwrap()
}

/// A command with who and why.
fn act(hub: &Hub, arguments: &[&str]) -> Result<Value, String> {
    let arguments = [arguments, &WHO].concat();
    hub.command(&arguments).map_err(|error| error.to_string())
}

/// A command about the first person's first unit.
fn repair(hub: &Hub, verb: &str, more: &[&str]) -> Result<Value, String> {
    let subscription = format!("142042/{SYSTEM}");
    let unit = ["--subscription", &subscription, "--sequence", "1"];
    let named = [&["parked", verb][..], &unit, &["--member", "1"], more].concat();
    act(hub, &named)
}

/// Takes so many deliveries: subjects with versions. The refused one comes as its correction.
async fn take_all(product: &mut Receiver, count: usize, refused: &str) -> Vec<(String, u32)> {
    let mut seen = Vec::new();
    for _ in 0..count {
        let delivery = product.delivery().await.unwrap();
        let event = event(&delivery);
        seen.push((event.subject.clone(), event.subject_version));
        if (event.subject.as_str(), event.subject_version) == (REFUSED, 1) {
            assert_ne!(event.id, refused);
            assert_eq!(event.supersedes, refused);
        }
        product.answer(&delivery, Outcome::Applied).await.unwrap();
        product.allow(1).await.unwrap();
    }
    seen
}

/// A product that refused one person's first event, behind which a second one waits.
async fn refused(folder: &Path) -> (Hub, Client, Receiver, Event) {
    let hub = Hub::start(folder).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let first = moved(REFUSED, 1).unwrap();
    publish(&client, first.clone()).await;
    let mut product = attach(&client).await;
    let delivery = product.delivery().await.unwrap();
    product.answer(&delivery, Outcome::Rejected).await.unwrap();
    publish(&client, moved(REFUSED, 2).unwrap()).await;
    (hub, client, product, first)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_person_is_corrected_in_place_and_a_stop_outlives_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, client, mut product, first) = refused(folder.path()).await;
    publish(&client, moved(OTHER, 1).unwrap()).await;
    let other = product.delivery().await.unwrap();
    assert_eq!(event(&other).subject, OTHER, "others go on");
    product.answer(&other, Outcome::Applied).await.unwrap();

    // What would be done is said and not done; what is wrong is refused, and changes nothing.
    let parked = client.parked(SYSTEM).await.unwrap();
    assert_eq!(parked.len(), 2);
    repair(&hub, "skip", &["--dry-run"]).unwrap();
    let stale = repair(&hub, "skip", &["--revision", "99"]).unwrap_err();
    assert!(stale.contains("CHANGED_MEANWHILE"), "{stale}");
    let shown = hub.command(&["events", "show", &first.id]).unwrap();
    let payload = &shown["event"]["payload"];
    let file = folder.path().join("correction.json");
    let name = file.to_str().unwrap();
    fs::write(
        &file,
        json!({"payload": payload, "subject": OTHER}).to_string(),
    )
    .unwrap();
    let foreign = repair(&hub, "edit", &["--file", name]).unwrap_err();
    assert!(foreign.contains("EDIT_NOT_ALLOWED"), "{foreign}");
    assert_eq!(client.parked(SYSTEM).await.unwrap(), parked);

    // A stop holds, also over the death of the hub and a new stream of the adapter.
    act(&hub, &["stop", "--system", SYSTEM]).unwrap();
    hub.kill_and_restart().await.unwrap();
    let mut product = attach(&client).await;
    let mut payload = payload.clone();
    payload["record"]["address"]["lot"] = json!("９番９号");
    fs::write(&file, json!({ "payload": payload }).to_string()).unwrap();
    repair(&hub, "edit", &["--file", name]).unwrap();
    publish(&client, moved(OTHER, 2).unwrap()).await;
    let state = client.subscription(SYSTEM).await.unwrap();
    assert!(
        state.bindings[0].paused && state.in_flight == 0,
        "{state:?}"
    );
    let running = act(&hub, &["resume", "--system", "024"]).unwrap_err();
    assert!(running.contains("NOT_"), "{running}");
    act(&hub, &["resume", "--system", SYSTEM]).unwrap();

    // The correction takes the place of the old event, and what waited behind it follows.
    let seen = take_all(&mut product, 3, &first.id).await;
    let of_refused: Vec<u32> = seen
        .iter()
        .filter(|(subject, _)| subject == REFUSED)
        .map(|(_, version)| *version)
        .collect();
    assert_eq!(of_refused, [1, 2], "{seen:?}");
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    assert_eq!(client.parked(SYSTEM).await.unwrap(), []);

    // Who did it, and why.
    let acts = hub.command(&["acts", "list"]).unwrap().to_string();
    for act in ["STOP", "RESUME", "EDIT"] {
        assert!(acts.contains(&format!("ACT_KIND_{act}")), "{act}: {acts}");
    }
    assert!(acts.contains("desk-1") && acts.contains("the vendor asked for it"));
}

/// The hub dies at a point of a correction; what the product gets after the restart.
async fn corrected_by_a_hub_that_dies_at(point: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (mut hub, client, _product, first) = refused(folder.path()).await;
    let shown = hub.command(&["events", "show", &first.id]).unwrap();
    let mut payload = shown["event"]["payload"].clone();
    payload["record"]["address"]["lot"] = json!("９番９号");
    let file = folder.path().join("correction.json");
    fs::write(&file, json!({ "payload": payload }).to_string()).unwrap();
    let edit = ["--file", file.to_str().unwrap()];

    hub.process().kill().unwrap();
    let mut dying = musubi().unwrap();
    dying.env("MUSUBI_CRASH_AT", point);
    hub.restart_as(dying).await.unwrap();
    repair(&hub, "edit", &edit).unwrap_err();
    hub.process().wait(PATIENCE).unwrap();
    hub.restart().await.unwrap();
    let mut product = attach(&client).await;
    let seen = take_all(&mut product, 2, &first.id).await;
    assert_eq!(seen.iter().map(|seen| seen.1).collect::<Vec<u32>>(), [1, 2]);
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let again = repair(&hub, "edit", &edit).unwrap_err();
    assert!(again.contains("NOT_FOUND"), "{again}");
    let acts = hub.command(&["acts", "list"]).unwrap().to_string();
    assert_eq!(acts.matches("ACT_KIND_EDIT").count(), 1, "{acts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_correction_that_stands_in_the_log_is_applied_once_by_the_next_hub() {
    for point in ["control.appended", "edit.placed"] {
        corrected_by_a_hub_that_dies_at(point).await;
    }
}
