//! The topics: made on first use, and checked whenever they are taken over.
//! Under `own`; what a topic promises less than the log does is refused, or said again and again.
//! Must never change a topic that is there: its operator does, by the command that is named.
//! Read next: `docs/specs/log.md` (Kafka), `log/kafka/settle.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaErrorCode as Code;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use thiserror::Error;

use super::client::Quiet;
use super::weakness::{Shape, Weakness, weaknesses};
use crate::limits::{KAFKA_ASK_TIMEOUT, KAFKA_RECORD_BYTES_MAX, KAFKA_REQUEST_TIMEOUT};

/// How long to wait before a new topic is looked for again.
const TOPIC_POLL: Duration = Duration::from_millis(20);

/// A question to the brokers had no good answer.
#[derive(Debug, Error)]
pub(super) enum Unanswered {
    /// The client or a broker failed.
    #[error("the brokers did not answer as they should")]
    Failed(#[from] KafkaError),
    /// A broker said no.
    #[error("a broker refused: {0}")]
    Refused(Code),
    /// A topic is not there in time.
    #[error("the topic `{0}` has no leader")]
    NoLeader(String),
    /// No broker tells the settings of a topic in time.
    #[error("no broker tells the settings of the topic `{0}`")]
    NoSettings(String),
    /// The task did not end.
    #[error("asking did not end")]
    Broken(#[from] tokio::task::JoinError),
}

type Admin = AdminClient<DefaultClientContext>;

/// Makes, checks, measures and trims topics.
pub(super) struct Topics {
    base: ClientConfig,
    admin: Mutex<Arc<Admin>>,
    asker: Arc<BaseConsumer<Quiet>>,
    brokers: String,
    replication: i32,
    weaknesses: Mutex<BTreeMap<String, Vec<Weakness>>>,
}

impl std::fmt::Debug for Topics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Topics(..)")
    }
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(KAFKA_REQUEST_TIMEOUT))
        .operation_timeout(Some(KAFKA_REQUEST_TIMEOUT))
}

impl Topics {
    pub(super) fn new(
        base: &ClientConfig,
        consumer: &ClientConfig,
        brokers: &str,
        replication: i32,
    ) -> Result<Self, KafkaError> {
        Ok(Self {
            base: base.clone(),
            admin: Mutex::new(Arc::new(base.create()?)),
            asker: Arc::new(consumer.create_with_context(Quiet)?),
            brokers: brokers.to_owned(),
            replication,
            weaknesses: Mutex::default(),
        })
    }

    /// The id of the cluster, when it tells one.
    pub(super) async fn cluster_id(&self) -> Result<Option<String>, Unanswered> {
        self.ask(|asker| Ok(asker.client().fetch_cluster_id(KAFKA_ASK_TIMEOUT)))
            .await
    }

    /// First offset and next offset of a topic.
    pub(super) async fn watermarks(&self, topic: &str) -> Result<(i64, i64), Unanswered> {
        let started = Instant::now();
        loop {
            let topic = topic.to_owned();
            let asked = self.ask(move |asker| asker.fetch_watermarks(&topic, 0, KAFKA_ASK_TIMEOUT));
            match asked.await {
                Err(Unanswered::Failed(error))
                    if (is_passing(&error)
                        || error.rdkafka_error_code().is_some_and(is_nobody))
                        && started.elapsed() < KAFKA_ASK_TIMEOUT =>
                {
                    tokio::time::sleep(TOPIC_POLL).await;
                }
                answer => return answer,
            }
        }
    }

    /// Lets a topic forget what stands before an offset.
    pub(super) async fn trim(&self, topic: &str, offset: i64) -> Result<(), Unanswered> {
        let mut upto = TopicPartitionList::with_capacity(1);
        upto.add_partition_offset(topic, 0, Offset::Offset(offset))?;
        let trim = |admin: &Admin| admin.delete_records(&upto, &options());
        let trimmed = self.administer(trim).await?;
        for element in trimmed.elements() {
            element.error()?;
        }
        Ok(())
    }

