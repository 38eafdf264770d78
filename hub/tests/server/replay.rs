//! What a receiver had is delivered once more on an operator's word.

use std::path::Path;

use musubi_hub::server::Config;
use musubi_proto::hub::v1::{
    ActKind, Delivery, ListActsRequest, ListReplaysRequest, Mode, Outcome, Replay, ReplaySelection,
    ReplayState, StartReplayRequest, StopReplayRequest, Stream,
};
use prost_types::Timestamp;
use tonic::Status;

use super::stage::{Adapter, Hub, TOWN, failed, ids, moved, until};

const PENSION: &str = "142042/026";

fn ask(selection: ReplaySelection) -> StartReplayRequest {
    StartReplayRequest {
        subscription: PENSION.to_owned(),
        selection: Some(selection),
        operator: "operator".to_owned(),
        reason: "its disk is lost".to_owned(),
        ..StartReplayRequest::default()
    }
}

fn positions(from_position: u64, to_position: u64) -> ReplaySelection {
    ReplaySelection {
        stream: Stream::Live as i32,
        from_position,
        to_position,
        ..ReplaySelection::default()
    }
}

async fn start(hub: &Hub, ask: StartReplayRequest) -> Result<Replay, Status> {
    let started = hub.admin().start_replay(ask).await?.into_inner();
    Ok(started.replay.unwrap())
}

async fn replays(hub: &Hub) -> Vec<Replay> {
    let ask = ListReplaysRequest {
        municipality: TOWN.to_owned(),
        limit: 0,
    };
    hub.admin()
        .list_replays(ask)
        .await
        .unwrap()
        .into_inner()
        .replays
}

/// Waits until the latest replay stands as wanted.
async fn wait_for(hub: &Hub, state: ReplayState) -> Replay {
    until("the replay ends", || async {
        let latest = replays(hub).await.into_iter().next();
        latest.filter(|replay| replay.state() == state)
    })
    .await
}

/// A hub whose pension product applied these changes; their ids.
async fn applied(hub: &Hub, changes: &[(&str, u32)]) -> (Adapter, Vec<String>, Vec<u64>) {
    hub.bind("026", "hinoki").await;
    let mut hinoki = Adapter::attach(hub, "026", "hinoki").await;
    let mut published = Vec::new();
    let mut at = Vec::new();
    for (name, version) in changes {
        let event = moved(name, *version);
        published.push(event.id.clone());
        at.push(hub.accept(event).await);
        let delivery = hinoki.delivery().await;
        assert_eq!(delivery.mode(), Mode::Live);
        hinoki.apply(&delivery).await;
    }
    let count = changes.len() as u64;
    hub.wait_for(PENSION, "all is applied", |found| {
        found.counts.unwrap().applied == count && found.complete_up_to == count
    })
    .await;
    (hinoki, published, at)
}

const CHANGES: [(&str, u32); 5] = [
    ("0000000001", 1),
    ("0000000002", 1),
    ("0000000001", 2),
    ("0000000003", 1),
    ("0000000001", 3),
];

fn assert_again(delivery: &Delivery, id: &str, sequence: u64) {
    let unit = &delivery.units[0];
    assert_eq!(ids(delivery), [id]);
    assert_eq!((unit.sequence, unit.withheld), (sequence, false));
    assert_eq!(unit.idempotency_key, id);
    let event = unit.events[0].event.as_ref().unwrap();
    assert_eq!(
        (delivery.mode(), event.mode()),
        (Mode::Replay, Mode::Replay)
    );
}

#[tokio::test]
async fn units_come_again_with_their_numbers_and_keys_and_end_with_the_latest_of_each_subject() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (mut hinoki, published, at) = applied(&hub, &CHANGES).await;
    let dry = StartReplayRequest {
        dry_run: true,
        ..ask(positions(at[0], at[1]))
    };
    let counted = start(&hub, dry).await.unwrap();
    assert_eq!(
        (counted.units, counted.subjects, counted.id.as_str()),
        (2, 2, "")
    );
    assert!(replays(&hub).await.is_empty());

    let started = start(&hub, ask(positions(at[0], at[1]))).await.unwrap();
    assert_eq!(started.state(), ReplayState::Running);
    for (index, sequence) in [(0, 1), (1, 2)] {
        let delivery = hinoki.delivery().await;
        assert_again(&delivery, &published[index], sequence);
        hinoki.answer(&delivery, Outcome::Duplicate, "").await;
    }
    // The first person has a later state; the second has not.
    let delivery = hinoki.delivery().await;
    assert_again(&delivery, &published[4], 5);
    hinoki.apply(&delivery).await;
    let ended = wait_for(&hub, ReplayState::Done).await;
    assert_eq!((ended.delivered, ended.known, ended.parked), (3, 2, 0));
    let seen = hub.subscription(PENSION).await;
    assert_eq!((seen.counts.unwrap().received, seen.complete_up_to), (5, 5));
    let ask = ListActsRequest {
        municipality: TOWN.to_owned(),
        ..ListActsRequest::default()
    };
    let acts = hub.admin().list_acts(ask).await.unwrap().into_inner().acts;
    assert_eq!((acts[0].kind(), acts[0].subjects), (ActKind::Replay, 2));
    hub.stop().await;
}

