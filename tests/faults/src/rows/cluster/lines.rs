//! D1, D2, D3: every line of a cluster is cut, slowed, torn and swallowed, one after the other.
//! Acts on a stand with lines: publishers, receivers, instances, brokers and database.
//! Must never end with a line that is harmed.
//! Read next: `../../lines.rs`, `../../proxy.rs`.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::dice::Dice;
use crate::lines::Line;
use crate::proxy::{Link, Links};
use crate::row::Ctx;
use crate::scene::{PRODUCT, SYSTEM};
use crate::stand::{Harm, Stand};

/// The partitions of the first round; those that follow last up to so much longer.
const PARTITION: Duration = Duration::from_millis(1_200);
const PARTITION_MORE: u64 = 20_000;
/// After healing, the next delivery comes within this time.
const HEALED: Duration = Duration::from_secs(5);
/// How long a line that swallows everything does so; what stood then is silent for ever.
const SWALLOWED: Duration = Duration::from_secs(2);
/// A peer that is silent is given up within this time.
const DETECTED: Duration = Duration::from_secs(30);
/// Time between two resets, and their number.
const RESETS: u32 = 12;
const RESET_EVERY: Duration = Duration::from_millis(150);
/// How much more an instance may hold at the end than at the start.
const GROWTH_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Lines of a stand.
const LINES: usize = 7;

/// The line of a turn. Those of one instance are those of the owner; the receiver is attached by the
/// line that is about it.
async fn line(stand: &mut Stand, turn: usize) -> Result<Line> {
    let owner = stand.owner().await?;
    let line = match turn {
        0 => Line::Source,
        1 => Line::Adapter,
        2 => Line::Instances,
        3 => Line::Brokers(owner),
        4 => Line::AllBrokers,
        5 => Line::Database(owner),
        _ => Line::AllDatabase,
    };
    let asked = match line {
        Line::Adapter => Some(owner),
        // Which sends it on.
        Line::Instances => Some((owner + 1) % stand.instances()),
        _ => None,
    };
    if let Some(place) = asked {
        let client = stand.lines()?.adapter_at(place)?;
        stand.taker.replace(client, SYSTEM, PRODUCT);
    }
    stand.next_delivery().await?;
    Ok(line)
}

/// D1.
pub(super) async fn are_cut(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let mut dice = Dice::new(ctx.seed);
    let before = resident(stand)?;
    for round in 1..=ctx.count {
        let more = if round == 1 {
            0
        } else {
            dice.below(PARTITION_MORE)
        };
        let length = PARTITION + Duration::from_millis(more);
        for turn in 0..LINES {
            let links = way(dice.below(3));
            let line = line(stand, turn).await?;
            let took = harmed_for(stand, line, links, length).await?;
            harm.add(took);
            harm.notes.push(format!(
                "D1: {line:?} {length:.1?}: next delivery after {took:.1?}"
            ));
        }
    }
    harm.judge_times(ctx, "D1", HEALED);
    grown(stand, &before, &mut harm)?;
    Ok(harm)
}

/// Cut one way, the other, or both.
fn way(drawn: u64) -> Links {
    let (held, open) = (Link::held(), Link::default());
    let (there, back) = match drawn {
        0 => (held, open),
        1 => (open, held),
        _ => (held, held),
    };
    Links { there, back }
}

/// Publishes while a line is as told; the time from its healing to the next delivery.
async fn harmed_for(
    stand: &mut Stand,
    line: Line,
    links: Links,
    length: Duration,
) -> Result<Duration> {
    let source = stand.scene.source();
    stand.lines()?.set(line, links)?;
    tokio::time::sleep(length).await;
    stand.lines()?.set(line, Links::default())?;
    let took = stand.next_delivery().await?;
    stand.scene.end(source).await?;
    Ok(took)
}

/// D2.
pub(super) async fn are_bad(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let before = resident(stand)?;
    for _ in 0..ctx.count {
        for turn in 0..LINES {
            for (name, link) in Link::bad() {
                let line = line(stand, turn).await?;
                stand.lines()?.set(line, Links::both(link))?;
                let source = stand.scene.source();
                let took = stand.next_delivery().await?;
                stand.lines()?.set(line, Links::default())?;
                stand.scene.end(source).await?;
                harm.injected += 1;
                harm.notes
                    .push(format!("D2: {line:?} {name}: a delivery after {took:.1?}"));
            }
            let line = line(stand, turn).await?;
            let source = stand.scene.source();
            for _ in 0..RESETS {
                stand.lines()?.reset(line)?;
                tokio::time::sleep(RESET_EVERY).await;
            }
            harm.add(stand.next_delivery().await?);
            stand.scene.end(source).await?;
        }
    }
    harm.judge_times(ctx, "D2 after resets", HEALED);
    grown(stand, &before, &mut harm)?;
    Ok(harm)
}

/// D3: what stands when a line swallows is never heard of again, and new connections are good.
pub(super) async fn are_half_open(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for _ in 0..ctx.count {
        for turn in 0..LINES {
            let line = line(stand, turn).await?;
            let started = Instant::now();
            let swallowed = Links::both(Link::swallowed());
            harmed_for(stand, line, swallowed, SWALLOWED).await?;
            let took = started.elapsed();
            harm.add(took);
            harm.notes
                .push(format!("D3: {line:?}: next delivery after {took:.1?}"));
        }
    }
    harm.judge_times(ctx, "D3", DETECTED);
    Ok(harm)
}

fn resident(stand: &mut Stand) -> Result<Vec<u64>> {
    let all = 0..stand.instances();
    all.map(|place| stand.instance(place)?.process().resident_bytes())
        .collect()
}

fn grown(stand: &mut Stand, before: &[u64], harm: &mut Harm) -> Result<()> {
    for (now, before) in resident(stand)?.into_iter().zip(before) {
        let grown = now.saturating_sub(*before);
        if grown > GROWTH_BYTES_MAX {
            harm.violations
                .push(format!("I8: an instance grew by {grown} bytes"));
        }
    }
    Ok(())
}
