//! The one producer of an instance: a batch goes out in a window, its answers are awaited.
//! Between append and the brokers.
//! Must never send a record a second time itself: the client does, in order and once.
//! Read next: `log/kafka/client.rs`.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer;
use rdkafka::producer::future_producer::{DeliveryFuture, FutureProducer, FutureRecord};
use rdkafka::types::RDKafkaErrorCode as Code;
use thiserror::Error;

use super::client::Quiet;
use super::wire::Outgoing;
use crate::limits::KAFKA_WINDOW_RECORDS;

/// How long to wait for room in the client's queue before looking again.
const ROOM_POLL: Duration = Duration::from_millis(5);
/// The client ends a record in time by itself; this is for a client that does not.
const CLIENT_SLACK: Duration = Duration::from_secs(5);

/// A batch was not acknowledged as a whole.
#[derive(Debug, Error)]
pub(super) enum Unsent {
    /// One of its records was refused, so that the batch never becomes whole.
    #[error("a record was refused")]
    Refused(#[source] KafkaError),
    /// Nothing was handed to the client.
    #[error("the client takes no record")]
    NotTaken(#[source] KafkaError),
    /// Nobody knows.
    #[error("a record was not acknowledged")]
    Unknown(#[source] KafkaError),
    /// Nobody knows, and nobody said so.
    #[error("no acknowledgement in time")]
    NoAnswer,
}

type Client = Arc<FutureProducer<Quiet>>;

/// The producer.
pub(super) struct Sender {
    config: ClientConfig,
    within: Duration,
    current: RwLock<Client>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sender(..)")
    }
}

impl Sender {
    pub(super) fn new(config: ClientConfig, within: Duration) -> Result<Self, KafkaError> {
        let current = RwLock::new(Arc::new(config.create_with_context(Quiet)?));
        Ok(Self {
            config,
            within,
            current,
        })
    }

    fn current(&self) -> Client {
        let current = self.current.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends a batch to a topic; the offsets of its records. After an error nothing may be sent
    /// there but a fence.
    pub(super) async fn send(&self, topic: &str, batch: Vec<Outgoing>) -> Result<Vec<i64>, Unsent> {
        let client = self.current();
        let limit = self.within + CLIENT_SLACK;
        let sending = send_all(&client, topic, batch);
        let sent = tokio::time::timeout(limit, sending).await;
        let sent = sent.unwrap_or(Err(Unsent::NoAnswer));
        if sent.is_err() {
            self.renew_if_dead(client);
        }
        sent
    }

    /// A client that met a fatal error takes no record any more.
    fn renew_if_dead(&self, client: Client) {
        let Some((code, text)) = client.client().fatal_error() else {
            return;
        };
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current, &client) {
            return;
        }
        tracing::warn!(%code, text, "the Kafka producer is replaced");
        match self.config.create_with_context(Quiet) {
            Ok(next) => {
                let former = std::mem::replace(&mut *current, Arc::new(next));
                drop(client);
                // Its end waits for its threads.
                drop(tokio::task::spawn_blocking(move || drop(former)));
            }
            Err(error) => tracing::error!(%error, "a Kafka producer cannot be made"),
        }
    }
}

async fn send_all(
    client: &FutureProducer<Quiet>,
    topic: &str,
    batch: Vec<Outgoing>,
) -> Result<Vec<i64>, Unsent> {
    let mut offsets = Vec::with_capacity(batch.len());
    let mut window: VecDeque<DeliveryFuture> = VecDeque::new();
    let mut failed = None;
    for outgoing in batch {
        if window.len() >= KAFKA_WINDOW_RECORDS {
            settle(window.pop_front(), &mut offsets, &mut failed).await;
        }
        if failed.is_some() {
            break;
        }
        match hand_over(
            client,
            topic,
            outgoing,
            &mut window,
            &mut offsets,
            &mut failed,
        )
        .await
        {
            Ok(sent) => window.push_back(sent),
            Err(error) if offsets.is_empty() && window.is_empty() => {
                return Err(Unsent::NotTaken(error));
            }
            Err(error) => failed = Some(Unsent::Refused(error)),
        }
    }
    while !window.is_empty() {
        settle(window.pop_front(), &mut offsets, &mut failed).await;
    }
    failed.map_or(Ok(offsets), Err)
}

/// Hands one record to the client, which may have no room for it yet.
async fn hand_over(
    client: &FutureProducer<Quiet>,
    topic: &str,
    outgoing: Outgoing,
    window: &mut VecDeque<DeliveryFuture>,
    offsets: &mut Vec<i64>,
    failed: &mut Option<Unsent>,
) -> Result<DeliveryFuture, KafkaError> {
    let Outgoing {
        key,
        headers,
        payload,
    } = outgoing;
    let mut record = FutureRecord::to(topic)
        .partition(0)
        .payload(payload.as_slice())
        .headers(headers);
    record.key = key.as_deref();
    loop {
        match client.send_result(record) {
            Ok(sent) => return Ok(sent),
            Err((error, back)) if error.rdkafka_error_code() == Some(Code::QueueFull) => {
                record = back;
                match window.pop_front() {
                    Some(first) => settle(Some(first), offsets, failed).await,
                    None => tokio::time::sleep(ROOM_POLL).await,
                }
            }
            Err((error, _)) => return Err(error),
        }
    }
}

/// Awaits one answer; the surest of all errors stands for the batch.
async fn settle(sent: Option<DeliveryFuture>, offsets: &mut Vec<i64>, failed: &mut Option<Unsent>) {
    let Some(sent) = sent else { return };
    match sent.await {
        Ok(Ok(delivery)) => offsets.push(delivery.offset),
        Ok(Err((error, _))) if is_refusal(&error) => *failed = Some(Unsent::Refused(error)),
        Ok(Err((error, _))) => {
            failed.get_or_insert(Unsent::Unknown(error));
        }
        Err(_) => {
            failed.get_or_insert(Unsent::NoAnswer);
        }
    }
}

/// Whether a broker said no, or the client before it asked: the record is nowhere.
fn is_refusal(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::MessageSizeTooLarge
                | Code::MessageBatchTooLarge
                | Code::InvalidMessageSize
                | Code::InvalidTopic
                | Code::InvalidRecord
                | Code::InvalidRequiredAcks
                | Code::TopicAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::PolicyViolation
                | Code::UnknownTopic
                | Code::UnknownPartition
        )
    )
}