#[tokio::test]
async fn live_changes_pass_a_replay_and_its_subjects_still_end_with_their_latest_state() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (mut hinoki, published, _) = applied(&hub, &CHANGES).await;
    let by_subject = ReplaySelection {
        subjects: vec!["0000000001".to_owned()],
        ..ReplaySelection::default()
    };
    start(&hub, ask(by_subject)).await.unwrap();
    let first = hinoki.delivery().await;
    assert_again(&first, &published[0], 1);
    // While the first of the replay is under way, another change of the person and one of
    // somebody else come.
    let later = moved("0000000001", 4);
    let other = moved("0000000009", 1);
    hub.accept(later.clone()).await;
    hub.accept(other.clone()).await;
    let passing = hinoki.delivery().await;
    assert_eq!(
        (ids(&passing), passing.mode()),
        (vec![other.id], Mode::Live)
    );
    hinoki.apply(&passing).await;
    let mut delivery = first;
    let mut order = Vec::new();
    loop {
        order.extend(ids(&delivery));
        hinoki.apply(&delivery).await;
        if ids(&delivery) == [later.id.as_str()] {
            break;
        }
        delivery = hinoki.delivery().await;
    }
    let [first, _, second, _, third] = &published[..] else {
        panic!("five changes");
    };
    assert_eq!(order, [first, second, third, &later.id].map(String::as_str));
    wait_for(&hub, ReplayState::Done).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_was_granted_and_is_no_more_arrives_as_a_number_without_content() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (_, published, at) = applied(&hub, &CHANGES).await;
    hub.stop().await;

    let hub = Hub::configured(folder.path(), without_moves(folder.path())).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    start(&hub, ask(positions(at[1], at[1]))).await.unwrap();
    let delivery = hinoki.delivery().await;
    let unit = &delivery.units[0];
    assert_eq!((unit.sequence, unit.withheld), (2, true));
    assert_eq!(
        (unit.events.len(), &unit.idempotency_key),
        (0, &published[1])
    );
    hinoki
        .answer(&delivery, Outcome::NotRelevant, "WITHHELD")
        .await;
    wait_for(&hub, ReplayState::Done).await;
    hub.stop().await;
}

/// The built-in grants without those of moves within the town.
pub(crate) fn without_moves(folder: &Path) -> Config {
    let grants = folder.join("grants");
    std::fs::create_dir_all(&grants).unwrap();
    for system in ["010", "024", "026"] {
        let file = format!("{system}.csv");
        let builtin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/grants");
        let table = std::fs::read_to_string(builtin.join(&file)).unwrap();
        let lines = table
            .lines()
            .filter(|line| !line.contains("ResidentMovedWithin"));
        let kept: Vec<&str> = lines.collect();
        std::fs::write(grants.join(&file), kept.join("\n")).unwrap();
    }
    Config {
        grants: Some(grants),
        ..Config::default()
    }
}

#[tokio::test]
async fn a_replay_goes_on_after_a_restart_of_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (mut hinoki, published, at) = applied(&hub, &CHANGES).await;
    start(&hub, ask(positions(at[1], at[3]))).await.unwrap();
    let delivery = hinoki.delivery().await;
    assert_again(&delivery, &published[1], 2);
    hinoki.apply(&delivery).await;
    hub.stop().await;

    let hub = Hub::start(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let mut again = Vec::new();
    while again.last() != Some(&published[4]) {
        let delivery = hinoki.delivery().await;
        assert_eq!(delivery.mode(), Mode::Replay);
        again.extend(ids(&delivery));
        hinoki.answer(&delivery, Outcome::Duplicate, "").await;
    }
    // The page that was under way is repeated, under the same keys.
    assert_eq!(
        again,
        [&*published[1], &published[2], &published[3], &published[4]]
    );
    wait_for(&hub, ReplayState::Done).await;
    hub.stop().await;
}

#[tokio::test]
async fn a_repair_sends_the_latest_state_alone_under_a_key_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (mut hinoki, published, at) = applied(&hub, &CHANGES).await;
    let repair = StartReplayRequest {
        repair: true,
        ..ask(positions(at[0], at[2]))
    };
    let started = start(&hub, repair).await.unwrap();
    let mut again = Vec::new();
    for _ in 0..2 {
        let delivery = hinoki.delivery().await;
        let unit = &delivery.units[0];
        let id = ids(&delivery).remove(0);
        assert_eq!(unit.idempotency_key, format!("{id}~repair-{}", started.id));
        again.push(id);
        hinoki.apply(&delivery).await;
    }
    assert_eq!(again, [&*published[1], &published[4]]);
    wait_for(&hub, ReplayState::Done).await;
    hub.stop().await;
}

