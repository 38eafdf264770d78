//! B4: a disk that answers a write or a flush with EIO.
//! `strace` answers one system call of the hub; the next hub is on a sound disk.
//! Must never pass when the publish on the way was acknowledged, or no publish failed.
//! Read next: `docs/specs/log.md`, `hub/src/sqlite/trouble.rs`.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use musubi_e2e::Hub;
use musubi_e2e::hub::PATIENCE;
use tonic::Code;

use super::{logged, publish, version};
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
/// A call fails up to so much later.
const LATER_MAX: u64 = 40;

pub(super) async fn failed_disk(ctx: Ctx) -> RowReport {
    if !can_inject() {
        return RowReport::cannot("answering system calls (strace -e inject)");
    }
    let mut dice = Dice::new(ctx.seed);
    let mut report = RowReport::default();
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
    let mut unknown = None;
    for number in 1..PUBLISHES_MAX {
        let event = version(number);
        match publish(&client, &event).await {
            Ok(position) => {
                acknowledged.insert(event.id, position);
            }
            Err(status) => {
                // The hub is gone, or it just said that it cannot tell.
                let gone = [Code::Unavailable, Code::Unknown].contains(&status.code());
                assert!(gone, "{what}: {status}");
                unknown = Some(event);
                break;
            }
        }
    }
    let failed_at = Instant::now();
    let unknown = unknown.unwrap_or_else(|| panic!("{what}: no publish failed"));
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
