//! A6: `kill -9` of hub, adapters and products at random moments while a town is played.
//! The town, its products and its judge are those of the demo and the end-to-end tests.
//! Must never count a kill that reached nobody.
//! Read next: `tests/e2e/src/kills.rs`.

use anyhow::{Context, Result};
use musubi_e2e::kills::{self, Faults};

use crate::row::{Ctx, Row, RowReport};

/// A6.
pub const ROWS: &[Row] = &[Row {
    name: "A6",
    what: "SIGKILL of hub, adapters and products at random moments",
    accept: "I1–I4: 0; the table at the end is the same as without kills",
    count: 1_000,
    run: |ctx| Box::pin(random_kills(ctx)),
}];

async fn random_kills(ctx: Ctx) -> Result<RowReport> {
    let per_minute = 60_000 / ctx.interval.as_millis().max(1);
    let count = match ctx.minutes {
        Some(minutes) => u32::try_from(u128::from(minutes) * per_minute)?,
        None => ctx.count,
    };
    let faults = Faults {
        count,
        seed: ctx.seed,
        town: ctx.town,
        folder: ctx.folder,
        interval: ctx.interval,
    };
    let played = tokio::task::spawn_blocking(move || kills::run(&faults));
    let played = played.await.context("the game ended")??;
    Ok(RowReport {
        injected: played.kinds.values().map(|kills| u64::from(*kills)).sum(),
        published: played.changes as u64,
        delivered: played
            .journals
            .values()
            .map(|entries| *entries as u64)
            .sum(),
        notes: vec![played.to_string()],
        ..RowReport::default()
    })
}