#[tokio::test]
async fn what_a_product_refuses_of_a_replay_waits_with_all_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (mut hinoki, published, at) = applied(&hub, &CHANGES).await;
    start(&hub, ask(positions(at[0], at[0]))).await.unwrap();
    let delivery = hinoki.delivery().await;
    assert_again(&delivery, &published[0], 1);
    hinoki
        .answer(&delivery, Outcome::Rejected, "UNMAPPABLE")
        .await;
    let ended = wait_for(&hub, ReplayState::Done).await;
    assert_eq!((ended.delivered, ended.parked), (0, 2));
    let counts = hub.subscription(PENSION).await.counts.unwrap();
    assert_eq!((counts.rejected, counts.waiting), (1, 1));
    hub.stop().await;
}

#[tokio::test]
async fn a_replay_is_stopped_once_and_another_can_start_then() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (hinoki, _, at) = applied(&hub, &CHANGES).await;
    drop(hinoki);
    let started = start(&hub, ask(positions(at[0], 0))).await.unwrap();
    let error = start(&hub, ask(positions(at[0], 0))).await.unwrap_err();
    assert_eq!(
        failed(&error),
        ("REPLAY_RUNNING".into(), "subscription".into())
    );
    let stop = StopReplayRequest {
        municipality: TOWN.to_owned(),
        id: started.id.clone(),
        operator: "operator".to_owned(),
        reason: "the wrong day".to_owned(),
        dry_run: false,
    };
    let planned = StopReplayRequest {
        dry_run: true,
        ..stop.clone()
    };
    let planned = hub.admin().stop_replay(planned).await.unwrap();
    let planned = planned.into_inner().replay.unwrap();
    assert_eq!(planned.state(), ReplayState::Running, "nothing is changed");
    let stopped = hub.admin().stop_replay(stop.clone()).await.unwrap();
    let stopped = stopped.into_inner().replay.unwrap();
    assert_eq!(stopped.state(), ReplayState::Stopped);
    let error = hub.admin().stop_replay(stop.clone()).await.unwrap_err();
    assert_eq!(failed(&error), ("REPLAY_ENDED".into(), "id".into()));
    let unknown = StopReplayRequest {
        id: "replay-0".to_owned(),
        ..stop
    };
    let error = hub.admin().stop_replay(unknown).await.unwrap_err();
    assert_eq!(failed(&error), ("NOT_FOUND".into(), "id".into()));
    start(&hub, ask(positions(at[0], 0))).await.unwrap();
    hub.stop().await;
}

#[tokio::test]
async fn a_replay_of_what_does_not_exist_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (_hinoki, _, at) = applied(&hub, &CHANGES[..2]).await;
    let time = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let future = ReplaySelection {
        from_time: time(32_503_680_000),
        ..ReplaySelection::default()
    };
    let backwards = ReplaySelection {
        from_time: time(20),
        to_time: time(10),
        ..ReplaySelection::default()
    };
    let nobody = ReplaySelection {
        subjects: vec!["0000000077".to_owned()],
        ..ReplaySelection::default()
    };
    let unnamed = ReplaySelection {
        types: vec![String::new()],
        ..ReplaySelection::default()
    };
    let (from, to) = ("selection.from_position", "selection.to_position");
    for (selection, reason, field) in [
        (positions(at[1] + 1, 0), "REPLAY_RANGE", from),
        (positions(at[0], at[1] + 1), "REPLAY_RANGE", to),
        (positions(at[1], at[0]), "REPLAY_RANGE", to),
        (future, "REPLAY_RANGE", "selection.from_time"),
        (backwards, "REPLAY_RANGE", "selection.to_time"),
        (nobody, "NOTHING_TO_REPLAY", "selection"),
        (unnamed, "INVALID_FIELD", "selection.types"),
        (ReplaySelection::default(), "INVALID_FIELD", "selection"),
    ] {
        let error = start(&hub, ask(selection)).await.unwrap_err();
        assert_eq!(failed(&error), (reason.into(), field.into()));
    }
    let good = || ask(positions(at[0], at[1]));
    for (wrong, reason, field) in [
        (
            StartReplayRequest {
                operator: String::new(),
                ..good()
            },
            "INVALID_FIELD",
            "operator",
        ),
        (
            StartReplayRequest {
                reason: " ".to_owned(),
                ..good()
            },
            "INVALID_FIELD",
            "reason",
        ),
        (
            StartReplayRequest {
                subscription: "142042/099".to_owned(),
                ..good()
            },
            "NOT_FOUND",
            "subscription",
        ),
    ] {
        let error = start(&hub, wrong).await.unwrap_err();
        assert_eq!(failed(&error), (reason.into(), field.into()));
    }
    assert!(replays(&hub).await.is_empty());
    hub.stop().await;
}
