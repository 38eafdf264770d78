//! The log on Apache Kafka: a topic of one partition per municipality and stream.
//! Implements the log seam for a hub of several instances; position = offset + 1.
//! Must never acknowledge what does not count, nor give out what a later fence overruled.
//! Read next: `log/kafka/settle.rs`, `log/kafka/view.rs`, `docs/specs/log.md`.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rdkafka::error::KafkaError;
use thiserror::Error;
use tokio::sync::watch;

use super::fences::FenceBook;
use super::{
    AppendError, Bounds, Capabilities, EventLog, Kept, LogError, NewRecord, ReadLimit, Record,
    Tails,
};
use crate::clock::now_ms;
use crate::event::{Municipality, Position, Stream};
use crate::limits::{KAFKA_APPEND_TIMEOUT, KAFKA_RECENT_BYTES};

mod append;
pub(crate) mod client;
mod concerns;
pub mod look;
mod moved;
mod readers;
mod reading;
mod recent;
mod sender;
mod settle;
#[cfg(test)]
mod tests;
mod topics;
mod view;
mod weakness;
mod wire;

use readers::Readers;
use recent::Recent;
use sender::Sender;
use topics::Topics;
use view::{Place, View};
pub use weakness::Weakness;

/// Which brokers, and how the topics are made.
#[derive(Clone)]
pub struct KafkaConfig {
    /// Addresses, as `kafka-1:9092,kafka-2:9092`.
    pub brokers: String,
    /// Further properties of the client, as credentials; what the log promises they cannot change.
    pub properties: Vec<(String, String)>,
    /// First part of the topics' names.
    pub prefix: String,
    /// Replicas of a topic that is made.
    pub replication: i32,
    /// Work on topics that promise less than the log does, and say so.
    pub allow_weak_topics: bool,
    /// When an append without an acknowledgement counts as one of unknown outcome.
    pub append_within: Duration,
}

impl KafkaConfig {
    /// What is right for a cluster of three brokers and more.
    pub fn new(brokers: &str) -> Self {
        Self {
            brokers: brokers.to_owned(),
            properties: Vec::new(),
            prefix: "musubi".to_owned(),
            replication: 3,
            allow_weak_topics: false,
            append_within: KAFKA_APPEND_TIMEOUT,
        }
    }
}

/// Properties hold passwords.
impl std::fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaConfig")
            .field("brokers", &self.brokers)
            .field("replication", &self.replication)
            .finish_non_exhaustive()
    }
}

/// The brokers cannot be used.
#[derive(Debug, Error)]
pub enum OpenKafkaError {
    /// A property is wrong.
    #[error("the Kafka client refuses its settings")]
    Settings(#[from] KafkaError),
    /// Nobody answers.
    #[error(
        "no Kafka broker of `{0}` answers; check the addresses, the network and the credentials"
    )]
    NoAnswer(String),
}

/// One stream of one municipality.
#[derive(Debug, Default)]
struct Slot {
    /// Who appends or settles; one after the other.
    turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

/// What is known of it.
#[derive(Debug, Default)]
struct Known {
    /// Epoch of this owner; 0 when another instance owns it, or nobody.
    epoch: u64,
    /// `None` while the tail has to be settled.
    view: Option<View>,
    /// As it was settled or appended last: what stood then can be read meanwhile.
    readable: Option<View>,
    /// Places of foreign records that were said.
    set_aside: BTreeSet<Position>,
    /// When the topic's settings were looked at last.
    checked: Option<std::time::Instant>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The log on Kafka.
#[derive(Debug)]
pub struct KafkaLog {
    config: KafkaConfig,
    cluster_id: String,
    book: Arc<dyn FenceBook>,
    topics: Topics,
    sender: Sender,
    readers: Readers,
    recent: Recent,
    tails: Tails,
    slots: Mutex<HashMap<Place, Arc<Slot>>>,
    set_aside: AtomicU64,
}

impl KafkaLog {
    /// Finds the brokers. A municipality can be used from `own` on.
    pub async fn open(
        config: KafkaConfig,
        book: Arc<dyn FenceBook>,
    ) -> Result<Self, OpenKafkaError> {
        let base = client::base(&config.brokers, &config.properties);
        let consumer = client::consumer(&base);
        let topics = Topics::new(&base, &consumer, &config.brokers, config.replication)?;
        let cluster_id = topics.cluster_id().await.ok().flatten();
        let no_answer = || OpenKafkaError::NoAnswer(config.brokers.clone());
        Ok(Self {
            cluster_id: cluster_id.ok_or_else(no_answer)?,
            book,
            topics,
            sender: Sender::new(
                client::producer(&base, config.append_within),
                config.append_within,
            )?,
            readers: Readers::new(consumer),
            recent: Recent::new(KAFKA_RECENT_BYTES),
            tails: Tails::default(),
            slots: Mutex::default(),
            set_aside: AtomicU64::new(0),
            config,
        })
    }

