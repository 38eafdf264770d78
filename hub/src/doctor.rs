//! A look at a deployment: what stands where, what is not as it should be, and what mends it.
//! Beside the event path: `musubi doctor` calls it, the hub itself does not.
//! Must never change anything it looks at.
//! Read next: `doctor/rules.rs`, `doctor/folder.rs`, `docs/specs/cluster.md`.
//!
//! ```text
//!   brokers ─┐
//!   database ─┼─▶ facts ──▶ rules (pure) ──▶ findings: what, found, needed, how to mend it
//!   instances ┘
//! ```

use std::path::Path;

use serde::Serialize;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::clock::now_ms;
use crate::event::Pseudonyms;
use crate::limits::LOOK_ASK;
use crate::log::kafka::look::{Look, Topic};
use crate::server::Config;
use crate::server::backend::{chain, log_config, store_config};
use crate::server::config::ClusterConfig;
use crate::server::secret::read_key;
use crate::store::postgres::look::{Database, look};
use rules::{Answer, Instances, Needed, Slowest};

mod folder;
mod rules;
#[cfg(test)]
mod tests;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// To be looked at on the same day.
    Warning,
    /// Promises are not kept, or will soon not be.
    Error,
}

/// What was found of one thing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is about.
    pub subject: String,
    /// What it is.
    pub found: String,
    /// What it should be; empty when it is.
    pub needed: String,
    /// The command or setting that mends it; empty when nothing has to be.
    pub mend: String,
}

impl Finding {
    fn ok(subject: impl Into<String>, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            subject: subject.into(),
            found: found.into(),
            needed: String::new(),
            mend: String::new(),
        }
    }

    fn of(
        level: Level,
        subject: impl Into<String>,
        found: impl Into<String>,
        needed: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self {
            level,
            subject: subject.into(),
            found: found.into(),
            needed: needed.into(),
            mend: mend.into(),
        }
    }

    fn error(
        subject: impl Into<String>,
        found: impl Into<String>,
        needed: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::of(Level::Error, subject, found, needed, mend)
    }

    fn warning(
        subject: impl Into<String>,
        found: impl Into<String>,
        needed: impl Into<String>,
        mend: impl Into<String>,
    ) -> Self {
        Self::of(Level::Warning, subject, found, needed, mend)
    }
}

/// Looks at the deployment of a configuration.
pub async fn examine(config: &Config) -> Vec<Finding> {
    match &config.cluster {
        Some(cluster) => of_cluster(cluster).await,
        None => of_folder(&config.data).await,
    }
}

/// Looks at a data folder, whether its hub runs or not.
pub async fn of_folder(data: &Path) -> Vec<Finding> {
    folder::look(data).await
}

async fn of_cluster(config: &ClusterConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    let key = match read_key(&config.pseudonym_key_file) {
        Ok(key) => Some(Pseudonyms::new(key).key_check()),
        Err(error) => {
            findings.push(rules::unreadable("the key of the pseudonyms", &error));
            None
        }
    };
    findings.extend(rules::key_file(&config.pseudonym_key_file));
    let database = ask_database(config, &mut findings).await;
    let meta = database.as_ref().and_then(|found| found.meta.clone());
    if let Some(database) = &database {
        let instances = meta.as_ref().map_or(0, |meta| meta.instances.len());
        let pooled = config.postgres.direct_url.is_some();
        let needed = Needed::of(config.postgres.connections, instances, pooled);
        findings.extend(rules::database(database, needed, key.as_deref()));
    }
    let brokers = match log_config(config) {
        Ok(log) => Some(Look::new(log)),
        Err(error) => {
            findings.push(rules::unreadable(
                "the settings of the Kafka client",
                &error,
            ));
            None
        }
    };
    if let Some(brokers) = brokers {
        let meta = meta.clone().unwrap_or_default();
        findings.extend(ask_brokers(config, &brokers, &meta).await);
    }
    if let Some(meta) = meta {
        let asked = meta.instances.iter().map(|address| instance(address));
        let answers = futures::future::join_all(asked).await;
        findings.extend(rules::instances(&Instances {
            answers,
            towns: meta.towns,
        }));
    }
    findings
}

