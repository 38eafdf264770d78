//! An adapter that does not keep the protocol: silent, cut off, talking nonsense, answering twice.
//! The hub delivers again under the same key with the next attempt, and nothing is lost.
//! Must never wait for the hub by a guess: what it does next is awaited.
//! Read next: `src/receiver.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use musubi_e2e::event::moved;
use musubi_e2e::receiver::{Receiver, receipt};
use musubi_e2e::{Client, Hub, wait_until};
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Capabilities, Delivery, Outcome, Receipt, Stream, UnitReceipt, UnitScope,
};
use tempfile::TempDir;

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";

struct Scene {
    client: Client,
    // Before the folder: the hub ends before its folder goes.
    _hub: Hub,
    _folder: TempDir,
}

fn capabilities() -> Capabilities {
    Capabilities {
        unit_scope: UnitScope::Event.into(),
        protection_flag: true,
        idempotent: true,
        ..Capabilities::default()
    }
}

/// A hub with one bound product and one published event of each person named.
async fn scene(persons: &[&str]) -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let units = persons
        .iter()
        .map(|person| vec![moved(person, 1).unwrap()])
        .collect();
    for answer in client.publish(units).await.unwrap() {
        assert!(matches!(answer.answer, Some(Answer::Accepted(_))));
    }
    Scene {
        client,
        _hub: hub,
        _folder: folder,
    }
}

async fn attach(scene: &Scene) -> Receiver {
    Receiver::attach_when_bound(&scene.client, SYSTEM, PRODUCT, capabilities())
        .await
        .unwrap()
}

fn key(delivery: &Delivery) -> &str {
    &delivery.units[0].idempotency_key
}

#[track_caller]
fn assert_again(first: &Delivery, again: &Delivery) {
    assert_eq!(key(again), key(first));
    assert_eq!(again.attempt, first.attempt + 1);
    assert_ne!(again.delivery_id, first.delivery_id);
    assert_eq!(again.units, first.units, "the same content");
}

async fn assert_applied(scene: &Scene, events: u64) {
    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let counts = scene.client.subscription(SYSTEM).await.unwrap().counts;
    let counts = counts.unwrap();
    assert_eq!((counts.received, counts.applied), (events, events));
}

#[tokio::test]
async fn a_delivery_that_was_cut_off_comes_again_with_its_key_and_the_next_attempt() {
    let scene = scene(&["0000012345"]).await;
    let mut first = attach(&scene).await;
    first.allow(1).await.unwrap();
    let taken = first.delivery().await.unwrap();
    assert_eq!(taken.attempt, 1);
    drop(first);
    let mut second = attach(&scene).await;
    second.allow(1).await.unwrap();
    let again = second.delivery().await.unwrap();
    assert_again(&taken, &again);
    second.answer(&again, Outcome::Applied).await.unwrap();
    assert_applied(&scene, 1).await;
}

#[tokio::test]
async fn a_stream_that_falls_silent_is_dropped_and_its_delivery_comes_again() {
    let scene = scene(&["0000012345"]).await;
    let mut silent = attach(&scene).await;
    silent.allow(1).await.unwrap();
    let taken = silent.delivery().await.unwrap();
    let lease = silent.welcome().lease.unwrap();
    assert!(lease.seconds > 0);
    // No answer and no sign of life: the hub ends the stream by itself.
    assert_eq!(silent.next().await.unwrap(), None);
    let mut second = attach(&scene).await;
    second.allow(1).await.unwrap();
    let again = second.delivery().await.unwrap();
    assert_again(&taken, &again);
    second.answer(&again, Outcome::Applied).await.unwrap();
    assert_applied(&scene, 1).await;
}

