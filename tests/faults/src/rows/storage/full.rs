//! B2: the disk under the hub becomes full, and has room again.
//! A small file system in memory; it is filled by a file beside the hub's.
//! Must never pass when a publish was answered otherwise than taken or refused with a hint.
//! Read next: `docs/specs/log.md`.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use musubi_e2e::hub::{Client, PATIENCE};
use musubi_e2e::{Hub, wait_until};
use musubi_proto::hub::v1::Event;
use tonic::{Code, Status};

use super::{PRODUCT, SYSTEM, logged, publish, version};
use crate::disk::SmallDisk;
use crate::load::{Taker, retry_hint};
use crate::row::{Ctx, RowReport};

const DISK_BYTES: u64 = 16 << 20;
/// What stays free when it is filled.
const LEFT_BYTES: usize = 256 * 1024;
/// More than what a disk of this size takes.
const PUBLISHES_MAX: u32 = 4_000;

pub(super) async fn full_disk(ctx: Ctx) -> RowReport {
    let data = ctx.folder.join("hub");
    let disk = match SmallDisk::mount(&data, DISK_BYTES) {
        Ok(disk) => disk,
        Err(error) => return RowReport::cannot(format!("{error:#}")),
    };
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let taker = Taker::start(client.clone(), SYSTEM, PRODUCT);
    let mut acknowledged = BTreeMap::new();
    let mut next = 1;
    let mut refusals = 0;
    for _ in 0..ctx.count {
        let first = version(next);
        let position = publish(&client, &first).await.unwrap();
        acknowledged.insert(first.id, position);
        let filler = disk.fill(LEFT_BYTES).unwrap();
        let (refused, status) = fill_up(&client, &mut next, &mut acknowledged).await;
        let said = hub.process().tail(20);
        refusals += assert_refused(&client, &refused, &status, &said).await;
        let alarms = || Ok(hub.command(&["alarms"])?.to_string());
        wait_until(PATIENCE, "the alarm of a full disk", async || {
            alarms().map(|said: String| said.contains("ALARM_KIND_DISK_FULL"))
        })
        .await
        .unwrap();
        // What was acknowledged can be read.
        let found = logged(&client).await;
        assert!(contains(&found, &acknowledged), "I1: lost while full");

        fs::remove_file(filler).unwrap();
        let mut position = None;
        wait_until(PATIENCE, "a publish after there is room", async || {
            position = Some(publish(&client, &refused).await?);
            Ok(true)
        })
        .await
        .unwrap();
        acknowledged.insert(refused.id, position.unwrap());
        next += 1;
        wait_until(PATIENCE, "the alarm to go", async || {
            alarms().map(|said: String| !said.contains("ALARM_KIND_DISK_FULL"))
        })
        .await
        .unwrap();
    }
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let effects = taker.journal().effects;
    assert_eq!(effects.len(), acknowledged.len());
    assert!(effects.is_sorted_by_key(|effect| effect.2), "I3");
    hub.kill_and_restart().await.unwrap();
    assert_eq!(logged(&hub.client().unwrap()).await, acknowledged);
    hub.process().kill().unwrap();
    RowReport {
        injected: refusals,
        published: acknowledged.len() as u64,
        delivered: effects.len() as u64,
        ..RowReport::default()
    }
}

/// Publishes until one is refused; the number of the next version is that one's.
async fn fill_up(
    client: &Client,
    next: &mut u32,
    acknowledged: &mut BTreeMap<String, u64>,
) -> (Event, Status) {
    for _ in 0..PUBLISHES_MAX {
        *next += 1;
        let event = version(*next);
        match publish(client, &event).await {
            Ok(position) => acknowledged.insert(event.id, position),
            Err(status) => return (event, status),
        };
    }
    panic!("the disk never became full");
}

/// Everyone is told the same, with a hint.
async fn assert_refused(client: &Client, event: &Event, first: &Status, said: &str) -> u64 {
    let mut status = first.clone();
    for number in 1..=6 {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}\n{said}");
        let hint = retry_hint(&status);
        assert!(hint.is_some_and(|hint| hint > Duration::ZERO), "{hint:?}");
        if number < 6 {
            status = publish(client, event).await.unwrap_err();
        }
    }
    6
}

fn contains(found: &BTreeMap<String, u64>, all: &BTreeMap<String, u64>) -> bool {
    all.iter()
        .all(|(id, position)| found.get(id) == Some(position))
}
