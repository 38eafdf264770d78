//! What only Kafka can suffer: other programs, weak topics, brokers that freeze or die.
//! Beside the contract, on real brokers; few of them, for each start costs seconds.
//! Must never let a record that was acknowledged be missing, nor any stand twice.
//! Read next: `log/kafka/view.rs`, `log/contract.rs`.

use std::sync::atomic::AtomicBool;
use std::time::Instant;

use musubi_servers::Kafka;
use musubi_servers::process::Signal;
use rdkafka::ClientConfig;
use rdkafka::Message;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::message::{Headers, Timestamp};
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::wire::{FenceId, Marks, Member};
use super::*;
use crate::event::seal::Sealed;
use crate::log::fences::MemoryFences;
use crate::log::{Attributes, Concerned, RecordKind};

const LIVE: Stream = Stream::Live;
const SUBJECT: &str = "5f0c";
const ALL: ReadLimit = ReadLimit {
    records: 100,
    bytes: 1 << 20,
};

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn record(key: &str) -> NewRecord {
    NewRecord {
        kind: RecordKind::Event,
        key: key.to_owned(),
        sealed: Sealed::seal(format!("0010000000001 {key}").into_bytes()),
        attributes: Attributes {
            source: "urn:jp:lg:142042:system:001".to_owned(),
            event_type: "musubi.standard.resident.v1.ResidentMovedIn".to_owned(),
            subject: SUBJECT.to_owned(),
            time: "2026-04-01T00:00:00Z".to_owned(),
        },
    }
}

fn batch<const N: usize>(keys: [&str; N]) -> Vec<NewRecord> {
    keys.map(record).to_vec()
}

/// One cluster, and a book of fences for each prefix.
struct Stage {
    config: KafkaConfig,
    book: Arc<MemoryFences>,
}

impl Stage {
    fn new(kafka: &Kafka, prefix: &str, replication: i32) -> Self {
        Self {
            config: KafkaConfig {
                prefix: prefix.to_owned(),
                replication,
                allow_weak_topics: replication == 1,
                ..KafkaConfig::new(&kafka.brokers())
            },
            book: Arc::default(),
        }
    }

    async fn log(&self) -> KafkaLog {
        let open = KafkaLog::open(self.config.clone(), self.book.clone());
        open.await.unwrap()
    }

    async fn owner(&self, epoch: u64) -> KafkaLog {
        let log = self.log().await;
        log.own(&town(), epoch).await.unwrap();
        log
    }

    fn topic(&self) -> String {
        format!("{}.142042.live", self.config.prefix)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        client_config(self).create().unwrap()
    }
}

fn client_config(stage: &Stage) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &stage.config.brokers);
    config
}

async fn keys(log: &KafkaLog) -> Vec<String> {
    let mut keys = Vec::new();
    let mut from = log.bounds(&town(), LIVE).await.unwrap().first;
    loop {
        let records = log.read(&town(), LIVE, from, ALL).await.unwrap();
        let Some(last) = records.last() else {
            return keys;
        };
        from = last.position.after();
        keys.extend(records.into_iter().map(|record| record.key));
    }
}

/// What another program writes.
async fn write_foreign(stage: &Stage, bytes: &[u8]) {
    let producer: FutureProducer = client_config(stage).create().unwrap();
    let topic = stage.topic();
    let record = FutureRecord::<(), _>::to(&topic).payload(bytes);
    producer.send(record, KAFKA_APPEND_TIMEOUT).await.unwrap();
}

