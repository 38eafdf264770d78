//! `musubi doctor` over a real deployment: as it should be, and broken in one way after the other.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::event::moved;
use musubi_e2e::hub::{MUNICIPALITY, PATIENCE};
use musubi_e2e::process::musubi;
use musubi_e2e::{Hub, wait_until};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use serde_json::Value;
use sqlx::{Connection, PgConnection};

/// What a look said.
struct Said {
    status: Option<i32>,
    findings: Vec<Value>,
}

impl Said {
    /// The level of a finding about this, with these words.
    fn level(&self, subject: &str, words: &[&str]) -> Option<&str> {
        let is_it = |one: &&Value| {
            let text = one.to_string();
            one["subject"].as_str().is_some_and(|s| s.contains(subject))
                && words.iter().all(|word| text.contains(word))
        };
        self.findings.iter().find(is_it)?["level"].as_str()
    }

    fn errors(&self) -> Vec<&Value> {
        let all = self.findings.iter();
        all.filter(|one| one["level"] == "error").collect()
    }
}

fn doctor(place: [&str; 2]) -> Result<Said> {
    let output = musubi()?.args(["doctor", "--json"]).args(place).output()?;
    let said: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let findings = said["findings"].as_array().context("findings")?.clone();
    for one in &findings {
        let mended = one["mend"].as_str().is_some_and(|mend| !mend.is_empty());
        ensure!(one["level"] == "ok" || mended, "{one}");
    }
    Ok(Said {
        status: output.status.code(),
        findings,
    })
}

fn doctor_of(config: &Path) -> Result<Said> {
    doctor(["--config", config.to_str().context("a path")?])
}

async fn run(database: &str, sql: &'static str) -> Result<()> {
    let mut connection = PgConnection::connect(database).await?;
    sqlx::raw_sql(sql).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// What an operator of the brokers does with `kafka-configs.sh`.
async fn alter(brokers: &str, topic: &str, setting: (&str, &str)) -> Result<()> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let change = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(setting.0, setting.1);
    for altered in admin.alter_configs([&change], &AdminOptions::new()).await? {
        altered.map_err(|(_, code)| anyhow::anyhow!("{code}"))?;
    }
    Ok(())
}

/// As it is, but for what tests do without: replicas, and a database that waits for its disk.
fn is_sound(said: &Said) -> Result<()> {
    let fsync = said.level("`fsync`", &["off", "ALTER SYSTEM SET fsync"]);
    ensure!(fsync == Some("error"), "{:?}", said.findings);
    ensure!(said.errors().len() == 1, "{:?}", said.errors());
    ensure!(said.status == Some(1), "{:?}", said.status);
    for subject in [
        "the Kafka cluster",
        "the group musubi",
        "the tables of the database",
        "the owners",
        "the instance http://127.0.0.1",
    ] {
        let level = said.level(subject, &[]);
        ensure!(level == Some("ok"), "{subject}: {:?}", said.findings);
    }
    let same_key = said.level("the key of the pseudonyms", &["instances use"]);
    ensure!(same_key == Some("ok"), "{:?}", said.findings);
    let weak = said.level("replication factor", &["kafka-reassign"]);
    ensure!(weak == Some("warning"), "{:?}", said.findings);
    Ok(())
}

/// A topic that somebody altered: all else of it falls back to the brokers' defaults.
async fn sees_an_altered_topic(cluster: &Cluster, config: &Path) -> Result<()> {
    let topic = format!("musubi.{MUNICIPALITY}.live");
    alter(&cluster.kafka.brokers(), &topic, ("retention.ms", "3000")).await?;
    wait_until(
        PATIENCE,
        "the slowest subscription to be in danger",
        async || {
            let said = doctor_of(config)?;
            let setting = said.level(&format!("{topic}: retention.ms"), &["3000", "--alter"]);
            let slowest = said.level(&format!("{topic}: the slowest"), &["-1"]);
            Ok(setting == Some("warning") && slowest == Some("error"))
        },
    )
    .await?;
    alter(&cluster.kafka.brokers(), &topic, ("retention.ms", "-1")).await?;
    Ok(())
}

