//! A6–A8, C11, D1–D3, E1–E9, F4, H5 of a cluster: instances, brokers, database and the lines between.
//! Acts on one stand: alone by the command, several in a row in the test run.
//! Must never leave a server dead at the end of an act.
//! Read next: `../stand.rs`, `cluster/brokers.rs`, `cluster/instances.rs`.

use std::time::Duration;

use anyhow::{Context, Result};

use crate::dice::Dice;
use crate::row::{Ctx, Row, RowReport, Running};
use crate::scene::{PRODUCT, SYSTEM};
use crate::stand::{Act, Harm, Stand};

mod brokers;
mod instances;
mod lines;
mod topics;
mod versions;

/// After an instance or a broker is lost, the next delivery comes within this time.
const TAKEN_OVER: Duration = Duration::from_secs(15);
/// After the database was restarted.
const DATABASE_BACK: Duration = Duration::from_secs(10);
/// Brokers and instances of a stand.
const BROKERS: usize = 3;
const INSTANCES: usize = 2;

/// The rows.
pub const ROWS: &[Row] = &[
    Row {
        name: "A6",
        what: "SIGKILL of instances, brokers, database and receivers at random moments",
        accept: "I1–I6: 0",
        count: 1_000,
        run: |ctx| alone(ctx, "A6"),
    },
    Row {
        name: "A7",
        what: "instances, brokers and database die at once",
        accept: "I1–I6: 0 after a restart of brokers and database in any order, then of the instances; next delivery within 15 s",
        count: 10,
        run: |ctx| alone(ctx, "A7"),
    },
    Row {
        name: "A8",
        what: "the owning instance freezes past its lease under load, another takes over, it wakes",
        accept: "what it does late has no effect; I1–I6: 0",
        count: 5,
        run: |ctx| alone(ctx, "A8"),
    },
    Row {
        name: "C11",
        what: "the database is restarted, fast and immediate",
        accept: "I1–I6: 0; next delivery within 10 s",
        count: 20,
        run: |ctx| alone(ctx, "C11"),
    },
    Row {
        name: "D1",
        what: "each line of a cluster is cut, one way and both",
        accept: "I1–I6: 0, memory bounded; next delivery within 5 s of healing",
        count: 4,
        run: |ctx| on_lines(ctx, "D1"),
    },
    Row {
        name: "D2",
        what: "each line of a cluster is late, slow, in pieces, cut after some bytes, and reset",
        accept: "I1–I6: 0, memory bounded",
        count: 1,
        run: |ctx| on_lines(ctx, "D2"),
    },
    Row {
        name: "D3",
        what: "half-open connections on each line of a cluster",
        accept: "noticed within 30 s; I1–I6: 0",
        count: 1,
        run: |ctx| on_lines(ctx, "D3"),
    },
    Row {
        name: "E1",
        what: "a broker is shut down and bounced, in order and by force; three are bounced in turn",
        accept: "I1–I6: 0; next delivery within 15 s",
        count: 3,
        run: |ctx| Box::pin(with_one_and_three_brokers(ctx)),
    },
    Row {
        name: "E2",
        what: "each of three brokers is killed and comes back, leader and controller among them",
        accept: "I1–I6: 0; next delivery within 15 s",
        count: 3,
        run: |ctx| alone(ctx, "E2"),
    },
    Row {
        name: "E3",
        what: "two of three brokers are down",
        accept: "nothing is acknowledged meanwhile; I1–I6: 0; next delivery within 15 s",
        count: 3,
        run: |ctx| alone(ctx, "E3"),
    },
    Row {
        name: "E5",
        what: "an operator weakens a topic: fewer in sync, compaction, retention, unclean election",
        accept: "the next owner refuses it and names the setting; it goes on when it is mended; I1–I6: 0",
        count: 5,
        run: |ctx| alone(ctx, "E5"),
    },
    Row {
        name: "E6",
        what: "the log may keep less than a receiver needs; an operator deletes what it needs",
        accept: "alarms at 50 % and at 90 %, nothing trimmed that is needed; what was deleted is named, and nothing behind it is delivered or acknowledged",
        count: 1,
        run: |ctx| Box::pin(topics::are_trimmed(ctx)),
    },
    Row {
        name: "E7",
        what: "instances and receivers leave and join without pause",
        accept: "I1–I6: 0; next delivery within 15 s",
        count: 30,
        run: |ctx| alone(ctx, "E7"),
    },
    Row {
        name: "E8",
        what: "all brokers freeze for longer than an append may take",
        accept: "what came of the appends is found out; I1–I6: 0; next delivery within 15 s",
        count: 3,
        run: |ctx| alone(ctx, "E8"),
    },
    Row {
        name: "E9",
        what: "a topic gets a second partition",
        accept: "the next owner refuses it and names it; when it is allowed, the first one goes on; I1–I6: 0",
        count: 1,
        run: |ctx| alone(ctx, "E9"),
    },
    Row {
        name: "F4",
        what: "a later version speaks to an instance, and leaves a database of its own",
        accept: "what is unknown is passed on or refused by name; who runs goes on; I1–I6: 0",
        count: 2,
        run: |ctx| alone(ctx, "F4"),
    },
    Row {
        name: "H5",
        what: "instances are replaced one after the other under load",
        accept: "every publish is answered in the end, I1–I6: 0; next delivery within 15 s",
        count: 10,
        run: |ctx| alone(ctx, "H5"),
    },
];

