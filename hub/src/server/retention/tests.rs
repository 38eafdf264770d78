//! What a keeper trims, and before what it stops: in memory, look by look.
//! Beside the stories of `hub/tests/server/retention.rs`, which know no single look.
//! Must never wait for a time.
//! Read next: `retention.rs`.

use tokio_util::sync::CancellationToken;

use super::*;
use crate::event::seal::Sealed;
use crate::event::{Event, Pseudonyms};
use crate::grants::GrantTable;
use crate::log::memory::MemoryLog;
use crate::log::{Attributes, EventLog, NewRecord};
use crate::schema::Schema;
use crate::server::lease::Lease;
use crate::server::tasks::Tasks;
use crate::settings::BindingSettings;
use crate::store::memory::MemoryStore;
use crate::store::{
    BindingRow, BindingState, Cursor, DeliveryDelta, NewAct, OutcomeTally, PublishDelta,
    ReplayProgress, ReplayRow, ReplayState, Selection, SnapshotMark, Store, SubscriptionRow,
};
use musubi_proto::hub::v1::Group;
use prost::Message;

const PENSION: &str = "142042/026";

struct Stage {
    _folder: tempfile::TempDir,
    keeper: Keeper,
    owner_epoch: u64,
}

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn cursor(position: u64) -> Cursor {
    Cursor {
        position: Position(position),
        sequence: 1,
    }
}

impl Stage {
    /// A keeper that keeps one byte, and nothing that anybody needs.
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(MemoryStore::default());
        let owner_epoch = crate::store::DeliveryStore::own(&*store, &town())
            .await
            .unwrap();
        let commons = Commons {
            incarnation: 1,
            log: Arc::new(MemoryLog::default()),
            concerned: None,
            store,
            schema: Arc::new(Schema::load().unwrap()),
            grants: Arc::new(GrantTable::default()),
            pseudonyms: Pseudonyms::new([7; 32]),
            rules: Arc::new(Rules {
                keep: Keep {
                    log_bytes: Some(1),
                    ..Keep::default()
                },
                period: Duration::from_secs(1),
                data: Some(folder.path().to_owned()),
            }),
            room: Arc::default(),
            alarm_limits: crate::alarms::Limits::default(),
            lease: Lease::forever(),
            stop: CancellationToken::new(),
            tasks: Tasks::default(),
        };
        let keeper = Keeper {
            commons,
            m: town(),
            changing: Arc::default(),
        };
        Self {
            _folder: folder,
            keeper,
            owner_epoch,
        }
    }

    fn log(&self) -> &dyn EventLog {
        &*self.keeper.commons.log
    }

    fn store(&self) -> &dyn Store {
        &*self.keeper.commons.store
    }

    /// Appends and commits events, of groups of this size.
    async fn publish(&self, stream: Stream, groups: &[u32]) {
        let event = |size: u32, seq: u32| Event {
            id: uuid::Uuid::new_v4().to_string(),
            group: (size > 1).then(|| Group {
                id: "g".to_owned(),
                seq,
                size,
            }),
            ..Event::default()
        };
        let sized = groups
            .iter()
            .flat_map(|&size| (1..=size).map(move |seq| (size, seq)));
        let records = sized.map(|(size, seq)| {
            let event = event(size, seq);
            NewRecord {
                kind: RecordKind::Event,
                key: event.id.clone(),
                sealed: Sealed::seal(event.encode_to_vec()),
                attributes: Attributes::default(),
            }
        });
        let appended = self.log().append(&town(), stream, records.collect()).await;
        let last = appended.unwrap().pop().unwrap();
        self.commit(stream, last.after()).await;
    }

    async fn commit(&self, stream: Stream, tail: Position) {
        let delta = PublishDelta {
            tail: vec![(stream, tail)],
            ..PublishDelta::default()
        };
        self.store().commit_publish(&town(), delta).await.unwrap();
    }

    async fn subscribe(&self, id: &str, live: u64) {
        let row = SubscriptionRow {
            id: id.to_owned(),
            municipality: town(),
            system: "026".to_owned(),
            live: cursor(live),
            bulk: cursor(1),
            filled: true,
            until: None,
            closed: false,
            bindings: vec![BindingRow {
                product: "hinoki".to_owned(),
                epoch: 1,
                state: BindingState::Serving,
                cut: None,
                paused: None,
                settings: BindingSettings::default(),
            }],
            tally: OutcomeTally::default(),
        };
        self.store().put_subscription(row).await.unwrap();
    }

    async fn advance(&self, id: &str, stream: Stream, position: u64) {
        let delta = DeliveryDelta {
            subscription: id.to_owned(),
            owner_epoch: self.owner_epoch,
            cursors: vec![(stream, cursor(position))],
            ..DeliveryDelta::default()
        };
        self.store().commit(delta).await.unwrap();
    }

    async fn mark(&self, source: &str, id: &str, bulk: (u64, Option<u64>), live: u64) {
        let mark = SnapshotMark {
            source: source.to_owned(),
            snapshot_id: id.to_owned(),
            bulk_start: Position(bulk.0),
            bulk_end: bulk.1.map(Position),
            live_mark: Position(live),
        };
        let delta = PublishDelta {
            snapshots: vec![mark],
            ..PublishDelta::default()
        };
        self.store().commit_publish(&town(), delta).await.unwrap();
    }

    /// Looks once; the first positions of live and bulk.
    async fn look(&mut self) -> (u64, u64) {
        self.keeper.look().await.unwrap();
        let mut firsts = Vec::new();
        for stream in [Stream::Live, Stream::Bulk] {
            let bounds = self.log().bounds(&town(), stream).await.unwrap();
            let noted = self.store().kept_from(&town(), stream).await.unwrap();
            assert_eq!(noted, bounds.first, "the store knows");
            firsts.push(bounds.first.0);
        }
        (firsts[0], firsts[1])
    }
}