async fn any_client_sees_cloudevents_and_no_number_outside_the_value(kafka: &Kafka) {
    let stage = Stage::new(kafka, "headers", 1);
    let log = stage.owner(1).await;
    log.append(&town(), LIVE, batch(["e-1"])).await.unwrap();
    let mut config = client_config(&stage);
    config
        .set("group.id", "foreign")
        .set("auto.offset.reset", "earliest");
    let topic = stage.topic();
    let seen = tokio::task::spawn_blocking(move || {
        let consumer: rdkafka::consumer::BaseConsumer = config.create().unwrap();
        consumer.subscribe(&[&topic]).unwrap();
        loop {
            let Some(Ok(message)) = consumer.poll(KAFKA_APPEND_TIMEOUT) else {
                continue;
            };
            if message.key().is_some() {
                return message.detach();
            }
        }
    });
    let message = seen.await.unwrap();
    let headers: Vec<(String, String)> = message
        .headers()
        .unwrap()
        .iter()
        .map(|header| {
            let value = String::from_utf8(header.value.unwrap().to_vec()).unwrap();
            (header.key.to_owned(), value)
        })
        .collect();
    for (key, value) in [
        ("ce_specversion", "1.0"),
        ("ce_id", "e-1"),
        ("ce_source", "urn:jp:lg:142042:system:001"),
        ("ce_type", "musubi.standard.resident.v1.ResidentMovedIn"),
        ("ce_subject", SUBJECT),
        ("ce_time", "2026-04-01T00:00:00Z"),
        ("content-type", "application/protobuf"),
    ] {
        assert!(
            headers.contains(&(key.to_owned(), value.to_owned())),
            "{key}"
        );
    }
    assert_eq!(message.key().unwrap(), SUBJECT.as_bytes());
    // The brokers' clock: an instance whose own is a day ahead is refused otherwise.
    assert!(matches!(message.timestamp(), Timestamp::LogAppendTime(_)));
    assert!(message.payload().unwrap().starts_with(b"0010000000001"));
    assert!(
        headers
            .iter()
            .all(|(_, value)| !value.contains("0010000000001"))
    );
}

async fn foreign_bytes_are_set_aside_and_stop_nothing(kafka: &Kafka) {
    let stage = Stage::new(kafka, "foreign", 1);
    write_after(&stage, 1, ["a"]).await;
    write_foreign(&stage, b"{}").await;
    let log = stage.owner(2).await;
    log.append(&town(), LIVE, batch(["b", "c"])).await.unwrap();
    write_foreign(&stage, b"").await;
    log.append(&town(), LIVE, batch(["d"])).await.unwrap();
    assert_eq!(keys(&log).await, ["a", "b", "c", "d"]);
    let later = stage.owner(3).await;
    for _ in 0..2 {
        assert_eq!(keys(&later).await, ["a", "b", "c", "d"]);
    }
    assert_eq!(later.set_aside(), 2);
    assert_eq!(later.concerns(&town()).await.set_aside, 2);
}

async fn write_after<const N: usize>(stage: &Stage, epoch: u64, keys: [&str; N]) {
    let log = stage.owner(epoch).await;
    log.append(&town(), LIVE, batch(keys)).await.unwrap();
}

async fn what_somebody_deleted_is_missed_by_its_place(kafka: &Kafka) {
    let stage = Stage::new(kafka, "deleted", 1);
    write_after(&stage, 1, ["a", "b", "c"]).await;
    let log = stage.owner(2).await;
    let first = log.bounds(&town(), LIVE).await.unwrap().first;
    log.topics.trim(&stage.topic(), 3).await.unwrap();
    let read = log.read(&town(), LIVE, first, ALL).await;
    assert!(
        matches!(read, Err(LogError::Damaged { position, .. }) if position == first),
        "{read:?}"
    );
    // The next owner says where the log begins; whoever knows better refuses to go on.
    let next = stage.owner(3).await;
    let bounds = next.bounds(&town(), LIVE).await.unwrap();
    assert_eq!(bounds.first, Position(4));
    assert_eq!(keys(&next).await, ["c"]);
}

async fn a_part_of_a_batch_and_late_records_never_count(kafka: &Kafka) {
    let stage = Stage::new(kafka, "parts", 1);
    let log = stage.owner(1).await;
    log.append(&town(), LIVE, batch(["a"])).await.unwrap();
    let outgoing = |fence: FenceId, batch: u64, index: u64, count: u64, key: &str| {
        let member = Member {
            batch,
            index,
            count,
        };
        let marks = Marks {
            fence,
            member,
            before: 15,
            at_s: 1,
        };
        wire::data(&town(), LIVE, &marks, record(key))
    };
    let first = FenceId {
        epoch: 1,
        number: 0,
    };
    // Two of three: its producer died.
    let part = ["b", "c"].into_iter().zip(0..);
    let part = part.map(|(key, index)| outgoing(first, 1, index, 3, key));
    log.sender
        .send(&stage.topic(), part.collect())
        .await
        .unwrap();
    let next = stage.owner(2).await;
    next.append(&town(), LIVE, batch(["d"])).await.unwrap();
    // The third comes late, and so does a whole batch of the former owner.
    let late = vec![
        outgoing(first, 1, 2, 3, "late"),
        outgoing(first, 2, 0, 1, "late too"),
    ];
    log.sender.send(&stage.topic(), late).await.unwrap();
    next.append(&town(), LIVE, batch(["e"])).await.unwrap();
    assert_eq!(keys(&next).await, ["a", "d", "e"]);
    let last = stage.owner(3).await;
    assert_eq!(keys(&last).await, ["a", "d", "e"]);
    let kept = last.kept_from(&town(), LIVE, Position(0)).await.unwrap();
    assert_eq!(kept.unwrap().bytes, 45);
}

