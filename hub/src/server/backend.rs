//! The log and the store under a hub: files of its data folder, or Kafka and PostgreSQL.
//! Opened once at start; the only place that knows both kinds.
//! Must never mix them: a hub has one log and the store that belongs to it.
//! Read next: `server/serve.rs`, `server/config/cluster.rs`.

use std::path::Path;
use std::sync::Arc;

use rdkafka::ClientConfig;

use super::cluster::{Cluster, Prepare};
use super::config::{ClusterConfig, Config};
use super::lease::Lease;
use super::secret::{key_of_folder, read_key, read_secret};
use super::serve::ServeError;
use super::status::Failure;
use crate::event::{Municipality, Pseudonyms};
use crate::limits::OWNER_LEASE;
use crate::log::kafka::KafkaLog;
use crate::log::sqlite::SqliteLog;
use crate::log::{Concerned, EventLog};
use crate::sqlite::OpenError;
use crate::store::Store;
use crate::store::postgres::{Identity, PgConfig, PgStore};
use crate::store::sqlite::SqliteStore;

/// First part of the topics' names.
pub(crate) const TOPICS_PREFIX: &str = "musubi";

/// What a hub stands on.
#[derive(Debug)]
pub enum Backend {
    /// Its data folder.
    Embedded {
        /// Log.
        log: Arc<SqliteLog>,
        /// Store.
        store: Arc<SqliteStore>,
    },
    /// What all instances share.
    Cluster {
        /// Log.
        log: Arc<KafkaLog>,
        /// Store.
        store: Arc<PgStore>,
        /// Settings of a client of the brokers.
        client: ClientConfig,
    },
}

/// What a hub knows of its backend before anything is opened in it.
#[derive(Clone, Copy, Debug)]
pub struct Known {
    /// Incarnation of the log.
    pub incarnation: u64,
    /// Key of the pseudonyms.
    pub pseudonym_key: [u8; 32],
}

impl Backend {
    /// Opens it; `address` is where other instances reach this one.
    ///
    /// # Errors
    /// When a part of it cannot be reached, read or used, in one line.
    pub async fn open(config: &Config, address: &str) -> Result<(Self, Known), ServeError> {
        match &config.cluster {
            None => Self::embedded(&config.data).await,
            Some(cluster) => Self::cluster(cluster, address).await,
        }
    }

    async fn embedded(data: &Path) -> Result<(Self, Known), ServeError> {
        let log = Arc::new(SqliteLog::open(&data.join("log.sqlite")).await?);
        let store = Arc::new(SqliteStore::open(&data.join("store.sqlite")).await?);
        let known = Known {
            incarnation: log.incarnation().await.map_err(ServeError::Log)?,
            pseudonym_key: key_of_folder(data)?,
        };
        Ok((Self::Embedded { log, store }, known))
    }

    async fn cluster(config: &ClusterConfig, address: &str) -> Result<(Self, Known), ServeError> {
        let pseudonym_key = read_key(&config.pseudonym_key_file)?;
        let (log, store) = open_cluster(config, Some(address)).await?;
        let check = Pseudonyms::new(pseudonym_key).key_check();
        let same = store.uses_key(&check).await;
        same.map_err(|error| ServeError::Config(chain(&error)))?;
        let incarnation = store.incarnation().await;
        let known = Known {
            incarnation: incarnation.map_err(|error| ServeError::Config(error.to_string()))?,
            pseudonym_key,
        };
        let client = log.client();
        Ok((Self::Cluster { log, store, client }, known))
    }

    /// The log.
    pub fn log(&self) -> Arc<dyn EventLog> {
        match self {
            Self::Embedded { log, .. } => log.clone(),
            Self::Cluster { log, .. } => log.clone(),
        }
    }

    /// What others can do to the log.
    pub fn concerned(&self) -> Option<Arc<dyn Concerned>> {
        match self {
            Self::Embedded { .. } => None,
            Self::Cluster { log, .. } => Some(log.clone()),
        }
    }

    /// The store.
    pub fn store(&self) -> Arc<dyn Store> {
        match self {
            Self::Embedded { store, .. } => store.clone(),
            Self::Cluster { store, .. } => store.clone(),
        }
    }

