//! C8, C9: a product that lost its data, and one in which somebody changed rows by hand.
//! The real tax product with its adapter; its own database is set back, emptied and edited between
//! two starts, and an operator's commands do the rest.
//! Must never compare anything less than all that the product keeps.
//! Read next: `docs/specs/replay.md`.

#![allow(
    clippy::unwrap_used,
    reason = "a row fails by a panic, which its report names"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::SystemTime;

use musubi_e2e::hub::{MUNICIPALITY, PATIENCE};
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Row as TownRow, Table, town};
use musubi_e2e::{Hub, Process, wait_until};
use prost_types::Timestamp;
use serde_json::Value;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, Row as _, SqliteConnection};

use crate::dice::Dice;
use crate::judged::judged;
use crate::row::{Ctx, Row, RowReport};

/// C8, C9.
pub const ROWS: &[Row] = &[
    Row {
        name: "C8",
        what: "a product is set back to an old backup, then loses its database",
        accept: "every person that differs is found; a replay brings all of it back, I4: 0",
        count: 5,
        run: |ctx| judged(lost(ctx)),
    },
    Row {
        name: "C9",
        what: "rows of a product are changed, raised and removed by hand",
        accept: "every person that differs is found; no replay writes over one, a row that is ahead is answered SUPERSEDED",
        count: 1,
        run: |ctx| judged(changed_by_hand(ctx)),
    },
];

const TAX: &str = "010";
const PRODUCT: &str = "kaede";
const PERSONS: usize = 30;
/// Persons changed by hand in each of the ways.
const BY_HAND: usize = 3;

/// What a product keeps: each person with version and content, and the keys that had an effect.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Kept {
    persons: BTreeMap<String, String>,
    keys: BTreeSet<String>,
}

impl Kept {
    /// Who is not the same in another state.
    fn differing(&self, other: &Self) -> BTreeSet<String> {
        let all = self.persons.keys().chain(other.persons.keys());
        all.filter(|no| self.persons.get(*no) != other.persons.get(*no))
            .cloned()
            .collect()
    }
}

/// The hub, the registry with persons who live alone, and the product.
struct Scene {
    stage: Stage,
    hub: Hub,
    registry: Registry,
    persons: Vec<TownRow>,
    /// Moves of each person so far.
    moves: Vec<u32>,
    change: TownRow,
    columns: Vec<String>,
    logged: u64,
    product: Option<(Process, Process)>,
    _capture: Process,
}

impl Scene {
    async fn start(folder: &Path) -> Self {
        let stage = Stage::new(folder);
        let hub = Hub::start(folder).await.unwrap();
        let client = hub.client().unwrap();
        client.bind(TAX, PRODUCT).await.unwrap();
        client.bind_source("tsubame").await.unwrap();
        let out = stage.folder("out").unwrap();
        let residents = Table::read(&town(), "residents_before.csv").unwrap();
        let changes = Table::read(&town(), "changes.csv").unwrap();
        let columns = residents.columns;
        let mut registry = Registry::new(&out, columns.clone(), changes.columns).unwrap();
        let japanese = residents.rows.into_iter();
        let japanese = japanese.filter(|row| row.get("juminshubetsu") == "1");
        let persons: Vec<TownRow> = japanese.take(PERSONS).collect();
        let capture = stage.registry_adapter(&hub.url(), &out).unwrap();
        registry.write_full(&persons).unwrap();
        let mut scene = Self {
            stage,
            hub,
            registry,
            moves: vec![0; PERSONS],
            persons,
            change: changes.rows.into_iter().next().unwrap(),
            columns,
            logged: 0,
            product: None,
            _capture: capture,
        };
        scene.start_product().await;
        scene
    }

    async fn start_product(&mut self) {
        let told = self.stage.run().join("kaede.address");
        if told.exists() {
            fs::remove_file(&told).unwrap();
        }
        let (product, address) = self.stage.rest_product(PRODUCT).await.unwrap();
        let settings = [format!("address={address}")];
        let adapter = self.stage.adapter(&self.hub.url(), PRODUCT, &settings);
        self.product = Some((product, adapter.unwrap()));
    }

