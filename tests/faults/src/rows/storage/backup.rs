//! B8: a hub that is restored from a backup says what it lacks, and the sources bring it again.
//! A backup is taken while the hub runs; what came after it was delivered, and is gone.
//! Must never pass when an event is lost, or stands in the log twice.
//! Read next: `hub/src/backup.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use musubi_e2e::Hub;
use musubi_e2e::event::moved;
use musubi_e2e::hub::Client;
use musubi_e2e::process::musubi;
use musubi_e2e::receiver::{Receiver, Recorder};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Capabilities, Event, Stream};
use serde_json::Value;

/// Runs a command on folders; its answer as JSON, or the line of its refusal.
fn run(arguments: &[&str], folders: &[(&str, &Path)]) -> Result<Value, String> {
    let mut command = musubi().unwrap();
    command.args(arguments).arg("--json");
    for (option, folder) in folders {
        command.arg(option).arg(folder);
    }
    let output = command.output().unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Publishes all; true for each that the hub had already.
async fn publish(client: &Client, events: &[Event]) -> Vec<bool> {
    let units = events.iter().map(|event| vec![event.clone()]).collect();
    let answers = client.publish(units).await.unwrap();
    let duplicate = |answer| match answer {
        Some(Answer::Accepted(accepted)) => accepted.duplicate,
        other => panic!("not accepted: {other:?}"),
    };
    answers
        .into_iter()
        .map(|one| duplicate(one.answer))
        .collect()
}

async fn logged(client: &Client) -> Vec<String> {
    let stored = client.log(Stream::Live).await.unwrap();
    stored
        .into_iter()
        .map(|one| one.event.unwrap().id)
        .collect()
}

/// Takes what is there to be delivered; the ids.
async fn deliver(client: &Client) -> BTreeSet<String> {
    let recorder = Recorder::start(client, "010", "kaede", Capabilities::default())
        .await
        .unwrap();
    client.wait_until_delivered(&["010"]).await.unwrap();
    let book = recorder.book().unwrap();
    book.into_values().map(|received| received.id).collect()
}

#[tokio::test]
async fn a_restored_hub_says_what_it_lacks_and_gets_it_again_once() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let copy = folder.path().join("backup");
    let mut hub = Hub::start(&first).await.unwrap();
    let client = hub.client().unwrap();
    client.bind("010", "kaede").await.unwrap();
    let all: Vec<Event> = (1..=20)
        .map(|version| moved("0000012345", version).unwrap())
        .collect();
    let (before, after) = all.split_at(10);
    publish(&client, before).await;
    let mut applied = deliver(&client).await;

    let taken = run(
        &["backup"],
        &[("--data", &first.join("hub")), ("--out", &copy)],
    )
    .unwrap();
    assert_eq!(taken["manifest"]["incarnation"], 1);
    publish(&client, after).await;
    let last = client
        .log(Stream::Live)
        .await
        .unwrap()
        .last()
        .unwrap()
        .position;
    applied.extend(deliver(&client).await);
    assert_eq!(applied.len(), all.len());
    hub.process().kill().unwrap();

    let data = second.join("hub");
    let old = first.join("hub");
    let folders = [
        ("--from", copy.as_path()),
        ("--data", &data),
        ("--instead-of", &old),
    ];
    let restored = run(&["restore"], &folders).unwrap();
    assert_eq!(restored["incarnation"], 2);
    let missing = &restored["missing"][0];
    assert_eq!(missing["stream"], "live");
    assert_eq!(missing["from"], last - 9);
    assert_eq!(missing["to"], last);
    assert_eq!(restored["missing"].as_array().unwrap().len(), 1);

    let hub = Hub::start(&second).await.unwrap();
    let client = hub.client().unwrap();
    let receiver = Receiver::attach(&client, "010", "kaede", Capabilities::default())
        .await
        .unwrap();
    assert_eq!(receiver.welcome().incarnation, 2);
    drop(receiver);
    let ids = |events: &[Event]| -> Vec<String> { events.iter().map(|e| e.id.clone()).collect() };
    assert_eq!(logged(&client).await, ids(before));
    // The source sends everything again, under the same ids.
    let duplicates = publish(&client, &all).await;
    assert_eq!(duplicates, [[true; 10], [false; 10]].concat());
    assert_eq!(logged(&client).await, ids(&all));
    let again = deliver(&client).await;
    // What the product gets once more, it has under the same key.
    assert!(ids(after).iter().all(|id| again.contains(id)));
    assert!(again.is_subset(&applied));
}

#[tokio::test]
async fn a_backup_that_changed_and_a_folder_in_use_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("backup");
    let data = folder.path().join("hub");
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    publish(&client, &[moved("0000012345", 1).unwrap()]).await;
    run(&["backup"], &[("--data", &data), ("--out", &copy)]).unwrap();

    let refused = run(&["backup"], &[("--data", &data), ("--out", &copy)]).unwrap_err();
    assert!(refused.contains("not empty"), "{refused}");
    let refused = run(&["restore"], &[("--from", &copy), ("--data", &data)]).unwrap_err();
    assert!(refused.contains("not empty"), "{refused}");
    let log = copy.join("log.sqlite");
    let mut content = fs::read(&log).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&log, content).unwrap();
    let new = folder.path().join("new");
    let refused = run(&["restore"], &[("--from", &copy), ("--data", &new)]).unwrap_err();
    assert!(refused.contains("log.sqlite"), "{refused}");
    assert!(!new.exists());
}