/// Acts by the name of their row.
const ACTS: &[(&str, Act)] = &[
    ("A6", |stand, ctx| Box::pin(random_kills(stand, ctx))),
    ("A7", |stand, ctx| {
        Box::pin(instances::everything_dies(stand, ctx))
    }),
    ("A8", |stand, ctx| {
        Box::pin(instances::owner_freezes(stand, ctx))
    }),
    ("C11", |stand, ctx| Box::pin(database_restarts(stand, ctx))),
    ("D1", |stand, ctx| Box::pin(lines::are_cut(stand, ctx))),
    ("D2", |stand, ctx| Box::pin(lines::are_bad(stand, ctx))),
    ("D3", |stand, ctx| {
        Box::pin(lines::are_half_open(stand, ctx))
    }),
    ("E1", |stand, ctx| {
        Box::pin(brokers::end_in_four_ways(stand, ctx))
    }),
    ("E2", |stand, ctx| Box::pin(brokers::die(stand, ctx))),
    ("E3", |stand, ctx| {
        Box::pin(brokers::lose_their_majority(stand, ctx))
    }),
    ("E5", |stand, ctx| {
        Box::pin(topics::are_made_weak(stand, ctx))
    }),
    ("E7", |stand, ctx| {
        Box::pin(instances::come_and_go(stand, ctx))
    }),
    ("E8", |stand, ctx| {
        Box::pin(brokers::freeze_beyond_an_append(stand, ctx))
    }),
    ("E9", |stand, ctx| {
        Box::pin(topics::get_more_partitions(stand, ctx))
    }),
    ("F4", |stand, ctx| {
        Box::pin(versions::stand_side_by_side(stand, ctx))
    }),
    ("H5", |stand, ctx| {
        Box::pin(instances::are_replaced(stand, ctx))
    }),
];

fn alone(ctx: Ctx, name: &'static str) -> Running {
    Box::pin(async move {
        let mut stand = Stand::start(&ctx, BROKERS, INSTANCES).await?;
        stand.play(&ctx, act(name)?).await
    })
}

fn on_lines(ctx: Ctx, name: &'static str) -> Running {
    Box::pin(async move {
        let mut stand = Stand::start_on_lines(&ctx, BROKERS, INSTANCES).await?;
        stand.play(&ctx, act(name)?).await
    })
}

async fn with_one_and_three_brokers(ctx: Ctx) -> Result<RowReport> {
    let mut all = RowReport::default();
    for brokers in [1, BROKERS] {
        let ctx = ctx.within(&format!("brokers-{brokers}"));
        let mut stand = Stand::start(&ctx, brokers, INSTANCES).await?;
        all.add(stand.play(&ctx, act("E1")?).await?);
    }
    Ok(all)
}

