//! The log forgets what nobody needs, and everything goes on as if it were there.

use std::path::Path;
use std::time::Duration;

use musubi_hub::server::Config;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    AlarmKind, Event, FetchMissedRequest, GetCaseRequest, GetEventRequest, ListEventsRequest,
    Outcome, ReplaySelection, StartReplayRequest, Stream,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tonic::Code;

use super::alarms::{is_gone, stands};
use super::parked::{refuse, retry};
use super::stage::{Adapter, Hub, TOWN, failed, ids, moved, unit, until};

const PENSION: &str = "142042/026";

/// A hub that keeps nothing that nobody needs.
async fn forgetful(folder: &Path) -> Hub {
    let config = Config {
        retention_bytes: Some(1),
        retention_period: Duration::from_millis(5),
        ..Config::default()
    };
    Hub::configured(folder, config).await
}

/// First live position that is kept, or the next one to be given.
async fn first(hub: &Hub) -> u64 {
    let ask = |from_position| ListEventsRequest {
        municipality: TOWN.to_owned(),
        stream: Stream::Live as i32,
        from_position,
        page_size: 1_000,
    };
    // From 0 on: of what is kept. The error of a trimmed position names the first that is not.
    match hub.events().list_events(ask(1)).await {
        Ok(_) => 1,
        Err(error) => {
            assert_eq!(error.code(), Code::OutOfRange);
            assert_eq!(failed(&error).0, "POSITION_TRIMMED");
            let number = error.message().rsplit(' ').next().unwrap();
            number.parse().unwrap()
        }
    }
}

async fn trimmed_to(hub: &Hub, position: u64) {
    until("the log is trimmed", || async {
        (first(hub).await == position).then_some(())
    })
    .await;
}

/// Events that hinoki applied; with the position behind the last.
async fn applied(hub: &Hub, hinoki: &mut Adapter, changes: &[(&str, u32)]) -> (Vec<Event>, u64) {
    let mut events = Vec::new();
    let mut last = 0;
    for (name, version) in changes {
        let event = moved(name, *version);
        last = hub.accept(event.clone()).await;
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), std::slice::from_ref(&event.id));
        hinoki.apply(&delivery).await;
        events.push(event);
    }
    (events, last + 1)
}

const CHANGES: [(&str, u32); 3] = [("0000000001", 1), ("0000000002", 1), ("0000000001", 2)];

fn replay(selection: ReplaySelection) -> StartReplayRequest {
    StartReplayRequest {
        subscription: PENSION.to_owned(),
        selection: Some(selection),
        operator: "operator".to_owned(),
        reason: "its disk is lost".to_owned(),
        ..StartReplayRequest::default()
    }
}