    /// The id that the cluster gave itself.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// Settings of a client of the brokers, to which its own are added.
    pub fn client(&self) -> rdkafka::ClientConfig {
        client::base(&self.config.brokers, &self.config.properties)
    }

    /// Makes the topics of a municipality that is new, so that the instances see it.
    ///
    /// # Errors
    /// When the brokers do not answer, or topics that are there promise too little.
    pub async fn make_topics(&self, m: &Municipality) -> Result<(), LogError> {
        let made =
            Stream::ALL.map(|stream| async move { self.prepare(&Place::new(m, stream)).await });
        futures::future::try_join_all(made).await.map(|_| ())
    }

    /// What the topics promise less than the log does: allowed, and to be said again.
    pub fn weaknesses(&self) -> Vec<Weakness> {
        self.topics.weaknesses()
    }

    /// Foreign records that were found in the topics and set aside, since the start.
    pub fn set_aside(&self) -> u64 {
        self.set_aside.load(Ordering::Relaxed)
    }

    fn topic(&self, place: &Place) -> String {
        let Place {
            municipality,
            stream,
        } = place;
        format!("{}.{municipality}.{}", self.config.prefix, stream.name())
    }

    fn slot(&self, place: &Place) -> Arc<Slot> {
        let slots = self.slots.lock();
        let mut slots = slots.unwrap_or_else(PoisonError::into_inner);
        slots.entry(place.clone()).or_default().clone()
    }

    /// The topic, made if it was never there, and good enough.
    async fn prepare(&self, place: &Place) -> Result<(), LogError> {
        let topic = self.topic(place);
        let asked = |source| place.failed("preparing the topic of", source);
        if !self.topics.is_there(&topic).await.map_err(asked)? {
            let fences = self.book.fences(&place.municipality, place.stream).await;
            let fences = fences.map_err(|e| place.failed("reading the fences of", e))?;
            if let Some(last) = fences.iter().rev().find(|fence| fence.end.is_some()) {
                return Err(place.replaced(topic, last.position));
            }
            self.topics.make(&topic).await.map_err(asked)?;
        }
        let found = self.topics.check(&topic).await.map_err(asked)?;
        let allowed = self.config.allow_weak_topics;
        let mut refused = found.iter().filter(|w| !allowed || !w.can_be_allowed());
        if let Some(weakness) = refused.next() {
            return Err(LogError::WeakTopic(Box::new(weakness.clone())));
        }
        self.topics.note(&topic, found);
        Ok(())
    }

    async fn own_stream(&self, place: Place, epoch: u64) -> Result<(), LogError> {
        let slot = self.slot(&place);
        let _turn = slot.turn.lock().await;
        {
            let mut known = slot.lock();
            if known.epoch == epoch && known.view.is_some() {
                return Ok(());
            }
            known.epoch = 0;
            known.view = None;
            known.readable = None;
        }
        self.prepare(&place).await?;
        self.settle_slot(&slot, &place, epoch).await.map(|_| ())
    }