#[tokio::test]
async fn an_answer_that_says_nothing_is_asked_for_again() {
    let scene = scene(&["0000012345"]).await;
    let mut receiver = attach(&scene).await;
    receiver.allow(10).await.unwrap();
    let mut taken = receiver.delivery().await.unwrap();
    let garbage = |delivery: &Delivery, outcome: i32| Receipt {
        outcome,
        reason: "\u{0}\u{7}garbage".repeat(1_000),
        ..receipt(delivery, Outcome::Applied)
    };
    // Not set, a number that no contract knows, and one that only the hub may say.
    let swapped = Outcome::SupersededBySwap.into();
    for outcome in [0, 4_711, swapped] {
        receiver.send(garbage(&taken, outcome)).await.unwrap();
        let again = receiver.delivery().await.unwrap();
        assert_again(&taken, &again);
        taken = again;
    }
    receiver.answer(&taken, Outcome::Applied).await.unwrap();
    assert_applied(&scene, 1).await;
}

#[tokio::test]
async fn answers_to_what_was_never_delivered_and_second_answers_change_nothing() {
    let scene = scene(&["0000012345", "0000012353"]).await;
    let mut receiver = attach(&scene).await;
    receiver.allow(10).await.unwrap();
    let first = receiver.delivery().await.unwrap();
    let second = receiver.delivery().await.unwrap();
    let stranger = Receipt {
        delivery_id: "142042/010#99-99".to_owned(),
        ..receipt(&first, Outcome::Rejected)
    };
    receiver.send(stranger).await.unwrap();
    // A unit that is not in the delivery; the delivery's own stays without an answer.
    let wrong_unit = Receipt {
        units: vec![UnitReceipt {
            sequence: 4_711,
            stream: Stream::Live.into(),
            outcome: Outcome::Applied.into(),
            ..UnitReceipt::default()
        }],
        ..receipt(&second, Outcome::Applied)
    };
    receiver.answer(&first, Outcome::Applied).await.unwrap();
    receiver.answer(&first, Outcome::Rejected).await.unwrap();
    receiver.send(wrong_unit).await.unwrap();
    let again = receiver.delivery().await.unwrap();
    assert_again(&second, &again);
    receiver.answer(&again, Outcome::Applied).await.unwrap();
    assert_applied(&scene, 2).await;
    assert!(scene.client.parked(SYSTEM).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_second_adapter_of_a_product_takes_over_and_the_first_is_let_go() {
    let scene = scene(&["0000012345"]).await;
    let mut first = attach(&scene).await;
    first.allow(1).await.unwrap();
    let taken = first.delivery().await.unwrap();
    let mut second = attach(&scene).await;
    second.allow(1).await.unwrap();
    let again = second.delivery().await.unwrap();
    assert_again(&taken, &again);
    // Its late answer reaches nobody; whether its stream still takes it does not matter.
    drop(first.answer(&taken, Outcome::Rejected).await);
    let end = first.next().await;
    assert!(!matches!(end, Ok(Some(Response::Delivery(_)))), "{end:?}");
    second.answer(&again, Outcome::Applied).await.unwrap();
    assert_applied(&scene, 1).await;
}

#[tokio::test]
async fn no_delivery_exceeds_the_credits() {
    let scene = scene(&["0000012345", "0000012353", "0000012361"]).await;
    let mut receiver = attach(&scene).await;
    receiver.allow(2).await.unwrap();
    let first = receiver.delivery().await.unwrap();
    let _second = receiver.delivery().await.unwrap();
    wait_until(musubi_e2e::hub::PATIENCE, "two in flight", async || {
        Ok(scene.client.subscription(SYSTEM).await?.in_flight == 2)
    })
    .await
    .unwrap();
    receiver.answer(&first, Outcome::Applied).await.unwrap();
    wait_until(musubi_e2e::hub::PATIENCE, "one in flight", async || {
        Ok(scene.client.subscription(SYSTEM).await?.in_flight == 1)
    })
    .await
    .unwrap();
    receiver.allow(1).await.unwrap();
    let third = receiver.delivery().await.unwrap();
    assert_eq!(third.units.len(), 1);
}
