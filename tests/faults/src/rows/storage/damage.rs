//! B6: what a disk does to a file — a bit flipped, a page zeroed, an end cut off — is found.
//! The hub refuses to start, or answers for everything as before; in between there is nothing.
//! Must never accept an answer that is shorter than the one before the damage.
//! Read next: `docs/specs/log.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use musubi_e2e::event::moved;
use musubi_e2e::hub::{Client, Hub};
use musubi_e2e::process::musubi;
use musubi_e2e::{Process, wait_until};
use musubi_proto::hub::v1::{Event, Stream};

const PLACES: u64 = 17;
const LIMIT: Duration = Duration::from_secs(60);
const SEED: u64 = 20_260_401;

/// What the disk does.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Cut,
}

/// A sequence that only the seed decides (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Spoils a file at a place; false when nothing changed.
fn spoil(path: &Path, damage: Damage, random: &mut Random) -> (u64, bool) {
    let before = fs::read(path).unwrap();
    let mut after = before.clone();
    let place = random.below(before.len() as u64);
    let at = usize::try_from(place).unwrap();
    match damage {
        Damage::Flip => after[at] ^= 1 << random.below(8),
        Damage::Zero => {
            let page = at - at % 4096;
            let end = after.len().min(page + 4096);
            after[page..end].fill(0);
        }
        Damage::Cut => after.truncate(at),
    }
    fs::write(path, &after).unwrap();
    (place, before != after)
}

/// Everything that the hub answers for: the log, the subscriptions and each event by its id.
async fn everything(client: &Client, ids: &[String]) -> Result<String, tonic::Status> {
    let mut all = String::new();
    let logged = client.log(Stream::Live).await;
    let logged = logged.map_err(|error| match error.downcast::<tonic::Status>() {
        Ok(status) => status,
        Err(error) => panic!("{error:#}"),
    })?;
    all.push_str(&format!("{logged:?}\n"));
    for id in ids {
        let request = musubi_proto::hub::v1::GetEventRequest {
            municipality: musubi_e2e::hub::MUNICIPALITY.to_owned(),
            id: id.clone(),
        };
        let found = client.events().get_event(request).await?.into_inner();
        all.push_str(&format!("{found:?}\n"));
    }
    Ok(all)
}

/// Starts a hub on a folder: its address, or the line with which it refused.
async fn start(folder: &Path) -> Result<(Process, Client), String> {
    let told = folder.join("address");
    let mut command = musubi().unwrap();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]);
    command.arg(folder.join("hub"));
    command.arg("--address-file").arg(&told);
    let mut process = Process::spawn("hub", command, folder).unwrap();
    wait_until(LIMIT, "a start or a refusal", async || {
        Ok(told.exists() || process.ended()?.is_some())
    })
    .await
    .unwrap();
    if process.ended().unwrap().is_some() {
        let log = process.log_text().unwrap();
        return Err(log.lines().last().unwrap_or_default().to_owned());
    }
    let address = fs::read_to_string(&told).unwrap();
    let client = Client::new(&format!("http://{address}")).unwrap();
    Ok((process, client))
}

/// A folder with events of several pages, left by a stop in order or by a kill.
async fn folder_with_events(folder: &Path, killed: bool) -> (String, Vec<String>) {
    let mut hub = Hub::start(folder).await.unwrap();
    let client = hub.client().unwrap();
    client.bind("010", "kaede").await.unwrap();
    let mut ids = Vec::new();
    for batch in 0..8 {
        let person = |n| moved(&format!("{:010}", batch * 100 + n), 1).unwrap();
        let events: Vec<Event> = (0..10).map(person).collect();
        ids.extend(events.iter().map(|event| event.id.clone()));
        let units = events.into_iter().map(|event| vec![event]).collect();
        client.publish(units).await.unwrap();
    }
    let all = everything(&client, &ids).await.unwrap();
    if killed {
        hub.process().kill().unwrap();
    } else {
        hub.process().stop().unwrap();
    }
    (all, ids)
}

/// Spoils one file many times; each time the hub must refuse by name or answer as before.
async fn each_damage_is_found(file: &str, killed: bool, words: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let (all, ids) = folder_with_events(folder.path(), killed).await;
    let mut random = Random(SEED);
    let (mut refused, mut unchanged) = (0, 0);
    for round in 0..PLACES {
        let damage = [Damage::Flip, Damage::Zero, Damage::Cut][(round % 3) as usize];
        let spoiled = folder.path().join(format!("spoiled-{round}"));
        copy(&folder.path().join("hub"), &spoiled.join("hub"));
        let path: PathBuf = spoiled.join("hub").join(file);
        let (place, changed) = spoil(&path, damage, &mut random);
        let what = format!("{file}: {damage:?} at byte {place} (seed {SEED})");
        let named = |line: &str| {
            assert!(
                words.iter().any(|word| line.contains(word)),
                "{what}: refused without a place: {line}"
            );
        };
        match start(&spoiled).await {
            Err(line) => {
                assert!(changed, "{what}: refused although nothing changed: {line}");
                named(&line);
                refused += 1;
            }
            Ok((mut process, client)) => {
                match everything(&client, &ids).await {
                    Err(status) => {
                        named(status.message());
                        refused += 1;
                    }
                    Ok(found) => {
                        assert!(found == all, "{what}: it answers something else");
                        unchanged += 1;
                    }
                }
                process.kill().unwrap();
            }
        }
        fs::remove_dir_all(&spoiled).unwrap();
    }
    println!("{file}: {refused} refused, {unchanged} in unused space");
    assert!(refused > 0, "{file}: no damage at all was found");
}

#[tokio::test]
async fn a_damaged_log_is_named_and_never_read_as_another() {
    each_damage_is_found("log.sqlite", false, &["log.sqlite", "live position"]).await;
}

#[tokio::test]
async fn a_damaged_end_of_the_log_is_named_and_never_read_as_a_shorter_one() {
    let words = ["log.sqlite", "live position"];
    each_damage_is_found("log.sqlite-wal", true, &words).await;
}

#[tokio::test]
async fn a_damaged_store_is_named_and_never_read_as_another() {
    each_damage_is_found("store.sqlite", false, &["store.sqlite"]).await;
}
