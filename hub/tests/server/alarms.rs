//! The hub says what is wrong before somebody looks, and stops saying so when it is mended.

use std::path::Path;
use std::time::Duration;

use musubi_hub::alarms::Limits;
use musubi_hub::server::Config;
use musubi_proto::hub::v1::{
    Alarm, AlarmKind, AlarmSeverity, ListAlarmsRequest, Outcome, ResumeRequest,
    SetSourceRhythmRequest, StopRequest,
};

use super::acts::acts;
use super::protect::started;
use super::stage::{Adapter, Hub, SOURCE, TOWN, failed, moved, until};

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
pub(crate) async fn stands(hub: &Hub, kind: AlarmKind) -> Alarm {
    until(kind.as_str_name(), || async {
        let alarms = alarms(hub).await;
        alarms.into_iter().find(|alarm| alarm.kind() == kind)
    })
    .await
}

/// Waits until no alarm of a kind stands.
pub(crate) async fn is_gone(hub: &Hub, kind: AlarmKind) {
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

/// A hub that does not wait for minutes.
async fn impatient(folder: &Path) -> Hub {
    let soon = Duration::from_millis(100);
    let alarms = Limits {
        parked_long: soon,
        protection: soon,
        incomplete: soon,
        still: soon,
        down: soon,
    };
    let config = Config {
        alarms,
        ..Config::default()
    };
    Hub::configured(folder, config).await
}

#[tokio::test]
async fn a_receiver_that_is_away_or_frozen_or_puts_everything_off_alarms_until_something_ends() {
    let folder = tempfile::tempdir().unwrap();
    let hub = impatient(folder.path()).await;
    hub.bind("026", "hinoki").await;
    hub.accept(moved("0000000001", 1)).await;
    let away = stands(&hub, AlarmKind::AdapterAway).await;
    assert_eq!(away.subscription, PENSION);
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let delivery = hinoki.delivery().await;
    stands(&hub, AlarmKind::Stalled).await;
    is_gone(&hub, AlarmKind::AdapterAway).await;
    hinoki.answer(&delivery, Outcome::Retry, "HTTP_503").await;
    let again = hinoki.delivery().await;
    let down = stands(&hub, AlarmKind::ReceiverDown).await;
    assert_eq!((down.reason.as_str(), down.count), ("HTTP_503", 1));
    hinoki.apply(&again).await;
    is_gone(&hub, AlarmKind::ReceiverDown).await;
    is_gone(&hub, AlarmKind::Stalled).await;
    assert_eq!(alarms(&hub).await, []);
    hub.stop().await;
}

#[tokio::test]
async fn a_support_measure_alarms_at_each_receiver_that_has_not_applied_it_also_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let hub = impatient(folder.path()).await;
    for (system, product) in [("010", "kaede"), ("026", "hinoki")] {
        hub.bind(system, product).await;
    }
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    hub.accept(started("0000000001", 1)).await;
    let applied = kaede.delivery().await;
    kaede.apply(&applied).await;
    let late = stands(&hub, AlarmKind::ProtectionLate).await;
    hub.stop().await;
    let hub = impatient(folder.path()).await;
    let still_late = until("only one is late", || async {
        let late = alarms(&hub).await.into_iter();
        let late = late.filter(|alarm| alarm.kind() == AlarmKind::ProtectionLate);
        let late: Vec<_> = late.collect();
        (late.len() == 1).then_some(late)
    });
    let still_late = still_late.await;
    assert_eq!(
        (&*still_late[0].subscription, still_late[0].count),
        (PENSION, 1)
    );
    assert_eq!(still_late[0].since, late.since);
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let refused = hinoki.delivery().await;
    hinoki
        .answer(&refused, Outcome::Rejected, "UNMAPPABLE")
        .await;
    stands(&hub, AlarmKind::ParkedLong).await;
    assert_eq!(stands(&hub, AlarmKind::ProtectionLate).await, still_late[0]);
    let skip = musubi_proto::hub::v1::SkipParkedRequest {
        subscription: PENSION.to_owned(),
        sequence: 1,
        member: 1,
        operator: "sato".to_owned(),
        reason: "電話で依頼済み".to_owned(),
        ..Default::default()
    };
    hub.admin().skip_parked(skip).await.unwrap();
    is_gone(&hub, AlarmKind::ProtectionLate).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_unit_that_waits_for_a_version_that_never_came_alarms_until_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = impatient(folder.path()).await;
    hub.accept(moved("0000000001", 1)).await;
    hub.publish(vec![super::stage::unit(vec![moved("0000000001", 3)])])
        .await;
    let missing = stands(&hub, AlarmKind::Incomplete).await;
    assert_eq!((&*missing.source, missing.count), (SOURCE, 1));
    assert_eq!(missing.reason, "VERSION_GAP");
    hub.accept(moved("0000000001", 2)).await;
    is_gone(&hub, AlarmKind::Incomplete).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_source_with_a_rhythm_alarms_when_it_is_silent_and_its_rhythm_is_an_act() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let every = |seconds| SetSourceRhythmRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        rhythm: Some(prost_types::Duration { seconds, nanos: 0 }),
        operator: "sato".to_owned(),
        reason: "毎時".to_owned(),
    };
    for seconds in [0, -5, 400 * 24 * 60 * 60 + 1] {
        let refused = hub.admin().set_source_rhythm(every(seconds)).await;
        let refused = failed(&refused.unwrap_err());
        assert_eq!(refused, ("INVALID_FIELD".into(), "rhythm".into()));
    }
    hub.admin().set_source_rhythm(every(1)).await.unwrap();
    let silent = stands(&hub, AlarmKind::SourceSilent).await;
    assert_eq!(silent.source, SOURCE);
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    assert_eq!(stands(&hub, AlarmKind::SourceSilent).await, silent);
    let hourly = hub.admin().set_source_rhythm(every(3_600)).await.unwrap();
    assert_eq!(hourly.into_inner().before.unwrap().seconds, 1);
    is_gone(&hub, AlarmKind::SourceSilent).await;
    let none = SetSourceRhythmRequest {
        rhythm: None,
        ..every(1)
    };
    hub.admin().set_source_rhythm(none).await.unwrap();
    let seen = acts(&hub).await;
    let of_rhythm = seen.iter().map(|act| act.note.as_str()).take(3);
    let notes: Vec<_> = of_rhythm.collect();
    assert_eq!(
        notes,
        ["rhythm none", "rhythm every 3600 s", "rhythm every 1 s"]
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_publish_of_a_silent_source_ends_its_alarm() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let rhythm = SetSourceRhythmRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        rhythm: Some(prost_types::Duration {
            seconds: 1,
            nanos: 0,
        }),
        operator: "sato".to_owned(),
        reason: "毎時".to_owned(),
    };
    hub.admin().set_source_rhythm(rhythm).await.unwrap();
    let silent = stands(&hub, AlarmKind::SourceSilent).await;
    hub.accept(moved("0000000001", 1)).await;
    is_gone(&hub, AlarmKind::SourceSilent).await;
    let again = stands(&hub, AlarmKind::SourceSilent).await;
    assert_ne!(again.since, silent.since, "it spoke in between");
    hub.stop().await;
}
