//! A product that lost its last day gets it back by a replay, and nothing else changes.
//! The tax product's own database is set back to a copy; an operator's commands do the rest.
//! Must never compare anything less than all that the product keeps.
//! Read next: `docs/specs/replay.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::time::SystemTime;

use musubi_e2e::hub::{MUNICIPALITY, PATIENCE};
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Row, Table, town};
use musubi_e2e::{Hub, Process, wait_until};
use prost_types::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row as _, SqliteConnection};

const TAX: &str = "010";

/// The tax product with its adapter.
struct Product {
    product: Process,
    adapter: Process,
}

impl Product {
    async fn start(stage: &Stage, hub: &Hub) -> Self {
        let told = stage.run().join("kaede.address");
        if told.exists() {
            fs::remove_file(&told).unwrap();
        }
        let (product, address) = stage.rest_product("kaede").await.unwrap();
        let settings = [format!("address={address}")];
        let adapter = stage.adapter(&hub.url(), "kaede", &settings).unwrap();
        Self { product, adapter }
    }

    fn stop(mut self) {
        self.adapter.stop().unwrap();
        self.product.stop().unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    if to.exists() {
        fs::remove_dir_all(to).unwrap();
    }
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Persons with their state, and the keys that had an effect.
async fn kept(folder: &Path) -> (Vec<String>, Vec<String>) {
    let options = SqliteConnectOptions::new().filename(folder.join("kaede.db"));
    let mut database = SqliteConnection::connect_with(&options).await.unwrap();
    let mut read = Vec::new();
    for query in [
        "SELECT no || ' ' || version || ' ' || doc FROM person ORDER BY no",
        "SELECT key FROM journal ORDER BY key",
    ] {
        let rows = sqlx::query(query).fetch_all(&mut database).await.unwrap();
        read.push(rows.iter().map(|row| row.get::<String, _>(0)).collect());
    }
    database.close().await.unwrap();
    let journal = read.pop().unwrap();
    (read.pop().unwrap(), journal)
}

/// The registry's folder, written by hand, with persons who live alone.
struct Town {
    registry: Registry,
    persons: Vec<Row>,
    change: Row,
    columns: Vec<String>,
    logged: u64,
    _adapter: Process,
}

impl Town {
    async fn start(stage: &Stage, hub: &Hub) -> Self {
        let out = stage.folder("out").unwrap();
        let residents = Table::read(&town(), "residents_before.csv").unwrap();
        let changes = Table::read(&town(), "changes.csv").unwrap();
        let registry = Registry::new(&out, residents.columns.clone(), changes.columns).unwrap();
        hub.client().unwrap().bind_source("tsubame").await.unwrap();
        let japanese = |row: &&Row| row.get("juminshubetsu") == "1";
        Self {
            registry,
            persons: residents
                .rows
                .iter()
                .filter(japanese)
                .take(30)
                .cloned()
                .collect(),
            change: changes.rows.into_iter().next().unwrap(),
            columns: residents.columns,
            logged: 0,
            _adapter: stage.registry_adapter(&hub.url(), &out).unwrap(),
        }
    }

    /// Each of these persons moves, by so many versions.
    async fn move_all(&mut self, hub: &Hub, persons: Range<usize>, step: u32) {
        let moves = persons.map(|person| vec![self.moved(&self.persons[person], step)]);
        let moves: Vec<_> = moves.collect();
        self.logged += moves.len() as u64;
        self.registry.write_changes(&moves).unwrap();
        let client = hub.client().unwrap();
        client.wait_until_logged(self.logged).await.unwrap();
        client.wait_until_delivered(&[TAX]).await.unwrap();
    }

    fn moved(&self, image: &Row, step: u32) -> Row {
        let mut row = self.change.clone();
        for column in &self.columns {
            row = row.with(column, image.get(column));
        }
        row.with("rirekibango", image.version() + step)
            .with(
                "jusho_banchigohyoki",
                format!("{}番", ["０", "１", "２", "３"][step as usize]),
            )
            .with("jushoosadametanengappi", "2026-03-02")
            .with("idomaesetaibango", image.get("setaibango"))
    }
}

async fn wait_for_end(hub: &Hub) -> Value {
    let mut latest = Value::Null;
    wait_until(PATIENCE, "the replay ends", async || {
        let listed = hub.command(&["replay", "list"])?;
        latest = listed["replays"][0].clone();
        Ok(latest["state"] == "REPLAY_STATE_DONE")
    })
    .await
    .unwrap_or_else(|error| panic!("{error:#}\n{latest:#}"));
    latest
}

#[tokio::test]
async fn a_product_that_lost_its_last_day_gets_it_back_by_a_replay() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(folder.path());
    let hub = Hub::start(folder.path()).await.unwrap();
    hub.client().unwrap().bind(TAX, "kaede").await.unwrap();
    let product = Product::start(&stage, &hub).await;
    let database = stage.folder("kaede").unwrap();
    let copied = stage.folder("copy").unwrap();
    let mut town = Town::start(&stage, &hub).await;
    let persons = town.persons.clone();
    town.registry.write_full(&persons).unwrap();
    town.move_all(&hub, 0..20, 1).await;
    product.stop();
    copy(&database, &copied);

    let midnight = Timestamp::from(SystemTime::now()).to_string();
    let product = Product::start(&stage, &hub).await;
    town.move_all(&hub, 0..10, 2).await;
    town.move_all(&hub, 20..30, 1).await;
    town.move_all(&hub, 4..7, 3).await;
    product.stop();
    let truth = kept(&database).await;
    copy(&copied, &database);
    assert_ne!(kept(&database).await, truth);

    let product = Product::start(&stage, &hub).await;
    let subscription = format!("{MUNICIPALITY}/{TAX}");
    let start = ["replay", "start", "--subscription", &subscription];
    let reason = [
        "--from",
        &midnight,
        "--operator",
        "story",
        "--reason",
        "set back to last night",
    ];
    let start = [&start[..], &reason[..]].concat();
    let counted = hub.command(&[&start[..], &["--dry-run"]].concat()).unwrap();
    assert_eq!(
        (&counted["units"], &counted["id"]),
        (&Value::from(23), &Value::from(""))
    );
    hub.command(&start).unwrap();
    let ended = wait_for_end(&hub).await;
    assert_eq!(
        (&ended["delivered"], &ended["parked"]),
        (&Value::from(23), &Value::from(0))
    );
    assert_eq!(kept(&database).await, truth);

    // Once more, it has everything, and nothing changes.
    hub.command(&start).unwrap();
    let ended = wait_for_end(&hub).await;
    assert_eq!(ended["known"], Value::from(23));
    assert_eq!(kept(&database).await, truth);
    product.stop();
}