#[tokio::test]
async fn what_nobody_needs_goes_as_soon_as_it_may() {
    let mut stage = Stage::new().await;
    assert_eq!(stage.look().await, (1, 1));
    stage.publish(Stream::Live, &[1; 5]).await;
    stage.publish(Stream::Bulk, &[1; 2]).await;
    assert_eq!(stage.look().await, (6, 3));
    stage.publish(Stream::Live, &[1]).await;
    assert_eq!(stage.look().await, (7, 3));
}

#[tokio::test]
async fn more_than_a_step_goes_in_one_look() {
    let mut stage = Stage::new().await;
    let count = RETENTION_STEP as usize * 2 + 7;
    stage.publish(Stream::Live, &vec![1; count]).await;
    assert_eq!(stage.look().await, (count as u64 + 1, 1));
}

#[tokio::test]
async fn what_may_stay_by_its_bytes_stays() {
    let mut stage = Stage::new().await;
    stage.publish(Stream::Live, &[1; 10]).await;
    let all = stage
        .log()
        .kept_from(&town(), Stream::Live, Position(1))
        .await;
    let each = all.unwrap().unwrap().bytes / 10;
    let rules = Arc::get_mut(&mut stage.keeper.commons.rules).unwrap();
    rules.keep.log_bytes = Some(each * 4 + 1);
    assert_eq!(stage.look().await, (7, 1));
    let rules = Arc::get_mut(&mut stage.keeper.commons.rules).unwrap();
    // Everything is younger than a day.
    rules.keep = Keep {
        log_days: Some(1),
        ..Keep::default()
    };
    assert_eq!(stage.look().await, (7, 1));
}

#[tokio::test]
async fn the_slowest_cursor_holds_each_stream_until_it_moves() {
    let mut stage = Stage::new().await;
    stage.publish(Stream::Live, &[1; 5]).await;
    stage.publish(Stream::Bulk, &[1; 3]).await;
    stage.subscribe(PENSION, 4).await;
    stage.subscribe("142042/010~fill-2", 2).await;
    assert_eq!(stage.look().await, (2, 1));
    stage.advance("142042/010~fill-2", Stream::Live, 6).await;
    stage.advance("142042/010~fill-2", Stream::Bulk, 4).await;
    assert_eq!(stage.look().await, (4, 1));
    stage.advance(PENSION, Stream::Bulk, 3).await;
    assert_eq!(stage.look().await, (4, 3));
    let mut rows = stage.store().subscriptions(&town()).await.unwrap();
    for row in &mut rows {
        row.closed = true;
        stage.store().put_subscription(row.clone()).await.unwrap();
    }
    assert_eq!(stage.look().await, (6, 4), "closed ones hold nothing");
}

#[tokio::test]
async fn the_last_complete_snapshot_of_each_source_holds_both_streams() {
    let mut stage = Stage::new().await;
    stage.publish(Stream::Live, &[1; 9]).await;
    stage.publish(Stream::Bulk, &[1; 9]).await;
    stage.mark("registry", "a", (2, None), 3).await;
    assert_eq!(stage.look().await, (3, 2), "the first one, on its way");
    stage.mark("registry", "a", (2, Some(4)), 3).await;
    stage.mark("registry", "b", (5, None), 6).await;
    stage.mark("tax", "t", (8, Some(9)), 8).await;
    assert_eq!(stage.look().await, (3, 2), "the second is not complete");
    stage.mark("registry", "b", (5, Some(7)), 6).await;
    assert_eq!(stage.look().await, (6, 5));
}

