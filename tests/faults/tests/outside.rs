//! The rows about lines, data, clocks and overload, each once in the test run with a small count.
//! `cargo xtask faults <row>` runs the same with any count and seed.
//! Must never pass a row that injected nothing.
//! Read next: `src/rows/network.rs`, `src/rows/data.rs`, `src/rows/overload.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

const SEED: u64 = 20_260_401;

async fn passes(name: &str, count: u32) {
    musubi_faults::row::passes(name, count, SEED).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_partitions_one_way_and_both_lose_nothing_and_heal_within_five_seconds() {
    passes("D1", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_late_slow_sliced_cut_and_reset_lines_lose_nothing() {
    passes("D2", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_half_open_connections_are_noticed_by_adapters_hub_and_command_line() {
    passes("D3", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_requests_that_come_twice_and_late_have_one_effect_in_order() {
    passes("D5", 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_the_same_id_is_acknowledged_again_and_other_content_is_refused() {
    passes("F1", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_a_gap_is_held_a_repeat_and_a_step_back_are_refused_and_order_stays() {
    passes("F2", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f3_an_unknown_enum_value_is_refused_and_an_unknown_field_is_kept_and_withheld() {
    passes("F3", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f4_older_and_newer_peers_are_understood_as_far_as_they_can_be() {
    passes("F4", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f5_what_is_too_large_or_too_deep_is_refused_within_its_memory() {
    passes("F5", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f6_broken_frames_and_twenty_thousand_changed_requests_get_a_status_each() {
    passes("F6", 20_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f7_a_compression_bomb_is_refused_within_its_memory() {
    passes("F7", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_empty_and_longest_values_are_taken_whole_or_refused_never_cut() {
    passes("F10", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_clocks_that_jump_change_no_order_and_end_no_lease() {
    passes("F11", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f12_ids_of_a_clock_that_goes_back_are_ids_and_nothing_else() {
    passes("F12", 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_hub_receivers_and_adapters_are_replaced_at_load_and_nothing_fails() {
    passes("H5", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn h6_more_than_the_hub_takes_is_refused_with_a_hint_and_the_rest_is_kept() {
    passes("H6", 10).await;
}
