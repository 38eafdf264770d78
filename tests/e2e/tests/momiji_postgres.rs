//! The insurance product on PostgreSQL: the same adapter, the same state as on SQLite, also when the
//! database dies on the way.
//! A part of the town is played twice, once on each database.
//! Must never compare less than the whole ledger that the product documents.
//! Read next: `src/postgres.rs`, `adapters/vendors/momiji/INTERFACE.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;

use musubi_e2e::hub::PATIENCE;
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Row as TownRow, Table, town};
use musubi_e2e::{Client, Hub, Postgres, Process, wait_until};

use sqlx::{AnyConnection, AssertSqlSafe, Connection, Row};

const SYSTEM: &str = "024";
/// Rows of the town that are played.
const ROWS: usize = 400;
const ROWS_PER_FILE: usize = 40;

/// Columns of the documented read view that are text.
const COLUMNS: &[&str] = &[
    "kojin_no",
    "shimei",
    "shimei_kana",
    "tsusho",
    "tsusho_kana",
    "umare_ymd",
    "umare_fusho",
    "seibetsu",
    "jumin_kbn",
    "jumin_ymd",
    "jumin_fusho",
    "ken",
    "shi",
    "machi",
    "banchi",
    "katagaki",
    "machi_cd",
    "yubin_no",
    "jutei_ymd",
    "jutei_fusho",
    "setai_no",
    "nushi_no",
    "nushi_misettei",
    "zokugara",
    "gaikoku_kbn",
    "zairyu_shikaku",
    "zairyu_kikan",
    "zairyu_manryo",
    "gaikoku_jumin_ymd",
    "jotai_kbn",
    "jotai_ymd",
    "jotai_fusho",
];

/// Everything the product documents of its state, as lines.
async fn state(database: &str) -> Vec<String> {
    let mut connection = AnyConnection::connect(database).await.unwrap();
    let texts: String = COLUMNS
        .iter()
        .map(|column| format!("COALESCE({column}, '-') || '|' || "))
        .collect();
    let queries = [
        format!(
            "SELECT {texts} CAST(rireki AS TEXT) || '|' || CAST(hogo_flg AS TEXT) \
             FROM hihokensha"
        ),
        "SELECT kojin_no || '|' || sochi_no || '|' || CAST(han AS TEXT) || '|' || \
         CAST(shuryo AS TEXT) FROM hogo_sochi"
            .to_owned(),
        "SELECT setai_no || '|' || COALESCE(nushi_no, '-') || '|' || nushi_misettei || '|' || \
         CAST(ninzu AS TEXT) FROM setai"
            .to_owned(),
    ];
    let mut lines = Vec::new();
    for (place, query) in queries.into_iter().enumerate() {
        let rows = sqlx::query(AssertSqlSafe(query)).fetch_all(&mut connection);
        for row in rows.await.unwrap() {
            let text: String = row.try_get(0).unwrap();
            lines.push(format!("{place} {text}"));
        }
    }
    lines.sort();
    lines
}

/// Whole 届出 of the town, in files.
fn files() -> Vec<Vec<Vec<TownRow>>> {
    let changes = Table::read(&town(), "changes.csv").unwrap();
    let mut groups: Vec<Vec<TownRow>> = Vec::new();
    for row in changes.rows.into_iter().take(ROWS) {
        let group = row.get("todokedegurupuid").to_owned();
        match groups.last_mut() {
            Some(last) if last[0].get("todokedegurupuid") == group => last.push(row),
            _ => groups.push(vec![row]),
        }
    }
    // The last one may have been cut off.
    groups.pop();
    groups.chunks(ROWS_PER_FILE).map(<[_]>::to_vec).collect()
}

struct Insurance {
    product: Process,
    _adapters: [Process; 2],
    _hub: Hub,
    client: Client,
    stage: Stage,
    registry: Registry,
    database: String,
}

impl Insurance {
    async fn start(folder: &Path, database: &str) -> Self {
        let stage = Stage::new(folder);
        let hub = Hub::start(folder).await.unwrap();
        let client = hub.client().unwrap();
        client.bind(SYSTEM, "momiji").await.unwrap();
        client.bind_source("tsubame").await.unwrap();
        let before = Table::read(&town(), "residents_before.csv").unwrap();
        let removed = Table::read(&town(), "removed_before.csv").unwrap();
        let changes = Table::read(&town(), "changes.csv").unwrap();
        let out = stage.folder("out").unwrap();
        let mut registry = Registry::new(&out, before.columns, changes.columns).unwrap();
        registry
            .write_full(&[before.rows, removed.rows].concat())
            .unwrap();
        let product = stage.momiji("momiji", database).unwrap();
        let settings = [format!("database={database}")];
        let momiji = stage.adapter(&hub.url(), "momiji", &settings).unwrap();
        let tsubame = stage.registry_adapter(&hub.url(), &out).unwrap();
        Self {
            product,
            _adapters: [momiji, tsubame],
            _hub: hub,
            client,
            stage,
            registry,
            database: database.to_owned(),
        }
    }

    /// The product ends with its database; its service manager starts it again.
    fn keep_product(&mut self) -> anyhow::Result<()> {
        if self.product.ended()?.is_some() {
            self.product = self.stage.momiji("momiji", &self.database)?;
        }
        Ok(())
    }

    async fn wait_until_delivered(&mut self) {
        wait_until(
            PATIENCE,
            "everything at the insurance product",
            async || {
                self.keep_product()?;
                let own = self.client.subscription(SYSTEM).await?;
                let counts = own.counts.unwrap_or_default();
                anyhow::ensure!(own.lag == 0 && own.in_flight == 0, "{own:?}");
                anyhow::ensure!(counts.rejected == 0 && counts.waiting == 0, "{counts:?}");
                Ok(true)
            },
        )
        .await
        .unwrap();
    }

    async fn applied(&self) -> u64 {
        let own = self.client.subscription(SYSTEM).await.unwrap();
        own.counts.unwrap_or_default().applied
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_on_postgresql_equals_that_on_sqlite_also_after_the_database_died() {
    sqlx::any::install_default_drivers();
    let files = files();
    let rows: usize = files.iter().flatten().map(Vec::len).sum();
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}", folder.path().join("momiji.db").display());
    let mut on_sqlite = Insurance::start(folder.path(), &sqlite).await;
    let postgres_folder = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start().unwrap();
    let database = postgres.create_database("momiji").unwrap();
    let mut on_postgres = Insurance::start(postgres_folder.path(), &database).await;

    let (first, second) = files.split_at(files.len() / 2);
    for file in first {
        on_sqlite.registry.write_changes(file).unwrap();
        on_postgres.registry.write_changes(file).unwrap();
    }
    // The database dies while the snapshot and the first changes are on their way.
    wait_until(PATIENCE, "the first units in PostgreSQL", async || {
        Ok(on_postgres.applied().await > 100)
    })
    .await
    .unwrap();
    postgres.kill().unwrap();
    for file in second {
        on_sqlite.registry.write_changes(file).unwrap();
        on_postgres.registry.write_changes(file).unwrap();
    }
    postgres.restart().unwrap();
    for insurance in [&mut on_sqlite, &mut on_postgres] {
        let logged = insurance.client.wait_until_logged(rows as u64);
        logged.await.unwrap();
        insurance.wait_until_delivered().await;
    }
    let (expected, found) = (state(&sqlite).await, state(&database).await);
    assert!(expected.len() > 1_500, "{}", expected.len());
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected.len(), found.len());
}
