//! What a look at a deployment asks the brokers: who answers, which topics, who is in the group.
//! Beside the log: an operator's command calls it, no instance does.
//! Must never change anything, join a group, or read what a record holds.
//! Read next: `doctor.rs`, `log/kafka/weakness.rs`.

use std::collections::HashMap;
use std::time::Instant;

use rdkafka::admin::{AdminClient, AdminOptions, OwnedResourceSpecifier, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::metadata::MetadataTopic;
use rdkafka::{ClientConfig, Message, Offset, TopicPartitionList};

use super::client::{self, Quiet};
use super::weakness::{Shape, Weakness, weaknesses};
use super::{KafkaConfig, wire};
use crate::event::Position;
use crate::limits::{LOOK_ASK, LOOK_BATCH};

/// A broker, and whether it answered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broker {
    /// `host:port`.
    pub address: String,
    /// Why it did not; `None` when it did.
    pub trouble: Option<String>,
}

/// A topic as its brokers describe it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Topic {
    /// Name.
    pub name: String,
    /// What it promises less than the log does.
    pub weaknesses: Vec<Weakness>,
    /// Partitions without a leader.
    pub leaderless: usize,
    /// Partitions that lack a replica in sync.
    pub under_replicated: usize,
    /// How long it keeps a record; `None` for ever.
    pub retention_ms: Option<i64>,
}

/// The group of all instances.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// State, as its coordinator calls it.
    pub state: String,
    /// Members.
    pub members: usize,
}

/// Where a topic begins, and what stands at a place of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// First position that there is.
    pub first: Position,
    /// Next position to be given.
    pub next: Position,
    /// When the record at the place was written; `None` when there is none.
    pub written_ms: Option<i64>,
}

/// A client that looks.
#[derive(Clone)]
pub struct Look {
    config: KafkaConfig,
    client: ClientConfig,
}

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look(..)")
    }
}

/// Asks in a thread of its own.
async fn beside<T: Send + 'static>(
    question: impl FnOnce() -> Result<T, KafkaError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

impl Look {
    /// Nothing is asked yet.
    pub fn new(config: KafkaConfig) -> Self {
        let base = client::base(&config.brokers, &config.properties);
        let client = client::consumer(&base);
        Self { config, client }
    }

    /// Asks each broker: those of the configuration, and those that they name.
    pub async fn brokers(&self) -> Vec<Broker> {
        let configured = self.config.brokers.split(',').map(str::to_owned);
        let mut found = self.each(configured.collect()).await;
        let client = self.client.clone();
        let named = beside(move || {
            let asker: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
            let all = asker.fetch_metadata(None, LOOK_ASK)?;
            let named = all.brokers().iter();
            Ok(named
                .map(|b| format!("{}:{}", b.host(), b.port()))
                .collect())
        });
        let mut named: Vec<String> = named.await.unwrap_or_default();
        named.retain(|address| found.iter().all(|broker| broker.address != *address));
        found.extend(self.each(named).await);
        found
    }

    async fn each(&self, addresses: Vec<String>) -> Vec<Broker> {
        let asked = addresses.into_iter().map(|address| {
            let mut client = self.client.clone();
            client.set("bootstrap.servers", &address);
            async move {
                let asked = beside(move || {
                    let asker: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
                    // Some answer is enough: the id comes with the first one.
                    let id = asker.client().fetch_cluster_id(LOOK_ASK);
                    id.ok_or_else(|| KafkaError::ClientCreation("no answer".to_owned()))
                });
                Broker {
                    trouble: asked.await.err(),
                    address,
                }
            }
        });
        futures::future::join_all(asked).await
    }

    /// The id that the cluster gave itself.
    pub async fn cluster_id(&self) -> Option<String> {
        let client = self.client.clone();
        let asked = beside(move || {
            let asker: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
            Ok(asker.client().fetch_cluster_id(LOOK_ASK))
        });
        asked.await.ok().flatten()
    }

