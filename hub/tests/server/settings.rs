//! An operator sets how a binding is served, and the running hub follows at once.

use musubi_proto::hub::v1::{
    ActKind, Binding, Capabilities, DeliverySettings, SetDeliverySettingsRequest,
    SetDeliverySettingsResponse,
};
use tonic::Status;

use super::acts::acts;
use super::stage::{Adapter, FLAG, Hub, TOWN, failed, moved};

const PENSION: &str = "142042/026";

fn ask(settings: DeliverySettings) -> SetDeliverySettingsRequest {
    SetDeliverySettingsRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        settings: Some(settings),
        operator: "sato".to_owned(),
        reason: "夜間停止".to_owned(),
        ..SetDeliverySettingsRequest::default()
    }
}

async fn set(
    hub: &Hub,
    ask: SetDeliverySettingsRequest,
) -> Result<SetDeliverySettingsResponse, Status> {
    let answer = hub.admin().set_delivery_settings(ask).await;
    answer.map(tonic::Response::into_inner)
}

/// Closed on every day that this test may run on.
fn closed() -> DeliverySettings {
    DeliverySettings {
        closed: vec!["2020-01-01..2099-12-31".to_owned()],
        ..DeliverySettings::default()
    }
}

async fn binding(hub: &Hub) -> Binding {
    let seen = hub.wait_for(PENSION, "it is there", |_| true).await;
    seen.bindings[0].clone()
}

#[tokio::test]
async fn a_closed_receiver_gets_nothing_until_it_opens_and_may_answer_what_is_under_way() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    hub.accept(moved("0000000001", 1)).await;
    let under_way = hinoki.delivery().await;
    set(&hub, ask(closed())).await.unwrap();
    assert!(binding(&hub).await.closed);
    hub.accept(moved("0000000001", 2)).await;
    hub.accept(moved("0000000002", 1)).await;
    hinoki.apply(&under_way).await;
    let applied = hub.wait_for(PENSION, "what was under way counts", |seen| {
        seen.complete_up_to == 1
    });
    // The person's next unit became free with that answer; it waits for the opening.
    assert_eq!(applied.await.in_flight, 0);
    set(&hub, ask(DeliverySettings::default())).await.unwrap();
    for _ in 0..2 {
        let delivery = hinoki.delivery().await;
        assert_eq!(delivery.attempt, 1);
        hinoki.apply(&delivery).await;
    }
    let all = hub.wait_for(PENSION, "all is applied", |seen| seen.complete_up_to == 3);
    assert_eq!(all.await.counts.unwrap().applied, 3);
    hub.stop().await;
}

