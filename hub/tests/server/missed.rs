//! A receiver with a gap in its numbers asks for what it misses (P8).

use musubi_proto::hub::v1::{FetchMissedRequest, FetchMissedResponse, MissedUnit, Outcome};
use tonic::Status;

use super::replay::without_moves;
use super::stage::{Adapter, Hub, TOWN, failed, ids, moved};

const PENSION: &str = "142042/026";

async fn fetch(hub: &Hub, from: u64, to: u64, size: u32) -> Result<FetchMissedResponse, Status> {
    let ask = FetchMissedRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        product: "hinoki".to_owned(),
        from_sequence: from,
        to_sequence: to,
        page_size: size,
        protection_flag: true,
        ..FetchMissedRequest::default()
    };
    Ok(hub.deliveries().fetch_missed(ask).await?.into_inner())
}

fn shown(units: &[MissedUnit]) -> Vec<(u64, Outcome, &str)> {
    let shown = units.iter().map(|missed| {
        let unit = missed.unit.as_ref().unwrap();
        let event = unit.events[0].event.as_ref().unwrap();
        (unit.sequence, missed.outcome(), event.id.as_str())
    });
    shown.collect()
}

/// One applied, one refused, one behind it, and one that is under way; their ids.
async fn four(hub: &Hub) -> (Adapter, Vec<String>) {
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(hub, "026", "hinoki").await;
    let mut published = Vec::new();
    for (name, version) in [
        ("0000000001", 1),
        ("0000000002", 1),
        ("0000000002", 2),
        ("0000000003", 1),
    ] {
        let event = moved(name, version);
        published.push(event.id.clone());
        hub.accept(event).await;
    }
    for _ in 0..3 {
        let delivery = hinoki.delivery().await;
        match published.iter().position(|id| *id == ids(&delivery)[0]) {
            Some(0) => hinoki.apply(&delivery).await,
            Some(1) => {
                hinoki
                    .answer(&delivery, Outcome::Rejected, "UNMAPPABLE")
                    .await;
            }
            _ => {}
        }
    }
    hub.wait_for(PENSION, "one is applied and two are parked", |found| {
        let counts = found.counts.unwrap();
        (counts.applied, counts.rejected, counts.waiting) == (1, 1, 1)
    })
    .await;
    (hinoki, published)
}

#[tokio::test]
async fn every_number_that_was_given_is_shown_with_how_it_ended() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (_hinoki, published) = four(&hub).await;
    let found = fetch(&hub, 1, 0, 0).await.unwrap();
    let none = Outcome::Unspecified;
    assert_eq!(
        shown(&found.units),
        [
            (1, Outcome::Applied, &*published[0]),
            (2, none, &published[1]),
            (3, none, &published[2]),
            (4, none, &published[3]),
        ]
    );
    assert_eq!((found.next_sequence, found.complete_up_to), (0, 3));
    let first = fetch(&hub, 2, 4, 2).await.unwrap();
    let rest = fetch(&hub, first.next_sequence, 4, 2).await.unwrap();
    assert_eq!((first.units.len(), first.next_sequence), (2, 4));
    assert_eq!(shown(&rest.units), [(4, none, &*published[3])]);
    assert_eq!(rest.next_sequence, 0);
    hub.stop().await;
}

#[tokio::test]
async fn what_is_granted_no_more_is_a_number_without_content() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    four(&hub).await;
    hub.stop().await;
    let hub = Hub::configured(folder.path(), without_moves(folder.path())).await;
    let found = fetch(&hub, 1, 3, 0).await.unwrap();
    let withheld = found.units.iter().filter_map(|missed| missed.unit.as_ref());
    let withheld: Vec<_> = withheld
        .map(|unit| (unit.sequence, unit.withheld, unit.events.len()))
        .collect();
    assert_eq!(withheld, [(1, true, 0), (2, true, 0), (3, true, 0)]);
    hub.stop().await;
}

#[tokio::test]
async fn a_number_that_was_not_given_is_out_of_range() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let _served = four(&hub).await;
    assert!(fetch(&hub, 5, 0, 0).await.unwrap().units.is_empty());
    for (from, to, field) in [
        (6, 0, "from_sequence"),
        (1, 5, "to_sequence"),
        (3, 2, "to_sequence"),
    ] {
        let error = fetch(&hub, from, to, 0).await.unwrap_err();
        assert_eq!(error.code(), tonic::Code::OutOfRange);
        assert_eq!(failed(&error), ("SEQUENCE_RANGE".into(), field.into()));
    }
    let other = FetchMissedRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        product: "ayame".to_owned(),
        ..FetchMissedRequest::default()
    };
    let error = hub.deliveries().fetch_missed(other).await.unwrap_err();
    assert_eq!(failed(&error), ("NOT_BOUND".into(), "product".into()));
    hub.stop().await;
}
