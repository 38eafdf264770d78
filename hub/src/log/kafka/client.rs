//! How every client of the brokers is set up, and where its words go.
//! Under producer, consumers and administration alike.
//! Must never let an operator's property weaken what the log promises.
//! Read next: `log/kafka/sender.rs`, `log/kafka/readers.rs`.

use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError;
use rdkafka::{ClientConfig, Statistics};

use crate::limits::{
    KAFKA_FETCH_WAIT, KAFKA_RECORD_BYTES_MAX, KAFKA_REQUEST_TIMEOUT, KAFKA_WINDOW_BYTES,
};

/// What the clients say goes to the hub's own lines.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quiet;

/// What warns of what is as it should be: a broker that is still starting and is asked again.
const EXPECTED: &[&str] = &["GETPID"];

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        match level {
            _ if EXPECTED.contains(&facility) => {
                tracing::debug!(facility, text, "the Kafka client says");
            }
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => tracing::warn!(facility, text, "the Kafka client says"),
            _ => tracing::debug!(facility, text, "the Kafka client says"),
        }
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "a connection to Kafka failed");
    }
}

impl ConsumerContext for Quiet {}

/// What all clients share: the operator's properties, and ours where they matter.
pub(super) fn base(brokers: &str, properties: &[(String, String)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("client.id", "musubi");
    for (key, value) in properties {
        config.set(key, value);
    }
    config
        .set("bootstrap.servers", brokers)
        // A broker that is frozen is left in time; one that is back is found at once.
        .set("socket.timeout.ms", millis(KAFKA_REQUEST_TIMEOUT * 2))
        .set("socket.connection.setup.timeout.ms", "3000")
        .set("reconnect.backoff.max.ms", "1000")
        .set("log.connection.close", "false");
    config
}

/// A producer whose `Ok` means: in order, once, and on all replicas in sync.
pub(super) fn producer(base: &ClientConfig, within: Duration) -> ClientConfig {
    let mut config = base.clone();
    config
        .set("acks", "all")
        .set("enable.idempotence", "true")
        // A topic that somebody deleted must not come back with other settings.
        .set("allow.auto.create.topics", "false")
        .set("message.timeout.ms", millis(within))
        .set("request.timeout.ms", millis(KAFKA_REQUEST_TIMEOUT))
        .set("linger.ms", "1")
        .set("compression.type", "lz4")
        .set("message.max.bytes", KAFKA_RECORD_BYTES_MAX.to_string())
        .set(
            "queue.buffering.max.kbytes",
            (KAFKA_WINDOW_BYTES / 1024).to_string(),
        );
    config
}

/// A consumer that reads what it is told to, and everything of it.
pub(super) fn consumer(base: &ClientConfig) -> ClientConfig {
    let mut config = base.clone();
    config
        // A name that the client asks for; nobody ever joins.
        .set("group.id", "musubi-log")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("auto.offset.reset", "error")
        // An open transaction of somebody else must not hide what stands behind it.
        .set("isolation.level", "read_uncommitted")
        .set("check.crcs", "true")
        // What is read is there. A question behind it keeps the next one of the same consumer,
        // for another topic, waiting for so long.
        .set("fetch.wait.max.ms", millis(KAFKA_FETCH_WAIT))
        .set("queued.max.messages.kbytes", "8192")
        .set(
            "fetch.message.max.bytes",
            KAFKA_RECORD_BYTES_MAX.to_string(),
        );
    config
}

fn millis(time: Duration) -> String {
    time.as_millis().to_string()
}