    fn stop_product(&mut self) {
        let (mut product, mut adapter) = self.product.take().unwrap();
        adapter.stop().unwrap();
        product.stop().unwrap();
    }

    /// Each of these persons moves once more.
    async fn move_all(&mut self, persons: impl IntoIterator<Item = usize>) {
        let mut moves = Vec::new();
        for person in persons {
            self.moves[person] += 1;
            moves.push(vec![self.moved(person)]);
        }
        self.logged += moves.len() as u64;
        self.registry.write_changes(&moves).unwrap();
        let client = self.hub.client().unwrap();
        client.wait_until_logged(self.logged).await.unwrap();
        client.wait_until_delivered(&[TAX]).await.unwrap();
    }

    fn moved(&self, person: usize) -> TownRow {
        let (image, step) = (&self.persons[person], self.moves[person]);
        let mut row = self.change.clone();
        for column in &self.columns {
            row = row.with(column, image.get(column));
        }
        let digits = ["０", "１", "２", "３", "４", "５", "６", "７", "８", "９"];
        let house = format!("{}番", digits[step as usize % digits.len()]);
        row.with("rirekibango", image.version() + step)
            .with("jusho_banchigohyoki", house)
            .with("jushoosadametanengappi", "2026-03-02")
            .with("idomaesetaibango", image.get("setaibango"))
    }

    fn nos(&self, persons: impl IntoIterator<Item = usize>) -> BTreeSet<String> {
        let no = |person: usize| self.persons[person].person().to_owned();
        persons.into_iter().map(no).collect()
    }

    async fn database(&self) -> SqliteConnection {
        let file = self.stage.folder(PRODUCT).unwrap().join("kaede.db");
        let options = SqliteConnectOptions::new().filename(file);
        SqliteConnection::connect_with(&options).await.unwrap()
    }

    async fn kept(&self) -> Kept {
        let mut database = self.database().await;
        let persons = "SELECT no, version || ' ' || doc FROM person";
        let persons = sqlx::query(persons).fetch_all(&mut database).await;
        let keys = "SELECT key FROM journal";
        let keys = sqlx::query_scalar(keys).fetch_all(&mut database).await;
        database.close().await.unwrap();
        Kept {
            persons: persons
                .unwrap()
                .iter()
                .map(|row| (row.get(0), row.get(1)))
                .collect(),
            keys: keys.unwrap().into_iter().collect(),
        }
    }

