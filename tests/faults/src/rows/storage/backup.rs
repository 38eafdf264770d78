//! B8: a hub that is restored from a backup says what it lacks, and the sources bring it again.
//! A backup is taken while the hub runs; what came after it was delivered, and is gone.
//! Must never pass when an event is lost, or stands in the log twice.
//! Read next: `hub/src/backup.rs`.

use std::fs;
use std::path::Path;

use musubi_e2e::Hub;
use musubi_e2e::hub::Client;
use musubi_e2e::process::musubi;
use musubi_e2e::receiver::Receiver;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Capabilities, Event, Stream};
use serde_json::Value;

use super::{PRODUCT, SYSTEM, version};
use crate::dice::Dice;
use crate::load::Taker;
use crate::row::{Ctx, RowReport};

/// Events before the backup, and after it, at most.
const EVENTS_MAX: u64 = 40;

pub(super) async fn restored(ctx: Ctx) -> RowReport {
    let mut report = RowReport::default();
    let mut dice = Dice::new(ctx.seed);
    for number in 0..ctx.count {
        let (before, after) = (1 + dice.below(EVENTS_MAX), 1 + dice.below(EVENTS_MAX));
        let within = ctx.within(&format!("{number}"));
        let events = (1..=before + after).map(|number| version(number as u32));
        let events: Vec<Event> = events.collect();
        report.add(restored_once(&within, events.split_at(before as usize)).await);
    }
    changed_backup(&ctx.within("changed")).await;
    report.injected += 1;
    report
}

async fn restored_once(ctx: &Ctx, (before, after): (&[Event], &[Event])) -> RowReport {
    let (first, second) = (ctx.folder.join("first"), ctx.folder.join("second"));
    let copy = ctx.folder.join("backup");
    let (old, data) = (first.join("hub"), second.join("hub"));
    let mut hub = Hub::start(&first).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let mut taker = Taker::start(client.clone(), SYSTEM, PRODUCT);
    publish(&client, before).await;
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let taken = run(&["backup"], &[("--data", &old), ("--out", &copy)]).unwrap();
    assert_eq!(taken["manifest"]["incarnation"], 1);
    publish(&client, after).await;
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let last = logged(&client).await.last().unwrap().1;
    hub.process().kill().unwrap();

    let folders = [
        ("--from", copy.as_path()),
        ("--data", &data),
        ("--instead-of", &old),
    ];
    let restored = run(&["restore"], &folders).unwrap();
    assert_eq!(restored["incarnation"], 2);
    let missing = restored["missing"].as_array().unwrap();
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!(missing[0]["stream"], "live");
    assert_eq!(missing[0]["from"], last - (after.len() as u64 - 1));
    assert_eq!(missing[0]["to"], last);

    let hub = Hub::start(&second).await.unwrap();
    let client = hub.client().unwrap();
    let receiver = Receiver::attach(&client, SYSTEM, PRODUCT, Capabilities::default())
        .await
        .unwrap();
    assert_eq!(receiver.welcome().incarnation, 2);
    drop(receiver);
    assert_eq!(ids(&logged(&client).await), names(before));
    // The source sends everything again, under the same ids.
    let all = [before, after].concat();
    let duplicates = publish(&client, &all).await;
    let expected = [vec![true; before.len()], vec![false; after.len()]].concat();
    assert_eq!(duplicates, expected);
    assert_eq!(ids(&logged(&client).await), names(&all));
    // The product has more than the hub: it gets the same keys again, and nothing goes back.
    taker.replace(client.clone(), SYSTEM, PRODUCT);
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    let effects: Vec<_> = journal.effects.into_iter().map(|effect| effect.0).collect();
    assert_eq!(effects, names(&all));
    assert!(journal.repeated >= after.len() as u64);
    RowReport {
        injected: 1,
        published: all.len() as u64,
        delivered: effects.len() as u64,
        ..RowReport::default()
    }
}

/// A folder in use and a backup that changed are refused by name.
async fn changed_backup(ctx: &Ctx) {
    let copy = ctx.folder.join("backup");
    let data = ctx.folder.join("hub");
    let hub = Hub::start(&ctx.folder).await.unwrap();
    let client = hub.client().unwrap();
    publish(&client, &[version(1)]).await;
    run(&["backup"], &[("--data", &data), ("--out", &copy)]).unwrap();

    let refused = run(&["backup"], &[("--data", &data), ("--out", &copy)]).unwrap_err();
    assert!(refused.contains("not empty"), "{refused}");
    let refused = run(&["restore"], &[("--from", &copy), ("--data", &data)]).unwrap_err();
    assert!(refused.contains("not empty"), "{refused}");
    let new = ctx.folder.join("new");
    let folders = [("--from", &copy), ("--data", &new), ("--instead-of", &data)];
    let refused = run(
        &["restore"],
        &folders.map(|(name, of)| (name, of.as_path())),
    )
    .unwrap_err();
    assert!(refused.contains("in use by another hub"), "{refused}");
    assert!(!new.exists());
    let log = copy.join("log.sqlite");
    let mut content = fs::read(&log).unwrap();
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(&log, content).unwrap();
    let refused = run(&["restore"], &[("--from", &copy), ("--data", &new)]).unwrap_err();
    assert!(refused.contains("log.sqlite"), "{refused}");
    assert!(!new.exists());
}

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

/// Ids of the log in its order, with their positions.
async fn logged(client: &Client) -> Vec<(String, u64)> {
    let stored = client.log(Stream::Live).await.unwrap();
    let place = |one: musubi_proto::hub::v1::StoredEvent| (one.event.unwrap().id, one.position);
    stored.into_iter().map(place).collect()
}

fn ids(logged: &[(String, u64)]) -> Vec<String> {
    logged.iter().map(|one| one.0.clone()).collect()
}

fn names(events: &[Event]) -> Vec<String> {
    events.iter().map(|event| event.id.clone()).collect()
}
