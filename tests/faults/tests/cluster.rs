//! The rows of a cluster, with small counts and in a row on one stand.
//! `cargo xtask faults --cluster <row>` runs the same with any count and seed, and judges times.
//! Must never pass a row that injected nothing.
//! Read next: `src/rows/cluster.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use musubi_faults::row::Ctx;
use musubi_faults::rows::cluster::together;

const SEED: u64 = 20_261_124;

async fn pass(brokers: usize, rows: &[(&str, u32)]) {
    let folder = tempfile::Builder::new()
        .prefix("musubi-row-")
        .tempdir()
        .unwrap();
    let played = together(Ctx::new(folder.path(), 1, SEED), brokers, rows).await;
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
    pass(3, &rows).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_broker_ends_in_every_way_or_freezes_and_nothing_is_lost_doubled_or_reordered() {
    pass(1, &[("E1", 1), ("E8", 1), ("E7", 3), ("A7", 1)]).await;
}
