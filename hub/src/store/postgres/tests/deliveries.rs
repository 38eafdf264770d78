//! What holds of deliveries in PostgreSQL beyond the contract: lost answers, former owners, months.
//! Run against a server of the test's own; without one it fails.
//! Must never depend on what another test left in the database.
//! Read next: `store/contract/delivery.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use musubi_proto::hub::v1::Outcome;

use super::losses::{Proxy, cut_during};
use super::*;
use crate::store::{
    Cursor, DeliveryDelta, DeliveryStore, Done, OutcomeTally, RetentionStore, StoreError,
    SubscriptionRow, UnitKey,
};

const PENSION: &str = "142042/026";
/// 2026-03-31 23:59:59.999 UTC, and the first millisecond of April.
const MARCH_MS: i64 = 1_775_001_599_999;
const APRIL_MS: i64 = MARCH_MS + 1;

/// A database with one subscription.
async fn database(server: &Postgres, name: &str) -> (PgConfig, PgStore) {
    let config = PgConfig::new(&server.create_database(name).unwrap());
    let store = PgStore::open(config.clone()).await.unwrap();
    store.put_subscription(subscription(PENSION)).await.unwrap();
    (config, store)
}

fn subscription(id: &str) -> SubscriptionRow {
    let start = Cursor {
        position: Position(1),
        sequence: 1,
    };
    SubscriptionRow {
        id: id.to_owned(),
        municipality: town(),
        system: id.to_owned(),
        live: start,
        bulk: start,
        filled: false,
        until: None,
        closed: false,
        bindings: Vec::new(),
        tally: OutcomeTally::default(),
    }
}

fn applied(owner_epoch: u64, event_id: &str, sequence: u64, at_ms: i64) -> DeliveryDelta {
    let key = UnitKey {
        stream: Stream::Live,
        sequence,
        member: 0,
    };
    DeliveryDelta {
        subscription: PENSION.to_owned(),
        owner_epoch,
        done: vec![Done {
            key,
            event_ids: vec![event_id.to_owned()],
            attempt: 1,
            outcome: Outcome::Applied as i32,
            reason: String::new(),
            at_ms,
            product: "hinoki".to_owned(),
        }],
        ..DeliveryDelta::default()
    }
}

async fn counted(store: &PgStore) -> u64 {
    let rows = store.subscriptions(&town()).await.unwrap();
    rows[0].tally.applied
}

/// Places an event in the index and lets the log begin behind it.
async fn trimmed(store: &PgStore, id: &str, at: i64) {
    let mut session = store.begin().await.unwrap();
    session
        .query(
            "INSERT INTO event (municipality, id, source, digest, type, subject, version, file,
               line, published_ms, traceparent, stream, position)
             VALUES ('142042', $1, '', '', '', 'p', 1, '', 0, 0, '', 1, $2)",
        )
        .bind(id)
        .bind(at)
        .execute(&mut *session)
        .await
        .unwrap();
    session.end().await.unwrap();
    let first = Position(at.cast_unsigned() + 1);
    store.keep_from(&town(), Stream::Live, first).await.unwrap();
}

async fn months(store: &PgStore) -> Vec<String> {
    let mut session = store.begin().await.unwrap();
    let names = session
        .scalar(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'history'::regclass ORDER BY 1",
        )
        .fetch_all(&mut *session)
        .await
        .unwrap();
    session.end().await.unwrap();
    names
}

async fn forget(store: &PgStore, before_ms: i64) -> u64 {
    let (mut outcomes, mut next) = (0, Some(0));
    while let Some(after) = next {
        let forgotten = store.forget_history(before_ms, after).await.unwrap();
        outcomes += forgotten.outcomes;
        next = forgotten.next;
    }
    outcomes
}

