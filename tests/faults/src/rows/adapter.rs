//! A2, A5, A8: an adapter dies at named points or freezes past its lease; its product dies.
//! The real adapter before a stub, whose journal counts.
//! Must never count a death that did not happen.
//! Read next: `../stub.rs`, `vendor.rs`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use musubi_e2e::process::{Signal, musubi};
use musubi_e2e::stage::Stage;
use musubi_e2e::{Process, wait_until};

use super::exchange::capture_dies;
use crate::dice::Dice;
use crate::history::{Bound, judge};
use crate::others::{Other, ROUNDS, Times};
use crate::row::{Ctx, Row, RowReport};
use crate::scene::{PATIENCE, Scene, dying};
use crate::stub::{Act, Stub};

/// A2, A5, A8.
pub const ROWS: &[Row] = &[
    Row {
        name: "A2",
        what: "an adapter dies at a named point of a delivery or capture, or while the product is at it",
        accept: "I1–I4: 0; no more comes again than was under way",
        count: 200,
        run: |ctx| Box::pin(dies_at_points(ctx)),
    },
    Row {
        name: "A5",
        what: "a product dies in the middle of calls",
        accept: "I1–I4: 0; the other receivers take at most 1.2 × as long (judged outside the test run)",
        count: 20,
        run: |ctx| Box::pin(product_dies(ctx)),
    },
    Row {
        name: "A8",
        what: "an adapter freezes past its lease, a second takes over, the first wakes",
        accept: "what the first says late changes nothing; I1–I4: 0",
        count: 1,
        run: |ctx| Box::pin(freezes(ctx)),
    },
];

/// Points of a delivery in the adapter.
const POINTS: &[&str] = &[
    "adapter.read",
    "adapter.translated",
    "adapter.answered",
    "adapter.receipted",
];
/// A point is passed up to so many times before the adapter dies there.
const TIMES_MAX: u64 = 12;
/// Deliveries that the adapter has under way at most.
const IN_FLIGHT: u64 = 16;
const PRODUCT: &str = "kaede";
/// How many times as long the other receivers may take.
pub(super) const OTHERS_MAX: f64 = 1.2;
/// Longer than the lease of a stream.
const FROZEN: Duration = Duration::from_secs(16);

/// A hub with a source, and the real adapter of a stub.
#[derive(Debug)]
pub struct Served {
    /// Hub, source and record.
    pub scene: Scene,
    /// The product.
    pub stub: Stub,
    /// Its adapter.
    pub adapter: Process,
    settings: Vec<String>,
}

impl Served {
    /// Starts all of it; the adapter waits so long for an answer.
    pub async fn start(ctx: &Ctx, timeout_ms: u64) -> Result<Self> {
        Self::start_as(ctx, timeout_ms, musubi()?).await
    }

    /// The same with the adapter under another command.
    pub async fn start_as(ctx: &Ctx, timeout_ms: u64, command: Command) -> Result<Self> {
        let scene = Scene::start(ctx, PRODUCT).await?;
        let stub = Stub::start().await?;
        let settings = vec![
            format!("address={}", stub.url()),
            format!("request_timeout_ms={timeout_ms}"),
            format!("in_flight_max={IN_FLIGHT}"),
        ];
        let adapter = start_adapter(&scene, &settings, command)?;
        Ok(Self {
            scene,
            stub,
            adapter,
            settings,
        })
    }

    /// Another adapter of the same product; the one before is killed unless it is taken out.
    fn adapter_as(&self, command: Command) -> Result<Process> {
        start_adapter(&self.scene, &self.settings, command)
    }

    /// Waits for the end and judges.
    pub async fn finish(&self) -> Result<RowReport> {
        self.scene.settle().await?;
        let ledger = self.stub.ledger();
        let mut report = self
            .scene
            .finish(ledger.harmed, self.stub.receiver())
            .await?;
        if ledger.early > 0 {
            let early = ledger.early;
            report
                .violations
                .push(format!("C1: {early} calls came before Retry-After"));
        }
        report.notes.push(format!(
            "{} calls, {} of a key that had its effect, {} questions about a key",
            ledger.calls, ledger.repeated, ledger.asked
        ));
        Ok(report)
    }

    async fn wait_for_effects(&self, more: usize) -> Result<()> {
        let before = self.stub.ledger().effects.len();
        wait_until(PATIENCE, "effects at the product", async || {
            Ok(self.stub.ledger().effects.len() >= before + more)
        })
        .await
    }
}

