//! A3, A4, C10: adapters that write files or tables die, and a database that fails.
//! A small town is played to the real adapter and its product, whose own journal counts.
//! Must never hand out the last file before the last harm.
//! Read next: `../rig.rs`, which cuts the town into files.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::journals::{check_ledger, check_units};
use musubi_e2e::process::musubi;
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Row as TownRow, Table, town_7};
use musubi_e2e::{Client, Hub, Postgres, Process, wait_until};
use musubi_proto::hub::v1::{OutcomeCounts, Stream};
use sqlx::{Connection, PgConnection};

use crate::dice::Dice;
use crate::rig::files;
use crate::row::{Ctx, Row, RowReport};
use crate::scene::{CRASH_AT, dying};

/// A3, A4, C10.
pub const ROWS: &[Row] = &[
    Row {
        name: "A3",
        what: "an adapter of files dies: half-written, before the rename, before and after the manifest",
        accept: "no file without its manifest is taken; I1–I4: 0",
        count: 100,
        run: |ctx| Box::pin(files_die(ctx)),
    },
    Row {
        name: "A4",
        what: "an adapter of tables dies between statement and commit, and between commit and answer",
        accept: "each unit once: its marker stands in the same transaction; I1–I4: 0",
        count: 100,
        run: |ctx| Box::pin(tables_die(ctx)),
    },
    Row {
        name: "C10",
        what: "PostgreSQL: deadlock, serializable transactions, dropped connections, read-only",
        accept: "tried again; I1–I4: 0",
        count: 5,
        run: |ctx| Box::pin(database_fails(ctx)),
    },
];

const FILE_POINTS: &[&str] = &[
    "file.half_written",
    "file.flushed",
    "file.renamed",
    "file.before_manifest",
    "file.manifest_written",
];
const CAPTURE_POINTS: &[&str] = &["capture.translated", "capture.answered"];
const TABLE_POINTS: &[&str] = &["sql.before_commit", "sql.committed"];
/// Files of the town. Each harm needs one, so a further town is played for further harms.
const FILES: usize = 12;

/// The hub, the registry's adapter, and one product with its adapter.
pub(super) struct Town {
    pub(super) client: Client,
    pub(super) stage: Stage,
    registry: Registry,
    files: Vec<Vec<Vec<TownRow>>>,
    pub(super) rows: u64,
    system: &'static str,
    name: &'static str,
    settings: Vec<String>,
    pub(super) adapter: Process,
    product: Process,
    database: Option<String>,
    pub(super) capture: Process,
    hub: Hub,
}

impl Town {
    pub(super) async fn start(
        folder: &Path,
        (system, name): (&'static str, &'static str),
        database: Option<String>,
    ) -> Result<Self> {
        let stage = Stage::new(folder);
        let hub = Hub::start(folder).await?;
        let client = hub.client()?;
        client.bind(system, name).await?;
        client.bind_source("tsubame").await?;
        let (product, settings) = match &database {
            Some(database) => {
                let settings = vec![format!("database={database}"), "poll_ms=20".to_owned()];
                (stage.momiji(name, database)?, settings)
            }
            None => {
                let (product, exchange) = stage.hinoki(100)?;
                let settings = vec![
                    format!("folder={}", exchange.display()),
                    "file_wait_ms=50".to_owned(),
                    "poll_ms=20".to_owned(),
                ];
                (product, settings)
            }
        };
        let before = Table::read(&town_7(), "residents_before.csv")?;
        let removed = Table::read(&town_7(), "removed_before.csv")?;
        let changes = Table::read(&town_7(), "changes.csv")?;
        let out = stage.folder("out")?;
        let mut registry = Registry::new(&out, before.columns, changes.columns)?;
        registry.write_full(&[before.rows, removed.rows].concat())?;
        Ok(Self {
            adapter: stage.adapter(&hub.url(), name, &settings)?,
            capture: stage.registry_adapter(&hub.url(), &out)?,
            files: files(changes.rows, FILES),
            rows: 0,
            client,
            stage,
            registry,
            system,
            name,
            settings,
            product,
            database,
            hub,
        })
    }

    pub(super) fn hub_url(&self) -> String {
        self.hub.url()
    }

    pub(super) fn next_file(&mut self) -> Result<()> {
        if let Some(file) = self.files.pop() {
            self.rows += u64::try_from(file.iter().map(Vec::len).sum::<usize>())?;
            self.registry.write_changes(&file)?;
        }
        Ok(())
    }

