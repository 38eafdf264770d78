//! From publish to receipt, and again when a stream or the hub ends in between.

use musubi_proto::hub::v1::attach_request::Request as Ask;
use musubi_proto::hub::v1::attach_response::Response as Tell;
use musubi_proto::hub::v1::{Capabilities, Mode, Outcome, Receipt};
use musubi_proto::standard::resident::v1::ResidentMovedWithin;
use prost::Message;
use prost_types::Duration;

use super::stage::{Adapter, FLAG, Hub, event, failed, ids, moved, payload};

const PENSION: &str = "142042/026";

#[tokio::test]
async fn a_receiver_gets_the_granted_paths_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    assert_eq!(hinoki.welcome.subscription, PENSION);
    let published = moved("0000000001", 1);
    let position = hub.accept(published.clone()).await;
    let delivery = hinoki.delivery().await;
    assert_eq!((delivery.attempt, delivery.mode()), (1, Mode::Live));
    let unit = &delivery.units[0];
    assert_eq!(
        (unit.sequence, unit.position, unit.member),
        (1, position, 1)
    );
    assert_eq!(unit.idempotency_key, published.id);
    let delivered = &unit.events[0];
    let mut granted = delivered.granted_paths.clone();
    granted.sort();
    assert_eq!(
        granted,
        [
            "declaration.pension_category",
            "record.address",
            "record.address_since",
            "record.person",
            "record.protection",
        ]
    );
    let seen = delivered.event.as_ref().unwrap();
    assert!(
        seen.source_digest.is_empty(),
        "a digest betrays what is withheld"
    );
    let seen = ResidentMovedWithin::decode(&seen.data[..]).unwrap();
    let whole = payload().record.unwrap();
    let expected = musubi_proto::standard::common::v1::ResidentRecord {
        person: whole.person,
        address: whole.address,
        address_since: whole.address_since,
        protection: whole.protection,
        ..Default::default()
    };
    assert_eq!(
        seen,
        ResidentMovedWithin {
            record: Some(expected),
            ..Default::default()
        }
    );
    hinoki.apply(&delivery).await;
    let seen = hub.wait_for(PENSION, "the receipt counts", |found| {
        found.complete_up_to == 1
    });
    let seen = seen.await;
    let counts = seen.counts.unwrap();
    assert_eq!((counts.received, counts.applied, seen.in_flight), (1, 1, 0));
    // The grants of the start stand in the log before the event.
    assert_eq!((seen.live_position, seen.lag), (position + 1, 0));
    hub.stop().await;
}

#[tokio::test]
async fn what_is_not_granted_to_a_system_takes_no_sequence_there() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    // Nobody but 024 is granted births.
    let born = "musubi.standard.resident.v1.ResidentBorn";
    let record = payload().record;
    let data = musubi_proto::standard::resident::v1::ResidentBorn {
        record,
        record_basis: 1,
        ..Default::default()
    };
    let data = data.encode_to_vec();
    hub.accept(event("0000000002", 1, born, data)).await;
    let event = moved("0000000001", 1);
    hub.accept(event.clone()).await;
    let delivery = hinoki.delivery().await;
    assert_eq!(
        (ids(&delivery), delivery.units[0].sequence),
        (vec![event.id], 1)
    );
    hub.stop().await;
}

#[tokio::test]
async fn without_a_receipt_a_delivery_comes_again_with_the_same_key() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    hub.accept(moved("0000000001", 1)).await;
    let mut first = Adapter::attach(&hub, "026", "hinoki").await;
    let one = first.delivery().await;
    drop(first);
    let mut second = Adapter::attach(&hub, "026", "hinoki").await;
    let two = second.delivery().await;
    assert_eq!((one.attempt, two.attempt), (1, 2));
    assert_ne!(one.delivery_id, two.delivery_id);
    assert_eq!(one.units[0].idempotency_key, two.units[0].idempotency_key);
    assert_eq!(one.units[0].sequence, two.units[0].sequence);
    // The answer to the former delivery comes too late and changes nothing.
    second.answer(&one, Outcome::Rejected, "LATE").await;
    second.apply(&two).await;
    let seen = hub.wait_for(PENSION, "it is applied", |found| found.complete_up_to == 1);
    let counts = seen.await.counts.unwrap();
    assert_eq!((counts.applied, counts.rejected), (1, 0));
    hub.stop().await;
}

#[tokio::test]
async fn a_second_stream_of_the_same_product_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut first = Adapter::attach(&hub, "026", "hinoki").await;
    let mut second = Adapter::attach(&hub, "026", "hinoki").await;
    while first.hear().await.is_some() {}
    hub.accept(moved("0000000001", 1)).await;
    second.delivery().await;
    hub.stop().await;
}