    /// Until when it may be used: a folder for ever, what is shared only under a lease.
    pub fn lease(&self) -> Lease {
        match self {
            Self::Embedded { .. } => Lease::forever(),
            Self::Cluster { .. } => Lease::not_yet(),
        }
    }

    /// The other instances, for one that is reached at `address`.
    pub fn others(&self, address: String) -> Option<Arc<Cluster>> {
        match self {
            Self::Embedded { .. } => None,
            Self::Cluster { log, store, .. } => {
                let cluster = Cluster::new(address, store.clone(), log.clone());
                Some(Arc::new(cluster))
            }
        }
    }

    /// The group that all instances join, with the settings of a member.
    pub fn group<'a>(&'a self, config: &'a Config) -> Option<(&'a ClientConfig, &'a str)> {
        match (self, &config.cluster) {
            (Self::Cluster { client, .. }, Some(cluster)) => Some((client, &cluster.group)),
            _ => None,
        }
    }

    /// Ends when a store that was too large to be checked before the start is damaged.
    pub async fn damage(&self) -> OpenError {
        if let Self::Embedded { store, .. } = self
            && let Err(damaged) = store.check_beside().await
        {
            return damaged;
        }
        std::future::pending().await
    }

    /// Closes it in order.
    pub async fn close(&self) {
        match self {
            Self::Embedded { log, store } => {
                log.settle().await;
                store.seal().await;
            }
            Self::Cluster { store, .. } => store.close().await,
        }
    }
}

/// Opens Kafka and PostgreSQL; with an address, as an instance that owns municipalities.
///
/// # Errors
/// When one of them cannot be reached or used, or they belong to different clusters.
pub async fn open_cluster(
    config: &ClusterConfig,
    address: Option<&str>,
) -> Result<(Arc<KafkaLog>, Arc<PgStore>), ServeError> {
    let store = Arc::new(open_store(config, address).await?);
    let log = KafkaLog::open(log_config(config)?, store.clone()).await;
    let log = Arc::new(log.map_err(|error| ServeError::Config(chain(&error)))?);
    let belongs = store.belongs_to(log.cluster_id()).await;
    belongs.map_err(|error| ServeError::Config(chain(&error)))?;
    Ok((log, store))
}

async fn open_store(config: &ClusterConfig, address: Option<&str>) -> Result<PgStore, ServeError> {
    let opened = PgStore::open(store_config(config, address)?).await;
    opened.map_err(|error| ServeError::Config(chain(&error)))
}

/// What the store is told, with the secrets from their files.
pub(crate) fn store_config(
    config: &ClusterConfig,
    address: Option<&str>,
) -> Result<PgConfig, ServeError> {
    let postgres = &config.postgres;
    let password = postgres
        .password_file
        .as_deref()
        .map(read_secret)
        .transpose()?;
    Ok(PgConfig {
        url: postgres.url.clone(),
        direct_url: postgres.direct_url.clone(),
        password,
        connections: postgres.connections,
        identity: address.map(|address| Identity {
            address: address.to_owned(),
            lease: OWNER_LEASE,
        }),
    })
}

/// What the log's clients are told, with the secrets from their files.
pub(crate) fn log_config(
    config: &ClusterConfig,
) -> Result<crate::log::kafka::KafkaConfig, ServeError> {
    let kafka = &config.kafka;
    let mut properties: Vec<_> = kafka.properties.clone().into_iter().collect();
    for (name, file) in &kafka.property_files {
        properties.push((name.clone(), read_secret(file)?));
    }
    Ok(crate::log::kafka::KafkaConfig {
        brokers: kafka.brokers.join(","),
        properties,
        prefix: TOPICS_PREFIX.to_owned(),
        replication: kafka.replication,
        allow_weak_topics: kafka.allow_weak_topics,
        append_within: crate::limits::KAFKA_APPEND_TIMEOUT,
    })
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[async_trait::async_trait]
impl Prepare for KafkaLog {
    async fn prepare(&self, m: &Municipality) -> Result<(), Failure> {
        Ok(self.make_topics(m).await?)
    }
}