    /// A product whose database died is started again, as its service manager does.
    pub(super) fn keep_product(&mut self) -> Result<()> {
        if let Some(database) = &self.database
            && self.product.ended()?.is_some()
        {
            self.product = self.stage.momiji(self.name, database)?;
        }
        Ok(())
    }

    pub(super) fn start_adapter(&mut self, command: std::process::Command) -> Result<()> {
        let hub = self.hub.url();
        self.adapter = self
            .stage
            .adapter_as(command, &hub, self.name, &self.settings)?;
        Ok(())
    }

    /// The adapter dies at a point while something is on its way to the product.
    pub(super) async fn dies(&mut self, point: &str, times: u64) -> Result<()> {
        self.adapter.kill()?;
        self.start_adapter(dying(point, times)?)?;
        self.next_file()?;
        let adapter = &mut self.adapter;
        wait_until(PATIENCE, point, async || Ok(adapter.ended()?.is_some())).await
    }

    /// Hands out the rest, waits, and says what the hub counts.
    pub(super) async fn settle(&mut self) -> Result<OutcomeCounts> {
        while !self.files.is_empty() {
            self.next_file()?;
        }
        self.client.wait_until_logged(self.rows).await?;
        let mut counts = OutcomeCounts::default();
        wait_until(PATIENCE, "everything at the product", async || {
            self.keep_product()?;
            let own = self.client.subscription(self.system).await?;
            counts = own.counts.unwrap_or_default();
            ensure!(
                counts.received > 0 && own.lag == 0 && own.in_flight == 0,
                "{own:?}"
            );
            Ok(true)
        })
        .await?;
        Ok(counts)
    }

    /// The end: what the hub counts is what the product's journal has.
    pub(super) async fn finish(mut self, injected: u64, journal: Journal) -> Result<RowReport> {
        let counts = self.settle().await?;
        let mut violations = Vec::new();
        if counts.rejected + counts.waiting > 0 {
            violations.push(format!("parked: {counts:?}"));
        }
        let entries = match journal {
            Journal::Ledger(file) => check_ledger(self.name, &file).await,
            Journal::Units(database) => check_units(&database).await,
        };
        let logged = self.client.log(Stream::Live).await?.len() as u64;
        if logged != self.rows {
            violations.push(format!("I1: {} rows, {logged} in the log", self.rows));
        }
        let delivered = match entries {
            Ok(entries) => entries as u64,
            Err(error) => {
                violations.push(format!("I2, I3: {error:#}"));
                0
            }
        };
        if delivered == 0 {
            violations.push("I1: nothing took effect".to_owned());
        }
        Ok(RowReport {
            injected,
            published: logged,
            delivered,
            violations,
            notes: vec![format!("{counts:?}")],
            ..RowReport::default()
        })
    }
}

/// Where a product's own record of its effects is.
pub(super) enum Journal {
    Ledger(PathBuf),
    Units(String),
}

async fn files_die(ctx: Ctx) -> Result<RowReport> {
    let mut report = RowReport::default();
    let mut dice = Dice::new(ctx.seed);
    for (ctx, points) in towns(&ctx, FILE_POINTS)? {
        let mut town = Town::start(&ctx.folder, ("026", "hinoki"), None).await?;
        let deaths = die_at(&mut town, &ctx, &points, &mut dice).await?;
        let ledger = town.stage.folder("hinoki/data")?.join("hinoki.db");
        report.add(town.finish(deaths, Journal::Ledger(ledger)).await?);
    }
    Ok(report)
}

async fn tables_die(ctx: Ctx) -> Result<RowReport> {
    let mut report = RowReport::default();
    let mut dice = Dice::new(ctx.seed);
    for (ctx, points) in towns(&ctx, TABLE_POINTS)? {
        let database = format!("sqlite://{}", ctx.folder.join("momiji.db").display());
        let mut town = Town::start(&ctx.folder, ("024", "momiji"), Some(database.clone())).await?;
        let deaths = die_at(&mut town, &ctx, &points, &mut dice).await?;
        report.add(town.finish(deaths, Journal::Units(database)).await?);
    }
    Ok(report)
}

