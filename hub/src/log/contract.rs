//! The rules that every log backend keeps, as one suite.
//! Run by each backend; a backend that cannot start fails its tests.
//! Must never test more than the seam promises.
//! Read next: `log/memory.rs`, `log/sqlite.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use musubi_servers::Kafka;

use super::fences::MemoryFences;
use super::kafka::{KafkaConfig, KafkaLog};
use super::memory::MemoryLog;
use super::sqlite::SqliteLog;
use super::{AppendError, Attributes, EventLog, LogError, NewRecord, ReadLimit, RecordKind};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream};

const ALL: ReadLimit = ReadLimit {
    records: 1_000,
    bytes: 1 << 20,
};

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn other_town() -> Municipality {
    Municipality::parse("131016").unwrap()
}

fn record(key: &str) -> NewRecord {
    NewRecord {
        kind: RecordKind::Event,
        key: key.to_owned(),
        sealed: Sealed::seal(key.as_bytes().to_vec()),
        attributes: Attributes::default(),
    }
}

async fn keys(log: &dyn EventLog, stream: Stream, from: Position) -> Vec<String> {
    let records = log.read(&town(), stream, from, ALL).await.unwrap();
    records.into_iter().map(|record| record.key).collect()
}

/// A backend under test: `reopen` gives the same log as a new process would see it.
#[async_trait::async_trait]
trait Harness {
    async fn open(&self) -> Arc<dyn EventLog>;
}

#[derive(Default)]
struct Memory(MemoryLog, Epochs);

#[async_trait::async_trait]
impl Harness for Memory {
    async fn open(&self) -> Arc<dyn EventLog> {
        self.1.own(self.0.another()).await
    }
}

/// Each handle takes over from the one before it.
#[derive(Default)]
struct Epochs(AtomicU64);

impl Epochs {
    async fn own(&self, log: impl EventLog + 'static) -> Arc<dyn EventLog> {
        let epoch = self.0.fetch_add(1, Ordering::Relaxed) + 1;
        for m in [town(), other_town()] {
            log.own(&m, epoch).await.unwrap();
        }
        Arc::new(log)
    }
}

struct OnKafka {
    config: KafkaConfig,
    book: Arc<MemoryFences>,
    epochs: Epochs,
}

#[async_trait::async_trait]
impl Harness for OnKafka {
    async fn open(&self) -> Arc<dyn EventLog> {
        let log = KafkaLog::open(self.config.clone(), self.book.clone()).await;
        self.epochs.own(log.unwrap()).await
    }
}

struct Sqlite(tempfile::TempDir);

#[async_trait::async_trait]
impl Harness for Sqlite {
    async fn open(&self) -> Arc<dyn EventLog> {
        Arc::new(
            SqliteLog::open(&self.0.path().join("log.sqlite"))
                .await
                .unwrap(),
        )
    }
}

impl OnKafka {
    fn new(kafka: &Kafka, prefix: &str) -> Self {
        Self {
            config: KafkaConfig {
                prefix: prefix.to_owned(),
                replication: 1,
                allow_weak_topics: true,
                ..KafkaConfig::new(&kafka.brokers())
            },
            book: Arc::default(),
            epochs: Epochs::default(),
        }
    }
}

async fn log_101_positions_rise_in_call_order(harness: &dyn Harness) {
    let log = harness.open().await;
    let first = log
        .append(&town(), Stream::Live, vec![record("a"), record("b")])
        .await
        .unwrap();
    let second = log
        .append(&town(), Stream::Live, vec![record("c")])
        .await
        .unwrap();
    assert!(first[0] < first[1] && first[1] < second[0]);
    assert_eq!(
        keys(&*log, Stream::Live, Position(0)).await,
        ["a", "b", "c"]
    );
    assert_eq!(
        keys(&*log, Stream::Live, first[0].after()).await,
        ["b", "c"]
    );
}

async fn log_102_streams_and_municipalities_are_apart(harness: &dyn Harness) {
    let log = harness.open().await;
    let other = other_town();
    log.append(&town(), Stream::Live, vec![record("live")])
        .await
        .unwrap();
    log.append(&town(), Stream::Bulk, vec![record("bulk")])
        .await
        .unwrap();
    log.append(&other, Stream::Live, vec![record("other")])
        .await
        .unwrap();
    assert_eq!(keys(&*log, Stream::Live, Position(0)).await, ["live"]);
    assert_eq!(keys(&*log, Stream::Bulk, Position(0)).await, ["bulk"]);
}

