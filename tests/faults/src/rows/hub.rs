//! A1, A9, A11: the hub dies at named points, while it opens its files, and in order under load.
//! A source and a receiver go on; the hub comes back on the same data and port.
//! Must never count a death that did not happen.
//! Read next: `../scene.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::process::Signal;
use musubi_e2e::{Process, wait_until};
use musubi_proto::hub::v1::Stream;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::dice::Dice;
use crate::history::Known;
use crate::load::Taker;
use crate::row::{Ctx, Row, RowReport};
use crate::scene::{PATIENCE, PRODUCT, SYSTEM, Scene, dying, receiver_of};

mod trimming;

/// Points of publishing and of delivery, in the order in which an event meets them.
pub const POINTS: &[&str] = &[
    "publish.received",
    "publish.validated",
    "publish.written",
    "publish.flushed",
    "publish.committed",
    "publish.answered",
    "deliver.before_commit",
    "deliver.committed",
    "deliver.sent",
    "deliver.receipt",
];
/// Points of opening: the schema of a new file, a file that is open, a tail that is recovered.
const OPENINGS: &[&str] = &[
    "open.schema:1",
    "open.opened:1",
    "open.schema:1",
    "open.opened:2",
];
/// A point is passed up to so many times before the hub dies there.
const TIMES_MAX: u64 = 12;
/// Persons of the publishes that wait for a hub, beyond those of the source.
const PROBES: u32 = 90_000_000;
/// A hub that is started again has acknowledged a publish within this time.
const FIRST_ACK: Duration = Duration::from_secs(2);
/// The same for an instance of a cluster: its predecessor's lease and place have to end first.
const FIRST_ACK_OF_INSTANCE: Duration = Duration::from_secs(15);
/// A hub that is told to end has ended within this time.
const DRAINED: Duration = Duration::from_secs(10);

/// A1, A9, A11.
pub const ROWS: &[Row] = &[
    Row {
        name: "A1",
        what: "the hub dies at a named point of publishing or delivery",
        accept: "I1–I6: 0; what was unknown is there whole or not at all; first acknowledgement within 2 s of a restart (judged outside the test run)",
        count: 200,
        run: |ctx| Box::pin(dies_at_points(ctx)),
    },
    Row {
        name: "A9",
        what: "the hub dies while it makes, opens, recovers or trims its files; a file is of a newer version",
        accept: "it opens again, I1–I6: 0; a newer file is refused in one line",
        count: 20,
        run: |ctx| Box::pin(dies_while_opening(ctx)),
    },
    Row {
        name: "A11",
        what: "SIGTERM under load",
        accept: "ends within 10 s, no publish of unknown outcome, 0 redeliveries",
        count: 20,
        run: |ctx| Box::pin(ends_in_order(ctx)),
    },
];

async fn dies_at_points(ctx: Ctx) -> Result<RowReport> {
    let mut scene = Scene::start(&ctx, PRODUCT).await?;
    let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
    let mut dice = Dice::new(ctx.seed);
    let mut deaths = 0;
    let mut slowest = Duration::ZERO;
    for (point, probe) in POINTS.iter().zip(PROBES..) {
        let source = scene.source();
        scene.hub.process().kill()?;
        for _ in 0..ctx.count {
            let times = 1 + dice.below(TIMES_MAX);
            scene.hub.restart_as(dying(point, times)?).await?;
            scene
                .hub_died()
                .await
                .with_context(|| format!("at {point}, seed {}", ctx.seed))?;
            deaths += 1;
        }
        let started = Instant::now();
        scene.hub.restart().await?;
        scene.publish(probe..probe + 1, 1..=1).await?;
        slowest = slowest.max(started.elapsed());
        scene.end(source).await?;
    }
    scene.settle().await?;
    let mut report = scene.finish(deaths, receiver_of(&taker)).await?;
    let told = format!("first acknowledgement at most {slowest:?} after a restart");
    let limit = match ctx.cluster {
        true => FIRST_ACK_OF_INSTANCE,
        false => FIRST_ACK,
    };
    if ctx.measured && slowest > limit {
        report.violations.push(format!("A1: {told}"));
    }
    report.notes.push(told);
    let repeated = taker.journal().repeated;
    report
        .notes
        .push(format!("{repeated} deliveries came again, without effect"));
    Ok(report)
}

