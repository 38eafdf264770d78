//! The rules that every store backend keeps, as one suite.
//! Run by each backend; a backend that cannot start fails its tests.
//! Must never test more than the seam promises.
//! Read next: `store/contract/publish.rs`, `held.rs`, `subscriptions.rs`, `delivery.rs`.

use std::sync::Arc;

use musubi_proto::hub::v1::Outcome;

use super::memory::MemoryStore;
use super::sqlite::SqliteStore;
use super::{
    BindingRow, BindingState, Claim, Cursor, DeliveryDelta, Done, HeldKind, HeldState, NewHeld,
    OutcomeTally, ParkedRow, ParkedState, Pause, PausedBy, Placed, PublishDelta, Store, StoreError,
    SubscriptionRow, UnitKey,
};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream, Subject};
use crate::settings::BindingSettings;

/// The source of most rules.
const REGISTRY: &str = "urn:jp:lg:142042:system:001";
/// Another source.
const TAX: &str = "urn:jp:lg:142042:system:010";
/// The subscription of most rules.
const PENSION: &str = "142042/026";
/// A subscription that fills a product for it.
const FILLING: &str = "142042/026~fill-2";

/// A backend under test: each `open` gives the same store as a new process would see it.
#[async_trait::async_trait]
trait Harness: Send + Sync {
    async fn open(&self) -> Arc<dyn Store>;
}

struct Memory(Arc<MemoryStore>);

#[async_trait::async_trait]
impl Harness for Memory {
    async fn open(&self) -> Arc<dyn Store> {
        self.0.clone()
    }
}

struct Sqlite(tempfile::TempDir);

#[async_trait::async_trait]
impl Harness for Sqlite {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(
            SqliteStore::open(&self.0.path().join("store.sqlite"))
                .await
                .unwrap(),
        )
    }
}

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn other_town() -> Municipality {
    Municipality::parse("131016").unwrap()
}

fn subject(name: &str) -> Subject {
    Subject(name.to_owned())
}

fn names(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|&id| id.to_owned()).collect()
}

fn digest(id: &str) -> Vec<u8> {
    format!("digest of {id}").into_bytes()
}

fn claim(id: &str, about: &str, version: u32) -> Claim {
    Claim {
        id: id.to_owned(),
        digest: digest(id),
        event_type: "musubi.standard.resident.v1.ResidentMovedIn".to_owned(),
        subject: subject(about),
        version,
        file: "R0010001.csv".to_owned(),
        line: 7,
        published_ms: 1_700_000_000_000,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned(),
    }
}

fn placed(id: &str, about: &str, version: u32, position: u64) -> Placed {
    Placed {
        source: REGISTRY.to_owned(),
        claim: claim(id, about, version),
        stream: Stream::Live,
        position: Position(position),
    }
}

fn place(all: &[Placed]) -> PublishDelta {
    PublishDelta {
        placed: all.to_vec(),
        ..PublishDelta::default()
    }
}

fn held(key: &str, state: HeldState, subjects: &[(&str, u32)], events: &[&str]) -> NewHeld {
    NewHeld {
        source: REGISTRY.to_owned(),
        key: key.to_owned(),
        state,
        rule: "date_in_calendar".to_owned(),
        file: "R0010002.csv".to_owned(),
        line: 12,
        item: "idobi".to_owned(),
        message: "異動日が暦にありません".to_owned(),
        rows: subjects.len() as u32,
        held_ms: 1_700_000_000_001,
        kind: if events.is_empty() {
            HeldKind::Rows
        } else {
            HeldKind::Events
        },
        content: Sealed::seal(key.as_bytes().to_vec()),
        subjects: subjects
            .iter()
            .map(|&(name, version)| (subject(name), version))
            .collect(),
        events: events
            .iter()
            .map(|&id| (id.to_owned(), digest(id)))
            .collect(),
    }
}

fn hold(all: &[NewHeld]) -> PublishDelta {
    PublishDelta {
        hold: all.to_vec(),
        ..PublishDelta::default()
    }
}

fn binding(product: &str, epoch: u64, state: BindingState) -> BindingRow {
    BindingRow {
        product: product.to_owned(),
        epoch,
        state,
        cut: None,
        paused: None,
        settings: BindingSettings::default(),
    }
}