/// Another key, as a second instance with a file of its own would have it.
fn sees_another_key(folder: &Path, config: &Path) -> Result<()> {
    let key = folder.join("pseudonym.key");
    let right = std::fs::read(&key)?;
    std::fs::write(&key, [8; 32])?;
    let said = doctor_of(config)?;
    let other = said.level(
        "the key of the pseudonyms",
        &["another one", "copy the file"],
    );
    ensure!(other == Some("error"), "{:?}", said.findings);
    let mut second = musubi()?;
    second.args(["serve", "--listen", "127.0.0.1:0", "--config"]);
    let refused = second.arg(config).output()?;
    let why = String::from_utf8_lossy(&refused.stderr);
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    ensure!(why.contains("the key of the pseudonyms is not"), "{why}");
    std::fs::write(&key, right)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_looked_at_and_each_way_in_which_it_is_broken_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut cluster = Cluster::start(folder.path(), 1)?;
    let config = cluster.config()?;
    let mut hub = cluster.hub("first").await?;
    let client = hub.client()?;
    wait_until(PATIENCE, "an event to be accepted", async || {
        let event = moved("0000000001", 1)?;
        Ok(client.publish(vec![vec![event]]).await.is_ok())
    })
    .await?;
    client.bind("010", "test-tax").await?;

    is_sound(&doctor_of(&config)?)?;
    // What was allowed is said for as long as it is so.
    let alarms = hub.command(&["alarms"])?;
    let weak = alarms.to_string().contains("ALARM_KIND_WEAK_TOPIC");
    ensure!(weak, "{alarms}");
    sees_an_altered_topic(&cluster, &config).await?;
    sees_another_key(folder.path(), &config)?;

    // Nobody owns what the only instance owned.
    hub.process().kill()?;
    wait_until(PATIENCE, "the lease to be over", async || {
        let said = doctor_of(&config)?;
        let nobody = said.level(&format!("the municipality {MUNICIPALITY}"), &["is over"]);
        Ok(nobody == Some("error"))
    })
    .await?;

    // Another cluster's database, of a newer program.
    let database = cluster.postgres.url("postgres");
    run(
        &database,
        "UPDATE meta SET cluster = 'another', version = 99",
    )
    .await?;
    let said = doctor_of(&config)?;
    let other = said.level("the Kafka cluster", &["another"]);
    let newer = said.level("the tables of the database", &["99", "newer"]);
    ensure!(
        other == Some("error") && newer == Some("error"),
        "{:?}",
        said.findings
    );

    // Nobody there at all.
    cluster.kafka.kill(0)?;
    cluster.postgres.kill()?;
    let said = doctor_of(&config)?;
    let database = said.level("the database", &["cannot be reached"]);
    let broker = said.level("the broker", &["cluster.kafka.brokers"]);
    ensure!(
        database == Some("error") && broker == Some("error"),
        "{:?}",
        said.findings
    );
    Ok(())
}

#[tokio::test]
async fn a_data_folder_is_looked_at_whether_its_hub_runs_or_not() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut hub = Hub::start(folder.path()).await?;
    let data = folder.path().join("hub");
    let place = ["--data", data.to_str().context("a path")?];
    let said = doctor(place)?;
    // The machine's own disk is what it is.
    let mut errors = said.errors().into_iter();
    ensure!(errors.all(|one| one["subject"] == "the disk of the data folder"));
    ensure!(
        said.level("the lock", &["held"]) == Some("ok"),
        "{:?}",
        said.findings
    );
    hub.process().stop()?;
    let said = doctor(place)?;
    ensure!(
        said.level("the lock", &["free"]) == Some("ok"),
        "{:?}",
        said.findings
    );
    ensure!(
        said.level("store.sqlite", &["whole"]) == Some("ok"),
        "{:?}",
        said.findings
    );
    std::fs::write(
        data.join("log.sqlite"),
        "this is no log of a hub, nor any database at all",
    )?;
    let said = doctor(place)?;
    ensure!(
        said.level("log.sqlite", &["musubi restore"]) == Some("error"),
        "{:?}",
        said.findings
    );
    ensure!(said.status == Some(1), "{:?}", said.status);
    Ok(())
}

#[test]
fn a_configuration_that_cannot_be_read_is_wrong_usage() -> Result<()> {
    let output = musubi()?
        .args(["doctor", "--config", "/does/not/exist.yaml"])
        .output()?;
    ensure!(output.status.code() == Some(2), "{output:?}");
    Ok(())
}