#[tokio::test]
async fn a_receiver_that_was_never_there_gets_all_and_then_it_goes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = forgetful(folder.path()).await;
    hub.bind("026", "hinoki").await;
    hub.bind("010", "kaede").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let (events, next) = applied(&hub, &mut hinoki, &CHANGES).await;
    hub.stop().await;
    // The looks of two lives of the hub have passed.
    let hub = forgetful(folder.path()).await;
    let held = stands(&hub, AlarmKind::LogOverdue).await;
    assert_eq!(held.subscription, "142042/010");
    assert!(held.count >= 90, "percent of one byte: {}", held.count);
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    let _hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let mut got = Vec::new();
    for _ in 0..2 {
        let delivery = kaede.delivery().await;
        got.extend(ids(&delivery));
        kaede.apply(&delivery).await;
    }
    let last = kaede.delivery().await;
    got.extend(ids(&last));
    let published: Vec<String> = events.iter().map(|event| event.id.clone()).collect();
    got.sort_by_key(|id| published.iter().position(|one| one == id));
    assert_eq!(got, published);
    assert!(first(&hub).await < next, "the last is not answered");
    kaede.apply(&last).await;
    trimmed_to(&hub, next).await;
    is_gone(&hub, AlarmKind::LogOverdue).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_was_trimmed_is_a_duplicate_and_every_question_about_it_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let hub = forgetful(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let (events, next) = applied(&hub, &mut hinoki, &CHANGES).await;
    trimmed_to(&hub, next).await;
    hub.stop().await;
    let hub = forgetful(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let again = hub.publish(vec![unit(vec![events[0].clone()])]).await;
    let Some(Answer::Accepted(accepted)) = &again[0].answer else {
        panic!("not known: {again:?}");
    };
    assert!(accepted.duplicate);

    let ask = GetEventRequest {
        municipality: TOWN.to_owned(),
        id: events[0].id.clone(),
    };
    let error = hub.events().get_event(ask).await.unwrap_err();
    assert_eq!(failed(&error).0, "POSITION_TRIMMED");
    let ask = GetCaseRequest {
        municipality: TOWN.to_owned(),
        event_or_subject: events[0].id.clone(),
        ..GetCaseRequest::default()
    };
    let found = hub.admin().get_case(ask).await.unwrap().into_inner();
    let steps = &found.cases[0].steps;
    let appended = steps.iter().find(|step| step.step == "appended").unwrap();
    assert!(appended.detail.contains("trimmed"), "{}", appended.detail);
    assert!(steps.iter().any(|step| step.outcome() == Outcome::Applied));

    let positions = ReplaySelection {
        stream: Stream::Live as i32,
        from_position: accepted.position,
        ..ReplaySelection::default()
    };
    let subject = ReplaySelection {
        subjects: vec!["0000000001".to_owned()],
        ..ReplaySelection::default()
    };
    for selection in [positions, subject] {
        let refused = hub.admin().start_replay(replay(selection)).await;
        let error = refused.unwrap_err();
        assert_eq!(failed(&error).0, "REPLAY_RANGE");
        assert!(error.message().contains(&next.to_string()), "{error}");
    }
    let ask = FetchMissedRequest {
        municipality: TOWN.to_owned(),
        system: "026".to_owned(),
        product: "hinoki".to_owned(),
        from_sequence: 1,
        ..FetchMissedRequest::default()
    };
    let error = hub.deliveries().fetch_missed(ask).await.unwrap_err();
    assert_eq!(failed(&error).0, "SEQUENCE_RANGE");
    assert!(error.message().contains("from 4 on"), "{error}");

    // A source goes on, and a system that is bound now begins with what is there.
    applied(&hub, &mut hinoki, &[("0000000002", 2)]).await;
    trimmed_to(&hub, next + 1).await;
    hub.bind("010", "kaede").await;
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    let (later, _) = applied(&hub, &mut hinoki, &[("0000000002", 3)]).await;
    assert_eq!(ids(&kaede.delivery().await), [later[0].id.clone()]);
    hub.stop().await;
}

#[tokio::test]
async fn a_parked_event_is_delivered_from_its_copy_when_the_log_has_it_no_longer() {
    let folder = tempfile::tempdir().unwrap();
    let hub = forgetful(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let published = refuse(&hub, &mut hinoki).await;
    let (_, next) = applied(&hub, &mut hinoki, &[("0000000003", 1)]).await;
    trimmed_to(&hub, next).await;
    hub.stop().await;
    let hub = forgetful(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    assert_eq!(retry(&hub, 0).await, 3);
    for expected in [0, 1, 3] {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [published[expected].clone()]);
        hinoki.apply(&delivery).await;
    }
    hub.wait_for(PENSION, "all is applied", |found| {
        let counts = found.counts.unwrap();
        (counts.applied, counts.rejected, counts.waiting) == (5, 0, 0)
    })
    .await;
    hub.stop().await;
}

/// Makes everything in the files of a stopped hub older by days.
async fn age(folder: &Path, days: i64) {
    let data = folder.join("data");
    // The seal says that nobody changed the store since the stop.
    std::fs::remove_file(data.join("store.sqlite.sealed")).unwrap();
    let ms = days * 24 * 60 * 60 * 1_000;
    for (file, change) in [
        (
            "log.sqlite",
            format!("UPDATE record SET at_s = at_s - {ms} / 1000"),
        ),
        (
            "store.sqlite",
            format!("UPDATE event SET published_ms = published_ms - {ms}"),
        ),
        (
            "store.sqlite",
            format!("UPDATE history SET at_ms = at_ms - {ms}"),
        ),
    ] {
        let options = SqliteConnectOptions::new().filename(data.join(file));
        let mut connection = options.connect().await.unwrap();
        let change = sqlx::raw_sql(sqlx::AssertSqlSafe(change));
        change.execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Steps of an event's life.
async fn steps(hub: &Hub, id: &str) -> usize {
    let ask = GetCaseRequest {
        municipality: TOWN.to_owned(),
        event_or_subject: id.to_owned(),
        ..GetCaseRequest::default()
    };
    let cases = hub.admin().get_case(ask).await.unwrap().into_inner().cases;
    cases.iter().map(|case| case.steps.len()).sum()
}

#[tokio::test]
async fn days_count_for_the_log_first_and_then_for_outcomes() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let (old, next) = applied(&hub, &mut hinoki, &CHANGES).await;
    hub.stop().await;
    age(folder.path(), 3).await;
    let days = |history_days| Config {
        retention_days: Some(2),
        history_days,
        retention_period: Duration::from_millis(5),
        ..Config::default()
    };
    let hub = Hub::configured(folder.path(), days(None)).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    trimmed_to(&hub, next).await;
    let (young, _) = applied(&hub, &mut hinoki, &[("0000000002", 2)]).await;
    let before = steps(&hub, &old[0].id).await;
    hub.stop().await;
    let hub = Hub::configured(folder.path(), days(Some(2))).await;
    until("the old outcomes are forgotten", || async {
        (steps(&hub, &old[0].id).await < before).then_some(())
    })
    .await;
    assert_eq!(first(&hub).await, next, "what is young stays");
    assert_eq!(steps(&hub, &young[0].id).await, before);
    let again = hub.publish(vec![unit(vec![old[2].clone()])]).await;
    assert!(matches!(&again[0].answer, Some(Answer::Accepted(known)) if known.duplicate));
    hub.stop().await;
}

#[tokio::test]
async fn a_trimmed_log_is_backed_up_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    let hub = forgetful(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let (events, next) = applied(&hub, &mut hinoki, &CHANGES).await;
    trimmed_to(&hub, next).await;
    let (copy, data) = (folder.path().join("copy"), folder.path().join("data"));
    let manifest = musubi_hub::backup::backup(&data, &copy).await.unwrap();
    let live = manifest.streams.iter().find(|entry| entry.stream == "live");
    assert_eq!(live.map(|entry| entry.first), Some(next));
    hub.stop().await;
    let again = folder.path().join("again");
    std::fs::create_dir(&again).unwrap();
    let restored = musubi_hub::backup::restore(&copy, &again.join("data"), Some(&data)).await;
    assert!(restored.unwrap().missing.is_empty());
    let hub = forgetful(&again).await;
    assert_eq!(first(&hub).await, next);
    let known = hub.publish(vec![unit(vec![events[0].clone()])]).await;
    assert!(matches!(&known[0].answer, Some(Answer::Accepted(known)) if known.duplicate));
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    applied(&hub, &mut hinoki, &[("0000000009", 1)]).await;
    trimmed_to(&hub, next + 1).await;
    hub.stop().await;
}

#[tokio::test]
async fn numbers_that_cannot_hold_are_refused_at_the_start() {
    let config = Config {
        history_days: Some(7),
        ..Config::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        data: folder.path().join("data"),
        listen: ([127, 0, 0, 1], 0).into(),
        ..config
    };
    let refused = musubi_hub::server::run(config, tokio_util::sync::CancellationToken::new()).await;
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("retention_days"), "{text}");
}