#[tokio::test]
async fn a_running_replay_and_what_is_not_committed_hold_the_log() {
    let mut stage = Stage::new().await;
    stage.publish(Stream::Live, &[1; 5]).await;
    stage.subscribe(PENSION, 6).await;
    let replay = ReplayRow {
        id: "r".to_owned(),
        subscription: PENSION.to_owned(),
        binding_epoch: 1,
        selection: Selection::default(),
        repair: false,
        operator: "sato".to_owned(),
        reason: "test".to_owned(),
        started_ms: 1,
        selected: (1, 1),
        progress: ReplayProgress::start(false),
    };
    let act = NewAct::now(12, "sato", "test");
    assert!(
        stage
            .store()
            .start_replay(replay.clone(), act)
            .await
            .unwrap()
    );
    assert_eq!(stage.look().await, (1, 1));
    let ended = ReplayProgress {
        state: ReplayState::Done,
        ..replay.progress
    };
    assert!(stage.store().move_replay("r", ended, None).await.unwrap());
    assert_eq!(stage.look().await, (6, 1));
    let record = NewRecord {
        kind: RecordKind::Event,
        key: "e".to_owned(),
        sealed: Sealed::seal(vec![1; 9]),
        attributes: Attributes::default(),
    };
    stage.advance(PENSION, Stream::Live, 9).await;
    stage
        .log()
        .append(&town(), Stream::Live, vec![record])
        .await
        .unwrap();
    assert_eq!(stage.look().await, (6, 1));
    stage.commit(Stream::Live, Position(7)).await;
    assert_eq!(stage.look().await, (7, 1));
}

#[tokio::test]
async fn what_is_kept_begins_with_a_whole_unit() {
    let mut stage = Stage::new().await;
    stage.publish(Stream::Live, &[1, 4, 1]).await;
    for (allowed, first) in [(Position(2), 2), (Position(4), 2), (Position(6), 6)] {
        let start = stage.keeper.unit_start(Stream::Live, allowed).await;
        assert_eq!(start.unwrap(), Position(first));
    }
    let last = stage
        .log()
        .kept_from(&town(), Stream::Live, Position(4))
        .await;
    let bytes = last.unwrap().unwrap().bytes;
    let rules = Arc::get_mut(&mut stage.keeper.commons.rules).unwrap();
    rules.keep.log_bytes = Some(bytes);
    assert_eq!(stage.look().await, (2, 1), "half of a group would stay");
}

#[tokio::test]
async fn nothing_is_trimmed_while_a_backup_runs() {
    let mut stage = Stage::new().await;
    stage.publish(Stream::Live, &[1; 5]).await;
    let backup = backup::lock_file(stage.keeper.commons.rules.data.as_deref().unwrap()).unwrap();
    backup.lock_shared().unwrap();
    assert_eq!(stage.look().await, (1, 1));
    drop(backup);
    assert_eq!(stage.look().await, (6, 1));
}

#[tokio::test]
async fn who_holds_the_log_is_named_with_the_most_that_he_holds() {
    let mut stage = Stage::new().await;
    stage.subscribe(PENSION, 3).await;
    stage.subscribe("142042/010", 6).await;
    stage.publish(Stream::Live, &[1; 5]).await;
    stage.publish(Stream::Bulk, &[1; 2]).await;
    stage.advance("142042/010", Stream::Bulk, 3).await;
    stage.mark("registry", "a", (2, Some(2)), 6).await;
    stage.look().await;
    let m = town();
    let whole = stage.log().kept_from(&m, Stream::Live, Position(3)).await;
    let whole = whole.unwrap().unwrap().bytes;
    let rules = Arc::get_mut(&mut stage.keeper.commons.rules).unwrap();
    rules.keep.log_bytes = Some(whole);
    let held = held(&stage.keeper.commons, &town()).await.unwrap();
    let held: Vec<_> = held.into_iter().collect();
    let pension = Who::Subscription(PENSION.to_owned());
    let registry = Who::Source("registry".to_owned());
    assert_eq!(held, [(pension, 100), (registry, 34)]);
    let rules = Arc::get_mut(&mut stage.keeper.commons.rules).unwrap();
    rules.keep = Keep::default();
    let held = super::held(&stage.keeper.commons, &town()).await.unwrap();
    assert!(held.is_empty(), "what is kept for ever is held by nobody");
}