fn start_adapter(scene: &Scene, settings: &[String], command: Command) -> Result<Process> {
    Stage::new(&scene.folder).adapter_as(command, &scene.hub.url(), PRODUCT, settings)
}

async fn dies_at_points(ctx: Ctx) -> Result<RowReport> {
    let mut served = Served::start(&ctx, 10_000).await?;
    let mut dice = Dice::new(ctx.seed);
    let source = served.scene.source();
    let mut deaths = 0;
    for point in POINTS {
        for _ in 0..ctx.count {
            served.adapter.kill()?;
            let times = 1 + dice.below(TIMES_MAX);
            served.adapter = served.adapter_as(dying(point, times)?)?;
            let adapter = &mut served.adapter;
            wait_until(PATIENCE, point, async || Ok(adapter.ended()?.is_some()))
                .await
                .with_context(|| format!("seed {}", ctx.seed))?;
            deaths += 1;
        }
    }
    for _ in 0..ctx.count {
        served.adapter = served.adapter_as(musubi()?)?;
        served.wait_for_effects(1).await?;
        // After sending, before the answer: the effect is there and nobody was told.
        let before = served.stub.ledger().harmed;
        served.stub.script(|_| Act::ApplyThenSilence);
        wait_until(PATIENCE, "a call under way", async || {
            Ok(served.stub.ledger().harmed > before)
        })
        .await?;
        served.adapter.kill()?;
        served.stub.script(|_| Act::Right);
        deaths += 1;
    }
    served.adapter = served.adapter_as(musubi()?)?;
    served.scene.end(source).await?;
    let mut report = served.finish().await?;
    report.injected = deaths;
    // Each death, and each kill before an armed start, repeats at most what was under way.
    let bound = Bound {
        what: "deliveries that came again".to_owned(),
        found: served.stub.ledger().repeated,
        max: deaths * 2 * IN_FLIGHT,
    };
    let mut history = served.scene.history(served.stub.receiver()).await?;
    history.bounds.push(bound);
    report.violations = judge(&history);
    report.add(capture_dies(ctx.within("capture")).await?);
    Ok(report)
}

async fn product_dies(ctx: Ctx) -> Result<RowReport> {
    let mut served = Served::start(&ctx, 1_000).await?;
    served.stub.script(|_| Act::Late(Duration::from_millis(20)));
    let source = served.scene.source();
    for _ in 0..ctx.count {
        served.wait_for_effects(5).await?;
        served.stub.die().await?;
        served.stub.live()?;
    }
    served.scene.end(source).await?;
    let mut report = served.finish().await?;
    report.injected = u64::from(ctx.count);
    if ctx.measured {
        report.add(others_while_dead(&ctx.within("others")).await?);
    }
    Ok(report)
}

/// Another receiver's rounds, with the product alive and with it dead.
async fn others_while_dead(ctx: &Ctx) -> Result<RowReport> {
    let mut served = Served::start(ctx, 1_000).await?;
    let other = Other::start(&served.scene).await?;
    let mut times = Times::default();
    for _ in 0..ROUNDS {
        let calm = other.round(&mut served.scene).await?;
        served.scene.settle().await?;
        served.stub.die().await?;
        let harmed = other.round(&mut served.scene).await?;
        served.stub.live()?;
        served.scene.settle().await?;
        times.add(calm, harmed);
    }
    let mut report = served.finish().await?;
    report.injected = u64::from(ROUNDS);
    times.judge("A5", OTHERS_MAX, &mut report);
    Ok(report)
}

async fn freezes(ctx: Ctx) -> Result<RowReport> {
    let mut served = Served::start(&ctx, 60_000).await?;
    served.scene.publish(0..8, 1..=2).await?;
    served.scene.settle().await?;
    // The zombie has calls under way, whose answers it will see when it wakes.
    served
        .stub
        .script(|_| Act::Late(Duration::from_millis(300)));
    let source = served.scene.source();
    served.wait_for_effects(1).await?;
    served.adapter.signal(Signal::Freeze)?;
    let second = served.adapter_as(musubi()?)?;
    let mut zombie = std::mem::replace(&mut served.adapter, second);
    served.stub.script(|_| Act::Right);
    served.wait_for_effects(60).await?;
    tokio::time::sleep(FROZEN).await;
    zombie.signal(Signal::Wake)?;
    served.wait_for_effects(60).await?;
    served.scene.end(source).await?;
    served.scene.settle().await?;
    drop(zombie);
    let mut report = served.finish().await?;
    report.injected = 1;
    Ok(report)
}
