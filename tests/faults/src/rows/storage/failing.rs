//! B4, B2: a disk that fails under the hub, and one that is full.
//! A failed write or sync ends the hub at once; a full disk refuses publishes until there is room.
//! Must never count an event as lost that was not acknowledged, nor miss one that was.
//! Read next: `docs/specs/log.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use musubi_e2e::event::moved;
use musubi_e2e::hub::{Client, PATIENCE};
use musubi_e2e::process::musubi_path;
use musubi_e2e::receiver::Recorder;
use musubi_e2e::{Hub, wait_until};
use musubi_proto::google::rpc::{RetryInfo, Status as RpcStatus};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Capabilities, Event, Stream};
use prost::Message;
use tonic::Code;

/// Exit status of a hub whose disk failed.
const DISK_FAILED: i32 = 5;
const END_WITHIN: Duration = Duration::from_secs(1);
const PUBLISHES_MAX: u32 = 400;
const SUBJECT: &str = "0000012345";

fn event(version: u32) -> Event {
    moved(SUBJECT, version).unwrap()
}

async fn publish(client: &Client, event: &Event) -> Result<u64, tonic::Status> {
    let answers = client.publish(vec![vec![event.clone()]]).await?;
    match answers.into_iter().next().and_then(|one| one.answer) {
        Some(Answer::Accepted(accepted)) => Ok(accepted.position),
        other => panic!("not accepted: {other:?}"),
    }
}

/// Positions of all events of the log, by id; each stands there once.
async fn logged(client: &Client) -> BTreeMap<String, u64> {
    let mut by_id = BTreeMap::new();
    for stored in client.log(Stream::Live).await.unwrap() {
        let id = stored.event.unwrap().id;
        assert!(
            by_id.insert(id, stored.position).is_none(),
            "twice in the log"
        );
    }
    by_id
}

/// A hub whose system call `call` on `file` fails once, the `when`th time that a thread makes it.
async fn hub_on_failing_disk(folder: &Path, file: &str, call: &str, when: u32) -> Hub {
    let mut command = Command::new("strace");
    command
        .args(["-D", "-f", "-o", "/dev/null", "-P"])
        .arg(folder.join("hub").join(file))
        .args(["-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:error=EIO:when={when}")])
        .arg(musubi_path().unwrap())
        .arg("serve");
    Hub::start_as(folder, command).await.unwrap()
}

#[tokio::test]
async fn a_failed_write_or_sync_ends_the_hub_and_no_acknowledgement_is_lost() {
    for (file, call, when) in [
        ("log.sqlite-wal", "fsync,fdatasync", 20),
        ("log.sqlite-wal", "pwrite64", 101),
        ("log.sqlite-wal", "pwrite64", 102),
        ("store.sqlite-wal", "pwrite64", 301),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut hub = hub_on_failing_disk(folder.path(), file, call, when).await;
        let client = hub.client().unwrap();
        let what = format!("{call} on {file}");
        let mut acknowledged = BTreeMap::new();
        let mut unknown = None;
        for version in 1..PUBLISHES_MAX {
            let event = event(version);
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
        assert!(
            failed_at.elapsed() <= END_WITHIN,
            "{what}: {:?}",
            failed_at.elapsed()
        );
        assert_eq!(status.code(), Some(DISK_FAILED), "{what}");
        let log = hub.process().log_text().unwrap();
        assert!(
            log.contains("musubi: the disk failed while"),
            "{what}: {log}"
        );

        hub.restart().await.unwrap();
        let client = hub.client().unwrap();
        let found = logged(&client).await;
        for (id, position) in &acknowledged {
            assert_eq!(
                found.get(id),
                Some(position),
                "{what}: an acknowledged event is lost"
            );
        }
        let position = publish(&client, &unknown).await.unwrap();
        let found = logged(&client).await;
        assert_eq!(found.get(&unknown.id), Some(&position), "{what}");
        assert_eq!(found.len(), acknowledged.len() + 1, "{what}");
    }
}

/// A small file system in memory; dropping it unmounts it.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, bytes: u64) -> Self {
        fs::create_dir_all(at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(at)
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "a small file system cannot be mounted here (B2 needs the right to mount)"
        );
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("-l").arg(&self.0).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.display());
        }
    }
}

/// Takes all room but a little.
fn fill(folder: &Path) -> PathBuf {
    let filler = folder.join("filler");
    let mut bytes = 4 << 20;
    let mut content: Vec<u8> = Vec::new();
    while bytes >= 4_096 {
        let mut more = content.clone();
        more.resize(content.len() + bytes, 1);
        match fs::write(&filler, &more) {
            Ok(()) => content = more,
            Err(_) => bytes /= 2,
        }
    }
    content.truncate(content.len().saturating_sub(256 * 1024));
    fs::write(&filler, &content).unwrap();
    filler
}

#[tokio::test]
async fn a_full_disk_refuses_publishes_loses_none_and_takes_them_again_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("hub");
    let disk = SmallDisk::mount(&data, 16 << 20);
    let mut hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind("010", "kaede").await.unwrap();
    let recorder = Recorder::start(&client, "010", "kaede", Capabilities::default())
        .await
        .unwrap();
    let mut acknowledged = BTreeMap::new();
    let mut version = 1;
    let first = event(version);
    acknowledged.insert(first.id.clone(), publish(&client, &first).await.unwrap());
    let filler = fill(&data);

    let refused = loop {
        version += 1;
        let next = event(version);
        match publish(&client, &next).await {
            Ok(position) => acknowledged.insert(next.id, position),
            Err(status) => break (next, status),
        };
        assert!(version < PUBLISHES_MAX * 10, "the disk never became full");
    };
    let (refused, status) = refused;
    let log = hub.process().tail(20);
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}\n{log}");
    let details = RpcStatus::decode(status.details()).unwrap().details;
    let retry = details
        .iter()
        .find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))
        .map(|any| RetryInfo::decode(any.value.as_slice()).unwrap());
    assert!(retry.unwrap().retry_delay.unwrap().seconds > 0);
    // Every further one is told the same, and what was acknowledged can be read.
    for _ in 0..5 {
        let again = publish(&client, &refused).await.unwrap_err();
        let log = hub.process().tail(5);
        assert_eq!(again.code(), Code::ResourceExhausted, "{again}\n{log}");
    }
    let found = logged(&client).await;
    assert!(
        acknowledged
            .iter()
            .all(|(id, position)| found.get(id) == Some(position))
    );

    fs::remove_file(filler).unwrap();
    let mut position = None;
    wait_until(PATIENCE, "a publish after there is room", async || {
        position = Some(publish(&client, &refused).await?);
        Ok(true)
    })
    .await
    .unwrap();
    acknowledged.insert(refused.id, position.unwrap());
    drop(recorder);
    let recorder = Recorder::start(&client, "010", "kaede", Capabilities::default())
        .await
        .unwrap();
    client.wait_until_delivered(&["010"]).await.unwrap();
    recorder.book().unwrap();
    drop(recorder);
    hub.kill_and_restart().await.unwrap();
    assert_eq!(logged(&hub.client().unwrap()).await, acknowledged);
    hub.process().kill().unwrap();
    drop(disk);
}