    /// All topics of the hub's.
    ///
    /// # Errors
    /// The brokers' answer, when they give none that is of use.
    pub async fn topics(&self) -> Result<Vec<Topic>, String> {
        let (client, prefix) = (self.client.clone(), format!("{}.", self.config.prefix));
        let seen = beside(move || {
            let asker: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
            let all = asker.fetch_metadata(None, LOOK_ASK)?;
            let ours = all
                .topics()
                .iter()
                .filter(|t| t.name().starts_with(&prefix));
            Ok(ours.map(seen).collect::<Vec<_>>())
        });
        let mut seen = seen.await?;
        seen.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
        let admin: AdminClient<DefaultClientContext> = self
            .client
            .create()
            .map_err(|error: KafkaError| error.to_string())?;
        let options = AdminOptions::new().request_timeout(Some(LOOK_ASK));
        for some in seen.chunks_mut(LOOK_BATCH) {
            let names: Vec<String> = some.iter().map(|(topic, _)| topic.name.clone()).collect();
            let asked = names.iter().map(|name| ResourceSpecifier::Topic(name));
            let asked: Vec<_> = asked.collect();
            let described = admin.describe_configs(&asked, &options).await;
            let described = described.map_err(|error| error.to_string())?;
            let mut by_name: HashMap<String, _> = HashMap::new();
            for settings in described {
                let settings = settings.map_err(|code| code.to_string())?;
                if let OwnedResourceSpecifier::Topic(name) = &settings.specifier {
                    if settings.entries.is_empty() {
                        return Err(format!("no broker tells the settings of `{name}` yet"));
                    }
                    by_name.insert(name.clone(), settings);
                }
            }
            for (topic, shape) in some {
                let Some(settings) = by_name.get(&topic.name) else {
                    continue;
                };
                let brokers = &self.config.brokers;
                topic.weaknesses = weaknesses(brokers, &topic.name, *shape, settings);
                let retention = settings.get("retention.ms");
                let retention = retention.and_then(|entry| entry.value.as_ref());
                let retention = retention.and_then(|value| value.parse().ok());
                topic.retention_ms = retention.filter(|ms: &i64| *ms >= 0);
            }
        }
        Ok(seen.into_iter().map(|(topic, _)| topic).collect())
    }

    /// The group of all instances.
    ///
    /// # Errors
    /// The brokers' answer, when they give none that is of use.
    pub async fn group(&self, name: &str) -> Result<Option<Group>, String> {
        let (client, name) = (self.client.clone(), name.to_owned());
        beside(move || {
            let asker: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
            let all = asker.fetch_group_list(Some(&name), LOOK_ASK)?;
            let found = all.groups().iter().find(|group| group.name() == name);
            Ok(found.map(|group| Group {
                state: group.state().to_owned(),
                members: group.members().len(),
            }))
        })
        .await
    }

    /// What stands at a place of a topic.
    ///
    /// # Errors
    /// The brokers' answer, when they give none that is of use.
    pub async fn at(&self, topic: &str, place: Position) -> Result<At, String> {
        let (client, topic) = (self.client.clone(), topic.to_owned());
        beside(move || {
            let asker: BaseConsumer<Quiet> = client.create_with_context(Quiet)?;
            let (low, high) = asker.fetch_watermarks(&topic, 0, LOOK_ASK)?;
            let (first, next) = (wire::position(low), wire::position(high));
            let is_there = place >= first && place < next;
            let written_ms = match is_there {
                true => written_ms(&asker, &topic, wire::offset(place))?,
                false => None,
            };
            Ok(At {
                first,
                next,
                written_ms,
            })
        })
        .await
    }
}

/// When the record at an offset was written.
fn written_ms(
    asker: &BaseConsumer<Quiet>,
    topic: &str,
    offset: i64,
) -> Result<Option<i64>, KafkaError> {
    let mut place = TopicPartitionList::with_capacity(1);
    place.add_partition_offset(topic, 0, Offset::Offset(offset))?;
    asker.assign(&place)?;
    let started = Instant::now();
    while let Some(left) = LOOK_ASK.checked_sub(started.elapsed()) {
        if let Some(message) = asker.poll(left) {
            return Ok(message?.timestamp().to_millis());
        }
    }
    Ok(None)
}

fn seen(topic: &MetadataTopic) -> (Topic, Shape) {
    let partitions = topic.partitions();
    let count = |is: fn(&rdkafka::metadata::MetadataPartition) -> bool| {
        partitions.iter().filter(|partition| is(partition)).count()
    };
    let leaderless = count(|partition| partition.leader() < 0);
    let shape = Shape {
        partitions: partitions.len(),
        replicas: partitions.first().map_or(0, |p| p.replicas().len()),
        has_leader: leaderless == 0,
    };
    let topic = Topic {
        name: topic.name().to_owned(),
        weaknesses: Vec::new(),
        leaderless,
        under_replicated: count(|p| p.isr().len() < p.replicas().len()),
        retention_ms: None,
    };
    (topic, shape)
}
