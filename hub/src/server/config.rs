//! The hub's configuration: one file in TOML or YAML, every key known, every value checked.
//! Read once at start.
//! Must never accept a key that it does not know: a typo must not become a default.
//! Read next: `server/config/cluster.rs`, `server/serve.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

pub use cluster::{ClusterConfig, KafkaConfig, PostgresConfig};

mod cluster;

use super::auth::line;
use crate::alarms::Limits;
use crate::limits::RETENTION_PERIOD;
use crate::retention::Keep;

/// Default address: loopback.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7411";

/// Configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on. Without a token file only loopback is allowed.
    pub listen: SocketAddr,
    /// Folder that holds everything the hub knows.
    pub data: PathBuf,
    /// Token file; see the operator's guide.
    pub token_file: Option<PathBuf>,
    /// Folder of grant tables (`<業務ID>.csv`); the built-in ones when absent.
    pub grants: Option<PathBuf>,
    /// File that gets the bound address, for a port of 0.
    pub address_file: Option<PathBuf>,
    /// Days that the log keeps; for ever when absent.
    pub retention_days: Option<u32>,
    /// Bytes of content that each stream of a municipality's log keeps; all when absent.
    pub retention_bytes: Option<u64>,
    /// Days that the store keeps outcomes and closed held units; for ever when absent.
    pub history_days: Option<u32>,
    /// Kafka and PostgreSQL in place of the data folder, and other instances beside this one.
    pub cluster: Option<ClusterConfig>,
    /// Time between two looks at what may be forgotten; no key of the file.
    #[serde(skip)]
    pub retention_period: Duration,
    /// From which age on things alarm; not of the file: tests cannot wait for days.
    #[serde(skip)]
    pub alarms: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            data: PathBuf::from("data"),
            token_file: None,
            grants: None,
            address_file: None,
            retention_days: None,
            retention_bytes: None,
            history_days: None,
            cluster: None,
            retention_period: RETENTION_PERIOD,
            alarms: Limits::default(),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// One line that names the file, the place and what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the configuration `{name}`: {error}"))?;
        let yaml = path
            .extension()
            .is_some_and(|end| end == "yaml" || end == "yml");
        let parsed = if yaml {
            Self::parse_yaml(&text)
        } else {
            Self::parse(&text)
        };
        parsed.map_err(|error| format!("the configuration `{name}` is not valid: {error}"))
    }

    /// How much is kept.
    ///
    /// # Errors
    /// One line that names a number that cannot hold.
    pub fn keep(&self) -> Result<Keep, String> {
        let keep = Keep {
            log_days: self.retention_days,
            log_bytes: self.retention_bytes,
            history_days: self.history_days,
        };
        keep.check()
    }

    /// Reads YAML.
    ///
    /// # Errors
    /// One line that says where and what is wrong.
    pub fn parse_yaml(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| {
            let text = error.to_string();
            text.lines().next().unwrap_or_default().to_owned()
        })
    }

    /// Reads TOML.
    ///
    /// # Errors
    /// One line that says where and what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| line(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Config::parse("lisen = \"127.0.0.1:1\"").unwrap_err();
        assert!(
            error.contains("lisen") && error.contains("listen"),
            "{error}"
        );
    }

    const CLUSTER: &str = "
listen: 0.0.0.0:7411
cluster:
  address: http://hub-1.example:7411
  pseudonym_key_file: /etc/musubi/pseudonym.key
  kafka:
    brokers: [kafka-1:9092, kafka-2:9092]
  postgres:
    url: postgres://musubi@db/musubi
";

    #[test]
    fn a_cluster_is_described_in_yaml_and_a_typo_is_named_with_its_line() {
        let config = Config::parse_yaml(CLUSTER).unwrap();
        let cluster = config.cluster.unwrap();
        assert_eq!(cluster.kafka.brokers, ["kafka-1:9092", "kafka-2:9092"]);
        assert_eq!(cluster.kafka.replication, 3);
        assert!(!cluster.kafka.allow_weak_topics);
        let typo = CLUSTER.replace("brokers", "broker");
        let error = Config::parse_yaml(&typo).unwrap_err();
        assert!(
            error.contains("broker") && error.contains("line 7"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place() {
        let error = Config::parse("listen = \"nowhere\"").unwrap_err();
        assert!(error.contains("line 1"), "{error}");
    }
}
