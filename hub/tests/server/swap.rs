//! A product is replaced while changes flow.

use std::collections::HashMap;

use musubi_proto::hub::v1::attach_response::Response as Tell;
use musubi_proto::hub::v1::{
    BindingState, CutOverRequest, CutOverResponse, GetCaseRequest, Mode, Outcome,
};
use tonic::Status;

use super::stage::{Adapter, FLAG, Hub, TOWN, failed, ids, moved};

const PENSION: &str = "142042/026";

async fn cut(hub: &Hub, product: &str) -> Result<CutOverResponse, Status> {
    let ask = CutOverRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        product: product.to_owned(),
        operator: "operator".to_owned(),
        reason: "story".to_owned(),
    };
    Ok(hub.admin().cut_over(ask).await?.into_inner())
}

/// Cuts over while the new product's adapter is attached; it goes away again unanswered.
async fn cut_to_ayame(hub: &Hub) {
    let _attached = Adapter::attach(hub, "026", "ayame").await;
    cut(hub, "ayame").await.unwrap();
}

async fn publish(hub: &Hub, name: &str) -> String {
    let event = moved(name, 1);
    hub.accept(event.clone()).await;
    event.id
}

/// Outcomes that the case of an event shows, by product.
async fn outcomes(hub: &Hub, event: &str) -> Vec<(String, Outcome)> {
    let ask = GetCaseRequest {
        municipality: TOWN.to_owned(),
        event_or_subject: event.to_owned(),
        ..GetCaseRequest::default()
    };
    let cases = hub.admin().get_case(ask).await.unwrap().into_inner().cases;
    let steps = cases[0].steps.iter().filter(|step| step.step == "receipt");
    steps
        .map(|step| (step.product.clone(), step.outcome()))
        .collect()
}

/// The old product with one event applied, one parked and one unanswered; their ids.
async fn half_done(hub: &Hub) -> (Adapter, Vec<String>) {
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(hub, "026", "hinoki").await;
    let mut published = Vec::new();
    for name in ["0000000001", "0000000002", "0000000003"] {
        published.push(publish(hub, name).await);
    }
    let mut open = HashMap::new();
    for _ in 0..3 {
        let delivery = hinoki.delivery().await;
        open.insert(ids(&delivery)[0].clone(), delivery);
    }
    hinoki.apply(&open[&published[0]]).await;
    let parked = &open[&published[1]];
    hinoki.answer(parked, Outcome::Rejected, "UNMAPPABLE").await;
    hub.wait_for(PENSION, "the receipts count", |found| {
        let counts = found.counts.unwrap();
        (counts.applied, counts.rejected) == (1, 1)
    })
    .await;
    (hinoki, published)
}

/// Takes and applies so many deliveries; the ids of their events.
async fn apply(adapter: &mut Adapter, count: usize) -> Vec<String> {
    let mut applied = Vec::new();
    for _ in 0..count {
        let delivery = adapter.delivery().await;
        applied.extend(ids(&delivery));
        adapter.apply(&delivery).await;
    }
    applied
}

/// The stream ends with one fence and without a further delivery.
async fn assert_fenced(mut adapter: Adapter) {
    let mut heard = Vec::new();
    while let Some(word) = adapter.hear().await {
        heard.push(word);
    }
    let fences = heard.iter().filter(|word| matches!(word, Tell::Fenced(_)));
    assert_eq!(fences.count(), 1, "{heard:?}");
    let deliveries = heard
        .iter()
        .filter(|word| matches!(word, Tell::Delivery(_)));
    assert_eq!(deliveries.count(), 0, "{heard:?}");
}

#[tokio::test]
async fn after_the_cut_the_old_product_gets_nothing_and_the_new_one_everything_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (mut hinoki, mut published) = half_done(&hub).await;
    assert_eq!(
        failed(&cut(&hub, "ayame").await.unwrap_err()).0,
        "NOT_FILLING"
    );
    assert_eq!(hub.bind("026", "ayame").await.id, "142042/026~fill-2");
    let mut ayame = Adapter::attach(&hub, "026", "ayame").await;
    assert_eq!(ayame.welcome.mode(), Mode::Backfill);
    published.push(publish(&hub, "0000000004").await);
    let mut applied = apply(&mut ayame, 4).await;
    // The fourth is open at the old product as well.
    let fourth = hinoki.delivery().await;
    assert_eq!(fourth.units[0].sequence, 4);

    let report = cut(&hub, "ayame").await.unwrap();
    assert_eq!(
        (report.epoch, report.closed_open, report.closed_parked),
        (2, 3, 1)
    );
    assert_fenced(hinoki).await;
    let refused = Adapter::try_attach(&hub, "026", "hinoki", FLAG).await;
    assert_eq!(failed(&refused.err().unwrap()).0, "NOT_BOUND");

    published.push(publish(&hub, "0000000005").await);
    let mut ayame = Adapter::attach(&hub, "026", "ayame").await;
    assert_eq!(
        (ayame.welcome.mode(), ayame.welcome.binding_epoch),
        (Mode::Live, 2)
    );
    let fifth = ayame.delivery().await;
    assert_eq!(
        fifth.units[0].sequence, 5,
        "the sequence goes on without a gap"
    );
    applied.extend(ids(&fifth));
    ayame.apply(&fifth).await;
    published.sort();
    applied.sort();
    assert_eq!(applied, published, "the new product got everything once");
    hub.wait_for(PENSION, "all is applied", |found| found.complete_up_to == 5)
        .await;
    assert_swapped(&hub, report.position, &ids(&fourth)[0]).await;
    hub.stop().await;
}

