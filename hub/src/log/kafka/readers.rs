//! A few consumers that read any stretch of any topic, each from where it is told.
//! For what is not in memory: catching up, replays, the tail at a takeover.
//! Must never join a group, store an offset, or jump to another one.
//! Read next: `log/kafka/recent.rs`.

use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};
use thiserror::Error;
use tokio::sync::Semaphore;

use super::client::Quiet;
use super::view::Place;
use super::wire::{self, Seen};
use crate::event::Position;
use crate::limits::{KAFKA_ASK_TIMEOUT, KAFKA_READERS, KAFKA_REQUEST_TIMEOUT};

/// A stretch could not be read.
#[derive(Debug, Error)]
pub(super) enum Unread {
    /// The topic does not hold the offset.
    #[error("the topic does not hold the offset that was asked for")]
    Gone,
    /// The brokers gave no answer in time.
    #[error("the brokers gave no answer in time")]
    NoAnswer(#[source] Option<KafkaError>),
    /// The client failed.
    #[error("the client failed")]
    Failed(#[from] KafkaError),
    /// The task did not end.
    #[error("reading did not end")]
    Broken(#[from] tokio::task::JoinError),
}

/// What to read: from an offset up to one before which something is known to stand.
#[derive(Debug)]
pub(super) struct Stretch {
    pub(super) place: Place,
    pub(super) topic: String,
    pub(super) from: i64,
    pub(super) until: i64,
}

struct Reader {
    consumer: BaseConsumer<Quiet>,
    /// What it reads next without being told anew.
    topic: String,
    next: i64,
}

/// The consumers.
pub(super) struct Readers {
    config: ClientConfig,
    idle: Arc<Mutex<Vec<Reader>>>,
    permits: Arc<Semaphore>,
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Readers(..)")
    }
}

impl Readers {
    pub(super) fn new(config: ClientConfig) -> Self {
        Self {
            config,
            idle: Arc::default(),
            permits: Arc::new(Semaphore::new(KAFKA_READERS)),
        }
    }

    /// Gives what stands in a stretch to `take`, which may end it with what it was given.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        stretch: Stretch,
        mut state: T,
        mut take: impl FnMut(&mut T, Position, Seen) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, Unread> {
        // The semaphore lives as long as the readers, so that it is never closed.
        let permit = self.permits.clone().acquire_owned().await.ok();
        let (config, idle) = (self.config.clone(), self.idle.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let mut reader = Reader::take(&idle, &config, &stretch)?;
            let place = stretch.place.clone();
            reader.read(&stretch, &mut |message| {
                let seen = wire::read(&place.municipality, place.stream, message);
                take(&mut state, wire::position(message.offset()), seen)
            })?;
            lock(&idle).push(reader);
            drop(permit);
            Ok(state)
        });
        reading.await?
    }
}

fn lock(idle: &Mutex<Vec<Reader>>) -> std::sync::MutexGuard<'_, Vec<Reader>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reader {
    /// The one that stands there already, else the one that waited longest, else a new one.
    fn take(
        idle: &Mutex<Vec<Reader>>,
        config: &ClientConfig,
        stretch: &Stretch,
    ) -> Result<Self, Unread> {
        let mut idle = lock(idle);
        let there = |reader: &Reader| reader.is_at(stretch);
        match idle.iter().position(there) {
            Some(at) => Ok(idle.remove(at)),
            None if idle.is_empty() => Ok(Self {
                consumer: config.create_with_context(Quiet)?,
                topic: String::new(),
                next: 0,
            }),
            None => Ok(idle.remove(0)),
        }
    }

    fn is_at(&self, stretch: &Stretch) -> bool {
        self.topic == stretch.topic && self.next == stretch.from
    }

    /// Asks who leads a topic. By itself the client would look up one that is new to it within a
    /// second; what fails here it does again.
    fn learn(&self, topic: &str) {
        let asked = self
            .consumer
            .fetch_metadata(Some(topic), KAFKA_REQUEST_TIMEOUT);
        if let Err(error) = asked {
            tracing::debug!(%error, topic, "nobody tells who leads a topic");
        }
    }

    fn read(
        &mut self,
        stretch: &Stretch,
        take: &mut dyn FnMut(&BorrowedMessage<'_>) -> ControlFlow<()>,
    ) -> Result<(), Unread> {
        let Stretch {
            topic, from, until, ..
        } = stretch;
        if !self.is_at(stretch) {
            self.learn(topic);
            let mut place = TopicPartitionList::with_capacity(1);
            place.add_partition_offset(topic, 0, Offset::Offset(*from))?;
            self.consumer.assign(&place)?;
            self.topic.clone_from(topic);
            self.next = *from;
        }
        let started = Instant::now();
        let mut last = None;
        while self.next < *until {
            let left = KAFKA_ASK_TIMEOUT.saturating_sub(started.elapsed());
            if left.is_zero() {
                return Err(Unread::NoAnswer(last));
            }
            match self.consumer.poll(left) {
                None => {}
                Some(Err(error)) if is_gone(&error) => return Err(Unread::Gone),
                Some(Err(error)) if is_final(&error) => return Err(error.into()),
                Some(Err(error)) => last = Some(error),
                // What an assignment before this one left behind.
                Some(Ok(message)) if message.topic() != topic || message.offset() < self.next => {}
                Some(Ok(message)) => {
                    self.next = message.offset() + 1;
                    if message.offset() >= *until || take(&message).is_break() {
                        break;
                    }
                }
            }
        }
        if self.next >= *until {
            // Nobody asks the brokers for ever for what is not there yet.
            self.consumer.unassign()?;
            self.topic.clear();
        }
        Ok(())
    }
}

fn is_gone(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(Code::AutoOffsetReset | Code::OffsetOutOfRange)
    )
}

/// What waiting does not mend.
fn is_final(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::Fatal
                | Code::Authentication
                | Code::SSL
                | Code::TopicAuthorizationFailed
                | Code::GroupAuthorizationFailed
                | Code::ClusterAuthorizationFailed
                | Code::UnknownTopic
                | Code::UnknownPartition
                | Code::UnknownTopicOrPartition
        )
    )
}
