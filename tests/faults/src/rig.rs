//! The registry's adapter, the hub, a product's adapter and the product, each line through a proxy.
//! D1, D3 and D5 with the SDK as it is: it connects, pings and comes back by itself.
//! Must never compare with a count that a process kept in memory.
//! Read next: `network.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::journals::check_ledger;
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Row, Table, town_7};
use musubi_e2e::{Client, Hub, Process, wait_until};
use musubi_proto::hub::v1::{StoredEvent, Stream};

use crate::proxy::Proxy;
use crate::retrying::Retrying;

const SYSTEM: &str = "010";
const PRODUCT: &str = "kaede";
const FILES: usize = 6;

/// All of it, running.
#[derive(Debug)]
pub struct Rig {
    /// Between the registry's adapter and the hub.
    pub source: Proxy,
    /// Between the hub and the product's adapter.
    pub adapter: Proxy,
    /// Between the product's adapter and the product.
    pub product: Proxy,
    /// The hub.
    pub hub: Hub,
    client: Client,
    registry: Registry,
    files: Vec<Vec<Vec<Row>>>,
    rows: u64,
    ledger: PathBuf,
    retrying: Option<Retrying>,
    adapters: [Process; 2],
    settings: Vec<String>,
    out: PathBuf,
    stage: Stage,
    _product: Process,
}

/// Whether requests to the product come twice and late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// Each once.
    Once,
    /// Repeated and late.
    Repeated,
}

impl Rig {
    /// Starts all of it on a small town, and waits until its snapshot is with the product.
    pub async fn start(folder: &Path, seed: u64, requests: Requests) -> Result<Self> {
        Self::start_in(folder, seed, requests, &[]).await
    }

    /// The same with further variables for hub, adapters and product.
    pub async fn start_in(
        folder: &Path,
        seed: u64,
        requests: Requests,
        environment: &[(String, String)],
    ) -> Result<Self> {
        let stage = Stage::new(folder).with_environment(environment);
        let mut serve = stage.musubi()?;
        serve.arg("serve");
        let hub = Hub::start_as(folder, serve).await?;
        let client = hub.client()?;
        client.bind(SYSTEM, PRODUCT).await?;
        client.bind_source("tsubame").await?;
        let source = Proxy::start(hub.address(), seed).await?;
        let adapter = Proxy::start(hub.address(), seed.wrapping_add(1)).await?;
        let (process, url) = stage.rest_product(PRODUCT).await?;
        let retrying = match requests {
            Requests::Once => None,
            Requests::Repeated => Some(Retrying::before_product(&url, seed).await?),
        };
        let target = retrying.as_ref().map_or(url, Retrying::url);
        let product = Proxy::start(target.trim_start_matches("http://"), seed).await?;
        let settings = vec![
            format!("address={}", product.url()),
            "connect_timeout_ms=1000".to_owned(),
            "request_timeout_ms=1000".to_owned(),
        ];
        let kaede = stage.adapter(&adapter.url(), PRODUCT, &settings)?;
        let before = Table::read(&town_7(), "residents_before.csv")?;
        let removed = Table::read(&town_7(), "removed_before.csv")?;
        let changes = Table::read(&town_7(), "changes.csv")?;
        let out = stage.folder("out")?;
        let mut registry = Registry::new(&out, before.columns, changes.columns)?;
        registry.write_full(&[before.rows, removed.rows].concat())?;
        let tsubame = stage.registry_adapter(&source.url(), &out)?;
        let rig = Self {
            source,
            adapter,
            product,
            client,
            registry,
            files: files(changes.rows, FILES),
            rows: 0,
            ledger: stage.folder(PRODUCT)?.join("kaede.db"),
            retrying,
            adapters: [kaede, tsubame],
            settings,
            out,
            stage,
            _product: process,
            hub,
        };
        rig.settle().await.context("the snapshot")?;
        Ok(rig)
    }

