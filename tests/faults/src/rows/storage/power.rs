//! B1: the power is cut while the hub publishes and delivers.
//! Twice: the hub's folder is a disk in a file, which a cut leaves with what was written by then; and
//! it is built again from a record of all writes and flushes, up to any of them.
//! Must never count an acknowledgement that came after the cut.
//! Read next: `../../disk.rs`, `../../writes.rs`, `docs/specs/log.md`.

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use musubi_e2e::event::moved;
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::{Client, Hub, wait_until};
use musubi_proto::hub::v1::Event;
use musubi_proto::hub::v1::unit_answer::Answer;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use tokio::task::JoinSet;

use super::{PRODUCT, SYSTEM, copy};
use crate::dice::Dice;
use crate::disk::{Image, can_inject};
use crate::load::{self, Published, Taker};
use crate::row::{Ctx, RowReport};
use crate::writes::{Writes, recorded};

const DISK_BYTES: u64 = 256 << 20;
/// Cuts that one disk lives through, so that its log stays short enough to be read after each.
const CUTS_OF_A_DISK: u32 = 5;
const SOURCES: u32 = 4;
/// Persons of one request, and versions of each.
const SUBJECTS: u32 = 10;
const VERSIONS: u32 = 5;
/// Acknowledgements before a cut: so many, and up to so many more.
const ACKNOWLEDGED_MIN: u64 = 500;
const ACKNOWLEDGED_MORE: u64 = 1_200;
/// From the last one counted to the cut, at most, in microseconds.
const PAUSE_US: u64 = 10_000;

pub(super) async fn power_cut(ctx: Ctx) -> RowReport {
    let mut dice = Dice::new(ctx.seed);
    let mut report = match can_inject() {
        true => cuts_of_a_record(&ctx.within("record"), &mut dice).await,
        false => RowReport::cannot("recording system calls (strace)"),
    };
    let mut left = ctx.count;
    while left > 0 {
        let cuts = left.min(CUTS_OF_A_DISK);
        let within = ctx.within(&format!("disk-{left}"));
        report.add(cuts_of_a_disk(&within, cuts, &mut dice).await);
        left = if report.cannot.is_empty() {
            left - cuts
        } else {
            0
        };
    }
    report
}

async fn cuts_of_a_disk(ctx: &Ctx, cuts: u32, dice: &mut Dice) -> RowReport {
    fs::create_dir_all(&ctx.folder).unwrap();
    let data = ctx.folder.join("hub");
    let image = match Image::mount(&ctx.folder.join("disk"), &data, DISK_BYTES) {
        Ok(image) => image,
        Err(error) => return RowReport::cannot(format!("{error:#}")),
    };
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    let taker = Taker::start(client.clone(), SYSTEM, PRODUCT);
    let mut all = Published::default();
    let mut violations = Vec::new();
    plant(&data);
    for cut in 0..cuts {
        let sources = Sources::start(&hub, cut * 1_000_000);
        let enough = ACKNOWLEDGED_MIN + dice.below(ACKNOWLEDGED_MORE);
        sources.wait_for(enough).await;
        tokio::time::sleep(Duration::from_micros(dice.below(PAUSE_US))).await;
        image.cut().unwrap();
        hub.process().kill().unwrap();
        all.add(known_by(&sources.end().await, u64::MAX));
        image.back().unwrap();
        assert_planted(&data);
        for file in ["log.sqlite", "store.sqlite"] {
            let found = structure(&data, file, &ctx.folder.join("copy")).await;
            assert_eq!(found, "ok", "{file} after cut {cut}, seed {}", ctx.seed);
        }
        hub.restart().await.unwrap();
        violations.extend(load::log_violations(&client, &all).await.unwrap());
    }
    client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    violations.extend(load::violations(&all, &journal));
    hub.process().kill().unwrap();
    RowReport {
        injected: cuts.into(),
        published: all.acknowledged.len() as u64,
        delivered: journal.effects.len() as u64,
        violations,
        ..RowReport::default()
    }
}