async fn a_delta_sent_again_because_its_answer_was_lost_is_applied_once(server: &Postgres) {
    let (config, store) = database(server, "answer").await;
    let epoch = store.own(&town()).await.unwrap();
    let delta = applied(epoch, "a", 1, MARCH_MS);
    store.commit(delta.clone()).await.unwrap();
    store.commit(delta.clone()).await.unwrap();
    // Over another connection too, as after a cut.
    let other = PgStore::open(config).await.unwrap();
    other.commit(delta).await.unwrap();
    assert_eq!(counted(&store).await, 1);
    assert_eq!(store.history(&town(), "a").await.unwrap().len(), 1);
    store
        .commit(applied(epoch, "b", 2, MARCH_MS))
        .await
        .unwrap();
    assert_eq!(counted(&store).await, 2);
}

async fn a_former_owner_commits_nothing(server: &Postgres) {
    let (config, first) = database(server, "former").await;
    let old = first.own(&town()).await.unwrap();
    let second = PgStore::open(config).await.unwrap();
    let new = second.own(&town()).await.unwrap();
    let refused = first.commit(applied(old, "a", 1, MARCH_MS)).await;
    assert!(matches!(refused, Err(StoreError::Fenced(id)) if id == PENSION));
    assert_eq!(counted(&second).await, 0);
    assert!(second.ahead(PENSION).await.unwrap().is_empty());
    assert!(second.history(&town(), "a").await.unwrap().is_empty());
    let delta = applied(new, "a", 1, MARCH_MS);
    second.commit(delta).await.unwrap();
    assert_eq!(counted(&second).await, 1);
    // What belongs to a subscription as a whole is fenced alike.
    let start = (Position(1), Position(1));
    let refused = first.put_grants(&town(), start, "a").await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))));
    let refused = first.finish_filling("142042/026~fill-2", PENSION).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))));
}

async fn a_month_of_the_history_goes_with_its_last_outcome(server: &Postgres) {
    let (config, store) = database(server, "months").await;
    let epoch = store.own(&town()).await.unwrap();
    assert_eq!(months(&store).await, [""; 0]);
    let march = applied(epoch, "a", 1, MARCH_MS);
    store.commit(march).await.unwrap();
    store
        .commit(applied(epoch, "b", 2, APRIL_MS))
        .await
        .unwrap();
    let all = ["history_202603", "history_202604", "history_202605"];
    assert_eq!(months(&store).await, all, "and one ahead");
    // Still in the log, then forgotten.
    assert_eq!(forget(&store, APRIL_MS).await, 0);
    assert_eq!(months(&store).await, all);
    trimmed(&store, "a", 10).await;
    assert_eq!(forget(&store, MARCH_MS).await, 0, "not before its time");
    // Another instance sweeps: one is enough.
    let mut sweeping = store.begin().await.unwrap();
    let turn = sweeping.query("SELECT 1 FROM meta FOR UPDATE");
    turn.execute(&mut *sweeping).await.unwrap();
    assert_eq!(forget(&store, APRIL_MS).await, 0);
    assert_eq!(store.forget_held(APRIL_MS).await.unwrap(), 0);
    sweeping.end().await.unwrap();
    assert_eq!(forget(&store, APRIL_MS).await, 1);
    assert_eq!(months(&store).await, all[1..]);
    assert_eq!(store.history(&town(), "b").await.unwrap().len(), 1);

    // An outcome that comes late makes its month again, also for who thinks it is there.
    let other = PgStore::open(config).await.unwrap();
    other
        .commit(applied(epoch, "c", 3, MARCH_MS))
        .await
        .unwrap();
    trimmed(&store, "c", 11).await;
    assert_eq!(forget(&store, APRIL_MS).await, 1);
    assert_eq!(months(&store).await, all[1..]);
    other
        .commit(applied(epoch, "d", 4, MARCH_MS))
        .await
        .unwrap();
    assert_eq!(other.history(&town(), "d").await.unwrap().len(), 1);
    assert_eq!(months(&store).await, all);
}