    /// The registry hands out the next file; returns false when there is none.
    pub fn next_file(&mut self) -> Result<bool> {
        let Some(file) = self.files.pop() else {
            return Ok(false);
        };
        self.rows += u64::try_from(file.iter().map(Vec::len).sum::<usize>())?;
        self.registry.write_changes(&file)?;
        Ok(true)
    }

    /// Ends each adapter in order, and starts the next edition of it.
    pub fn restart_adapters(&mut self) -> Result<()> {
        let [kaede, tsubame] = &mut self.adapters;
        for adapter in [&mut *kaede, &mut *tsubame] {
            let status = adapter.stop()?;
            ensure!(status.success(), "{} ended with {status}", adapter.name());
        }
        let url = self.adapter.url();
        *kaede = self.stage.adapter(&url, PRODUCT, &self.settings)?;
        *tsubame = self.stage.registry_adapter(&self.source.url(), &self.out)?;
        Ok(())
    }

    /// Ends the hub in order, and starts the next edition of it.
    pub async fn restart_hub(&mut self) -> Result<()> {
        let status = self.hub.process().stop()?;
        ensure!(status.success(), "the hub ended with {status}");
        self.hub.restart().await
    }

    /// Everything in the live stream of the log.
    pub async fn logged(&self) -> Result<Vec<StoredEvent>> {
        self.client.log(Stream::Live).await
    }

    /// Waits until everything handed out is in the log and with the product, at most `limit`.
    pub async fn settle_within(&self, limit: Duration) -> Result<()> {
        wait_until(limit, "everything at the product", async || {
            let logged = self.logged().await?;
            ensure!(logged.len() as u64 >= self.rows, "{} logged", logged.len());
            let own = self.client.subscription(SYSTEM).await?;
            let counts = own.counts.unwrap_or_default();
            ensure!(
                counts.received > 0 && own.lag == 0 && own.in_flight == 0,
                "{own:?}"
            );
            Ok(true)
        })
        .await
    }

    /// The same with the patience of a test.
    pub async fn settle(&self) -> Result<()> {
        self.settle_within(PATIENCE).await
    }

    /// Requests to the product that were repeated or held up.
    pub fn disturbed(&self) -> u64 {
        self.retrying.as_ref().map_or(0, Retrying::disturbed)
    }

    /// Hands out what is left, waits, and judges log and journal.
    pub async fn finish(mut self) -> Result<Vec<String>> {
        while self.next_file()? {}
        self.settle().await?;
        let mut wrong = Vec::new();
        let logged = self.logged().await?;
        if logged.len() as u64 != self.rows {
            wrong.push(format!("{} rows, {} in the log", self.rows, logged.len()));
        }
        let own = self.client.subscription(SYSTEM).await?;
        let counts = own.counts.unwrap_or_default();
        if counts.rejected + counts.waiting > 0 {
            wrong.push(format!("parked: {counts:?}"));
        }
        match check_ledger(PRODUCT, &self.ledger).await {
            // A key is in the journal once, whether its effect was told at once or on asking.
            Ok(entries) if entries as u64 == counts.applied + counts.duplicate => {}
            Ok(entries) => wrong.push(format!("{entries} in the journal, but {counts:?}")),
            Err(error) => wrong.push(format!("{error:#}")),
        }
        Ok(wrong)
    }
}

/// Whole 届出, in a few files, the last one first.
pub(crate) fn files(rows: Vec<Row>, count: usize) -> Vec<Vec<Vec<Row>>> {
    let mut groups: Vec<Vec<Row>> = Vec::new();
    for row in rows {
        let group = row.get("todokedegurupuid").to_owned();
        match groups.last_mut() {
            Some(last)
                if last
                    .first()
                    .is_some_and(|first| first.get("todokedegurupuid") == group) =>
            {
                last.push(row);
            }
            _ => groups.push(vec![row]),
        }
    }
    let size = groups.len().div_ceil(count).max(1);
    let mut files: Vec<_> = groups.chunks(size).map(<[_]>::to_vec).collect();
    files.reverse();
    files
}