    /// True when the topic is there. That it is not, only the controller knows for sure: any other
    /// broker may be behind.
    pub(super) async fn is_there(&self, topic: &str) -> Result<bool, Unanswered> {
        if self.shape(topic).await?.is_some() {
            return Ok(true);
        }
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(self.replication));
        let only_look = options().validate_only(true);
        let look = |admin: &Admin| admin.create_topics([&new], &only_look);
        let looked = self.administer(look).await?;
        match looked.into_iter().next() {
            Some(Err((_, Code::TopicAlreadyExists))) => Ok(true),
            Some(Err((_, code))) => Err(Unanswered::Refused(code)),
            _ => Ok(false),
        }
    }

    /// Makes a topic, unless somebody else just did; returns when it can be written.
    pub(super) async fn make(&self, topic: &str) -> Result<(), Unanswered> {
        let bytes = KAFKA_RECORD_BYTES_MAX.to_string();
        let in_sync = self.replication.min(2).to_string();
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(self.replication))
            .set("min.insync.replicas", &in_sync)
            .set("cleanup.policy", "delete")
            .set("retention.ms", "-1")
            .set("retention.bytes", "-1")
            .set("unclean.leader.election.enable", "false")
            // Brokers refuse a producer whose clock is an hour ahead, unless they set the times.
            .set("message.timestamp.type", "LogAppendTime")
            .set("max.message.bytes", &bytes);
        let make = |admin: &Admin| admin.create_topics([&new], &options());
        for made in self.administer(make).await? {
            match made {
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => {}
                Err((_, code)) => return Err(Unanswered::Refused(code)),
            }
        }
        self.shape_with_leader(topic).await.map(|_| ())
    }

    /// The shape of a topic that is there, once the brokers that are asked know it too.
    async fn shape_with_leader(&self, topic: &str) -> Result<Shape, Unanswered> {
        let started = Instant::now();
        while started.elapsed() < KAFKA_ASK_TIMEOUT {
            let shape = self.shape(topic).await?;
            if let Some(shape) = shape.filter(|shape| shape.has_leader) {
                return Ok(shape);
            }
            tokio::time::sleep(TOPIC_POLL).await;
        }
        Err(Unanswered::NoLeader(topic.to_owned()))
    }

    /// What a topic promises less than the log does, now.
    pub(super) async fn check(&self, topic: &str) -> Result<Vec<Weakness>, Unanswered> {
        let shape = self.shape_with_leader(topic).await?;
        let settings = self.settings(topic).await?;
        Ok(weaknesses(&self.brokers, topic, shape, &settings))
    }

    /// The settings of a topic that is there. A broker to which the topic is still new names none,
    /// and the client does not tell its error: what is empty is asked for again.
    async fn settings(&self, topic: &str) -> Result<ConfigResource, Unanswered> {
        let resource = [ResourceSpecifier::Topic(topic)];
        let describe = |admin: &Admin| admin.describe_configs(&resource, &options());
        let started = Instant::now();
        while started.elapsed() < KAFKA_ASK_TIMEOUT {
            for settings in self.administer(describe).await? {
                let settings = settings.map_err(Unanswered::Refused)?;
                if !settings.entries.is_empty() {
                    return Ok(settings);
                }
            }
            tokio::time::sleep(TOPIC_POLL).await;
        }
        Err(Unanswered::NoSettings(topic.to_owned()))
    }

    /// Notes what a topic promises less, instead of what was noted of it before.
    pub(super) fn note(&self, topic: &str, found: Vec<Weakness>) {
        let known = self.weaknesses.lock();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let before = known.remove(topic).unwrap_or_default();
        for weakness in found.iter().filter(|weak| !before.contains(weak)) {
            tracing::warn!(%weakness, "a topic promises less than the log; this was allowed");
        }
        if !found.is_empty() {
            known.insert(topic.to_owned(), found);
        }
    }

    /// How many settings of a topic are known to be weak.
    pub(super) fn weak_settings(&self, topic: &str) -> usize {
        let known = self.weaknesses.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        known.get(topic).map_or(0, Vec::len)
    }

    /// All that is known.
    pub(super) fn weaknesses(&self) -> Vec<Weakness> {
        let known = self.weaknesses.lock();
        let known = known.unwrap_or_else(PoisonError::into_inner);
        known.values().flatten().cloned().collect()
    }

    async fn shape(&self, topic: &str) -> Result<Option<Shape>, Unanswered> {
        let name = topic.to_owned();
        self.ask(move |asker| {
            let all = asker.fetch_metadata(Some(&name), KAFKA_ASK_TIMEOUT)?;
            let found = all.topics().iter().find(|topic| topic.name() == name);
            Ok(found
                .filter(|topic| !topic.partitions().is_empty())
                .map(|topic| Shape {
                    partitions: topic.partitions().len(),
                    replicas: topic
                        .partitions()
                        .first()
                        .map_or(0, |partition| partition.replicas().len()),
                    has_leader: topic.partitions().iter().all(|p| p.leader() >= 0),
                }))
        })
        .await
    }

    /// An act that can be done again. A client sends it to the broker that it took for the
    /// controller; when that one is gone, a client that begins anew finds another.
    async fn administer<T, F>(&self, act: impl Fn(&Admin) -> F) -> Result<T, Unanswered>
    where
        F: Future<Output = KafkaResult<T>>,
    {
        let started = Instant::now();
        loop {
            let admin = self.admin().clone();
            match act(&admin).await {
                Err(KafkaError::AdminOp(code))
                    if is_nobody(code) && started.elapsed() < KAFKA_ASK_TIMEOUT =>
                {
                    let mut known = self.admin();
                    if Arc::ptr_eq(&known, &admin) {
                        *known = Arc::new(self.base.create()?);
                    }
                }
                answer => return Ok(answer?),
            }
        }
    }

    fn admin(&self) -> MutexGuard<'_, Arc<Admin>> {
        self.admin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A question that waits for its answer in a thread of its own.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer<Quiet>) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, Unanswered> {
        let asker = self.asker.clone();
        Ok(tokio::task::spawn_blocking(move || question(&asker)).await??)
    }
}

/// The broker that was asked is not there, or not the one to ask.
fn is_nobody(code: Code) -> bool {
    matches!(
        code,
        Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::BrokerTransportFailure
            | Code::NotController
    )
}

/// What a broker says of a topic that is new to it, or changes its leader.
fn is_passing(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
        )
    )
}