/// Each point so often as told, spread over towns; each town with a folder of its own.
fn towns(ctx: &Ctx, points: &[&'static str]) -> Result<Vec<(Ctx, Vec<&'static str>)>> {
    let all = points.iter().copied().cycle();
    let all: Vec<_> = all.take(points.len() * ctx.count as usize).collect();
    let mut towns = Vec::new();
    for (number, points) in all.chunks(FILES).enumerate() {
        let ctx = ctx.within(&format!("town-{number}"));
        std::fs::create_dir_all(&ctx.folder).context("make the folder of a town")?;
        towns.push((ctx, points.to_vec()));
    }
    Ok(towns)
}

/// The other half of A2: the registry's adapter dies around a publish.
pub async fn capture_dies(ctx: Ctx) -> Result<RowReport> {
    let mut report = RowReport::default();
    for (ctx, points) in towns(&ctx, CAPTURE_POINTS)? {
        let database = format!("sqlite://{}", ctx.folder.join("momiji.db").display());
        let mut town = Town::start(&ctx.folder, ("024", "momiji"), Some(database.clone())).await?;
        let out = ctx.folder.join("out");
        for point in &points {
            town.capture.kill()?;
            let armed = (CRASH_AT.to_owned(), (*point).to_owned());
            let stage = Stage::new(&ctx.folder).with_environment(&[armed]);
            town.capture = stage.registry_adapter(&town.hub.url(), &out)?;
            town.next_file()?;
            let capture = &mut town.capture;
            wait_until(PATIENCE, point, async || Ok(capture.ended()?.is_some())).await?;
        }
        town.capture = town.stage.registry_adapter(&town.hub.url(), &out)?;
        let deaths = points.len() as u64;
        report.add(town.finish(deaths, Journal::Units(database)).await?);
    }
    Ok(report)
}

async fn die_at(town: &mut Town, ctx: &Ctx, points: &[&str], dice: &mut Dice) -> Result<u64> {
    for point in points {
        let died = town.dies(point, 1 + dice.below(2)).await;
        died.with_context(|| format!("seed {}", ctx.seed))?;
    }
    town.start_adapter(musubi()?)?;
    Ok(points.len() as u64)
}

async fn database_fails(ctx: Ctx) -> Result<RowReport> {
    let postgres = Postgres::start()?;
    let database = postgres.create_database("momiji")?;
    let mut town = Town::start(&ctx.folder, ("024", "momiji"), Some(database.clone())).await?;
    let mut operator = PgConnection::connect(&postgres.url("postgres")).await?;
    let mut injected = 0;
    for _ in 0..ctx.count {
        town.next_file()?;
        set(&mut operator, "default_transaction_read_only = on").await?;
        drop_connections(&mut operator).await?;
        // Somebody has to meet it.
        wait_until(PATIENCE, "a connection that may only read", async || {
            town.keep_product()?;
            let count = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'momiji'";
            Ok(sqlx::query_scalar::<_, i64>(count)
                .fetch_one(&mut operator)
                .await?
                > 0)
        })
        .await?;
        set(&mut operator, "default_transaction_read_only = off").await?;
        set(
            &mut operator,
            "default_transaction_isolation = 'serializable'",
        )
        .await?;
        drop_connections(&mut operator).await?;
        town.keep_product()?;
        town.next_file()?;
        deadlock(&mut town, &database).await?;
        injected += 5;
    }
    town.finish(injected, Journal::Units(database)).await
}

async fn set(operator: &mut PgConnection, what: &'static str) -> Result<()> {
    let statement = sqlx::AssertSqlSafe(format!("ALTER DATABASE momiji SET {what}"));
    sqlx::query(statement).execute(operator).await?;
    Ok(())
}

async fn drop_connections(operator: &mut PgConnection) -> Result<()> {
    let statement =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'momiji'";
    sqlx::query(statement).execute(operator).await?;
    Ok(())
}

/// Takes what a unit needs last, then what it has first: the database ends one of the two.
async fn deadlock(town: &mut Town, database: &str) -> Result<()> {
    let mut other = PgConnection::connect(database).await?;
    wait_until(PATIENCE, "the tables", async || {
        town.keep_product()?;
        let tables = "SELECT 1 FROM if_shori_marker LIMIT 1";
        sqlx::query(tables).execute(&mut other).await?;
        Ok(true)
    })
    .await?;
    let mut transaction = other.begin().await?;
    for table in ["if_shori_marker", "if_setai_header"] {
        let lock = sqlx::AssertSqlSafe(format!("LOCK TABLE {table} IN EXCLUSIVE MODE"));
        // Either side may be the one that is ended.
        if sqlx::query(lock).execute(&mut *transaction).await.is_err() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    transaction.rollback().await.context("let the tables go")
}
