//! A folder that may not go into a cluster stays as it is, and the line says what to do.
//! One broker and one database for all of it: whatever is refused leaves no trace there.
//! Must never find a byte of a folder changed.
//! Read next: `hub/src/migrate/target.rs`, `docs/specs/migrate.md`.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use musubi_e2e::Hub;
use musubi_e2e::cluster::Cluster;
use musubi_e2e::event::moved;
use musubi_e2e::hub::MUNICIPALITY;
use musubi_e2e::migration::{digests, dry_run, migrate, must_do, must_refuse};
use musubi_proto::hub::v1::{PublishRequest, PublishUnit, Unit, publish_unit};
use sqlx::{Connection, PgConnection};

const OTHERS: [&str; 3] = ["131016", "141003", "232033"];

/// Publishes one person's event in a municipality.
async fn publish(hub: &Hub, municipality: &str) -> Result<()> {
    let mut event = moved("0000000001", 1)?;
    event.source = format!("urn:jp:lg:{municipality}:system:001");
    municipality.clone_into(&mut event.municipality);
    let unit = PublishUnit {
        content: Some(publish_unit::Content::Unit(Unit {
            events: vec![event.clone()],
        })),
        ..PublishUnit::default()
    };
    let request = PublishRequest {
        municipality: municipality.to_owned(),
        source: event.source,
        units: vec![unit],
        ..PublishRequest::default()
    };
    hub.client()?.events().publish(request).await?;
    Ok(())
}

/// A stopped hub's folder with one municipality.
async fn folder(place: &Path, name: &str, municipality: &str) -> Result<PathBuf> {
    let data = place.join(name).join("hub");
    fs::create_dir_all(&data)?;
    fs::write(data.join("pseudonym.key"), [7; 32])?;
    let mut hub = Hub::start(&place.join(name)).await?;
    publish(&hub, municipality).await?;
    must_refuse(
        &migrate(&data, &any_config(place)?, None)?,
        &["in use", "stop it"],
    )?;
    hub.process().stop()?;
    Ok(data)
}

/// A configuration that is good until somebody is asked.
fn any_config(place: &Path) -> Result<PathBuf> {
    config(
        place,
        "127.0.0.1:1",
        "postgres://nobody@127.0.0.1:1/none",
        "",
    )
}

fn config(place: &Path, brokers: &str, database: &str, kafka: &str) -> Result<PathBuf> {
    let file = place.join("other.yaml");
    let key = place.join("pseudonym.key");
    let text = format!(
        "cluster:\n  pseudonym_key_file: {}\n  kafka:\n    brokers: [{brokers}]\n{kafka}  \
         postgres:\n    url: {database}\n",
        key.display()
    );
    fs::write(&file, text).context("write a configuration")?;
    Ok(file)
}

fn copy(from: &Path, to: &Path) -> Result<PathBuf> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(to.to_owned())
}

/// Folders that are none, or not whole.
fn bad_folders(place: &Path, data: &Path, config: &Path) -> Result<()> {
    let empty = place.join("empty");
    fs::create_dir(&empty)?;
    must_refuse(
        &migrate(&empty, config, None)?,
        &["no data folder", "--data"],
    )?;
    ensure!(fs::read_dir(&empty)?.count() == 0, "something was made");
    let keyless = copy(data, &place.join("keyless"))?;
    fs::remove_file(keyless.join("pseudonym.key"))?;
    must_refuse(&migrate(&keyless, config, None)?, &["pseudonym.key"])?;
    ensure!(!keyless.join("pseudonym.key").exists(), "a key was made");
    for file in ["store.sqlite", "log.sqlite"] {
        let damaged = copy(data, &place.join(format!("damaged-{file}")))?;
        let path = damaged.join(file);
        let bytes = fs::File::options().write(true).open(&path)?;
        bytes.write_all_at(&[0xff; 512], 0)?;
        must_refuse(&migrate(&damaged, config, None)?, &[file, "musubi restore"])?;
    }
    Ok(())
}

/// Configurations that are none, or lead nowhere, or promise too little.
fn bad_configs(place: &Path, data: &Path, cluster: &Cluster) -> Result<()> {
    let (brokers, database) = (cluster.kafka.brokers(), cluster.postgres.url("postgres"));
    let toml = place.join("hub.toml");
    fs::write(&toml, "listen = \"127.0.0.1:0\"\n")?;
    must_refuse(&migrate(data, &toml, None)?, &["no cluster", "cluster:"])?;
    must_refuse(
        &migrate(data, &any_config(place)?, None)?,
        &["no Kafka broker", "127.0.0.1:1"],
    )?;
    let nowhere = config(place, &brokers, "postgres://nobody@127.0.0.1:1/none", "")?;
    must_refuse(
        &migrate(data, &nowhere, None)?,
        &["database `none`", "cannot be reached"],
    )?;
    let many = config(place, &brokers, &database, "")?;
    must_refuse(
        &migrate(data, &many, None)?,
        &["1 brokers answer", "kafka.replication"],
    )?;
    let weak = config(place, &brokers, &database, "    replication: 1\n")?;
    must_refuse(&migrate(data, &weak, None)?, &["kafka.allow_weak_topics"])?;
    fs::write(place.join("pseudonym.key"), [8; 32])?;
    must_refuse(
        &migrate(data, &cluster.config()?, None)?,
        &["pseudonym.key", "cp "],
    )?;
    fs::write(place.join("pseudonym.key"), [7; 32])?;
    Ok(())
}

