//! A cluster of a test's own: brokers, a database, and hubs that share them.
//! Everything runs as a process; each of them can be killed and started again.
//! Must never share a broker or a database with another test.
//! Read next: `hub.rs`, `tests/servers`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use musubi_servers::{Kafka, Postgres};

use crate::Hub;
use crate::process::musubi;

/// Bytes of the key of the pseudonyms: a test has nothing to hide.
const KEY: [u8; 32] = [7; 32];

/// By which addresses an instance is reached and reaches others, such as those of proxies.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// Brokers, separated by commas.
    pub brokers: String,
    /// Database.
    pub database: String,
    /// What the instance says of itself; where it listens, when it says nothing.
    pub own: Option<String>,
}

/// Brokers and a database.
#[derive(Debug)]
pub struct Cluster {
    /// Brokers.
    pub kafka: Kafka,
    /// Database.
    pub postgres: Postgres,
    folder: PathBuf,
    allows_weak_topics: bool,
    /// Keys of the configuration beside `cluster`.
    further: String,
}

impl Cluster {
    /// Starts one broker or three, and a database; `folder` gets what the hubs need.
    pub fn start(folder: &Path, brokers: usize) -> Result<Self> {
        Self::start_with_ways(folder, brokers, Vec::new())
    }

    /// The same, with further ways to the brokers, by each of which their addresses are others.
    pub fn start_with_ways(folder: &Path, brokers: usize, ways: Vec<Vec<String>>) -> Result<Self> {
        let kafka = std::thread::spawn(move || Kafka::start_with_ways(brokers, &ways));
        let postgres = Postgres::start()?;
        let kafka = kafka.join().ok().context("starting Kafka panicked")??;
        fs::write(folder.join("pseudonym.key"), KEY).context("write the key")?;
        Ok(Self {
            kafka,
            postgres,
            folder: folder.to_owned(),
            allows_weak_topics: brokers < 3,
            further: String::new(),
        })
    }

    /// The configuration of the hubs, as a file: brokers and database by their own addresses.
    pub fn config(&self) -> Result<PathBuf> {
        self.config_through(&self.kafka.brokers(), &self.postgres.url("postgres"))
    }

    /// The same with other addresses.
    pub fn config_through(&self, brokers: &str, database: &str) -> Result<PathBuf> {
        let addresses = Addresses {
            brokers: brokers.to_owned(),
            database: database.to_owned(),
            own: None,
        };
        self.write_config("cluster.yaml", &addresses)
    }

    /// Instances that start from now on work on topics that promise less than they should.
    pub fn allow_weak_topics(&mut self) -> Result<()> {
        self.allows_weak_topics = true;
        self.config().map(drop)
    }

    /// The log of instances that start from now on keeps so many bytes of each stream.
    pub fn keep_bytes(&mut self, bytes: u64) -> Result<()> {
        self.further = format!("retention_bytes: {bytes}\n");
        self.config().map(drop)
    }

    fn write_config(&self, name: &str, addresses: &Addresses) -> Result<PathBuf> {
        let file = self.folder.join(name);
        let replication = self.kafka.count();
        let (weak, further) = (self.allows_weak_topics, &self.further);
        let key = self.folder.join("pseudonym.key");
        let Addresses {
            brokers,
            database,
            own,
        } = addresses;
        let own = own.as_ref().map(|own| format!("  address: {own}\n"));
        let text = format!(
            "{further}cluster:
{own}  pseudonym_key_file: {key}
  kafka:
    brokers: [{brokers}]
    replication: {replication}
    allow_weak_topics: {weak}
  postgres:
    url: {database}
",
            own = own.unwrap_or_default(),
            key = key.display(),
        );
        fs::write(&file, text).context("write the configuration")?;
        Ok(file)
    }

    /// Starts an instance below a folder of its own.
    pub async fn hub(&self, name: &str) -> Result<Hub> {
        self.hub_at(name, self.config()?).await
    }

    /// The same by other addresses.
    pub async fn hub_by(&self, name: &str, addresses: &Addresses) -> Result<Hub> {
        let config = self.write_config(&format!("{name}.yaml"), addresses)?;
        self.hub_at(name, config).await
    }

    async fn hub_at(&self, name: &str, config: PathBuf) -> Result<Hub> {
        let mut command = musubi()?;
        command.arg("serve");
        let place = vec!["--config".into(), config.into()];
        Hub::start_at(&self.folder.join(name), command, place).await
    }
}
