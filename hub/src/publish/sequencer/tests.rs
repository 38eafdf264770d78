//! The rules of publishing, each on the memory backends and on the SQLite ones.
//! Beside the sequencer; a hub that dies is a sequencer started again on the same log and store.
//! Must never look at a rule's code: only at answers, log and store.
//! Read next: `tests/accept.rs`, `tests/held.rs`, `tests/crash.rs`, `tests/control.rs`,
//! `tests/power_cut.rs`.

use std::sync::{Arc, Mutex};

use musubi_proto::hub::v1::{Event, Group, Origin, RefusedRow, RefusedUnit, Unit};

use super::*;
use crate::log::memory::MemoryLog;
use crate::log::sqlite::SqliteLog;
use crate::log::{EventLog, ReadLimit, Record, RecordKind};
use crate::store::memory::MemoryStore;
use crate::store::sqlite::SqliteStore;
use crate::store::{HeldFilter, HeldRow, HeldState, PublishStore};

mod accept;
mod control;
mod crash;
mod faults;
mod held;
mod power_cut;

use faults::{DyingLog, DyingStore, Fault};

const SOURCE: &str = "urn:jp:lg:142042:system:001";
const MOVED: &str = "musubi.standard.resident.v1.ResidentMovedWithin";
const FILE: &str = "diff-0001.csv";

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn pseudonyms() -> Pseudonyms {
    Pseudonyms::new([7; 32])
}

fn subject(name: &str) -> Subject {
    pseudonyms().of(&town(), name)
}

/// A log, a store and the sequencer of one town on them.
struct Desk {
    log: Arc<DyingLog>,
    store: Arc<DyingStore>,
    fault: Arc<Mutex<Option<Fault>>>,
    sequencer: Sequencer,
    applied: Arc<Mutex<Vec<(Position, Control)>>>,
    protected: watch::Receiver<Arc<HashSet<Subject>>>,
    _folder: Option<tempfile::TempDir>,
}

fn parts(
    log: Arc<DyingLog>,
    store: Arc<DyingStore>,
    applied: Arc<Mutex<Vec<(Position, Control)>>>,
) -> (Parts, watch::Receiver<Arc<HashSet<Subject>>>) {
    let (protected, seen) = watch::channel(Arc::default());
    let parts = Parts {
        municipality: town(),
        log,
        store,
        pseudonyms: pseudonyms(),
        apply: Arc::new(move |_, control, position| {
            let applied = applied.clone();
            Box::pin(async move {
                applied.lock().unwrap().push((position, control));
                Ok(())
            })
        }),
        protected,
    };
    (parts, seen)
}

impl Desk {
    async fn on(
        log: Arc<dyn EventLog>,
        store: Arc<dyn Store>,
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let fault = Arc::new(Mutex::new(None));
        let log = Arc::new(DyingLog::new(log, fault.clone()));
        let store = Arc::new(DyingStore::new(store, fault.clone()));
        let applied = Arc::default();
        let (parts, protected) = parts(log.clone(), store.clone(), Arc::clone(&applied));
        Self {
            sequencer: Sequencer::start(parts).await.unwrap(),
            log,
            store,
            fault,
            applied,
            protected,
            _folder: folder,
        }
    }

    async fn memory() -> Self {
        Self::on(
            Arc::new(MemoryLog::default()),
            Arc::new(MemoryStore::default()),
            None,
        )
        .await
    }

    async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let log = SqliteLog::open(&folder.path().join("log.sqlite")).await;
        let store = SqliteStore::open(&folder.path().join("store.sqlite")).await;
        Self::on(
            Arc::new(log.unwrap()),
            Arc::new(store.unwrap()),
            Some(folder),
        )
        .await
    }

    /// The hub ended, and starts again on the same log and store.
    async fn restart(&mut self) {
        *self.fault.lock().unwrap() = None;
        let applied = self.applied.clone();
        let (parts, protected) = parts(self.log.clone(), self.store.clone(), applied);
        self.sequencer = Sequencer::start(parts).await.unwrap();
        self.protected = protected;
    }

    /// What fails from now on, until the next restart.
    fn fail(&self, fault: Fault) {
        *self.fault.lock().unwrap() = Some(fault);
    }

    async fn try_publish(&self, batch: Batch) -> Result<Vec<Answer>, PublishError> {
        self.sequencer.publish(batch).await
    }

    async fn publish(&self, entries: Vec<Entry>) -> Vec<Said> {
        said(self.try_publish(batch(entries)).await.unwrap())
    }

    async fn records(&self, stream: Stream) -> Vec<Record> {
        let limit = ReadLimit {
            records: 10_000,
            bytes: usize::MAX,
        };
        let read = self.log.read(&town(), stream, Position(0), limit).await;
        read.unwrap()
    }

    /// Ids of the events of the live stream, in order.
    async fn events(&self) -> Vec<String> {
        let records = self.records(Stream::Live).await.into_iter();
        records
            .filter(|record| record.kind == RecordKind::Event)
            .map(|record| record.key)
            .collect()
    }

    async fn version(&self, name: &str) -> Option<u32> {
        let (town, subjects) = (town(), [subject(name)]);
        let versions = self.store.versions(&town, SOURCE, &subjects).await;
        versions.unwrap().get(&subjects[0]).copied()
    }

    async fn held(&self, state: HeldState) -> Vec<HeldRow> {
        let (town, filter) = (town(), HeldFilter::State(state));
        let page = self.store.list_held(&town, filter, "", 1_000).await;
        page.unwrap().0
    }

    async fn cursor(&self) -> Option<String> {
        self.store.capture(&town(), SOURCE).await.unwrap().cursor
    }
}

