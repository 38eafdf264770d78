//! A7, A8, E7, H5: instances freeze, come and go; everything dies at once.
//! Acts on a stand.
//! Must never end with an instance that does not run.
//! Read next: `../../stand.rs`.

use anyhow::{Result, ensure};
use musubi_e2e::process::Signal;

use super::TAKEN_OVER;
use crate::dice::Dice;
use crate::row::Ctx;
use crate::scene::{PRODUCT, SYSTEM};
use crate::stand::{Harm, Stand};

/// A7: a host that is reset.
pub(super) async fn everything_dies(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let mut dice = Dice::new(ctx.seed);
    for _ in 0..ctx.count {
        let source = stand.scene.source();
        stand.next_delivery().await?;
        for place in 0..stand.instances() {
            stand.instance(place)?.process().kill()?;
        }
        let brokers = stand.cluster()?.kafka.count();
        stand.cluster()?.postgres.kill()?;
        for broker in 0..brokers {
            stand.cluster()?.kafka.kill(broker)?;
        }
        let database_first = dice.below(2) == 0;
        if database_first {
            stand.cluster()?.postgres.restart()?;
        }
        let all: Vec<usize> = (0..brokers).collect();
        stand.cluster()?.kafka.restart_together(&all)?;
        if !database_first {
            stand.cluster()?.postgres.restart()?;
        }
        for place in 0..stand.instances() {
            stand.instance(place)?.restart().await?;
        }
        harm.add(stand.next_delivery().await?);
        stand.scene.end(source).await?;
    }
    harm.judge_times(ctx, "A7", TAKEN_OVER);
    Ok(harm)
}

/// A8.
pub(super) async fn owner_freezes(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for _ in 0..ctx.count {
        let source = stand.scene.source();
        stand.next_delivery().await?;
        let frozen = stand.owner().await?;
        let rest = stand.client_without(frozen)?;
        stand.instance(frozen)?.process().signal(Signal::Freeze)?;
        // The first receiver stays where it is, at the frozen instance, and would take what comes.
        let second = stand.taker.beside(rest.clone(), SYSTEM, PRODUCT);
        harm.add(stand.next_delivery_from(&rest).await?);
        let before = stand.taker.journal().repeated;
        stand.instance(frozen)?.process().signal(Signal::Wake)?;
        stand.next_delivery_from(&rest).await?;
        drop(second);
        stand.scene.end(source).await?;
        let late = stand.taker.journal().repeated - before;
        harm.notes
            .push(format!("A8: {late} deliveries came again, without effect"));
    }
    harm.judge_times(ctx, "A8", TAKEN_OVER);
    Ok(harm)
}

/// E7: instances and receivers leave and join, each as soon as the last one is back.
pub(super) async fn come_and_go(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let mut dice = Dice::new(ctx.seed);
    let source = stand.scene.source();
    for _ in 0..ctx.count {
        let place = usize::try_from(dice.below(stand.instances() as u64))?;
        let hub = stand.instance(place)?;
        hub.process().stop()?;
        hub.restart().await?;
        let client = stand.scene.client.clone();
        stand.taker.replace(client, SYSTEM, PRODUCT);
        harm.injected += 2;
    }
    harm.add(stand.next_delivery().await?);
    stand.scene.end(source).await?;
    harm.judge_times(ctx, "E7", TAKEN_OVER);
    Ok(harm)
}

/// H5: one instance after the other ends in order and is replaced.
pub(super) async fn are_replaced(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    for _ in 0..ctx.count {
        let source = stand.scene.source();
        for place in 0..stand.instances() {
            let rest = stand.client_without(place)?;
            let status = stand.instance(place)?.process().stop()?;
            ensure!(status.success(), "H5: an instance ended with {status}");
            harm.add(stand.next_delivery_from(&rest).await?);
            stand.instance(place)?.restart().await?;
        }
        stand.scene.end(source).await?;
    }
    harm.judge_times(ctx, "H5", TAKEN_OVER);
    Ok(harm)
}