/// Nothing was made in a database.
async fn must_be_untouched(url: &str) -> Result<()> {
    let mut connection = PgConnection::connect(url).await?;
    let tables = sqlx::query_scalar("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'");
    let tables: i64 = tables.fetch_one(&mut connection).await?;
    ensure!(tables == 0, "{tables} tables were made");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_is_refused_changes_nothing_and_says_what_to_do() -> Result<()> {
    let folder_of_all = tempfile::tempdir()?;
    let place = folder_of_all.path();
    let cluster = Cluster::start(place, 1)?;
    let config = cluster.config()?;
    let data = folder(place, "first", MUNICIPALITY).await?;
    let left = digests(&data)?;
    bad_folders(place, &data, &config)?;
    bad_configs(place, &data, &cluster)?;
    let plan = must_do(&dry_run(&data, &config)?)?;
    ensure!(
        plan.contains("142042 live") && plan.contains("nothing was written"),
        "{plan}"
    );
    must_be_untouched(&cluster.postgres.url("postgres")).await?;
    ensure!(!data.join("migrated").exists(), "the folder was marked");
    ensure!(digests(&data)? == left, "the folder was changed");

    let twin = copy(&data, &place.join("twin"))?;
    other_folders(place, &cluster, &data, &twin).await?;
    ensure!(digests(&data)? == left, "the folder was changed");
    known_towns(place, &cluster).await
}

/// What has begun or ended with one folder does not go on with another, nor elsewhere.
async fn other_folders(place: &Path, cluster: &Cluster, data: &Path, twin: &Path) -> Result<()> {
    let config = cluster.config()?;
    let broken = migrate(data, &config, Some("migrate.logged"))?;
    ensure!(broken.status.code().is_none(), "{broken:?}");
    must_refuse(
        &migrate(twin, &config, None)?,
        &["another folder", "142042"],
    )?;
    let other = cluster.postgres.create_database("other")?;
    let elsewhere = cluster.config_through(&cluster.kafka.brokers(), &other)?;
    must_refuse(
        &migrate(data, &elsewhere, None)?,
        &["musubi.142042.live", "database"],
    )?;
    must_be_untouched(&other).await?;
    let config = cluster.config()?;
    let mark = fs::read_to_string(data.join("migrated"))?;
    let value: serde_json::Value = serde_json::from_str(&mark)?;
    let id = value["cluster"].as_str().context("a cluster")?;
    fs::write(data.join("migrated"), mark.replace(id, "another"))?;
    must_refuse(
        &migrate(data, &config, None)?,
        &["`another`", "configuration"],
    )?;
    fs::write(data.join("migrated"), &mark)?;
    let plan = must_do(&dry_run(data, &config)?)?;
    ensure!(plan.contains("would go on"), "{plan}");
    must_do(&migrate(data, &config, None)?)?;
    let again = must_do(&migrate(data, &config, None)?)?;
    ensure!(again.contains("migrated before"), "{again}");
    must_refuse(&migrate(twin, &config, None)?, &["another folder"])?;
    ensure!(!twin.join("migrated").exists(), "the folder was marked");
    // A hub that was killed left a write-ahead log: it stays as it is, too.
    let killed = place.join("killed");
    let mut hub = Hub::start(&killed).await?;
    fs::write(killed.join("hub/pseudonym.key"), [7; 32])?;
    publish(&hub, OTHERS[0]).await?;
    hub.process().kill()?;
    let killed = killed.join("hub");
    let left = digests(&killed)?;
    must_do(&migrate(&killed, &config, None)?)?;
    ensure!(digests(&killed)? == left, "the folder was changed");
    Ok(())
}

/// A municipality that the cluster has, or had.
async fn known_towns(place: &Path, cluster: &Cluster) -> Result<()> {
    let config = cluster.config()?;
    let hub = cluster.hub("instance").await?;
    publish(&hub, OTHERS[1]).await?;
    let data = folder(place, "second", OTHERS[1]).await?;
    let left = digests(&data)?;
    must_refuse(
        &migrate(&data, &config, None)?,
        &["knows `141003`", "new there"],
    )?;
    ensure!(!data.join("migrated").exists(), "the folder was marked");
    ensure!(digests(&data)? == left, "the folder was changed");
    // Another town goes in while the instance runs, and is served by it.
    let data = folder(place, "third", OTHERS[2]).await?;
    must_do(&migrate(&data, &config, None)?)?;
    publish(&hub, OTHERS[2]).await
}