fn cursor(position: u64, sequence: u64) -> Cursor {
    Cursor {
        position: Position(position),
        sequence,
    }
}

fn subscription(id: &str) -> SubscriptionRow {
    let (place, system) = id.split_once('/').unwrap();
    let filling = system.contains('~');
    SubscriptionRow {
        id: id.to_owned(),
        municipality: Municipality::parse(place).unwrap(),
        system: system.split('~').next().unwrap().to_owned(),
        live: cursor(1, 1),
        bulk: cursor(1, 1),
        filled: false,
        until: None,
        closed: false,
        bindings: vec![if filling {
            binding("ayame", 2, BindingState::Filling)
        } else {
            binding("hinoki", 1, BindingState::Serving)
        }],
        tally: OutcomeTally::default(),
    }
}

fn live(sequence: u64) -> UnitKey {
    UnitKey {
        stream: Stream::Live,
        sequence,
        member: 0,
    }
}

fn bulk(sequence: u64) -> UnitKey {
    UnitKey {
        stream: Stream::Bulk,
        sequence,
        member: 0,
    }
}

fn done(key: UnitKey, outcome: Outcome, event_ids: &[&str]) -> Done {
    Done {
        key,
        event_ids: names(event_ids),
        attempt: 2,
        outcome: outcome as i32,
        reason: "LATER_IMAGE".to_owned(),
        at_ms: 1_700_000_000_002,
        product: "hinoki".to_owned(),
    }
}

fn pause(reason: &str) -> Option<Pause> {
    Some(Pause {
        by: PausedBy::Hub,
        reason: reason.to_owned(),
    })
}

fn parked(key: UnitKey, state: ParkedState, subjects: &[&str], event_ids: &[&str]) -> ParkedRow {
    ParkedRow {
        key,
        subjects: subjects.iter().map(|&name| subject(name)).collect(),
        state,
        reason: "UNMAPPABLE".to_owned(),
        field: "record.name".to_owned(),
        message: "表せない文字".to_owned(),
        attempts: 3,
        at_ms: 1_700_000_000_003,
        due_ms: (state == ParkedState::Due).then_some(1_700_000_900_000 + key.sequence as i64),
        revision: 1,
        position: Position(40 + key.sequence),
        event_ids: names(event_ids),
        content: Sealed::seal(vec![0, 159, 146, 150]),
    }
}

fn delta(owner_epoch: u64, subscription: &str) -> DeliveryDelta {
    DeliveryDelta {
        subscription: subscription.to_owned(),
        owner_epoch,
        ..DeliveryDelta::default()
    }
}

/// Opens the store with one owned subscription and returns the owner's epoch.
async fn opened(harness: &dyn Harness) -> (Arc<dyn Store>, u64) {
    let store = harness.open().await;
    let epoch = store.own(&town()).await.unwrap();
    store.put_subscription(subscription(PENSION)).await.unwrap();
    (store, epoch)
}

async fn row_of(store: &dyn Store, id: &str) -> SubscriptionRow {
    let rows = store.subscriptions(&town()).await.unwrap();
    rows.into_iter().find(|row| row.id == id).unwrap()
}

macro_rules! suite {
    ($backend:ident, $make:expr; $($rule:ident),* $(,)?) => {
        mod $backend {
            use super::*;
            $(#[tokio::test]
            async fn $rule() {
                super::$rule(&$make).await;
            })*
        }
    };
}

macro_rules! suites {
    ($($rule:ident),* $(,)?) => {
        suite!(memory, Memory(Arc::default()); $($rule),*);
        suite!(sqlite, Sqlite(tempfile::tempdir().unwrap()); $($rule),*);
        /// The same rules for a backend whose start costs: see `postgres.rs`.
        pub(super) const RULES: &[Rule] =
            &[$((stringify!($rule), |harness| Box::pin($rule(harness)))),*];
    };
}

/// A rule with its name.
type Rule = (
    &'static str,
    for<'a> fn(&'a dyn Harness) -> futures::future::BoxFuture<'a, ()>,
);

mod acts;
mod alarms;
mod delivery;
mod held;
mod postgres;
mod publish;
mod replay;
mod retention;
mod subscriptions;
