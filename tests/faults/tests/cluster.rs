//! The rows of a cluster, with small counts and in a row on one stand.
//! `cargo xtask faults --cluster <row>` runs the same with any count and seed, and judges times.
//! Must never pass a row that injected nothing.
//! Read next: `src/rows/cluster.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use musubi_faults::row::{Ctx, RowReport};
use musubi_faults::rows::cluster::{together, together_on_lines};

const SEED: u64 = 20_261_124;

type Played = anyhow::Result<Vec<(String, RowReport)>>;

async fn pass(play: impl AsyncFnOnce(Ctx) -> Played) {
    let folder = tempfile::Builder::new()
        .prefix("musubi-row-")
        .tempdir()
        .unwrap();
    let played = play(Ctx::new(folder.path(), 1, SEED)).await;
    let passed = played
        .as_ref()
        .is_ok_and(|rows| rows.iter().all(|(_, report)| report.passed()));
    if !passed {
        let kept = folder.keep();
        panic!("kept in {}: {played:#?}", kept.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_three_brokers_and_database_are_harmed_and_nothing_is_lost_doubled_or_reordered()
{
    let rows = [
        ("E2", 1),
        ("A8", 1),
        ("C11", 2),
        ("A6", 6),
        ("E3", 1),
        ("E5", 1),
        ("H5", 1),
    ];
    pass(async |ctx| together(ctx, 3, &rows).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_ends_in_every_way_or_freezes_and_nothing_is_lost_doubled_or_reordered() {
    let rows = [("E1", 1), ("E8", 1), ("E7", 3), ("A7", 1)];
    pass(async |ctx| together(ctx, 1, &rows).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_is_cut_and_nothing_is_lost_doubled_or_reordered() {
    pass(async |ctx| together_on_lines(ctx, 1, &[("D1", 1)]).await).await;
}