#[tokio::test]
async fn settings_stand_in_the_log_outlive_a_restart_and_have_a_name_behind_them() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let settings = DeliverySettings {
        concurrency: 2,
        per_second: 1_000,
        batch_units: 20,
        hours: vec!["daily 00:00-24:00".to_owned()],
        holidays: vec!["2020-01-01".to_owned()],
        ..DeliverySettings::default()
    };
    let dry = SetDeliverySettingsRequest {
        dry_run: true,
        ..ask(settings.clone())
    };
    let shown = set(&hub, dry).await.unwrap();
    assert_eq!(shown.product, "hinoki");
    assert_eq!(shown.before, Some(DeliverySettings::default()));
    assert_eq!(shown.after, Some(settings.clone()));
    assert_eq!(
        binding(&hub).await.settings,
        Some(DeliverySettings::default()),
        "a dry run changes nothing"
    );
    set(&hub, ask(settings.clone())).await.unwrap();
    let again = set(&hub, ask(settings.clone())).await.unwrap();
    assert_eq!(again.before, Some(settings.clone()));
    let seen = acts(&hub).await;
    let kinds: Vec<_> = seen.iter().map(musubi_proto::hub::v1::Act::kind).collect();
    use ActKind::{BindProduct, Grant, Settings};
    assert_eq!(kinds, [Settings, BindProduct, Grant], "the same is no act");
    assert_eq!((&*seen[0].operator, &*seen[0].reason), ("sato", "夜間停止"));
    assert_eq!(seen[0].target, "026 hinoki");
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let found = binding(&hub).await;
    assert_eq!((found.settings, found.closed), (Some(settings), false));
    // Two at a time, in a batch of different persons each, whatever the adapter would take.
    let many = Capabilities {
        batch_units: 100,
        ..FLAG
    };
    let mut hinoki = Adapter::attach_with(&hub, "026", "hinoki", many).await;
    for person in 1..=5 {
        hub.accept(moved(&format!("{person:010}"), 1)).await;
    }
    let (one, two) = (hinoki.delivery().await, hinoki.delivery().await);
    let seen = hub.wait_for(PENSION, "two are under way", |seen| seen.in_flight > 0);
    assert_eq!(seen.await.in_flight, 2);
    hinoki.apply(&one).await;
    hinoki.apply(&two).await;
    let mut left = 5 - one.units.len() - two.units.len();
    while left > 0 {
        let delivery = hinoki.delivery().await;
        left -= delivery.units.len();
        hinoki.apply(&delivery).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn a_product_that_is_filled_keeps_its_own_settings_when_it_takes_over() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    set(&hub, ask(closed())).await.unwrap();
    hub.bind("026", "ayame").await;
    let slow = DeliverySettings {
        per_second: 50,
        ..DeliverySettings::default()
    };
    let of_new = SetDeliverySettingsRequest {
        product: "ayame".to_owned(),
        ..ask(slow.clone())
    };
    set(&hub, of_new).await.unwrap();
    assert_eq!(binding(&hub).await.settings, Some(closed()));
    let _ayame = Adapter::attach(&hub, "026", "ayame").await;
    let cut = musubi_proto::hub::v1::CutOverRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        product: "ayame".to_owned(),
        operator: "sato".to_owned(),
        reason: "更新".to_owned(),
    };
    hub.admin().cut_over(cut).await.unwrap();
    let now = binding(&hub).await;
    assert_eq!((&*now.product, now.settings), ("ayame", Some(slow)));
    hub.stop().await;
}

#[tokio::test]
async fn a_bad_setting_is_refused_with_its_field_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let unbound = set(&hub, ask(closed())).await.unwrap_err();
    assert_eq!(failed(&unbound), ("NOT_BOUND".into(), "product".into()));
    hub.bind("026", "hinoki").await;
    type Spoil = fn(&mut SetDeliverySettingsRequest, &mut DeliverySettings);
    let spoiled: [(Spoil, &str, &str); 8] = [
        (
            |_, set| set.concurrency = 10_001,
            "INVALID_FIELD",
            "settings.concurrency",
        ),
        (
            |_, set| set.hours.push("月 08:30-17:15".into()),
            "INVALID_FIELD",
            "settings.hours",
        ),
        (
            |_, set| set.holidays.push("2027-02-29".into()),
            "INVALID_FIELD",
            "settings.holidays",
        ),
        (
            |_, set| set.closed.push("2027-02-02".into()),
            "INVALID_FIELD",
            "settings.closed",
        ),
        (|ask, _| ask.settings = None, "INVALID_FIELD", "settings"),
        (|ask, _| ask.reason = " ".into(), "INVALID_FIELD", "reason"),
        (|ask, _| ask.operator.clear(), "INVALID_FIELD", "operator"),
        (
            |ask, _| ask.product = "ayame".into(),
            "NOT_BOUND",
            "product",
        ),
    ];
    for (spoil, reason, field) in spoiled {
        let mut settings = DeliverySettings::default();
        let mut bad = ask(settings.clone());
        spoil(&mut bad, &mut settings);
        bad.settings = bad.settings.map(|_| settings);
        let refused = set(&hub, bad).await.unwrap_err();
        assert_eq!(failed(&refused), (reason.into(), field.into()));
    }
    let unchanged = binding(&hub).await.settings;
    assert_eq!(unchanged, Some(DeliverySettings::default()));
    hub.stop().await;
}