async fn dies_while_opening(ctx: Ctx) -> Result<RowReport> {
    let mut deaths = 0;
    for place in OPENINGS {
        deaths += dies_once(&ctx, place, &[])?;
    }
    let mut scene = Scene::start(&ctx, PRODUCT).await?;
    let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
    for _ in 0..ctx.count {
        let source = scene.source();
        // What is flushed and not committed has to be recovered.
        scene.hub.process().kill()?;
        scene.hub.restart_as(dying("publish.flushed", 3)?).await?;
        scene.hub_died().await?;
        for place in ["open.opened:1", "open.opened:2", "open.recovering:1"] {
            deaths += dies_once(&ctx, place, &[])?;
        }
        scene.hub.restart().await?;
        scene.end(source).await?;
    }
    scene.settle().await?;
    let mut report = scene.finish(deaths, receiver_of(&taker)).await?;
    let (deaths, wrong) = trimming::dies_while_trimming(&ctx, &mut scene, &taker).await?;
    report.injected += deaths;
    report.violations.extend(wrong);
    scene.hub.process().stop()?;
    for file in ["log.sqlite", "store.sqlite"] {
        let refused = newer_file_is_refused(&ctx, file).await;
        report
            .violations
            .extend(refused.err().map(|error| format!("A9: {error:#}")));
        report.injected += 1;
    }
    Ok(report)
}

/// A hub that dies before it listens.
fn dies_once(ctx: &Ctx, place: &str, options: &[&str]) -> Result<u64> {
    let (point, times) = place.split_once(':').context("a place is point:times")?;
    let mut hub = opening(ctx, dying(point, times.parse()?)?, options)?;
    let status = hub.wait(PATIENCE)?;
    ensure!(!status.success(), "the hub did not die at {place}");
    Ok(1)
}

fn opening(ctx: &Ctx, mut command: std::process::Command, options: &[&str]) -> Result<Process> {
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(ctx.folder.join("hub")).args(options);
    Process::spawn("opening", command, &ctx.folder.join("run"))
}

async fn newer_file_is_refused(ctx: &Ctx, file: &str) -> Result<()> {
    let path = ctx.folder.join("hub").join(file);
    let mut connection = SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut connection)
        .await?;
    sqlx::query("PRAGMA user_version = 9999")
        .execute(&mut connection)
        .await?;
    let mut hub = opening(ctx, musubi_e2e::process::musubi()?, &[])?;
    let status = hub.wait(PATIENCE)?;
    let said = hub.tail(1);
    let back = sqlx::AssertSqlSafe(format!("PRAGMA user_version = {version}"));
    sqlx::query(back).execute(&mut connection).await?;
    connection.close().await?;
    ensure!(
        !status.success() && said.contains("9999") && said.contains(file),
        "a newer {file} is not refused by name: {said}"
    );
    Ok(())
}

async fn ends_in_order(ctx: Ctx) -> Result<RowReport> {
    let mut scene = Scene::start(&ctx, PRODUCT).await?;
    let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
    let mut violations = Vec::new();
    for _ in 0..ctx.count {
        let source = scene.source();
        let before = taker.journal().effects.len();
        wait_until(PATIENCE, "deliveries under way", async || {
            Ok(taker.journal().effects.len() > before + 20)
        })
        .await?;
        scene.hub.process().signal(Signal::Terminate)?;
        let asked = Instant::now();
        let status = scene.hub.process().wait(PATIENCE)?;
        if asked.elapsed() > DRAINED || !status.success() {
            violations.push(format!(
                "A11: ended with {status} after {:?}",
                asked.elapsed()
            ));
        }
        scene.hub.restart().await?;
        scene.end(source).await?;
    }
    scene.settle().await?;
    let mut report = scene.finish(ctx.count.into(), receiver_of(&taker)).await?;
    violations.extend(unknown(&scene).await?);
    let repeated = taker.journal().repeated;
    if repeated > 0 {
        violations.push(format!("A11: {repeated} deliveries came again"));
    }
    report.violations.extend(violations);
    Ok(report)
}

/// Units that were sent once, had no answer, and are in the log all the same.
async fn unknown(scene: &Scene) -> Result<Vec<String>> {
    let stored = scene.client.log(Stream::Live).await?;
    let logged: std::collections::HashSet<String> = stored
        .into_iter()
        .filter_map(|stored| stored.event.map(|event| event.id))
        .collect();
    let lost = scene
        .sent()
        .iter()
        .filter(|sent| sent.known == Known::Unknown);
    Ok(lost
        .filter(|sent| logged.contains(&sent.id))
        .map(|sent| format!("A11: {} was accepted without an answer", sent.id))
        .collect())
}