/// The database by both of its addresses.
async fn ask_database(config: &ClusterConfig, findings: &mut Vec<Finding>) -> Option<Database> {
    let store = match store_config(config, None) {
        Ok(store) => store,
        Err(error) => {
            findings.push(rules::unreadable("the password of the database", &error));
            return None;
        }
    };
    let found = look(&store, &store.url).await;
    let by_url = found.map_err(|error| chain(&error));
    let by_direct = match &store.direct_url {
        None => None,
        Some(url) => Some(look(&store, url).await.map_err(|error| chain(&error))),
    };
    findings.extend(rules::addresses(&by_url, by_direct.as_ref()));
    by_url.ok().or_else(|| by_direct.and_then(Result::ok))
}

async fn ask_brokers(
    config: &ClusterConfig,
    brokers: &Look,
    meta: &crate::store::postgres::look::Meta,
) -> Vec<Finding> {
    let each = brokers.brokers().await;
    let mut findings = rules::brokers(&each);
    if each.iter().all(|broker| broker.trouble.is_some()) {
        return findings;
    }
    let id = brokers.cluster_id().await;
    findings.extend(rules::cluster(id.as_deref(), meta.cluster.as_deref()));
    let topics = brokers.topics().await;
    findings.extend(rules::topics(&topics, config.kafka.allow_weak_topics));
    let group = brokers.group(&config.group).await;
    findings.push(rules::group(&config.group, &group, meta.towns.len()));
    let slowest = slowest(brokers, &topics.unwrap_or_default(), meta).await;
    findings.extend(
        slowest
            .iter()
            .filter_map(|one| rules::retention(one, now_ms())),
    );
    findings
}

/// How far the slowest subscription of each topic that forgets by time is.
async fn slowest(
    brokers: &Look,
    topics: &[Topic],
    meta: &crate::store::postgres::look::Meta,
) -> Vec<Slowest> {
    let mut found = Vec::new();
    for (m, stream, place) in &meta.slowest {
        let end = format!(".{m}.{}", stream.name());
        let topic = topics.iter().find(|topic| topic.name.ends_with(&end));
        let Some((topic, retention_ms)) = topic.and_then(|one| Some((one, one.retention_ms?)))
        else {
            continue;
        };
        if let Ok(at) = brokers.at(&topic.name, *place).await {
            found.push(Slowest {
                topic: topic.name.clone(),
                retention_ms,
                place: *place,
                at,
            });
        }
    }
    found
}

/// Whether an instance says that it serves; one without a health service is taken at its word.
pub async fn serves(channel: Channel) -> bool {
    let mut health = HealthClient::new(channel);
    let asked = health.check(HealthCheckRequest::default());
    match tokio::time::timeout(LOOK_ASK, asked).await {
        Ok(Ok(answer)) => answer.into_inner().status() != ServingStatus::NotServing,
        Ok(Err(status)) => status.code() == tonic::Code::Unimplemented,
        Err(_) => false,
    }
}

/// Asks an instance whether it serves, and what its clock says: the date of its answer.
async fn instance(address: &str) -> Answer {
    let before = now_ms();
    let asked = async {
        let endpoint = Endpoint::from_shared(address.to_owned())?;
        let channel = endpoint.connect_timeout(LOOK_ASK).connect().await?;
        let mut health = HealthClient::new(channel);
        let answer = health.check(HealthCheckRequest::default()).await?;
        if answer.get_ref().status() == ServingStatus::NotServing {
            return Err("it says that it has lost the database".into());
        }
        let date = answer.metadata().get("date").cloned();
        let date = date.and_then(|date| date.to_str().ok().map(str::to_owned));
        let date = date.and_then(|date| httpdate::parse_http_date(&date).ok());
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(date)
    };
    let answered = match tokio::time::timeout(LOOK_ASK, asked).await {
        Ok(Ok(date)) => Ok(date),
        Ok(Err(error)) => Err(chain(&*error)),
        Err(_) => Err("no answer in time".to_owned()),
    };
    let after = now_ms();
    let clock = answered.as_ref().ok().and_then(|date| {
        let since = date.as_ref()?.duration_since(std::time::UNIX_EPOCH).ok()?;
        Some((before, i64::try_from(since.as_millis()).ok()?, after))
    });
    Answer {
        address: address.to_owned(),
        trouble: answered.err(),
        clock,
    }
}
