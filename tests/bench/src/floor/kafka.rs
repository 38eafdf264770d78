//! The floor over Kafka: a bare producer in, a bare consumer that posts and commits out.
//! The same requests and the same receivers as the hub's; one topic of one partition.
//! Must never answer before all replicas in sync have a record, nor commit what was not taken.
//! Read next: `figures/cluster/deliver.rs`, which measures the hub against it.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::future::try_join_all;
use musubi_proto::hub::v1::Event;
use prost::Message as _;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use tokio::sync::mpsc;

use super::{Lane, Order, Taken, Writing, hand_over};

/// The floor's topic.
pub(crate) const TOPIC: &str = "bare";
const ASK: Duration = Duration::from_secs(30);
/// How long one poll waits for a record.
const POLL: Duration = Duration::from_millis(50);
/// Records after which the consumer commits.
const COMMIT_EVERY: i64 = 100;

/// Makes the topic and a producer with the promise of the hub's.
pub(crate) async fn producer(brokers: &str) -> Result<FutureProducer> {
    let mut config = client(brokers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(3));
    let topic = topic.set("min.insync.replicas", "2");
    let options = AdminOptions::new().operation_timeout(Some(ASK));
    for made in admin.create_topics(&[topic], &options).await? {
        made.map_err(|(topic, code)| anyhow::anyhow!("make `{topic}`: {code}"))?;
    }
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "1");
    Ok(config.create()?)
}

fn client(brokers: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    config
}

/// Produces what the publishers send, each request by itself.
pub(super) async fn produce_all(producer: FutureProducer, mut queue: mpsc::Receiver<Writing>) {
    let mut position = 0;
    while let Some(Writing { events, reply }) = queue.recv().await {
        let first = position;
        position += events.len() as u64;
        let mut sent = Vec::with_capacity(events.len());
        for event in &events {
            let bytes = event.encode_to_vec();
            let record = FutureRecord::to(TOPIC).key(&event.subject).payload(&bytes);
            match producer.send_result(record) {
                Ok(under_way) => sent.push(under_way),
                Err((error, _)) => return eprintln!("the floor cannot produce: {error}"),
            }
        }
        tokio::spawn(async move {
            let delivered = try_join_all(sent).await;
            if delivered.is_ok_and(|all| all.iter().all(Result::is_ok)) {
                reply.send(first).ok();
            }
        });
    }
}

/// Consumes, hands over, and commits what everybody has taken.
pub(super) fn consume_all(brokers: &str, lanes: &[Vec<Lane>]) -> Result<()> {
    let mut config = client(brokers);
    config
        .set("group.id", TOPIC)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "earliest");
    let consumer: BaseConsumer = config.create()?;
    consumer.subscribe(&[TOPIC])?;
    let taken = Taken::default();
    let (mut ahead, mut next, mut committed) = (BTreeSet::new(), 0, 0);
    loop {
        let message = consumer.poll(POLL).transpose()?;
        let idle = message.is_none();
        if let Some(message) = message {
            let bytes = message.payload().context("a record without a value")?;
            let event = Event::decode(bytes)?;
            hand_over(
                lanes,
                Order {
                    event,
                    taken: Some((message.offset(), taken.clone())),
                },
            );
        }
        ahead.extend(taken.take());
        while ahead.remove(&next) {
            next += 1;
        }
        if next >= committed + COMMIT_EVERY || idle && next > committed {
            let mut upto = TopicPartitionList::with_capacity(1);
            upto.add_partition_offset(TOPIC, 0, Offset::Offset(next))?;
            consumer.commit(&upto, CommitMode::Async)?;
            committed = next;
        }
    }
}
