//! The rows about disks, files and backups, each once in the test run with a small count.
//! `cargo xtask faults <row>` runs the same with any count and seed.
//! Must never pass a row that injected nothing.
//! Read next: `src/rows/storage.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;

const SEED: u64 = 20_260_401;

async fn passes(name: &str, count: u32) {
    musubi_faults::row::passes(name, count, SEED).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b1_a_power_cut_takes_nothing_that_was_acknowledged_and_leaves_sound_files() {
    // Without loop devices the record of all writes alone is cut.
    let lists = Path::new(env!("CARGO_TARGET_TMPDIR"));
    musubi_faults::row::passes_here("B1", 4, SEED, lists)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn b2_a_full_disk_refuses_publishes_loses_none_and_takes_them_again_when_there_is_room() {
    passes("B2", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b3_a_full_disk_of_one_adapter_holds_nobody_else_up() {
    passes("B3", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b4_a_failed_write_or_flush_ends_the_hub_and_no_acknowledgement_is_lost() {
    passes("B4", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b5_a_write_that_is_interrupted_or_ends_short_loses_nothing() {
    passes("B5", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b6_a_damaged_file_is_named_and_never_read_as_another() {
    passes("B6", 51).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b7_a_slow_disk_makes_publishes_late_and_fails_none() {
    passes("B7", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b8_a_restored_hub_says_what_it_lacks_and_gets_it_again_once() {
    passes("B8", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn b9_a_second_hub_on_a_data_folder_does_not_start_and_the_first_goes_on() {
    passes("B9", 1).await;
}
