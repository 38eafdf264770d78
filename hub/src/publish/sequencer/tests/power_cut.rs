//! The power fails: the log keeps all that it answered for, the store only what was synced.
//! Beside `crash.rs`, where nothing is lost that was written.
//! Must never be told by the hub what the disk has: the files are copied at each sync.

use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

use super::accept::{measure, snapshot};
use super::faults::Disk;
use super::*;
use crate::store::RetentionStore;

/// What recovery has to bring back to the last row. The capture cursor is not among it: where it
/// is taken back the source sends again.
const TABLES: [&str; 8] = [
    "event",
    "version",
    "held",
    "held_subject",
    "held_event",
    "snapshot",
    "protection",
    "tail",
];

/// A desk whose store's file may lose what is not synced.
struct Plugged {
    desk: Desk,
    folder: tempfile::TempDir,
    cuts: u32,
}

impl Plugged {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = SqliteLog::open(&folder.path().join("log.sqlite")).await;
        let mut desk = Desk::on(
            Arc::new(log.unwrap()),
            Arc::new(MemoryStore::default()),
            None,
        )
        .await;
        let store = folder.path().join("store-0.sqlite");
        desk.store = plug(&store, &desk).await;
        desk.restart().await;
        let cuts = 0;
        Self { desk, folder, cuts }
    }

    fn file(&self) -> PathBuf {
        self.folder
            .path()
            .join(format!("store-{}.sqlite", self.cuts))
    }

    /// The power fails, and the hub starts again on what the disk has.
    async fn cut(&mut self) {
        let kept = kept(&self.file());
        self.cuts += 1;
        for end in ["", "-wal"] {
            let (from, to) = (kept.display(), self.file());
            std::fs::rename(format!("{from}{end}"), format!("{}{end}", to.display())).unwrap();
        }
        self.desk.store = plug(&self.file(), &self.desk).await;
        self.desk.restart().await;
    }
}

fn kept(file: &Path) -> PathBuf {
    file.with_extension("kept")
}

async fn plug(file: &Path, desk: &Desk) -> Arc<DyingStore> {
    let store = Arc::new(SqliteStore::open(file).await.unwrap());
    let disk = Disk {
        file: file.to_owned(),
        kept: kept(file),
    };
    Arc::new(DyingStore::on_disk(store, desk.fault.clone(), disk))
}

/// All rows of a store's file, as text.
async fn rows(file: &Path) -> Vec<String> {
    let options = SqliteConnectOptions::new().filename(file);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let mut all = Vec::new();
    for table in TABLES {
        let columns: Vec<String> =
            sqlx::query_scalar("SELECT 'quote(' || name || ')' FROM pragma_table_info($1)")
                .bind(table)
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let text = format!("SELECT {} FROM {table}", columns.join(" || ', ' || "));
        let mut found: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
            .fetch_all(&mut connection)
            .await
            .unwrap();
        found.sort();
        all.extend(found.into_iter().map(|row| format!("{table}: {row}")));
    }
    all
}

/// As a client publishes: without a file.
fn direct(id: &str, name: &str, version: u32) -> Entry {
    let unit = Unit {
        events: vec![event(id, name, version)],
    };
    let candidate = Candidate::new(&pseudonyms(), &town(), unit, None, String::new(), 1_234);
    Entry::Unit(candidate)
}

/// Numbers from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// One request of a random day.
async fn request(dice: &mut Dice, desk: &Desk, step: u32) -> Batch {
    let name = ["A", "B", "C", "D"][dice.below(4) as usize];
    let other = ["E", "F"][dice.below(2) as usize];
    let next = desk.version(name).await.unwrap_or(0) + 1;
    let next_other = desk.version(other).await.unwrap_or(0) + 1;
    let id = format!("e{step}");
    let cursor = format!("c{step:03}");
    match dice.below(9) {
        0 | 1 => batch(vec![
            direct(&id, name, next),
            direct(&format!("{id}+"), name, next + 1),
        ]),
        2 => page(&cursor, vec![one(&id, name, next)]),
        3 => page(
            &cursor,
            vec![
                refused(&format!("R{step}"), &[(name, next), (other, next_other)]),
                one(&id, name, next + 1),
            ],
        ),
        4 => page(&cursor, vec![one(&id, name, next + 1)]),
        5 => {
            let second = format!("{id}+");
            let members = [(&*id, name, next), (&*second, other, next_other)];
            batch(vec![group(&format!("g{step}"), &members)])
        }
        6 => {
            let open = desk.held(HeldState::Refused).await;
            let named = open.first().map_or(String::new(), |row| row.id.clone());
            batch(vec![correction(&named, &id, &format!("Z{step}"), 1)])
        }
        7 => Batch {
            stream: Stream::Bulk,
            ..batch(vec![snapshot(1 + (step % 3) as i32, &id, "", 0)])
        },
        _ => {
            let kind = ["Started", "Ended"][dice.below(2) as usize];
            let next = desk.version("A").await.unwrap_or(0) + 1;
            batch(vec![measure(kind, &id, next)])
        }
    }
}

