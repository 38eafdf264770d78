//! D1, D2, D5: partitions, slow and broken lines, requests that come twice and late.
//! A source and a receiver work through proxies while the lines are harmed.
//! Must never heal a line before something had to wait for it.
//! Read next: `rig.rs` for the same with real adapters.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::event::moved;
use musubi_e2e::{Client, Hub, wait_until};
use tokio::task::JoinHandle;

use crate::load::{self, Published, Taker};
use crate::proxy::{Link, Links, Proxy};

/// System that receives.
pub const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";
/// After healing, work goes on within this time.
pub const HEALED: Duration = Duration::from_secs(5);
/// How much more a hub may hold at the end than at the start.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Versions of each subject of a round.
const VERSIONS: u32 = 3;
const SETTLED: Duration = Duration::from_secs(60);

/// A hub with a source and a receiver, each behind a proxy.
#[derive(Debug)]
pub struct Lines {
    hub: Hub,
    direct: Client,
    /// Between source and hub.
    pub source: Proxy,
    /// Between hub and adapter.
    pub adapter: Proxy,
    clients: Vec<Client>,
    taker: Taker,
    published: Published,
    next_subject: u32,
    probes: u32,
    resident_at_start: u64,
}

/// A line that can be harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Between source and hub.
    Source,
    /// Between hub and adapter.
    Adapter,
}

/// What came of a row.
#[derive(Debug)]
pub struct Outcome {
    /// Events acknowledged.
    pub published: usize,
    /// Events that had their effect.
    pub applied: usize,
    /// Deliveries repeated without effect.
    pub repeated: u64,
    /// Publishes that were sent again.
    pub sent_again: u64,
    /// Streams that the adapter opened.
    pub streams: usize,
    /// What was wrong.
    pub violations: Vec<String>,
}

impl Lines {
    /// Starts all of it.
    pub async fn start(folder: &Path, seed: u64) -> Result<Self> {
        let hub = Hub::start(folder).await?;
        let direct = hub.client()?;
        direct.bind(SYSTEM, PRODUCT).await?;
        let source = Proxy::start(hub.address(), seed).await?;
        let adapter = Proxy::start(hub.address(), seed.wrapping_add(1)).await?;
        let clients = vec![Client::new(&source.url())?, Client::new(&source.url())?];
        let taker = Taker::start(Client::new(&adapter.url())?, SYSTEM, PRODUCT);
        let mut lines = Self {
            direct,
            source,
            adapter,
            clients,
            taker,
            published: Published::default(),
            next_subject: 0,
            probes: 0,
            resident_at_start: 0,
            hub,
        };
        // Everything is warm, so that what grows later grows by the fault.
        lines.round(20).await?;
        lines.resident_at_start = lines.hub.process().resident_bytes()?;
        Ok(lines)
    }

    /// The proxy of a line.
    pub fn proxy(&self, line: Line) -> &Proxy {
        match line {
            Line::Source => &self.source,
            Line::Adapter => &self.adapter,
        }
    }

    /// Publishes some versions of so many new subjects.
    pub async fn round(&mut self, subjects: u32) -> Result<()> {
        let done = self.source_of(subjects).await;
        self.published.add(done.context("the source failed")??);
        Ok(())
    }

    fn source_of(&mut self, subjects: u32) -> JoinHandle<Result<Published>> {
        let first = self.next_subject;
        self.next_subject += subjects;
        let clients = self.clients.clone();
        tokio::spawn(
            async move { load::publish(&clients, first..first + subjects, 1..=VERSIONS).await },
        )
    }

    /// Publishes while a line is as told, heals it after a time, and says how long it then took
    /// until an event passed.
    pub async fn harm(&mut self, line: Line, links: Links, length: Duration) -> Result<Duration> {
        self.proxy(line).set(links);
        let round = self.source_of(20);
        tokio::time::sleep(length).await;
        self.proxy(line).heal();
        let healed = Instant::now();
        self.probe(line).await?;
        let took = healed.elapsed();
        self.published
            .add(round.await.context("the source failed")??);
        Ok(took)
    }

    /// Publishes while a line is as told, and heals it when everything was acknowledged.
    pub async fn endure(&mut self, line: Line, links: Links, subjects: u32) -> Result<()> {
        self.proxy(line).set(links);
        self.round(subjects).await?;
        // The receiver's line has to bring it all while it is harmed.
        self.wait_until_applied().await?;
        self.proxy(line).heal();
        Ok(())
    }

