//! Each row of process death and of a product that fails once in the test run, with a small count.
//! `cargo xtask faults <row>` runs the same with any count.
//! Must never pass a row that injected nothing.
//! Read next: `src/rows.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

const SEED: u64 = 20_261_124;

async fn passes(name: &str, count: u32) {
    musubi_faults::row::passes(name, count, SEED).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn a2_an_adapter_that_dies_at_any_point_repeats_no_effect() {
    passes("A2", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_a_product_that_dies_within_calls_gets_everything_once_and_in_order() {
    passes("A5", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a8_what_a_frozen_adapter_says_after_its_lease_changes_nothing() {
    passes("A8", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c1_a_busy_product_is_left_alone_as_long_as_it_asks() {
    passes("C1", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c2_what_was_applied_without_an_answer_takes_effect_once() {
    passes("C2", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c3_an_answer_that_the_interface_does_not_promise_is_no_success() {
    passes("C3", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_thirty_percent_of_errors_change_no_order_and_repeat_nothing() {
    passes("C4", 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c5_a_slow_resident_makes_nobody_else_wait() {
    passes("C5", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c6_a_refused_resident_waits_alone_and_comes_back_in_order() {
    passes("C6", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c7_a_product_that_refuses_everybody_stops_its_binding_and_not_the_town() {
    passes("C7", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c8_a_product_that_lost_its_data_gets_all_of_it_back_by_a_replay() {
    passes("C8", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c9_rows_changed_by_hand_are_not_written_over_in_silence() {
    passes("C9", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c12_dates_arrive_unchanged_in_any_time_zone() {
    passes("C12", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a3_a_file_is_taken_whole_with_its_manifest_whenever_its_writer_died() {
    passes("A3", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a4_a_unit_is_in_the_tables_once_whenever_its_writer_died() {
    passes("A4", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c10_a_database_that_fails_in_every_way_gets_each_unit_once() {
    passes("C10", 1).await;
}