/// What operators see of the swap, and of an event that was open at the old product.
async fn assert_swapped(hub: &Hub, position: u64, open: &str) {
    let seen = hub.subscription(PENSION).await;
    let states = seen
        .bindings
        .iter()
        .map(|b| (b.product.as_str(), b.state()));
    use BindingState::{Replaced, Serving};
    assert!(states.eq([("ayame", Serving), ("hinoki", Replaced)]));
    assert_eq!(seen.bindings[0].cut_position, position);
    let counts = seen.counts.unwrap();
    assert_eq!((counts.rejected, counts.waiting), (0, 0));
    let swapped = ("hinoki".to_owned(), Outcome::SupersededBySwap);
    let taken = ("ayame".to_owned(), Outcome::Applied);
    let both = outcomes(hub, open).await;
    assert!(
        both.contains(&swapped) && both.contains(&taken) && both.len() == 2,
        "{both:?}"
    );
}

#[tokio::test]
async fn a_receipt_after_the_cut_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let event = publish(&hub, "0000000001").await;
    let delivery = hinoki.delivery().await;
    hub.bind("026", "ayame").await;
    cut_to_ayame(&hub).await;
    let before = outcomes(&hub, &event).await;
    assert_eq!(before, [("hinoki".to_owned(), Outcome::SupersededBySwap)]);
    // It wakes up and answers what it was given before the cut.
    hinoki.answer(&delivery, Outcome::Applied, "").await;
    while hinoki.hear().await.is_some() {}
    assert_eq!(outcomes(&hub, &event).await, before);
    // The new product is filled up to the cut, whenever it comes.
    let mut ayame = Adapter::attach(&hub, "026", "ayame").await;
    let delivery = ayame.delivery().await;
    assert_eq!(ids(&delivery), [event.as_str()]);
    hub.stop().await;
}

#[tokio::test]
async fn a_swap_goes_on_after_a_restart_of_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let first = publish(&hub, "0000000001").await;
    hub.bind("026", "ayame").await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    cut_to_ayame(&hub).await;
    let second = publish(&hub, "0000000002").await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let mut ayame = Adapter::attach(&hub, "026", "ayame").await;
    let delivery = ayame.delivery().await;
    assert_eq!(
        (ids(&delivery), delivery.mode()),
        (vec![first], Mode::Backfill)
    );
    ayame.apply(&delivery).await;
    // Its work is done: the stream ends, and the next one serves.
    while ayame.hear().await.is_some() {}
    let mut ayame = Adapter::attach(&hub, "026", "ayame").await;
    let delivery = ayame.delivery().await;
    assert_eq!(
        (ids(&delivery), delivery.mode()),
        (vec![second], Mode::Live)
    );
    hub.stop().await;
}

#[tokio::test]
async fn other_systems_notice_nothing_of_a_swap() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    hub.bind("010", "kaede").await;
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    let before = publish(&hub, "0000000001").await;
    hub.bind("026", "ayame").await;
    cut_to_ayame(&hub).await;
    let after = publish(&hub, "0000000002").await;
    for (sequence, expected) in [(1, before), (2, after)] {
        let delivery = kaede.delivery().await;
        assert_eq!(delivery.units[0].sequence, sequence);
        assert_eq!(ids(&delivery), [expected]);
        kaede.apply(&delivery).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn what_an_idle_product_left_parked_goes_to_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let event = publish(&hub, "0000000001").await;
    let delivery = hinoki.delivery().await;
    hinoki
        .answer(&delivery, Outcome::Rejected, "UNMAPPABLE")
        .await;
    // Nothing else is open: the cursor stands at the tail when the cut comes.
    hub.wait_for(PENSION, "the unit is parked", |found| {
        found
            .counts
            .as_ref()
            .is_some_and(|counts| counts.rejected == 1)
            && found.lag == 0
    })
    .await;
    hub.bind("026", "ayame").await;
    let mut ayame = Adapter::attach(&hub, "026", "ayame").await;
    let filled = ayame.delivery().await;
    ayame.apply(&filled).await;
    cut(&hub, "ayame").await.unwrap();
    hub.wait_for(PENSION, "nothing is parked", |found| {
        found.counts.as_ref().is_some_and(|counts| {
            counts.rejected == 0 && counts.superseded == 1 && counts.applied == 1
        })
    })
    .await;
    let seen = outcomes(&hub, &event).await;
    assert_eq!(seen.len(), 3);
    assert!(seen.contains(&("hinoki".to_owned(), Outcome::Rejected)));
    assert!(seen.contains(&("ayame".to_owned(), Outcome::Applied)));
    assert!(seen.contains(&("hinoki".to_owned(), Outcome::SupersededBySwap)));
    hub.stop().await;
}

#[tokio::test]
async fn a_mistyped_product_is_given_up_and_never_cut_over_to() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    hub.bind("026", "aymae").await;
    let refused = failed(&cut(&hub, "aymae").await.unwrap_err());
    assert_eq!(refused, ("NOT_ATTACHED".to_owned(), "product".to_owned()));
    let filling = hub.bind("026", "ayame").await;
    assert_eq!(filling.bindings[0].product, "ayame");
    let _ayame = Adapter::attach(&hub, "026", "ayame").await;
    cut(&hub, "ayame").await.unwrap();
    let serving = hub.wait_for(PENSION, "ayame serves", |found| {
        found.bindings[0].product == "ayame"
    });
    assert_eq!(serving.await.bindings[0].state(), BindingState::Serving);
    hub.stop().await;
}