async fn a_weak_topic_is_refused_unless_it_is_allowed(kafka: &Kafka) {
    let mut stage = Stage::new(kafka, "weak", 1);
    let topic = stage.topic();
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("retention.ms", "100000");
    // The client must live until it has answered.
    let made = stage
        .admin()
        .create_topics([&new], &AdminOptions::new())
        .await;
    assert!(made.unwrap()[0].is_ok());
    let log = stage.owner(1).await;
    let weak: Vec<_> = log.weaknesses();
    let settings: Vec<_> = weak
        .iter()
        .filter(|weakness| weakness.topic == topic)
        .map(|weakness| weakness.setting)
        .collect();
    let expected = [
        "replication factor",
        "min.insync.replicas",
        "retention.ms",
        "max.message.bytes",
    ];
    assert_eq!(settings, expected);
    stage.config.allow_weak_topics = false;
    let refused = stage.log().await.own(&town(), 2).await.unwrap_err();
    assert!(matches!(refused, LogError::WeakTopic(_)), "{refused}");
    let text = refused.to_string();
    assert!(
        text.contains("has `") && text.contains("mend it with: kafka-"),
        "{text}"
    );
}

async fn a_compacted_topic_is_refused_always(kafka: &Kafka) {
    let stage = Stage::new(kafka, "compacted", 1);
    let topic = stage.topic();
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
    let made = stage
        .admin()
        .create_topics([&new], &AdminOptions::new())
        .await;
    assert!(made.unwrap()[0].is_ok());
    let refused = stage.log().await.own(&town(), 1).await.unwrap_err();
    assert!(
        refused.to_string().contains("has `cleanup.policy` compact"),
        "{refused}"
    );
}