async fn a_month_is_made_once_by_many(server: &Postgres) {
    let (config, store) = database(server, "many").await;
    let epoch = store.own(&town()).await.unwrap();
    let mut stores = Vec::new();
    for _ in 0..8 {
        stores.push(PgStore::open(config.clone()).await.unwrap());
    }
    let commits = stores.iter().zip(1..).map(|(store, number)| {
        let delta = applied(epoch, &format!("e{number}"), number, APRIL_MS);
        store.commit(delta)
    });
    for committed in futures::future::join_all(commits).await {
        committed.unwrap();
    }
    assert_eq!(counted(&store).await, 8);
    let made = ["history_202604", "history_202605"];
    assert_eq!(months(&store).await, made);
}

#[tokio::test]
async fn a_delta_whose_answer_was_lost_is_applied_once() {
    let server = Postgres::start().unwrap();
    let (_, direct) = database(&server, "store").await;
    let proxy = Proxy::before(server.port()).await;
    let url = format!("postgres://musubi@127.0.0.1:{}/store", proxy.port);
    let store = instance(&url, "a:1", LONG).await;
    let epoch = store.own(&town()).await.unwrap();
    // Makes the month, so that the answer that gets lost is that of the delta.
    let before = applied(epoch, "a", 1, MARCH_MS);
    store.commit(before).await.unwrap();
    proxy.armed.store(true, Ordering::SeqCst);
    let delta = applied(epoch, "b", 2, MARCH_MS);
    store.commit(delta).await.unwrap();
    let lost = !proxy.armed.load(Ordering::SeqCst);
    assert!(lost, "no answer was lost");
    assert_eq!(counted(&direct).await, 2);
    assert_eq!(direct.history(&town(), "b").await.unwrap().len(), 1);
}

#[tokio::test]
async fn connections_that_are_cut_lose_no_outcome_and_count_none_twice() {
    const RUNNERS: u64 = 4;
    const CUTS: i64 = 12;
    let server = Postgres::start().unwrap();
    let (config, _) = database(&server, "store").await;
    let store = Arc::new(instance(&config.url, "a:1", LONG).await);
    let epoch = store.own(&town()).await.unwrap();
    let committed = Arc::new(AtomicU64::new(0));
    let enough = Arc::new(AtomicBool::new(false));
    let mut runners = Vec::new();
    for runner in 0..RUNNERS {
        let name = format!("142042/10{runner}");
        store.put_subscription(subscription(&name)).await.unwrap();
        let (store, committed, enough) = (store.clone(), committed.clone(), enough.clone());
        runners.push(async move {
            let mut sequence = 0;
            while !enough.load(Ordering::SeqCst) {
                sequence += 1;
                let id = format!("e{sequence}");
                let delta = DeliveryDelta {
                    subscription: name.clone(),
                    ..applied(epoch, &id, sequence, MARCH_MS)
                };
                store.commit(delta).await.unwrap();
                committed.fetch_add(1, Ordering::SeqCst);
            }
            sequence
        });
    }
    let working = tokio::spawn(futures::future::join_all(runners));
    let cut = cut_during(&working, &committed, &config.url, CUTS).await;
    enough.store(true, Ordering::SeqCst);
    let deltas = working.await.unwrap();
    assert!(cut >= CUTS, "only {cut} connections were cut");
    let rows = store.subscriptions(&town()).await.unwrap();
    let counts = rows.iter().map(|row| row.tally.applied);
    let expected: Vec<u64> = [0].into_iter().chain(deltas.iter().copied()).collect();
    assert_eq!(counts.collect::<Vec<u64>>(), expected);
    for sequence in 1..=deltas.iter().copied().max().unwrap_or_default() {
        let steps = store.history(&town(), &format!("e{sequence}")).await;
        let had = deltas.iter().filter(|deltas| **deltas >= sequence).count();
        assert_eq!(steps.unwrap().len(), had);
    }
}

#[tokio::test]
async fn deliveries_keep_their_promises_between_instances() {
    let server = Postgres::start().unwrap();
    a_delta_sent_again_because_its_answer_was_lost_is_applied_once(&server).await;
    a_former_owner_commits_nothing(&server).await;
    a_month_of_the_history_goes_with_its_last_outcome(&server).await;
    a_month_is_made_once_by_many(&server).await;
}