fn act(name: &str) -> Result<Act> {
    let mut acts = ACTS.iter();
    let found = acts.find(|(own, _)| *own == name);
    Ok(found.with_context(|| format!("no act {name}"))?.1)
}

/// Plays rows one after the other on one stand, each so often.
///
/// # Errors
/// When one cannot be played.
pub async fn together(
    ctx: Ctx,
    brokers: usize,
    rows: &[(&str, u32)],
) -> Result<Vec<(String, RowReport)>> {
    let mut stand = Stand::start(&ctx, brokers, INSTANCES).await?;
    play_on(&mut stand, ctx, rows).await
}

/// The same on a stand with a proxy in each line.
///
/// # Errors
/// When one cannot be played.
pub async fn together_on_lines(
    ctx: Ctx,
    brokers: usize,
    rows: &[(&str, u32)],
) -> Result<Vec<(String, RowReport)>> {
    let mut stand = Stand::start_on_lines(&ctx, brokers, INSTANCES).await?;
    play_on(&mut stand, ctx, rows).await
}

async fn play_on(
    stand: &mut Stand,
    ctx: Ctx,
    rows: &[(&str, u32)],
) -> Result<Vec<(String, RowReport)>> {
    let mut reports = Vec::new();
    for (name, count) in rows {
        let ctx = Ctx {
            count: *count,
            ..ctx.clone()
        };
        let played = stand.play(&ctx, act(name)?).await;
        let report = played.with_context(|| format!("{name}, seed {}", ctx.seed))?;
        println!("{name} {}\n{report:#?}", report.line());
        reports.push(((*name).to_owned(), report));
    }
    Ok(reports)
}

async fn database_restarts(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for round in 0..ctx.count {
        let source = stand.scene.source();
        let postgres = &mut stand.cluster()?.postgres;
        if round % 2 == 0 {
            postgres.stop_at_once()?;
        }
        // A fast shutdown when it still runs.
        postgres.restart()?;
        harm.add(stand.next_delivery().await?);
        stand.scene.end(source).await?;
    }
    harm.judge_times(ctx, "C11", DATABASE_BACK);
    Ok(harm)
}

/// One at a time is dead: brokers have their majority, and an instance is left.
async fn random_kills(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let mut dice = Dice::new(ctx.seed);
    let started = std::time::Instant::now();
    let mut source = stand.scene.source();
    while goes_on(ctx, harm.injected, started.elapsed()) {
        let spread = u64::try_from(ctx.interval.as_millis())?;
        tokio::time::sleep(Duration::from_millis(spread / 2 + dice.below(spread))).await;
        match dice.below(6) {
            0 | 1 => {
                let place = usize::try_from(dice.below(stand.instances() as u64))?;
                let hub = stand.instance(place)?;
                hub.process().kill()?;
                hub.restart().await?;
            }
            2 => {
                let broker = usize::try_from(dice.below(BROKERS as u64))?;
                stand.cluster()?.kafka.kill(broker)?;
                stand.cluster()?.kafka.restart(broker)?;
            }
            3 => {
                let postgres = &mut stand.cluster()?.postgres;
                postgres.kill()?;
                postgres.restart()?;
            }
            _ => {
                let client = stand.scene.client.clone();
                stand.taker.replace(client, SYSTEM, PRODUCT);
            }
        }
        harm.injected += 1;
        if harm.injected % 50 == 0 {
            stand.scene.end(source).await?;
            source = stand.scene.source();
        }
    }
    stand.next_delivery().await?;
    stand.scene.end(source).await?;
    Ok(harm)
}

fn goes_on(ctx: &Ctx, injected: u64, elapsed: Duration) -> bool {
    match ctx.minutes {
        Some(minutes) => elapsed < Duration::from_secs(60 * minutes),
        None => injected < u64::from(ctx.count),
    }
}
