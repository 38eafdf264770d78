//! The whole story as a user plays it, on the built-in town and on another one.
//! A complete run of `musubi demo`; it judges itself, and its result is judged again here.
//! Must never tune anything to one of the towns.
//! Read next: `src/demo.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::PathBuf;
use std::time::Duration;

use musubi_e2e::demo::Demo;
use musubi_e2e::journals::{check_journals, check_log};
use musubi_e2e::town::{count_records, town, town_7};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(240);

/// Plays a town; its log is read from the hub's folder, which a cluster has not.
async fn play(town: PathBuf, arguments: &[String], cluster: bool) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let demo = Demo::start(folder.path(), arguments).unwrap();
    let data = demo.data().to_owned();
    let result = tokio::task::spawn_blocking(move || demo.finish(LIMIT))
        .await
        .unwrap()
        .unwrap();
    let invalid = count_records(&town, "invalid.csv").unwrap();
    assert_eq!(result["invalid_refused"], invalid, "{result}");
    check_journals(&data).await.unwrap();
    if !cluster {
        check_log(&data, &town).await.unwrap();
    }
    result
}

#[tokio::test(flavor = "multi_thread")]
async fn the_town_reaches_every_product_and_the_swap_loses_nothing() {
    let result = play(town(), &[], false).await;
    assert_eq!(result["restarts"], 0, "nothing dies by itself: {result}");
    let swap = &result["swap"];
    assert_eq!(
        (&swap["from"], &swap["to"]),
        (&"hinoki".into(), &"ayame".into())
    );
    // The swap is worth something only when the old product owed something.
    assert_eq!(swap["open_file"], true, "{swap}");
    assert!(swap["parked"].as_u64().unwrap() > 0, "{swap}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_town_of_another_seed_passes_unchanged() {
    let arguments = ["--town".to_owned(), town_7().display().to_string()];
    play(town_7(), &arguments, false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_town_on_a_cluster_loses_nothing_when_its_instance_and_a_broker_die() {
    let town = town_7().display().to_string();
    let arguments = ["--cluster".to_owned(), "--town".to_owned(), town];
    let result = play(town_7(), &arguments, true).await;
    let killed = result["killed"].as_array().unwrap();
    assert_eq!(killed.len(), 2, "{result}");
    assert!(killed[0].as_str().unwrap().starts_with("hub-"), "{result}");
    assert_eq!(killed[1], "broker 1");
    assert_eq!(result["restarts"], 0, "nothing else dies: {result}");
}
