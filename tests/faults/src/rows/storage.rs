//! B1 to B9: what a disk, a full file system, an old backup and a second hub do to the files.
//! Each row is in a file of its own; a machine that cannot play one is told by name.
//! Must never count an event as lost that was not acknowledged, nor miss one that was.
//! Read next: `storage/failing.rs`, `../disk.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a row fails by a panic, which its report names"
)]

mod backup;
mod damage;
mod failing;
mod folder;
mod full;
mod halves;
mod power;
mod second;
mod slow;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use musubi_e2e::Client;
use musubi_e2e::event::moved;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Event, Stream};

use crate::judged::judged;
use crate::row::Row;

/// B1 to B9.
pub const ROWS: &[Row] = &[
    Row {
        name: "B1",
        what: "the power is cut at a random instant while the hub publishes and delivers",
        accept: "every acknowledgement before the cut is on the disk, its files are sound, I1–I4: 0",
        count: 100,
        run: |ctx| judged(power::power_cut(ctx)),
    },
    Row {
        name: "B2",
        what: "the disk of the log is full",
        accept: "refused with a hint and none acknowledged and lost; reads go on, and publishes when there is room",
        count: 1,
        run: |ctx| judged(full::full_disk(ctx)),
    },
    Row {
        name: "B3",
        what: "the disk of an adapter is full: of its exchange folder, of its own progress",
        accept: "only that adapter waits, the others go on; I1–I4: 0 when there is room",
        count: 5,
        run: |ctx| Box::pin(folder::full_folders(ctx)),
    },
    Row {
        name: "B4",
        what: "EIO on a write, a flush or a read of a file of the hub",
        accept: "ends within 1 s by name, the publish is unknown, I1, I2: 0 after the restart; a failed read is refused by name",
        count: 20,
        run: |ctx| judged(failing::failed_disk(ctx)),
    },
    Row {
        name: "B5",
        what: "a write is interrupted, finds no room half-way, or ends short",
        accept: "tried again, refused with a hint, or the hub ends; I1–I4: 0",
        count: 50,
        run: |ctx| judged(halves::half_writes(ctx)),
    },
    Row {
        name: "B6",
        what: "a bit flipped, a page zeroed or an end cut off at a random place of a file",
        accept: "refused with the file or the position, or answered as before; nothing in between",
        count: 500,
        run: |ctx| judged(damage::damaged_files(ctx)),
    },
    Row {
        name: "B7",
        what: "a slow disk: each flush takes 100 ms, then 1 s",
        accept: "publishes are late and none fails, memory at most 64 MiB more, I1–I4: 0",
        count: 10,
        run: |ctx| judged(slow::slow_disk(ctx)),
    },
    Row {
        name: "B8",
        what: "a restore from an old backup; a backup that changed",
        accept: "says exactly what it lacks, gets it again once, no product goes back; refused by name",
        count: 1,
        run: |ctx| judged(backup::restored(ctx)),
    },
    Row {
        name: "B9",
        what: "a second hub on one data folder",
        accept: "it does not start and names the folder; the first goes on",
        count: 1,
        run: |ctx| judged(second::second_hub(ctx)),
    },
];

/// Whose events these rows publish.
const SUBJECT: &str = "0000012345";
const SYSTEM: &str = "010";
const PRODUCT: &str = "kaede";

fn version(number: u32) -> Event {
    moved(SUBJECT, number).unwrap()
}

/// Publishes one event once; where it stands in the log.
async fn publish(client: &Client, event: &Event) -> Result<u64, tonic::Status> {
    let answers = client.publish(vec![vec![event.clone()]]).await?;
    match answers.into_iter().next().and_then(|one| one.answer) {
        Some(Answer::Accepted(accepted)) => Ok(accepted.position),
        other => panic!("not accepted: {other:?}"),
    }
}

/// Positions of all events of the log, by id; each stands there once.
async fn logged(client: &Client) -> BTreeMap<String, u64> {
    asked(client).await.unwrap()
}

/// The same, as long as the log can be read.
async fn asked(client: &Client) -> anyhow::Result<BTreeMap<String, u64>> {
    let mut by_id = BTreeMap::new();
    for stored in client.log(Stream::Live).await? {
        let id = stored.event.unwrap().id;
        let before = by_id.insert(id, stored.position);
        assert!(before.is_none(), "I2: twice in the log");
    }
    Ok(by_id)
}

/// Copies the files of a folder into a new one.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
