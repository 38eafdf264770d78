//! B6: what a disk does to a file — a bit flipped, a page zeroed, an end cut off — is found.
//! The hub refuses to start, or answers for everything as before; in between there is nothing.
//! Must never accept an answer that is shorter than the one before the damage.
//! Read next: `docs/specs/log.md`, `docs/specs/store.md`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use musubi_e2e::event::moved;
use musubi_e2e::hub::{Client, Hub, MUNICIPALITY};
use musubi_e2e::process::musubi;
use musubi_e2e::{Process, wait_until};
use musubi_proto::hub::v1::{Event, GetEventRequest, Stream};

use super::{PRODUCT, SYSTEM, copy};
use crate::dice::Dice;
use crate::row::{Ctx, RowReport};

const LIMIT: Duration = Duration::from_secs(60);
const PAGE_BYTES: usize = 4_096;

/// What the disk does.
#[derive(Debug, Clone, Copy)]
enum Damage {
    Flip,
    Zero,
    Cut,
}

/// A file that is damaged, and what a refusal has to name.
struct Target {
    file: &'static str,
    /// Whether the hub was killed before, so that the file is there and not empty.
    killed: bool,
    words: &'static [&'static str],
}

const TARGETS: [Target; 3] = [
    Target {
        file: "log.sqlite",
        killed: false,
        words: &["log.sqlite", "live position"],
    },
    Target {
        file: "log.sqlite-wal",
        killed: true,
        words: &["log.sqlite", "live position"],
    },
    Target {
        file: "store.sqlite",
        killed: false,
        words: &["store.sqlite"],
    },
];

pub(super) async fn damaged_files(ctx: Ctx) -> RowReport {
    let mut report = RowReport::default();
    let each = ctx.count.div_ceil(TARGETS.len() as u32);
    for target in &TARGETS {
        let within = ctx.within(target.file);
        report.add(each_damage_is_found(&within, target, each).await);
    }
    report
}

/// Spoils one file many times; each time the hub must refuse by name or answer as before.
async fn each_damage_is_found(ctx: &Ctx, target: &Target, places: u32) -> RowReport {
    let file = target.file;
    let (all, ids) = folder_with_events(&ctx.folder, target.killed).await;
    let mut dice = Dice::new(ctx.seed);
    let (mut refused, mut unchanged) = (0, 0);
    for round in 0..places {
        let damage = [Damage::Flip, Damage::Zero, Damage::Cut][round as usize % 3];
        let spoiled = ctx.folder.join(format!("spoiled-{round}"));
        copy(&ctx.folder.join("hub"), &spoiled.join("hub"));
        let path = spoiled.join("hub").join(file);
        let (place, changed) = spoil(&path, damage, &mut dice);
        let what = format!("{file}: {damage:?} at byte {place} (seed {})", ctx.seed);
        match answer(&spoiled, &ids).await {
            Err(line) => {
                assert!(changed, "{what}: refused although nothing changed: {line}");
                let named = target.words.iter().any(|word| line.contains(word));
                assert!(named, "{what}: refused without a place: {line}");
                refused += 1;
            }
            Ok(found) => {
                assert!(found == all, "{what}: it answers something else");
                unchanged += 1;
            }
        }
        fs::remove_dir_all(&spoiled).unwrap();
    }
    let told = format!("{file}: {refused} refused, {unchanged} in unused space");
    assert!(refused > 0, "{told}: no damage at all was found");
    RowReport {
        injected: places.into(),
        published: ids.len() as u64,
        notes: vec![told],
        ..RowReport::default()
    }
}

/// A folder with events of several pages, left by a stop in order or by a kill.
async fn folder_with_events(folder: &Path, killed: bool) -> (String, Vec<String>) {
    let mut hub = Hub::start(folder).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
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

/// Spoils a file at a place; false when nothing changed.
fn spoil(path: &Path, damage: Damage, dice: &mut Dice) -> (u64, bool) {
    let before = fs::read(path).unwrap();
    let mut after = before.clone();
    let place = dice.below(before.len() as u64);
    let at = usize::try_from(place).unwrap();
    match damage {
        Damage::Flip => after[at] ^= 1 << dice.below(8),
        Damage::Zero => {
            let page = at - at % PAGE_BYTES;
            let end = after.len().min(page + PAGE_BYTES);
            after[page..end].fill(0);
        }
        Damage::Cut => after.truncate(at),
    }
    fs::write(path, &after).unwrap();
    (place, before != after)
}

/// What a hub on a folder answers for, or the line with which it refuses to start or to answer.
async fn answer(folder: &Path, ids: &[String]) -> Result<String, String> {
    let (mut process, client) = start(folder).await?;
    let found = everything(&client, ids).await;
    process.kill().unwrap();
    found.map_err(|status| status.message().to_owned())
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
        return Err(process.tail(1));
    }
    let address = fs::read_to_string(&told).unwrap();
    let client = Client::new(&format!("http://{address}")).unwrap();
    Ok((process, client))
}

/// Everything that the hub answers for: the log and each event by its id.
async fn everything(client: &Client, ids: &[String]) -> Result<String, tonic::Status> {
    let logged = client.log(Stream::Live).await;
    let logged = logged.map_err(|error| match error.downcast::<tonic::Status>() {
        Ok(status) => status,
        Err(error) => panic!("{error:#}"),
    })?;
    let mut all = format!("{logged:?}\n");
    for id in ids {
        let request = GetEventRequest {
            municipality: MUNICIPALITY.to_owned(),
            id: id.clone(),
        };
        let found = client.events().get_event(request).await?.into_inner();
        all.push_str(&format!("{found:?}\n"));
    }
    Ok(all)
}
