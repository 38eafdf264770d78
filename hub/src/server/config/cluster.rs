//! The part of the configuration that several instances share: Kafka, PostgreSQL, this instance.
//! Read once at start, and by the commands that look at a deployment.
//! Must never hold a password in its `Debug`; files hold them.
//! Read next: `server/backend.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use crate::limits::STORE_CONNECTIONS;

/// Cluster.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClusterConfig {
    /// Address of this instance as the others and the adapters reach it (`http://host:port`);
    /// the one listened on when absent.
    pub address: Option<String>,
    /// Consumer group of all instances.
    #[serde(default = "group")]
    pub group: String,
    /// File with the 32 bytes of the key of the pseudonyms: the same at all instances.
    pub pseudonym_key_file: PathBuf,
    /// Brokers.
    pub kafka: KafkaConfig,
    /// Database.
    pub postgres: PostgresConfig,
}

/// Apache Kafka.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Some of the brokers, `host:port`.
    pub brokers: Vec<String>,
    /// Replicas of new topics.
    #[serde(default = "replication")]
    pub replication: i32,
    /// Go on with topics that promise less than they should, and warn for ever.
    #[serde(default)]
    pub allow_weak_topics: bool,
    /// Further settings of the client (librdkafka), such as those of TLS and SASL.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
    /// Files whose content is the value of a setting, such as `sasl.password`.
    #[serde(default)]
    pub property_files: BTreeMap<String, PathBuf>,
}

/// PostgreSQL.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Address (`postgres://user@host:port/database`); may be a pooler's in transaction mode.
    pub url: String,
    /// Address of the server itself, when `url` is a pooler's.
    pub direct_url: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Connections of this instance.
    #[serde(default = "connections")]
    pub connections: u32,
}

fn group() -> String {
    "musubi".to_owned()
}

fn replication() -> i32 {
    3
}

fn connections() -> u32 {
    STORE_CONNECTIONS
}