/// An answer without what differs from run to run.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Said {
    Accepted,
    Duplicate,
    Held(String),
    Refused(&'static str),
}

fn said(answers: Vec<Answer>) -> Vec<Said> {
    let short = |answer| match answer {
        Answer::Accepted { duplicate, .. } if duplicate => Said::Duplicate,
        Answer::Accepted { .. } => Said::Accepted,
        Answer::Held { rule, .. } => Said::Held(rule),
        Answer::Refused { rule, .. } => Said::Refused(rule),
    };
    answers.into_iter().map(short).collect()
}

fn held_as(rule: &str) -> Said {
    Said::Held(rule.to_owned())
}

fn batch(entries: Vec<Entry>) -> Batch {
    Batch {
        source: SOURCE.to_owned(),
        stream: Stream::Live,
        entries,
        cursor: None,
        captured: false,
        capture_epoch: None,
    }
}

/// A batch as a capture sends it.
fn page(cursor: &str, entries: Vec<Entry>) -> Batch {
    Batch {
        cursor: Some(cursor.to_owned()),
        captured: true,
        ..batch(entries)
    }
}

fn event(id: &str, name: &str, version: u32) -> Event {
    Event {
        id: id.to_owned(),
        source: SOURCE.to_owned(),
        r#type: MOVED.to_owned(),
        municipality: "142042".to_owned(),
        subject: name.to_owned(),
        subject_version: version,
        data: id.as_bytes().to_vec().into(),
        ..Event::default()
    }
}

fn candidate(events: Vec<Event>, corrects: &str) -> Candidate {
    let line = events.first().map_or(0, |e| u64::from(e.subject_version));
    let origin = Origin {
        file: FILE.to_owned(),
        line,
    };
    let (corrects, unit) = (corrects.to_owned(), Unit { events });
    Candidate::new(&pseudonyms(), &town(), unit, Some(&origin), corrects, 1_000)
}

/// A unit of one event.
fn one(id: &str, name: &str, version: u32) -> Entry {
    Entry::Unit(candidate(vec![event(id, name, version)], ""))
}

/// A unit of one event that corrects a held one by its name.
fn correction(held: &str, id: &str, name: &str, version: u32) -> Entry {
    Entry::Unit(candidate(vec![event(id, name, version)], held))
}

/// A whole 届出.
fn group(key: &str, members: &[(&str, &str, u32)]) -> Entry {
    let size = members.len() as u32;
    let events = members.iter().zip(1..).map(|((id, name, version), seq)| {
        let id_of_group = key.to_owned();
        Event {
            group: Some(Group {
                id: id_of_group,
                seq,
                size,
            }),
            ..event(id, name, *version)
        }
    });
    Entry::Unit(candidate(events.collect(), ""))
}

/// A 届出 of rows of which the first broke a rule.
fn refused(key: &str, rows: &[(&str, u32)]) -> Entry {
    let row = |(place, (name, version)): (usize, &(&str, u32))| RefusedRow {
        origin: Some(Origin {
            file: FILE.to_owned(),
            line: 100 + place as u64,
        }),
        rule: if place == 0 { "BAD_DATE" } else { "" }.to_owned(),
        item: "異動日".to_owned(),
        subject: (*name).to_owned(),
        subject_version: *version,
        row: format!("{name},{version}").into_bytes().into(),
        ..RefusedRow::default()
    };
    let unit = RefusedUnit {
        key: key.to_owned(),
        rows: rows.iter().enumerate().map(row).collect(),
    };
    Entry::Refused(Refused::new(&pseudonyms(), &town(), unit))
}

/// Runs every rule on both kinds of backends.
macro_rules! rules {
    ($($rule:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Desk::memory().await).await;
            })*
        }
        mod on_sqlite {
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(super::Desk::sqlite().await).await;
            })*
        }
    };
}
use rules;
