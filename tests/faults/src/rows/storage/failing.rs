//! B4: a disk that answers a write, a flush or a read with EIO.
//! `strace` answers one system call of the hub; the next hub is on a sound disk.
//! Must never pass when the publish on the way was acknowledged, or no publish failed.
//! Read next: `docs/specs/log.md`, `hub/src/sqlite/trouble.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use musubi_e2e::hub::PATIENCE;
use musubi_e2e::{Client, Hub};
use musubi_proto::hub::v1::{Event, Stream};
use tonic::Code;

use super::{asked, logged, publish, version};
use crate::dice::Dice;
use crate::disk::{can_inject, injected};
use crate::row::{Ctx, RowReport};

/// Exit status of a hub whose disk failed.
const DISK_FAILED: i32 = 5;
const END_WITHIN: Duration = Duration::from_secs(1);
const PUBLISHES_MAX: u32 = 500;
/// Which call on which file fails, and its first number after which it may.
const CALLS: [(&str, &str, u64); 4] = [
    ("log.sqlite-wal", "fsync,fdatasync", 20),
    ("log.sqlite-wal", "pwrite64", 101),
    ("log.sqlite-wal", "pwrite64", 102),
    ("store.sqlite-wal", "pwrite64", 301),
];
/// Threads of a hub that read its log, at most.
const READING_THREADS_MAX: u32 = 8;
/// A call fails up to so much later.
const LATER_MAX: u64 = 40;

pub(super) async fn failed_disk(ctx: Ctx) -> RowReport {
    if !can_inject() {
        return RowReport::cannot("answering system calls (strace -e inject)");
    }
    let mut dice = Dice::new(ctx.seed);
    let when = 10 + dice.below(LATER_MAX);
    let published = failed_read(&ctx.within("read"), when).await;
    let mut report = RowReport {
        injected: 1,
        published,
        ..RowReport::default()
    };
    let calls = CALLS.iter().cycle().take(ctx.count as usize);
    for (number, (file, call, when)) in (0..).zip(calls) {
        let when = when + dice.below(LATER_MAX);
        let within = ctx.within(&format!("{number}"));
        report.published += fails_once(&within, file, call, when).await;
        report.injected += 1;
    }
    report
}

/// A hub on whose file the call fails the `when`th time that a thread makes it; what was published.
async fn fails_once(ctx: &Ctx, file: &str, call: &str, when: u64) -> u64 {
    let path = ctx.folder.join("hub").join(file);
    let mut command = injected(&[path], call, &format!("error=EIO:when={when}")).unwrap();
    command.arg("serve");
    let mut hub = Hub::start_as(&ctx.folder, command).await.unwrap();
    let client = hub.client().unwrap();
    let what = format!("the {when}th {call} on {file}");
    let mut acknowledged = BTreeMap::new();
    let unknown = publish_until_gone(&client, call, &mut acknowledged)
        .await
        .unwrap_or_else(|| panic!("{what}: nothing failed"));
    let failed_at = Instant::now();
    let status = hub.process().wait(PATIENCE).unwrap();
    let took = failed_at.elapsed();
    assert!(took <= END_WITHIN, "{what}: ended after {took:?}");
    assert_eq!(status.code(), Some(DISK_FAILED), "{what}");
    let log = hub.process().log_text().unwrap();
    let told = log.contains("musubi: the disk failed while");
    assert!(told, "{what}: {log}");

    hub.restart().await.unwrap();
    let client = hub.client().unwrap();
    let found = logged(&client).await;
    for (id, position) in &acknowledged {
        assert_eq!(found.get(id), Some(position), "I1: {what}: lost");
    }
    let position = publish(&client, &unknown).await.unwrap();
    let found = logged(&client).await;
    assert_eq!(found.get(&unknown.id), Some(&position), "{what}");
    assert_eq!(found.len(), acknowledged.len() + 1, "{what}");
    found.len() as u64
}

/// A read that fails. SQLite tells it as damage: the call is refused by name, what was read is used
/// for nothing, and everything is there afterwards.
async fn failed_read(ctx: &Ctx, when: u64) -> u64 {
    let file = ctx.folder.join("hub/log.sqlite-wal");
    let mut command = injected(&[file], "pread64", &format!("error=EIO:when={when}")).unwrap();
    command.arg("serve");
    let mut hub = Hub::start_as(&ctx.folder, command).await.unwrap();
    let client = hub.client().unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut refused = None;
    for number in 1..PUBLISHES_MAX {
        let event = version(number);
        let read = match publish(&client, &event).await {
            Ok(position) => {
                acknowledged.insert(event.id, position);
                client.log(Stream::Live).await.map(|_| ())
            }
            Err(status) => Err(status.into()),
        };
        if let Err(error) = read {
            refused = Some(format!("{error:#}"));
            break;
        }
    }
    let refused = refused.unwrap_or_else(|| panic!("the {when}th read did not fail"));
    let by_name = ["live position", "the hub's log does not answer"];
    let named = by_name.iter().any(|words| refused.contains(words));
    assert!(named, "{refused}");
    hub.process().must_run().unwrap();
    // Each thread that reads may have its one failure still before it.
    let mut again = asked(&client).await;
    for _ in 0..READING_THREADS_MAX {
        if again.is_err() {
            again = asked(&client).await;
        }
    }
    // The read may have failed under a publish, whose outcome is unknown then.
    let all_there = |found: BTreeMap<String, u64>| {
        assert!(found.len() <= acknowledged.len() + 1, "{found:?}");
        for (id, position) in &acknowledged {
            assert_eq!(found.get(id), Some(position), "I1: lost");
        }
    };
    all_there(again.unwrap());
    hub.kill_and_restart().await.unwrap();
    all_there(logged(&client).await);
    acknowledged.len() as u64
}

/// Publishes until the hub is gone; the publish of unknown outcome.
async fn publish_until_gone(
    client: &Client,
    call: &str,
    acknowledged: &mut BTreeMap<String, u64>,
) -> Option<Event> {
    for number in 1..PUBLISHES_MAX {
        let event = version(number);
        match publish(client, &event).await {
            Ok(position) => acknowledged.insert(event.id, position),
            Err(status) => {
                // The hub is gone, or it just said that it cannot tell.
                let gone = [Code::Unavailable, Code::Unknown].contains(&status.code());
                assert!(gone, "{call}: {status}");
                return Some(event);
            }
        };
    }
    None
}