    /// Delivers everything published since a time once more, and waits for the end.
    async fn replay(&self, since: &str) -> Value {
        let subscription = format!("{MUNICIPALITY}/{TAX}");
        let reason = ["--operator", "test", "--reason", "the product lost data"];
        let start = ["replay", "start", "--subscription", &subscription];
        let start = [&start[..], &["--from", since], &reason[..]].concat();
        let counted = self.hub.command(&[&start[..], &["--dry-run"]].concat());
        self.hub.command(&start).unwrap();
        let mut latest = Value::Null;
        wait_until(PATIENCE, "the replay to end", async || {
            let listed = self.hub.command(&["replay", "list"])?;
            latest = listed["replays"][0].clone();
            Ok(latest["state"] == "REPLAY_STATE_DONE")
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{latest:#}"));
        assert_eq!(latest["delivered"], counted.unwrap()["units"]);
        assert_eq!(latest["parked"], 0, "{latest:#}");
        latest
    }

    fn report(&self, injected: u64, kept: &Kept, notes: Vec<String>) -> RowReport {
        RowReport {
            injected,
            published: self.logged,
            delivered: kept.keys.len() as u64,
            notes,
            ..RowReport::default()
        }
    }
}

fn now() -> String {
    Timestamp::from(SystemTime::now()).to_string()
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

async fn lost(ctx: Ctx) -> RowReport {
    let first = now();
    let mut scene = Scene::start(&ctx.folder).await;
    let mut dice = Dice::new(ctx.seed);
    scene.move_all(0..20).await;
    let folder = scene.stage.folder(PRODUCT).unwrap();
    let copied = scene.stage.folder("copy").unwrap();
    for _ in 0..ctx.count {
        scene.stop_product();
        copy(&folder, &copied);
        let midnight = now();
        scene.start_product().await;
        let moving: BTreeSet<usize> = (0..15)
            .map(|_| dice.below(PERSONS as u64) as usize)
            .collect();
        scene.move_all(moving.iter().copied()).await;
        scene.move_all(moving.iter().copied().take(5)).await;
        scene.stop_product();
        let truth = scene.kept().await;
        copy(&copied, &folder);
        let found = truth.differing(&scene.kept().await);
        assert_eq!(found, scene.nos(moving), "not every difference is found");

        scene.start_product().await;
        scene.replay(&midnight).await;
        assert_eq!(scene.kept().await, truth, "I4");
        // Once more: it has everything, and nothing changes.
        let again = scene.replay(&midnight).await;
        assert_eq!(again["known"], again["delivered"]);
        assert_eq!(scene.kept().await, truth, "I2");
    }
    scene.stop_product();
    let truth = scene.kept().await;
    fs::remove_dir_all(&folder).unwrap();
    scene.start_product().await;
    let found = truth.differing(&scene.kept().await);
    assert_eq!(found, scene.nos(0..PERSONS), "not everybody is missed");
    scene.replay(&first).await;
    let healed = scene.kept().await;
    assert_eq!(healed, truth, "I4 after the loss of everything");
    scene.stop_product();
    scene.report(u64::from(ctx.count) + 1, &healed, Vec::new())
}

async fn changed_by_hand(ctx: Ctx) -> RowReport {
    let first = now();
    let mut scene = Scene::start(&ctx.folder).await;
    let mut dice = Dice::new(ctx.seed);
    let mut notes = Vec::new();
    for _ in 0..ctx.count {
        scene.move_all(0..PERSONS).await;
        scene.stop_product();
        let truth = scene.kept().await;
        let place = dice.below((PERSONS - 3 * BY_HAND) as u64) as usize;
        let [changed, raised, removed] = [0, 1, 2].map(|way| {
            let from = place + way * BY_HAND;
            from..from + BY_HAND
        });
        let mut database = scene.database().await;
        for (persons, statement) in [
            (
                changed.clone(),
                "UPDATE person SET doc = json_set(doc, '$.jusho', '手入力') WHERE no = ?",
            ),
            (
                raised.clone(),
                "UPDATE person SET version = version + 1000 WHERE no = ?",
            ),
            (removed.clone(), "DELETE FROM person WHERE no = ?"),
        ] {
            for no in scene.nos(persons) {
                let edit = sqlx::query(statement).bind(no);
                let edited = edit.execute(&mut database).await.unwrap();
                assert_eq!(edited.rows_affected(), 1);
            }
        }
        database.close().await.unwrap();
        let by_hand = scene.kept().await;
        let all = scene.nos(changed.start..removed.end);
        assert_eq!(truth.differing(&by_hand), all);

        scene.start_product().await;
        // Every key is known: nothing of what somebody did by hand is written over.
        scene.replay(&first).await;
        assert_eq!(scene.kept().await, by_hand, "written over in silence");
        let before = superseded(&scene).await;
        scene.move_all(raised.clone()).await;
        let told = superseded(&scene).await - before;
        assert_eq!(told, BY_HAND as u64, "a row that is ahead is not reported");
        let after = scene.kept().await;
        let untouched = scene.nos(raised);
        let written = by_hand.differing(&after);
        assert!(written.is_disjoint(&untouched), "written over in silence");
        notes.push(format!(
            "{} rows differ by hand, {told} of them were told by the product as ahead of the log",
            all.len()
        ));
        scene.stop_product();
        fs::remove_dir_all(scene.stage.folder(PRODUCT).unwrap()).unwrap();
        scene.start_product().await;
        scene.replay(&first).await;
    }
    scene.stop_product();
    let kept = scene.kept().await;
    scene.report(u64::from(ctx.count) * 3 * BY_HAND as u64, &kept, notes)
}

async fn superseded(scene: &Scene) -> u64 {
    let client = scene.hub.client().unwrap();
    let own = client.subscription(TAX).await.unwrap();
    own.counts.unwrap_or_default().superseded
}
