//! The hub says what is wrong before somebody looks, and stops saying so when it is mended.

use musubi_proto::hub::v1::{
    Alarm, AlarmKind, AlarmSeverity, ListAlarmsRequest, Outcome, ResumeRequest, StopRequest,
};

use super::stage::{Adapter, Hub, TOWN, failed, moved, until};

const PENSION: &str = "142042/026";

async fn alarms(hub: &Hub) -> Vec<Alarm> {
    let ask = ListAlarmsRequest {
        municipality: TOWN.to_owned(),
        ..ListAlarmsRequest::default()
    };
    let listed = hub.admin().list_alarms(ask).await;
    listed.unwrap().into_inner().alarms
}

/// Waits until an alarm stands.
async fn stands(hub: &Hub, kind: AlarmKind) -> Alarm {
    until(kind.as_str_name(), || async {
        let alarms = alarms(hub).await;
        alarms.into_iter().find(|alarm| alarm.kind() == kind)
    })
    .await
}

/// Waits until no alarm of a kind stands.
async fn is_gone(hub: &Hub, kind: AlarmKind) {
    until("the alarm goes", || async {
        let alarms = alarms(hub).await;
        alarms
            .iter()
            .all(|alarm| alarm.kind() != kind)
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_refused_person_and_a_pause_alarm_also_over_a_restart_until_they_are_mended() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    assert_eq!(alarms(&hub).await, []);
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    for version in [1, 2] {
        hub.accept(moved("0000000001", version)).await;
    }
    let refused = hinoki.delivery().await;
    hinoki
        .answer(&refused, Outcome::Rejected, "UNMAPPABLE")
        .await;
    let parked = stands(&hub, AlarmKind::SubjectParked).await;
    assert_eq!(
        (
            parked.subscription.as_str(),
            parked.count,
            parked.reason.as_str()
        ),
        (PENSION, 1, "UNMAPPABLE"),
        "what waits behind it is no alarm of its own"
    );
    assert_eq!(parked.severity(), AlarmSeverity::Warning);
    assert!(parked.advice.contains("musubi parked"));
    hub.accept(moved("0000000002", 1)).await;
    let paused = hinoki.delivery().await;
    hinoki
        .answer(&paused, Outcome::Pause, "BAD_CREDENTIALS")
        .await;
    let stopped = stands(&hub, AlarmKind::BindingStopped).await;
    assert_eq!(stopped.reason, "BAD_CREDENTIALS");
    assert_eq!(stopped.severity(), AlarmSeverity::Error);
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    assert_eq!(stands(&hub, AlarmKind::SubjectParked).await, parked);
    assert_eq!(stands(&hub, AlarmKind::BindingStopped).await, stopped);
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    is_gone(&hub, AlarmKind::BindingStopped).await;
    let again = hinoki.delivery().await;
    hinoki.apply(&again).await;
    assert_eq!(stands(&hub, AlarmKind::SubjectParked).await, parked);
    hub.stop().await;
}

#[tokio::test]
async fn a_stop_by_an_operator_is_an_information_and_a_page_ends_where_the_next_begins() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    for (system, product) in [("010", "kaede"), ("026", "hinoki")] {
        hub.bind(system, product).await;
    }
    let stop = StopRequest {
        municipality: TOWN.to_owned(),
        operator: "sato".to_owned(),
        all: true,
        reason: "夜間停止".to_owned(),
        ..StopRequest::default()
    };
    hub.admin().stop(stop).await.unwrap();
    stands(&hub, AlarmKind::StoppedByOperator).await;
    let all = alarms(&hub).await;
    let seen: Vec<_> = all.iter().map(|alarm| alarm.severity()).collect();
    assert_eq!(seen, [AlarmSeverity::Info; 2]);
    assert!(all.iter().all(|alarm| alarm.reason.is_empty()), "{all:?}");
    // All municipalities, one at a time.
    let mut ask = ListAlarmsRequest {
        page_size: 1,
        ..ListAlarmsRequest::default()
    };
    let mut paged = Vec::new();
    loop {
        let page = hub.admin().list_alarms(ask.clone()).await.unwrap();
        let page = page.into_inner();
        paged.extend(page.alarms);
        if page.next_page_token.is_empty() {
            break;
        }
        ask.page_token = page.next_page_token;
    }
    assert_eq!(paged, all);
    let resume = ResumeRequest {
        municipality: TOWN.to_owned(),
        operator: "sato".to_owned(),
        all: true,
        reason: "朝".to_owned(),
        ..ResumeRequest::default()
    };
    hub.admin().resume(resume).await.unwrap();
    is_gone(&hub, AlarmKind::StoppedByOperator).await;
    let unknown = ListAlarmsRequest {
        municipality: "142040".to_owned(),
        ..ListAlarmsRequest::default()
    };
    let refused = hub.admin().list_alarms(unknown).await.unwrap_err();
    assert_eq!(failed(&refused).1, "municipality");
    hub.stop().await;
}