/// A hub whose writes are recorded, and what a disk has after a cut at any of them.
async fn cuts_of_a_record(ctx: &Ctx, dice: &mut Dice) -> RowReport {
    let data = ctx.folder.join("hub");
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let bound = hub.client().unwrap().bind(SYSTEM, PRODUCT).await;
    bound.unwrap();
    assert!(hub.process().stop().unwrap().success());
    let first = ctx.folder.join("first");
    copy(&data, &first);
    let record = ctx.folder.join("record");
    let mut command = recorded(&record).unwrap();
    command.arg("serve");
    let mut hub = Hub::start_as(&ctx.folder, command).await.unwrap();
    let taker = Taker::start(hub.client().unwrap(), SYSTEM, PRODUCT);
    let sources = Sources::start(&hub, 0);
    sources.wait_for(ACKNOWLEDGED_MIN + ACKNOWLEDGED_MORE).await;
    hub.process().kill().unwrap();
    let acknowledged = sources.end().await;
    drop(taker);
    let writes = Writes::read(&record, &data).unwrap();

    let mut report = RowReport::default();
    let mut lost = 0;
    for number in 0..ctx.count {
        let cut = dice.below(writes.len() as u64) as usize;
        let folder = ctx.folder.join(format!("cut-{number}"));
        let data = folder.join("hub");
        copy(&first, &data);
        lost += writes.rebuild(&data, cut, dice).unwrap();
        let known = known_by(&acknowledged, writes.at_us(cut));
        for file in ["log.sqlite", "store.sqlite"] {
            let found = structure(&data, file, &folder.join("copy")).await;
            assert_eq!(found, "ok", "{file}, cut before {cut}, seed {}", ctx.seed);
        }
        let hub = Hub::start(&folder).await.unwrap();
        let client = hub.client().unwrap();
        let wrong = load::log_violations(&client, &known).await.unwrap();
        drop(hub);
        if wrong.is_empty() {
            fs::remove_dir_all(&folder).unwrap();
        }
        report.violations.extend(wrong);
        report.published += known.acknowledged.len() as u64;
        report.injected += 1;
    }
    assert!(lost > 0, "the cuts took nothing");
    let steps = writes.len();
    report.notes = vec![format!(
        "{} cuts of a record of {steps} steps, {lost} writes lost or torn",
        ctx.count
    )];
    report
}

/// What was acknowledged before a time.
fn known_by(acknowledged: &[Acknowledged], at_us: u64) -> Published {
    let before = acknowledged.iter().filter(|one| one.at_us < at_us);
    let place = |one: &Acknowledged| (one.id.clone(), (one.subject.clone(), one.version));
    Published {
        acknowledged: before.map(place).collect(),
        ..Published::default()
    }
}

/// A file that is flushed and one that is not: a cut that spares the second is none.
fn plant(data: &Path) {
    let flushed = File::create(data.join("flushed")).unwrap();
    flushed.sync_all().unwrap();
    File::open(data).unwrap().sync_all().unwrap();
    fs::write(data.join("not-flushed"), "lost").unwrap();
}

fn assert_planted(data: &Path) {
    assert!(
        data.join("flushed").exists(),
        "the cut took what was flushed"
    );
    let lost = fs::read(data.join("not-flushed")).unwrap_or_default();
    assert!(lost.is_empty(), "the cut left what was not flushed");
}

/// An event of which the source knows that it is durable, and since when.
struct Acknowledged {
    at_us: u64,
    id: String,
    subject: String,
    version: u32,
}

/// Sources that publish until a request fails, and never send it again: it stays unknown.
struct Sources {
    acknowledged: Arc<AtomicU64>,
    tasks: JoinSet<Vec<Acknowledged>>,
}

impl Sources {
    /// Starts them on persons from this number on.
    fn start(hub: &Hub, first: u32) -> Self {
        let acknowledged = Arc::new(AtomicU64::new(0));
        let mut tasks = JoinSet::new();
        for source in 0..SOURCES {
            let client = hub.client().unwrap();
            let first = first + source * 100_000;
            tasks.spawn(publish_on(client, first, Arc::clone(&acknowledged)));
        }
        Self {
            acknowledged,
            tasks,
        }
    }

    async fn wait_for(&self, acknowledged: u64) {
        wait_until(PATIENCE, "acknowledgements", async || {
            Ok(self.acknowledged.load(Ordering::SeqCst) >= acknowledged)
        })
        .await
        .unwrap();
    }

    async fn end(self) -> Vec<Acknowledged> {
        self.tasks.join_all().await.into_iter().flatten().collect()
    }
}

async fn publish_on(client: Client, first: u32, count: Arc<AtomicU64>) -> Vec<Acknowledged> {
    let mut acknowledged = Vec::new();
    let mut next = first;
    loop {
        let subjects = next..next + SUBJECTS;
        next = subjects.end;
        let events: Vec<Event> = subjects
            .flat_map(|number| (1..=VERSIONS).map(move |version| (number, version)))
            .map(|(number, version)| moved(&load::subject(number), version).unwrap())
            .collect();
        let units = events.iter().map(|event| vec![event.clone()]).collect();
        let Ok(answers) = client.publish(units).await else {
            return acknowledged;
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let at_us = u64::try_from(now.as_micros()).unwrap();
        for (event, answer) in events.into_iter().zip(answers) {
            let accepted = matches!(answer.answer, Some(Answer::Accepted(_)));
            assert!(accepted, "not accepted: {answer:?}");
            acknowledged.push(Acknowledged {
                at_us,
                id: event.id,
                subject: event.subject,
                version: event.subject_version,
            });
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What SQLite says of the structure of a file; a copy is asked, so that the hub finds the original.
async fn structure(data: &Path, file: &str, copy: &Path) -> String {
    fs::create_dir_all(copy).unwrap();
    for end in ["", "-wal"] {
        let name = format!("{file}{end}");
        if data.join(&name).exists() {
            fs::copy(data.join(&name), copy.join(&name)).unwrap();
        }
    }
    let options = SqliteConnectOptions::new().filename(copy.join(file));
    let mut connection = options.connect().await.unwrap();
    let found: String = sqlx::query_scalar("PRAGMA integrity_check")
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    fs::remove_dir_all(copy).unwrap();
    found
}