async fn log_103_read_keeps_its_limits_and_returns_at_least_one(harness: &dyn Harness) {
    let log = harness.open().await;
    let batch = ["aaaa", "bbbb", "cccc"].map(record).to_vec();
    log.append(&town(), Stream::Live, batch).await.unwrap();
    let by_bytes = ReadLimit {
        records: 10,
        bytes: 1,
    };
    assert_eq!(
        log.read(&town(), Stream::Live, Position(0), by_bytes)
            .await
            .unwrap()
            .len(),
        1
    );
    let by_records = ReadLimit {
        records: 2,
        bytes: 1 << 20,
    };
    assert_eq!(
        log.read(&town(), Stream::Live, Position(0), by_records)
            .await
            .unwrap()
            .len(),
        2
    );
}

async fn log_104_bounds_say_first_and_next(harness: &dyn Harness) {
    let log = harness.open().await;
    let empty = log.bounds(&town(), Stream::Live).await.unwrap();
    assert_eq!(empty.first, empty.next);
    let positions = log
        .append(&town(), Stream::Live, vec![record("a"), record("b")])
        .await
        .unwrap();
    let bounds = log.bounds(&town(), Stream::Live).await.unwrap();
    assert!(bounds.first <= positions[0]);
    assert!(bounds.next > positions[1]);
    assert!(
        log.read(&town(), Stream::Live, bounds.next, ALL)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn log_105_watch_sees_every_append(harness: &dyn Harness) {
    let log = harness.open().await;
    let mut tail = log.watch_tail(&town(), Stream::Live);
    tail.mark_unchanged();
    log.append(&town(), Stream::Live, vec![record("a")])
        .await
        .unwrap();
    assert!(tail.has_changed().unwrap());
}

async fn log_106_trim_forgets_by_name_and_never_reuses_positions(harness: &dyn Harness) {
    let log = harness.open().await;
    let positions = log
        .append(&town(), Stream::Live, vec![record("a"), record("b")])
        .await
        .unwrap();
    log.trim(&town(), Stream::Live, positions[1].after())
        .await
        .unwrap();
    for trimmed in [Position(0), positions[1]] {
        let read = log.read(&town(), Stream::Live, trimmed, ALL).await;
        assert!(
            matches!(read, Err(LogError::Trimmed { first, .. }) if first == positions[1].after())
        );
    }
    assert!(
        keys(&*log, Stream::Live, positions[1].after())
            .await
            .is_empty()
    );
    let later = log
        .append(&town(), Stream::Live, vec![record("c")])
        .await
        .unwrap();
    assert!(later[0] > positions[1]);
    assert_eq!(
        log.bounds(&town(), Stream::Live).await.unwrap().first,
        positions[1].after()
    );
}

async fn log_108_what_is_kept_is_known_from_every_position(harness: &dyn Harness) {
    let log = harness.open().await;
    let m = town();
    let kept = async |from: Position| log.kept_from(&m, Stream::Live, from).await.unwrap();
    assert_eq!(kept(Position(0)).await, None);
    let batch = vec![record("a"), record("bcd")];
    let before_s = crate::clock::now_ms() / 1_000;
    let first = log.append(&m, Stream::Live, batch).await.unwrap();
    let second = log.append(&m, Stream::Live, vec![record("efghi")]).await;
    let second = second.unwrap()[0];
    let bytes = async |from| kept(from).await.map(|kept| kept.bytes);
    assert_eq!(bytes(Position(0)).await, Some(9));
    assert_eq!(bytes(first[0]).await, Some(9));
    assert_eq!(bytes(first[1]).await, Some(8));
    assert_eq!(bytes(second).await, Some(5));
    assert_eq!(bytes(second.after()).await, None);
    let since_s = kept(second).await.unwrap().since_s;
    assert!((before_s..before_s + 60).contains(&since_s));
    assert!(kept(first[0]).await.unwrap().since_s <= since_s);
    // What is trimmed counts no more, whether something stays or nothing.
    log.trim(&m, Stream::Live, first[1]).await.unwrap();
    assert_eq!(bytes(Position(0)).await, Some(8));
    log.trim(&m, Stream::Live, second.after()).await.unwrap();
    assert_eq!(bytes(Position(0)).await, None);
    log.append(&m, Stream::Live, vec![record("xy")])
        .await
        .unwrap();
    assert_eq!(bytes(Position(0)).await, Some(2));
}

async fn log_107_an_empty_batch_writes_nothing(harness: &dyn Harness) {
    let log = harness.open().await;
    assert!(
        log.append(&town(), Stream::Live, Vec::new())
            .await
            .unwrap()
            .is_empty()
    );
    let bounds = log.bounds(&town(), Stream::Live).await.unwrap();
    assert_eq!(bounds.first, bounds.next);
}

async fn log_201_append_survives_reopen(harness: &dyn Harness) {
    let log = harness.open().await;
    log.append(&town(), Stream::Live, vec![record("a")])
        .await
        .unwrap();
    drop(log);
    let log = harness.open().await;
    assert_eq!(keys(&*log, Stream::Live, Position(0)).await, ["a"]);
    log.append(&town(), Stream::Live, vec![record("b")])
        .await
        .unwrap();
    assert_eq!(keys(&*log, Stream::Live, Position(0)).await, ["a", "b"]);
}

async fn log_202_a_trim_survives_reopen(harness: &dyn Harness) {
    let log = harness.open().await;
    let batch = ["a", "b", "c"].map(record).to_vec();
    let positions = log.append(&town(), Stream::Live, batch).await.unwrap();
    log.append(&town(), Stream::Bulk, vec![record("bulk")])
        .await
        .unwrap();
    log.trim(&town(), Stream::Live, positions[1]).await.unwrap();
    drop(log);
    let log = harness.open().await;
    let read = log.read(&town(), Stream::Live, positions[0], ALL).await;
    assert!(matches!(read, Err(LogError::Trimmed { first, .. }) if first == positions[1]));
    assert_eq!(keys(&*log, Stream::Live, positions[1]).await, ["b", "c"]);
    assert_eq!(keys(&*log, Stream::Bulk, Position(0)).await, ["bulk"]);
    // Trimming less than before brings nothing back; trimming all leaves the next position.
    log.trim(&town(), Stream::Live, positions[0]).await.unwrap();
    log.trim(&town(), Stream::Live, Position(u64::from(u32::MAX)))
        .await
        .unwrap();
    drop(log);
    let log = harness.open().await;
    let bounds = log.bounds(&town(), Stream::Live).await.unwrap();
    assert_eq!(
        (bounds.first, bounds.next),
        (positions[2].after(), positions[2].after())
    );
    let next = log.append(&town(), Stream::Live, vec![record("d")]).await;
    assert!(next.unwrap()[0] >= positions[2].after());
}

/// Where one process owns the log for ever, there is no former owner.
async fn log_109_a_former_owner_appends_nothing(harness: &dyn Harness) {
    let former = harness.open().await;
    former
        .append(&town(), Stream::Live, vec![record("a")])
        .await
        .unwrap();
    let owner = harness.open().await;
    let m = town();
    for late in ["b", "c"] {
        let append = former.append(&m, Stream::Live, vec![record(late)]);
        assert!(matches!(append.await, Err(AppendError::NotWritten(..))));
        let append = owner.append(&m, Stream::Live, vec![record(late)]);
        append.await.unwrap();
    }
    let all = keys(&*owner, Stream::Live, Position(0)).await;
    assert_eq!(all, ["a", "b", "c"]);
    let later = harness.open().await;
    assert_eq!(keys(&*later, Stream::Live, Position(0)).await, all);
}

macro_rules! suite {
    ($backend:ident, $make:expr; $($rule:ident),* $(,)?) => {
        mod $backend {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&$make).await;
            })*
        }
    };
}

macro_rules! suites {
    ($($rule:ident),* $(,)?) => {
        suite!(memory, Memory::default(); log_109_a_former_owner_appends_nothing, $($rule),*);
        suite!(sqlite, Sqlite(tempfile::tempdir().unwrap()); $($rule),*);

        /// One broker for all rules; each has topics of its own.
        #[tokio::test]
        async fn kafka() {
            let kafka = Kafka::start(1).unwrap();
            log_109_a_former_owner_appends_nothing(&OnKafka::new(&kafka, "log_109")).await;
            $(
                println!("{}", stringify!($rule));
                $rule(&OnKafka::new(&kafka, stringify!($rule))).await;
            )*
        }
    };
}

suites!(
    log_101_positions_rise_in_call_order,
    log_102_streams_and_municipalities_are_apart,
    log_103_read_keeps_its_limits_and_returns_at_least_one,
    log_104_bounds_say_first_and_next,
    log_105_watch_sees_every_append,
    log_106_trim_forgets_by_name_and_never_reuses_positions,
    log_107_an_empty_batch_writes_nothing,
    log_108_what_is_kept_is_known_from_every_position,
    log_201_append_survives_reopen,
    log_202_a_trim_survives_reopen,
);
