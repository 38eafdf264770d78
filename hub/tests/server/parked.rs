//! What a product refused: seen, kept, delivered again.

use musubi_proto::hub::v1::{
    GetCaseRequest, GetParkedRequest, ListParkedRequest, Outcome, ParkedState, ParkedUnit,
    RetryParkedRequest,
};
use musubi_proto::standard::resident::v1::ResidentMovedWithin;
use prost::Message;

use super::replay::without_moves;
use super::stage::{Adapter, Hub, TOWN, failed, ids, moved, until};

pub(crate) const PENSION: &str = "142042/026";

pub(crate) async fn list(hub: &Hub, size: u32, token: &str) -> (Vec<ParkedUnit>, String) {
    let ask = ListParkedRequest {
        municipality: TOWN.to_owned(),
        page_size: size,
        page_token: token.to_owned(),
        ..ListParkedRequest::default()
    };
    let page = hub.admin().list_parked(ask).await.unwrap().into_inner();
    (page.parked, page.next_page_token)
}

/// Retries one parked unit with all behind it; how many came back.
pub(crate) async fn retry(hub: &Hub, sequence: u64) -> u64 {
    let ask = || RetryParkedRequest {
        subscription: PENSION.to_owned(),
        sequence,
        member: u32::from(sequence > 0),
        operator: "operator".to_owned(),
        reason: "mended".to_owned(),
        ..RetryParkedRequest::default()
    };
    until("parked units come back", || async {
        let units = hub
            .admin()
            .retry_parked(ask())
            .await
            .unwrap()
            .into_inner()
            .units;
        Some(units).filter(|units| *units > 0)
    })
    .await
}

/// Three events of one person of which the first was refused, and one of somebody else.
pub(crate) async fn refuse(hub: &Hub, hinoki: &mut Adapter) -> Vec<String> {
    let mut published = Vec::new();
    for (name, version) in [("0000000001", 1), ("0000000001", 2), ("0000000002", 1)] {
        let event = moved(name, version);
        published.push(event.id.clone());
        hub.accept(event).await;
    }
    for _ in 0..2 {
        let delivery = hinoki.delivery().await;
        if ids(&delivery)[0] == published[0] {
            hinoki
                .answer(&delivery, Outcome::Rejected, "UNMAPPABLE")
                .await;
        } else {
            hinoki.apply(&delivery).await;
        }
    }
    hub.wait_for(PENSION, "one is parked with the next behind it", |found| {
        let counts = found.counts.unwrap();
        (counts.rejected, counts.waiting, counts.applied) == (1, 1, 1)
    })
    .await;
    // Behind the parked one also later.
    let event = moved("0000000001", 3);
    published.push(event.id.clone());
    hub.accept(event).await;
    hub.wait_for(PENSION, "the later one waits too", |found| {
        found.counts.unwrap().waiting == 2
    })
    .await;
    published
}

#[tokio::test]
async fn a_refused_unit_is_listed_shown_and_delivered_again_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let published = refuse(&hub, &mut hinoki).await;
    let seen = hub.subscription(PENSION).await;
    assert_eq!(seen.complete_up_to, 4, "what is parked holds no cursor");

    let (parked, _) = list(&hub, 10, "").await;
    let states: Vec<_> = parked.iter().map(ParkedUnit::state).collect();
    use ParkedState::{Rejected, Waiting};
    assert_eq!(states, [Rejected, Waiting, Waiting]);
    assert_eq!(parked[0].reason, "UNMAPPABLE");
    assert!(
        !parked[0].subjects[0].contains("0000000001"),
        "a list shows pseudonyms"
    );
    let (first, token) = list(&hub, 2, "").await;
    let (rest, end) = list(&hub, 2, &token).await;
    assert_eq!((first.len(), rest.len(), end.as_str()), (2, 1, ""));

    let ask = GetParkedRequest {
        subscription: PENSION.to_owned(),
        sequence: 1,
        member: 1,
        ..GetParkedRequest::default()
    };
    let shown = hub.admin().get_parked(ask).await.unwrap().into_inner();
    let shown = &shown.unit.unwrap().events[0];
    let shown = ResidentMovedWithin::decode(&shown.event.as_ref().unwrap().data[..]).unwrap();
    let record = shown.record.unwrap();
    assert!(
        record.name.is_none() && shown.old_address.is_none(),
        "not more than its receiver"
    );

    assert_eq!(retry(&hub, 1).await, 3);
    for expected in [0, 1, 3] {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [published[expected].as_str()]);
        hinoki.apply(&delivery).await;
    }
    let seen = hub.wait_for(PENSION, "nothing is parked", |found| {
        found.counts.unwrap().applied == 4
    });
    let counts = seen.await.counts.unwrap();
    assert_eq!(
        (counts.rejected, counts.waiting, counts.received),
        (0, 0, 4)
    );
    assert!(list(&hub, 10, "").await.0.is_empty());
    hub.stop().await;
}