    /// Settles the tail in its turn.
    async fn settle_slot(&self, slot: &Slot, place: &Place, epoch: u64) -> Result<View, LogError> {
        let settled = self.settle(place, epoch).await;
        self.recent.forget(place);
        let mut known = slot.lock();
        match settled {
            Ok(view) => {
                known.epoch = epoch;
                known.view = Some(view.clone());
                known.readable = Some(view.clone());
                drop(known);
                self.tails
                    .moved(&place.municipality, place.stream, view.next());
                Ok(view)
            }
            Err(error) => {
                if matches!(error, LogError::TakenOver { .. }) {
                    known.epoch = 0;
                    known.readable = None;
                }
                Err(error)
            }
        }
    }

    /// The view of a stream that this instance owns; settles the tail first when it must.
    async fn view(&self, place: &Place) -> Result<(Arc<Slot>, View), LogError> {
        let slot = self.slot(place);
        let known = slot.lock().view.clone();
        if let Some(view) = known {
            return Ok((slot, view));
        }
        let turn = slot.turn.lock().await;
        let view = self.view_in_turn(&slot, place).await?;
        drop(turn);
        Ok((slot, view))
    }

    async fn view_in_turn(&self, slot: &Slot, place: &Place) -> Result<View, LogError> {
        let (epoch, known) = {
            let known = slot.lock();
            (known.epoch, known.view.clone())
        };
        match known {
            Some(view) => Ok(view),
            None if epoch == 0 => Err(LogError::NotOwned(place.municipality.clone())),
            None => self.settle_slot(slot, place, epoch).await,
        }
    }
}

#[async_trait]
impl EventLog for KafkaLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            repeats_possible: false,
            durable: true,
        }
    }

    async fn own(&self, m: &Municipality, owner_epoch: u64) -> Result<(), LogError> {
        let own = Stream::ALL.map(|stream| self.own_stream(Place::new(m, stream), owner_epoch));
        futures::future::try_join_all(own).await.map(|_| ())
    }

    async fn append(
        &self,
        m: &Municipality,
        stream: Stream,
        batch: Vec<NewRecord>,
    ) -> Result<Vec<Position>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let now_s = now_ms() / 1_000;
        self.write(&Place::new(m, stream), batch, |_| now_s).await
    }

    async fn read(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, LogError> {
        let place = Place::new(m, stream);
        // Reading waits for no append, and for no brokers that hang.
        let slot = self.slot(&place);
        let readable = slot.lock().readable.clone();
        let (slot, view) = match readable {
            Some(view) => (slot, view),
            None => self.view(&place).await?,
        };
        let from = from.max(Position(1));
        if from < view.first {
            return Err(LogError::Trimmed {
                municipality: m.clone(),
                stream,
                position: from,
                first: view.first,
            });
        }
        if from >= view.next() {
            return Ok(Vec::new());
        }
        if let Some(records) = self.recent.read(&place, from, limit) {
            return Ok(records);
        }
        let stored = self.read_topic(&slot, &place, &view, from, limit).await?;
        Ok(stored.into_iter().map(|stored| stored.record).collect())
    }

    async fn bounds(&self, m: &Municipality, stream: Stream) -> Result<Bounds, LogError> {
        let (_, view) = self.view(&Place::new(m, stream)).await?;
        Ok(Bounds {
            first: view.first,
            next: view.next(),
        })
    }

    async fn kept_from(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
    ) -> Result<Option<Kept>, LogError> {
        let place = Place::new(m, stream);
        let (slot, view) = self.view(&place).await?;
        let from = from.max(view.first);
        if from >= view.next() {
            return Ok(None);
        }
        let first = match self.recent.first(&place, from) {
            Some(first) => Some(first),
            None => {
                let one = ReadLimit {
                    records: 1,
                    bytes: 1,
                };
                let read = self.read_topic(&slot, &place, &view, from, one).await?;
                read.into_iter().next()
            }
        };
        Ok(first.map(|first| Kept {
            since_s: first.marks.at_s,
            bytes: view.end.written.saturating_sub(first.marks.before),
        }))
    }

    fn watch_tail(&self, m: &Municipality, stream: Stream) -> watch::Receiver<Position> {
        self.tails.watch(m, stream)
    }

    async fn trim(
        &self,
        m: &Municipality,
        stream: Stream,
        up_to: Position,
    ) -> Result<(), LogError> {
        self.forget_before(&Place::new(m, stream), |view| up_to.min(view.next()))
            .await
    }
}