#[tokio::test]
async fn after_a_power_cut_the_log_brings_back_what_the_store_lost() {
    let mut lost = 0;
    for seed in 1..=12 {
        let mut dice = Dice(0x9E37_79B9_7F4A_7C15_u64.wrapping_mul(seed));
        let mut plugged = Plugged::new().await;
        let mut step = 0;
        for _ in 0..3 {
            for _ in 0..=dice.below(12) {
                step += 1;
                let asked = request(&mut dice, &plugged.desk, step).await;
                plugged.desk.try_publish(asked).await.unwrap();
            }
            let before = plugged.file();
            let protected = plugged.desk.protected.borrow().clone();
            let cursor = plugged.desk.cursor().await;
            let full = rows(&before).await;
            lost += u32::from(rows_of_copy(&kept(&before), plugged.folder.path()).await != full);
            plugged.cut().await;
            assert_eq!(rows(&plugged.file()).await, full, "seed {seed}");
            assert_eq!(*plugged.desk.protected.borrow(), protected, "seed {seed}");
            assert!(plugged.desk.cursor().await <= cursor, "seed {seed}");
        }
    }
    assert!(lost > 12, "the cuts took too little: {lost}");
}

/// Rows of a kept copy, which stays as it is.
async fn rows_of_copy(kept: &Path, folder: &Path) -> Vec<String> {
    let copy = folder.join("copy.sqlite");
    for end in ["", "-wal"] {
        let (from, to) = (kept.display(), copy.display());
        std::fs::copy(format!("{from}{end}"), format!("{to}{end}")).unwrap();
    }
    let rows = rows(&copy).await;
    std::fs::remove_file(copy).unwrap();
    rows
}

#[tokio::test]
async fn what_was_answered_before_a_power_cut_is_answered_the_same_after_it() {
    let mut plugged = Plugged::new().await;
    let first = || batch(vec![direct("e1", "A", 1), direct("e2", "A", 2)]);
    let answered = plugged.desk.try_publish(first()).await.unwrap();
    let pages = || page("c1", vec![one("e3", "B", 1)]);
    plugged.desk.try_publish(pages()).await.unwrap();
    plugged.cut().await;
    // The cursor of the page is gone, so the source hands it out again.
    assert_eq!(plugged.desk.cursor().await, None);
    let again = plugged.desk.try_publish(pages()).await.unwrap();
    assert_eq!(said(again), [Said::Duplicate]);
    assert_eq!(plugged.desk.cursor().await.as_deref(), Some("c1"));
    let again = plugged.desk.try_publish(first()).await.unwrap();
    let as_duplicate = |answer: Answer| match answer {
        Answer::Accepted { position, .. } => Answer::Accepted {
            position,
            duplicate: true,
        },
        other => other,
    };
    let expected: Vec<_> = answered.into_iter().map(as_duplicate).collect();
    assert_eq!(again, expected);
    let other = plugged.desk.publish(vec![direct("e9", "A", 2)]).await;
    assert_eq!(other, [Said::Refused("VERSION_REUSED")]);
    assert_eq!(plugged.desk.events().await, ["e1", "e2", "e3"]);
}

#[tokio::test]
async fn what_is_held_is_on_the_disk_before_it_is_answered() {
    let mut plugged = Plugged::new().await;
    let rows = vec![refused("R", &[("A", 1)]), one("e2", "A", 2)];
    let asked = page("c1", rows);
    plugged.desk.try_publish(asked).await.unwrap();
    plugged.cut().await;
    assert_eq!(plugged.desk.held(HeldState::Refused).await.len(), 1);
    assert_eq!(plugged.desk.held(HeldState::Waiting).await.len(), 1);
    assert_eq!(plugged.desk.cursor().await.as_deref(), Some("c1"));
}

#[tokio::test]
async fn a_large_correction_closes_what_it_corrects_after_a_power_cut() {
    let mut plugged = Plugged::new().await;
    let size = crate::limits::READ_RECORDS_MAX + 10;
    let names: Vec<String> = (0..size).map(|n| format!("P{n}")).collect();
    let wrong: Vec<_> = names.iter().map(|name| (name.as_str(), 1)).collect();
    plugged.desk.publish(vec![refused("R", &wrong)]).await;
    let ids: Vec<String> = (0..size).map(|n| format!("e{n}")).collect();
    let members = ids.iter().zip(&names).map(|(id, name)| (&**id, &**name, 1));
    let members: Vec<_> = members.collect();
    plugged.desk.fail(Fault::BeforeCommit);
    let asked = batch(vec![group("g", &members)]);
    assert!(plugged.desk.try_publish(asked).await.is_err());
    plugged.cut().await;
    assert!(plugged.desk.held(HeldState::Refused).await.is_empty());
}

/// As a keeper trims: the store notes it first, and a cut takes nothing back from before that.
#[tokio::test]
async fn what_was_trimmed_is_known_after_a_power_cut() {
    let mut plugged = Plugged::new().await;
    let entries = || batch(vec![direct("e1", "A", 1), direct("e2", "A", 2)]);
    plugged.desk.try_publish(entries()).await.unwrap();
    let (m, live) = (town(), Stream::Live);
    let next = plugged.desk.log.bounds(&m, live).await.unwrap().next;
    plugged.desk.store.keep_from(&m, live, next).await.unwrap();
    plugged.desk.log.trim(&m, live, next).await.unwrap();
    plugged.cut().await;
    assert_eq!(plugged.desk.store.kept_from(&m, live).await.unwrap(), next);
    let again = plugged.desk.try_publish(entries()).await.unwrap();
    assert_eq!(said(again), [Said::Duplicate, Said::Duplicate]);
    let later = plugged.desk.publish(vec![direct("e3", "A", 3)]).await;
    assert!(matches!(later[..], [Said::Accepted]), "{later:?}");
}