async fn a_topic_that_was_deleted_or_made_again_is_named(kafka: &Kafka) {
    let stage = Stage::new(kafka, "replaced", 1);
    write_after(&stage, 1, ["a"]).await;
    let (topic, options) = (stage.topic(), AdminOptions::new());
    let deleted = stage.admin().delete_topics(&[&topic], &options).await;
    assert!(deleted.unwrap()[0].is_ok());
    let log = stage.log().await;
    while log.topics.is_there(&topic).await.unwrap() {
        tokio::task::yield_now().await;
    }
    let refused = log.own(&town(), 2).await.unwrap_err();
    assert!(
        matches!(refused, LogError::ReplacedTopic { .. }),
        "{refused}"
    );
    log.topics.make(&topic).await.unwrap();
    let refused = log.own(&town(), 2).await.unwrap_err();
    assert!(
        refused.to_string().contains("deleted or made again"),
        "{refused}"
    );
    let append = log.append(&town(), LIVE, batch(["b"])).await;
    assert!(matches!(append, Err(AppendError::NotWritten(..))));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_programs_and_operators_harm_nothing_unseen() {
    let kafka = Kafka::start(1).unwrap();
    any_client_sees_cloudevents_and_no_number_outside_the_value(&kafka).await;
    foreign_bytes_are_set_aside_and_stop_nothing(&kafka).await;
    what_somebody_deleted_is_missed_by_its_place(&kafka).await;
    a_part_of_a_batch_and_late_records_never_count(&kafka).await;
    a_weak_topic_is_refused_unless_it_is_allowed(&kafka).await;
    a_compacted_topic_is_refused_always(&kafka).await;
    a_topic_that_was_deleted_or_made_again_is_named(&kafka).await;
}

/// What an appender has come to: keys that were acknowledged, and keys that may stand.
#[derive(Default)]
struct Written {
    acknowledged: Vec<String>,
    unknown: Vec<String>,
}

/// Appends in pairs, until so many were acknowledged after `turn` says that the harm is done.
async fn write_until(log: &KafkaLog, mut done: impl FnMut(&Written) -> bool) -> Written {
    let mut written = Written::default();
    for pair in 0.. {
        let keys = [format!("{pair}-a"), format!("{pair}-b")];
        let records = keys.iter().map(|key| record(key)).collect();
        match log.append(&town(), LIVE, records).await {
            Ok(_) => written.acknowledged.extend(keys),
            Err(AppendError::OutcomeUnknown(..)) => written.unknown.extend(keys),
            Err(_) => {}
        }
        if done(&written) {
            break;
        }
    }
    written
}

/// All that was acknowledged stands once, in order; of the rest nothing stands twice, or in part.
fn must_hold(written: &Written, keys: &[String]) {
    let mut once = keys.to_vec();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), keys.len(), "a record stands twice");
    let acknowledged: Vec<_> = keys
        .iter()
        .filter(|key| !written.unknown.contains(key))
        .cloned()
        .collect();
    assert_eq!(acknowledged, written.acknowledged);
    let pairs = keys.iter().map(|key| key.split('-').next());
    let pairs: Vec<_> = pairs.collect();
    assert!(
        pairs.chunks(2).all(|pair| pair[0] == pair[1]),
        "half a batch"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_freezes_or_dies_leaves_no_doubt_behind() {
    let mut kafka = Kafka::start(1).unwrap();
    let mut stage = Stage::new(&kafka, "frozen", 1);
    stage.config.append_within = Duration::from_secs(4);
    let log = stage.owner(1).await;
    log.append(&town(), LIVE, batch(["a"])).await.unwrap();
    kafka.signal(0, Signal::Freeze).unwrap();
    let started = Instant::now();
    let append = log.append(&town(), LIVE, batch(["b", "c"])).await;
    assert!(
        matches!(append, Err(AppendError::OutcomeUnknown(..))),
        "{append:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(12));
    kafka.signal(0, Signal::Wake).unwrap();
    // The tail is settled before anything else is said or written.
    let tail = keys(&log).await;
    assert!(tail == ["a"] || tail == ["a", "b", "c"], "{tail:?}");
    log.append(&town(), LIVE, batch(["d"])).await.unwrap();
    let all = keys(&log).await;
    assert_eq!(all, [tail, vec!["d".to_owned()]].concat());
    let next = stage.owner(2).await;
    assert_eq!(keys(&next).await, all);

    let stage = Stage {
        config: KafkaConfig {
            prefix: "killed".to_owned(),
            ..stage.config
        },
        book: Arc::default(),
    };
    let log = Arc::new(stage.owner(1).await);
    let (told, mut listen) = watch::channel(0_usize);
    let over = Arc::new(AtomicBool::new(false));
    let ended = over.clone();
    let writer = log.clone();
    let writing = tokio::spawn(async move {
        let mut after = 0;
        write_until(&writer, |written| {
            told.send_replace(written.acknowledged.len());
            after += usize::from(ended.load(Ordering::Relaxed));
            after > 20
        })
        .await
    });
    for kill in 1..=2 {
        listen.wait_for(|&count| count >= kill * 50).await.unwrap();
        kafka.kill(0).unwrap();
        kafka.restart(0).unwrap();
    }
    over.store(true, Ordering::Relaxed);
    let written = writing.await.unwrap();
    must_hold(&written, &keys(&log).await);
    let next = stage.owner(2).await;
    must_hold(&written, &keys(&next).await);
}

/// Id of the broker that leads a topic.
async fn leader(log: &KafkaLog, topic: String) -> usize {
    let asked = log.topics.ask(move |asker| {
        let all = asker.fetch_metadata(Some(&topic), KAFKA_APPEND_TIMEOUT)?;
        Ok(all.topics()[0].partitions()[0].leader())
    });
    usize::try_from(asked.await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_costs_seconds_and_no_event() {
    let mut kafka = Kafka::start(3).unwrap();
    let stage = Stage::new(&kafka, "three", 3);
    let log = Arc::new(stage.owner(1).await);
    assert_eq!(log.weaknesses(), []);
    let (told, mut listen) = watch::channel((0, Duration::ZERO));
    let writer = log.clone();
    let writing = tokio::spawn(async move {
        let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
        write_until(&writer, |written| {
            longest = longest.max(last.elapsed());
            last = Instant::now();
            told.send_replace((written.acknowledged.len(), longest));
            longest > Duration::from_secs(2) && written.acknowledged.len() > 200
        })
        .await
    });
    listen.wait_for(|told| told.0 >= 100).await.unwrap();
    let leader = leader(&log, stage.topic()).await;
    kafka.kill(leader - 1).unwrap();
    let written = writing.await.unwrap();
    let longest = listen.borrow().1;
    println!("the longest append took {longest:?}");
    assert!(longest < Duration::from_secs(15), "{longest:?}");
    must_hold(&written, &keys(&log).await);
    let next = stage.owner(2).await;
    must_hold(&written, &keys(&next).await);
}
