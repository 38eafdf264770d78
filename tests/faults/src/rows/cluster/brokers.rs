//! E1, E2, E3, E8: brokers end in every way, most or all of them.
//! Acts on a stand, which may have one broker or three.
//! Must never harm the next broker before the last one has all of the log again.
//! Read next: `../../stand.rs`.

use std::time::Duration;

use anyhow::Result;
use musubi_e2e::process::Signal;

use super::TAKEN_OVER;
use crate::history::Known;
use crate::row::Ctx;
use crate::stand::{Harm, Stand};

/// Longer than an append may take: nobody knows what came of it.
const ALL_FROZEN: Duration = Duration::from_secs(26);
/// A broker that is shut down stays away for so long; one that bounces comes back at once.
const AWAY: Duration = Duration::from_secs(3);
/// Publishes that are tried while most brokers are down.
const TRIES: u32 = 3;
/// E1: shut down and bounced, in order and by force, one after the other.
pub(super) async fn end_in_four_ways(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let count = stand.cluster()?.kafka.count();
    for _ in 0..ctx.count {
        for (broker, in_order, away) in ways(count) {
            let source = stand.scene.source();
            stand.next_delivery().await?;
            let kafka = &mut stand.cluster()?.kafka;
            match in_order {
                true => kafka.stop(broker)?,
                false => kafka.kill(broker)?,
            }
            if away && count > 1 {
                stand.next_delivery().await?;
            } else if away {
                tokio::time::sleep(AWAY).await;
            }
            stand.cluster()?.kafka.restart(broker)?;
            harm.add(stand.next_delivery().await?);
            stand.scene.end(source).await?;
            stand.whole().await?;
        }
    }
    harm.judge_times(ctx, "E1", TAKEN_OVER);
    Ok(harm)
}

/// Broker, whether it ends in order, whether it stays away.
fn ways(brokers: usize) -> Vec<(usize, bool, bool)> {
    let of = |broker| {
        [(true, true), (false, true), (true, false), (false, false)].map(|(o, a)| (broker, o, a))
    };
    match brokers {
        1 => of(0).to_vec(),
        // Each broker bounces in order: the roll of an upgrade.
        _ => (0..brokers).map(|broker| (broker, true, false)).collect(),
    }
}

/// E2.
pub(super) async fn die(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for _ in 0..ctx.count {
        for broker in 0..stand.cluster()?.kafka.count() {
            let source = stand.scene.source();
            stand.cluster()?.kafka.kill(broker)?;
            harm.add(stand.next_delivery().await?);
            stand.cluster()?.kafka.restart(broker)?;
            stand.scene.end(source).await?;
            stand.whole().await?;
        }
    }
    harm.judge_times(ctx, "E2", TAKEN_OVER);
    Ok(harm)
}

/// E3.
pub(super) async fn lose_their_majority(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for round in 0..ctx.count as usize {
        let source = stand.scene.source();
        stand.next_delivery().await?;
        let down = [round % 3, (round + 1) % 3];
        for broker in down {
            stand.cluster()?.kafka.kill(broker)?;
        }
        for _ in 0..TRIES {
            if stand.scene.try_once().await? == Known::Acknowledged {
                let wrong = "E3: acknowledged by one broker of three";
                harm.violations.push(wrong.to_owned());
            }
        }
        for broker in down {
            stand.cluster()?.kafka.restart(broker)?;
        }
        harm.add(stand.next_delivery().await?);
        stand.scene.end(source).await?;
        stand.whole().await?;
    }
    harm.judge_times(ctx, "E3", TAKEN_OVER);
    Ok(harm)
}

/// E8.
pub(super) async fn freeze_beyond_an_append(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let count = stand.cluster()?.kafka.count();
    for _ in 0..ctx.count {
        let source = stand.scene.source();
        stand.next_delivery().await?;
        for broker in 0..count {
            stand.cluster()?.kafka.signal(broker, Signal::Freeze)?;
        }
        tokio::time::sleep(ALL_FROZEN).await;
        for broker in 0..count {
            stand.cluster()?.kafka.signal(broker, Signal::Wake)?;
        }
        harm.add(stand.next_delivery().await?);
        stand.scene.end(source).await?;
        stand.whole().await?;
    }
    let replaced = stand.said("the Kafka producer is replaced")?;
    harm.notes
        .push(format!("E8: {replaced} producers met a fatal error"));
    harm.judge_times(ctx, "E8", TAKEN_OVER);
    Ok(harm)
}