    /// Publishes while every connection of a line is reset again and again.
    pub async fn reset_often(&mut self, line: Line, resets: u32, every: Duration) -> Result<()> {
        let round = self.source_of(40);
        for _ in 0..resets {
            tokio::time::sleep(every).await;
            self.proxy(line).reset();
        }
        self.published
            .add(round.await.context("the source failed")??);
        Ok(())
    }

    /// One event of a new subject passes the line: it is published through it, or delivered.
    async fn probe(&mut self, line: Line) -> Result<()> {
        self.probes += 1;
        let subject = load::subject(900_000 + self.probes);
        let event = moved(&subject, 1)?;
        let id = event.id.clone();
        let client = match line {
            Line::Source => self.clients.first().context("no client")?,
            Line::Adapter => &self.direct,
        };
        wait_until(SETTLED, "the probe to be acknowledged", async || {
            client.publish(vec![vec![event.clone()]]).await?;
            Ok(true)
        })
        .await?;
        self.published.acknowledged.insert(id.clone(), (subject, 1));
        if line == Line::Adapter {
            wait_until(SETTLED, "the probe to be delivered", async || {
                let journal = self.taker.journal();
                Ok(journal.effects.iter().any(|effect| effect.0 == id))
            })
            .await?;
        }
        Ok(())
    }

    async fn wait_until_applied(&self) -> Result<()> {
        let expected = self.published.acknowledged.len();
        wait_until(SETTLED, "every effect", async || {
            let found = self.taker.journal().effects.len();
            ensure!(found >= expected, "{found} of {expected}");
            Ok(true)
        })
        .await
    }

    /// Waits until everything is delivered, and judges.
    pub async fn finish(mut self) -> Result<Outcome> {
        // What is missing is a violation with its id, not a time-out.
        let applied = self.wait_until_applied().await;
        self.direct.wait_until_delivered(&[SYSTEM]).await?;
        let journal = self.taker.journal();
        let mut violations = load::violations(&self.published, &journal);
        violations.extend(load::log_violations(&self.direct, &self.published).await?);
        if let Err(error) = applied {
            violations.push(format!("{error:#}"));
        }
        let now = self.hub.process().resident_bytes()?;
        let grown = now.saturating_sub(self.resident_at_start);
        if grown > GROWTH_BYTES_MAX {
            violations.push(format!("I8: the hub grew by {grown} bytes"));
        }
        Ok(Outcome {
            published: self.published.acknowledged.len(),
            applied: journal.effects.len(),
            repeated: journal.repeated,
            sent_again: self.published.failed,
            streams: journal.attached.len(),
            violations,
        })
    }
}

/// One-way and two-way partitions of both lines, one after the other.
pub async fn partitions(folder: &Path, seed: u64, length: Duration) -> Result<Outcome> {
    let mut lines = Lines::start(folder, seed).await?;
    let held = Link::held();
    let open = Link::default();
    let ways = [(held, open), (open, held), (held, held)];
    let mut late = Vec::new();
    for line in [Line::Source, Line::Adapter] {
        for (there, back) in ways {
            let took = lines.harm(line, Links { there, back }, length).await?;
            if took > HEALED {
                late.push(format!(
                    "{line:?}: {took:?} from healing to the first event"
                ));
            }
        }
    }
    let mut outcome = lines.finish().await?;
    outcome.violations.extend(late);
    Ok(outcome)
}

/// Late, slow, in pieces, cut and reset, on both lines.
pub async fn bad_lines(folder: &Path, seed: u64) -> Result<Outcome> {
    let mut lines = Lines::start(folder, seed).await?;
    let [(_, late), (_, slow), (_, sliced), (_, cut)] = Link::bad();
    for line in [Line::Source, Line::Adapter] {
        for link in [late, slow, sliced] {
            lines.endure(line, Links::both(link), 8).await?;
        }
        // A way that is always cut after a few events brings all of them in the end.
        lines.endure(line, Links::both(cut), 60).await?;
        lines
            .reset_often(line, 12, Duration::from_millis(60))
            .await?;
    }
    lines.finish().await
}