#[tokio::test]
async fn deliveries_go_on_where_they_were_after_a_restart_of_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let events = ["0000000001", "0000000002", "0000000003"].map(|name| moved(name, 1));
    for event in events.clone() {
        hub.accept(event).await;
    }
    let mut deliveries = Vec::new();
    for _ in 0..3 {
        deliveries.push(hinoki.delivery().await);
    }
    // The second is answered, ahead of the first.
    hinoki.apply(&deliveries[1]).await;
    hub.wait_for(PENSION, "it is applied", |found| {
        found.counts.is_some_and(|counts| counts.applied == 1)
    })
    .await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    for expected in [0, 2] {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [events[expected].id.as_str()]);
        assert_eq!(delivery.units[0].sequence, expected as u64 + 1);
        hinoki.apply(&delivery).await;
    }
    let seen = hub.wait_for(PENSION, "all is applied", |found| found.complete_up_to == 3);
    assert_eq!(seen.await.counts.unwrap().applied, 3);
    hub.stop().await;
}

#[tokio::test]
async fn a_retry_comes_again_after_its_wait_and_the_next_of_the_person_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let (first, second) = (moved("0000000001", 1), moved("0000000001", 2));
    hub.accept(first.clone()).await;
    hub.accept(second.clone()).await;
    let delivery = hinoki.delivery().await;
    let started = std::time::Instant::now();
    let receipt = Receipt {
        delivery_id: delivery.delivery_id.clone(),
        outcome: Outcome::Retry as i32,
        reason: "BUSY".to_owned(),
        retry_after: Some(Duration {
            seconds: 0,
            nanos: 300_000_000,
        }),
        ..Receipt::default()
    };
    hinoki.say(Ask::Receipt(receipt)).await;
    let again = hinoki.delivery().await;
    assert!(started.elapsed().as_millis() >= 300);
    assert_eq!((ids(&again), again.attempt), (vec![first.id], 2));
    hinoki.apply(&again).await;
    let next = hinoki.delivery().await;
    assert_eq!(ids(&next), [second.id]);
    hub.stop().await;
}

#[tokio::test]
async fn the_hub_says_how_far_everything_has_an_outcome() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    hub.accept(moved("0000000001", 1)).await;
    hub.accept(moved("0000000002", 1)).await;
    let (one, two) = (hinoki.delivery().await, hinoki.delivery().await);
    hinoki.apply(&two).await;
    hinoki.apply(&one).await;
    // Never 1 with the first one open: the marks pass both at once.
    let Some(Tell::CompleteUpTo(mark)) = hinoki.hear().await else {
        panic!("no mark");
    };
    assert_eq!(mark.sequence, 2);
    hub.stop().await;
}

#[tokio::test]
async fn a_product_that_is_not_bound_is_told_so() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    for (system, product) in [("026", "ayame"), ("010", "hinoki"), ("999", "x")] {
        let attached = Adapter::try_attach(&hub, system, product, FLAG).await;
        let error = attached.err().unwrap();
        assert_eq!(
            failed(&error),
            ("NOT_BOUND".to_owned(), "product".to_owned())
        );
        let elsewhere = error.message().contains("is bound to system `026`");
        assert_eq!(elsewhere, product == "hinoki", "{}", error.message());
    }
    let mut bound = hub.admin();
    let nothing = bound.bind_product(musubi_proto::hub::v1::BindProductRequest {
        municipality: "142042".to_owned(),
        system: "999".to_owned(),
        product: "x".to_owned(),
        operator: "operator".to_owned(),
        reason: "story".to_owned(),
    });
    let error = nothing.await.unwrap_err();
    assert_eq!(
        failed(&error),
        ("NOTHING_GRANTED".to_owned(), "system".to_owned())
    );
    hub.stop().await;
}

#[tokio::test]
async fn units_of_one_person_go_as_a_run_where_the_receiver_asks_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    for version in 1..=4 {
        hub.accept(moved("0000000001", version)).await;
    }
    let runs = Capabilities { runs: true, ..FLAG };
    let mut hinoki = Adapter::attach_with(&hub, "026", "hinoki", runs).await;
    // How many are read when the first goes is a matter of time; order and number are not.
    let mut sequences = Vec::new();
    while sequences.len() < 4 {
        let delivery = hinoki.delivery().await;
        sequences.extend(delivery.units.iter().map(|unit| unit.sequence));
        hinoki.apply(&delivery).await;
    }
    assert_eq!(sequences, [1, 2, 3, 4]);
    let seen = hub.wait_for(PENSION, "all is applied", |found| found.complete_up_to == 4);
    assert_eq!(seen.await.counts.unwrap().applied, 4);
    hub.stop().await;
}
