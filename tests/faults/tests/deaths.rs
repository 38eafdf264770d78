//! Each row of process death once in the test run, with a small count.
//! `cargo xtask faults <row>` runs the same with any count.
//! Must never pass a row that injected nothing.
//! Read next: `src/rows.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use musubi_faults::row::{Ctx, find};

const SEED: u64 = 20_261_124;

async fn passes(name: &str, count: u32) {
    let folder = tempfile::Builder::new()
        .prefix("musubi-row-")
        .tempdir()
        .unwrap();
    let row = find(name).unwrap();
    let report = (row.run)(Ctx::new(folder.path(), count, SEED))
        .await
        .unwrap();
    println!("{name} {}\n{report:#?}", report.line());
    if !report.passed() {
        let kept = folder.keep();
        panic!("kept in {}: {report:#?}", kept.display());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a1_a_hub_that_dies_at_any_point_loses_doubles_and_reorders_nothing() {
    passes("A1", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a9_a_hub_that_dies_while_it_opens_its_files_opens_them_again() {
    passes("A9", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a11_a_hub_that_is_told_to_end_leaves_no_publish_unknown_and_delivers_nothing_again() {
    passes("A11", 2).await;
}
