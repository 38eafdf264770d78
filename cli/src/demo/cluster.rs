//! Brokers and a database of the demo's own, for two instances of the hub that share them.
//! Fetches Kafka when it is not there; everything else must be on the machine.
//! Must never touch a server that it did not start, nor leave one behind.
//! Read next: `tests/servers/src/kafka.rs`, `story.rs`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use musubi_hub::event::Municipality;
use musubi_hub::store::Owners;
use musubi_hub::store::postgres::{PgConfig, PgStore};
use musubi_servers::tools::{self, JAVA, MAVEN, POSTGRESQL, Package};
use musubi_servers::{Kafka, Postgres, kafka};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::progress::Progress;
use crate::failure::Failure;

const BROKERS: usize = 3;

/// The running servers.
#[derive(Debug)]
pub(crate) struct Cluster {
    kafka: Kafka,
    postgres: Postgres,
}

/// Refuses when something is missing that the demo cannot fetch.
pub(crate) fn check() -> Result<()> {
    let mut needed = vec![&JAVA, &POSTGRESQL];
    if kafka::to_fetch()?.is_some() {
        needed.push(&MAVEN);
    }
    let missing: Vec<&Package> = needed
        .into_iter()
        .filter(|package| !(package.present)())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = |text: fn(&&Package) -> String, between| {
        missing.iter().map(text).collect::<Vec<_>>().join(between)
    };
    let line = format!(
        "--cluster needs what is missing here: {}; `apt-get install --no-install-recommends {}`",
        list(|package| package.to_string(), ", "),
        list(|package| package.name.to_owned(), " "),
    );
    Err(Failure::Usage(line).into())
}

impl Cluster {
    /// Starts three brokers and a database.
    pub(crate) async fn start(progress: &Progress) -> Result<Self> {
        if let Some(home) = kafka::to_fetch()? {
            progress.note("Maven fetches Kafka, once");
            spawn_blocking(move || tools::install_kafka(&home)).await??;
        }
        let kafka = spawn_blocking(|| Kafka::start(BROKERS));
        let postgres = spawn_blocking(Postgres::start);
        let cluster = Self {
            kafka: kafka.await??,
            postgres: postgres.await??,
        };
        progress.note(&format!(
            "{BROKERS} Kafka brokers listen on {}; PostgreSQL on 127.0.0.1:{}",
            cluster.kafka.brokers(),
            cluster.postgres.port()
        ));
        Ok(cluster)
    }

    fn database(&self) -> String {
        self.postgres.url("postgres")
    }

    /// Writes the configuration of the instances; returns its place.
    pub(crate) fn write_config(&self, folder: &Path) -> Result<PathBuf> {
        let key = folder.join("pseudonym.key");
        let bytes = [Uuid::new_v4().into_bytes(), Uuid::new_v4().into_bytes()].concat();
        fs::write(&key, bytes).with_context(|| format!("write `{}`", key.display()))?;
        let text = format!(
            "cluster:\n  pseudonym_key_file: {}\n  kafka:\n    brokers: [{}]\n  \
             postgres:\n    url: {}\n",
            // A string of JSON is one of YAML.
            serde_json::to_string(&key)?,
            self.kafka.brokers(),
            self.database(),
        );
        let file = folder.join("cluster.yaml");
        fs::write(&file, text).with_context(|| format!("write `{}`", file.display()))?;
        Ok(file)
    }

    /// Address of the instance that owns a municipality, as the database has it.
    pub(crate) async fn owner(&self, municipality: &str) -> Result<Option<String>> {
        let municipality = Municipality::parse(municipality).context("no municipality")?;
        let store = PgStore::open(PgConfig::new(&self.database())).await?;
        let owner = store.owner_of(&municipality).await?;
        store.close().await;
        Ok(owner.filter(|owner| owner.holds).map(|owner| owner.address))
    }

    /// `kill -9` for one broker; returns its name.
    pub(crate) fn kill_broker(&mut self) -> Result<String> {
        self.kafka.kill(0)?;
        Ok("broker 1".to_owned())
    }
}