#[tokio::test]
async fn what_is_refused_again_stays_parked() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    refuse(&hub, &mut hinoki).await;
    assert_eq!(retry(&hub, 0).await, 3);
    let delivery = hinoki.delivery().await;
    hinoki.answer(&delivery, Outcome::Rejected, "STILL").await;
    let parked = until("the new reason is kept", || async {
        let (parked, _) = list(&hub, 10, "").await;
        Some(parked).filter(|parked| parked[0].reason == "STILL")
    })
    .await;
    assert_eq!(parked.len(), 3);
    let counts = hub.subscription(PENSION).await.counts.unwrap();
    assert_eq!((counts.rejected, counts.waiting), (1, 2));
    hub.stop().await;
}

#[tokio::test]
async fn what_was_on_its_way_back_goes_on_after_a_restart_of_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let published = refuse(&hub, &mut hinoki).await;
    retry(&hub, 1).await;
    let delivery = hinoki.delivery().await;
    hinoki.apply(&delivery).await;
    let second = hinoki.delivery().await;
    assert_eq!(ids(&second), [published[1].as_str()]);
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    for expected in [1, 3] {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [published[expected].as_str()]);
        hinoki.apply(&delivery).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_case_shows_every_hop_of_an_event() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let published = refuse(&hub, &mut hinoki).await;
    let case = |name: &str| GetCaseRequest {
        municipality: TOWN.to_owned(),
        event_or_subject: name.to_owned(),
        ..GetCaseRequest::default()
    };
    let found = hub
        .admin()
        .get_case(case(&published[0]))
        .await
        .unwrap()
        .into_inner();
    let steps: Vec<&str> = found.cases[0]
        .steps
        .iter()
        .map(|s| s.step.as_str())
        .collect();
    let refused = ["routed", "attempted", "receipt", "parked"];
    assert_eq!(steps, [&["published", "appended"], &refused[..]].concat());
    let last = found.cases[0].steps.last().unwrap();
    assert_eq!((last.outcome(), last.attempt), (Outcome::Rejected, 1));
    let found = hub
        .admin()
        .get_case(case(&published[2]))
        .await
        .unwrap()
        .into_inner();
    let receipt = found.cases[0].steps.last().unwrap();
    assert_eq!(
        (receipt.outcome(), receipt.product.as_str()),
        (Outcome::Applied, "hinoki")
    );
    let of_person = hub
        .admin()
        .get_case(case("0000000001"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(of_person.cases.len(), 3);
    assert!(!format!("{of_person:?}").contains("0000000001"));
    let error = hub.admin().get_case(case("0000009999")).await.unwrap_err();
    assert_eq!(failed(&error).0, "NOT_FOUND");
    assert!(!error.message().contains("0000009999"));
    hub.stop().await;
}

#[tokio::test]
async fn what_was_taken_away_meanwhile_does_not_go_out_with_a_retry() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let published = refuse(&hub, &mut hinoki).await;
    hub.stop().await;
    let hub = Hub::configured(folder.path(), without_moves(folder.path())).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    assert_eq!(retry(&hub, 1).await, 3);
    for expected in [0, 1, 3] {
        let delivery = hinoki.delivery().await;
        let unit = &delivery.units[0];
        assert_eq!((unit.withheld, unit.events.len()), (true, 0));
        assert_eq!(unit.idempotency_key, published[expected]);
        hinoki
            .answer(&delivery, Outcome::NotRelevant, "WITHHELD")
            .await;
    }
    hub.wait_for(PENSION, "nothing is parked", |found| {
        found.counts.unwrap().not_relevant == 3
    })
    .await;
    hub.stop().await;
}
