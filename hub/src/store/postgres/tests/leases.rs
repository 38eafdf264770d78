//! Leases and fences: who owns a municipality, and that nobody else writes for it.
//! The part that several instances rest on.
//! Must never take a time-out for a proof: what waits is seen to wait.
//! Read next: `store/postgres/owners.rs`.

use std::sync::Arc;
use std::time::Instant;

use super::*;
use crate::log::fences::{Fence, FenceBook};
use crate::store::{
    ActStore, AlarmStore, Cursor, DeliveryDelta, DeliveryStore, NewAct, OutcomeTally, Owners,
    PublishStore, ReplayProgress, ReplayRow, ReplayState, ReplayStore, RetentionStore, RhythmRow,
    RhythmStore, Selection, StoreError, SubscriptionRow,
};

#[tokio::test]
async fn a_lease_is_waited_out_and_one_that_is_given_back_is_free_at_once() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let first = instance(&url, "a:1", LONG).await;
    let second = instance(&url, "b:1", LONG).await;
    let (m, other) = (town(), other_town());
    assert_eq!(first.owner_of(&m).await.unwrap(), None);
    assert_eq!(first.own_town(&m).await.unwrap(), 1);
    assert_eq!(first.own_town(&other).await.unwrap(), 1);
    let owner = second.owner_of(&m).await.unwrap().unwrap();
    assert_eq!(
        (owner.address.as_str(), owner.epoch, owner.holds),
        ("a:1", 1, true)
    );
    assert!(!owner.is_self);
    assert!(first.owner_of(&m).await.unwrap().unwrap().is_self);
    assert_eq!(first.others().await.unwrap(), ["b:1"]);
    let leased = second.own_town(&m).await.unwrap_err();
    assert!(
        matches!(&leased, StoreError::Leased { holder, .. } if holder == "a:1"),
        "{leased}"
    );
    assert_eq!(second.renew().await.unwrap(), []);

    first.release(&m).await.unwrap();
    first.release(&m).await.unwrap();
    assert_eq!(second.owner_of(&m).await.unwrap(), None);
    assert_eq!(second.own_town(&m).await.unwrap(), 2);
    assert_eq!(
        first.renew().await.unwrap(),
        [],
        "it was given back, not lost"
    );

    // The same address, started again, is another instance: its predecessor may still run.
    let again = instance(&url, "a:1", LONG).await;
    assert!(!again.owner_of(&other).await.unwrap().unwrap().is_self);
    again.own_town(&other).await.unwrap_err();
    assert_eq!(
        first.own_town(&other).await.unwrap(),
        2,
        "its own is taken anew at any time"
    );
}

#[tokio::test]
async fn a_lease_that_is_over_is_taken_and_its_holder_learns_it() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let lease = Duration::from_millis(700);
    let first = instance(&url, "a:1", lease).await;
    let second = instance(&url, "b:1", LONG).await;
    first.own_town(&town()).await.unwrap();
    first.own_town(&other_town()).await.unwrap();
    let since = Instant::now();
    assert_eq!(first.renew().await.unwrap(), []);
    wait_until(SOON, "the end of the lease", async || {
        Ok(second.own_town(&town()).await.is_ok())
    })
    .await
    .unwrap();
    assert!(since.elapsed() >= lease, "{:?}", since.elapsed());
    let owner = first.owner_of(&other_town()).await.unwrap().unwrap();
    assert_eq!((owner.address.as_str(), owner.holds), ("a:1", false));
    // A write before it is told is refused by the fence, one afterwards by the store itself.
    let fenced = |answer| assert!(matches!(answer, Err(StoreError::Fenced(_))), "{answer:?}");
    fenced(first.heard(&town(), &[]).await);
    assert_eq!(first.renew().await.unwrap(), [town()]);
    fenced(first.heard(&town(), &[]).await);
    first.heard(&other_town(), &[]).await.unwrap();
    assert_eq!(first.renew().await.unwrap(), []);
}

#[tokio::test]
async fn leases_are_prolonged_however_much_the_store_has_to_do() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let identity = Identity {
        address: "a:1".to_owned(),
        lease: LONG,
    };
    let config = PgConfig {
        connections: 1,
        identity: Some(identity),
        ..PgConfig::new(&url)
    };
    let store = PgStore::open(config).await.unwrap();
    store.own_town(&town()).await.unwrap();
    let busy = store.write(&town()).await.unwrap();
    let renewed = tokio::time::timeout(Duration::from_secs(2), store.renew()).await;
    assert_eq!(renewed.expect("no connection was free").unwrap(), []);
    busy.end().await.unwrap();
}

#[tokio::test]
async fn whoever_takes_over_waits_for_a_write_and_for_a_renewal_under_way() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let first = instance(&url, "a:1", Duration::ZERO).await;
    let second = Arc::new(instance(&url, "b:1", Duration::ZERO).await);
    first.own_town(&town()).await.unwrap();
    let taking_over = || {
        let second = second.clone();
        tokio::spawn(async move { second.own_town(&town()).await })
    };

    let write = first.write(&town()).await.unwrap();
    let taken = taking_over();
    until_one_waits(&url).await;
    assert!(!taken.is_finished());
    write.end().await.unwrap();
    assert_eq!(taken.await.unwrap().unwrap(), 2);
    first.write(&town()).await.unwrap_err();

    // The lease is over; a renewal that comes before the takeover holds it.
    let first = instance(&url, "a:1", LONG).await;
    first.own_town(&town()).await.unwrap();
    let mut connection = beside(&url).await;
    let ended = "UPDATE holders SET lease_until = now() - interval '1 hour'";
    sqlx::query(ended).execute(&mut connection).await.unwrap();
    let mut renewal = first.begin().await.unwrap();
    first.prolong(&mut renewal).await.unwrap();
    let taken = taking_over();
    until_one_waits(&url).await;
    renewal.end().await.unwrap();
    let leased = taken.await.unwrap().unwrap_err();
    assert!(matches!(leased, StoreError::Leased { .. }), "{leased}");
}

const PENSION: &str = "142042/026";
const FILLING: &str = "142042/026~fill-2";

fn subscription(id: &str) -> SubscriptionRow {
    let start = Cursor {
        position: Position(1),
        sequence: 1,
    };
    SubscriptionRow {
        id: id.to_owned(),
        municipality: town(),
        system: "026".to_owned(),
        live: start,
        bulk: start,
        filled: false,
        until: None,
        closed: false,
        bindings: Vec::new(),
        tally: OutcomeTally::default(),
    }
}

fn replay() -> ReplayRow {
    ReplayRow {
        id: "r1".to_owned(),
        subscription: PENSION.to_owned(),
        binding_epoch: 1,
        selection: Selection::default(),
        repair: false,
        operator: "sato".to_owned(),
        reason: "again".to_owned(),
        started_ms: 1,
        selected: (0, 0),
        progress: ReplayProgress::start(false),
    }
}

/// Every write of the roles of deliveries, the last one under an epoch.
async fn write_deliveries(store: &PgStore, owner_epoch: u64) -> Vec<Result<(), StoreError>> {
    let m = &town();
    let start = (Position(1), Position(1));
    let stopped = ReplayProgress {
        state: ReplayState::Stopped,
        ..ReplayProgress::start(false)
    };
    let delta = DeliveryDelta {
        subscription: PENSION.to_owned(),
        owner_epoch,
        filled: true,
        ..DeliveryDelta::default()
    };
    vec![
        store.put_subscription(subscription(PENSION)).await,
        store.finish_filling(FILLING, PENSION).await,
        store.put_grants(m, start, "").await,
        store.keep_from(m, Stream::Live, Position(1)).await,
        store
            .start_replay(replay(), NewAct::default())
            .await
            .map(drop),
        store.move_replay("r1", stopped, None).await.map(drop),
        store.commit(delta).await,
    ]
}

/// Every write of the other roles for a municipality.
async fn write_everything(store: &PgStore) -> Vec<Result<(), StoreError>> {
    let m = &town();
    let fence = Fence {
        epoch: 1,
        number: 1,
        position: Position(1),
        end: None,
    };
    let rhythm = RhythmRow {
        source: REGISTRY.to_owned(),
        rhythm_ms: 60_000,
        heard_ms: 1,
    };
    vec![
        store.claim(m, REGISTRY, &[claim("a", 1)]).await,
        store.commit_publish(m, place("a", 1, 1)).await.map(drop),
        store
            .bind_capture(m, REGISTRY, "any product")
            .await
            .map(drop),
        store.record_act(m, NewAct::default()).await,
        store.put_standing(m, Vec::new()).await,
        store.unfollow(m, &[]).await,
        store.put_rhythm(m, rhythm, NewAct::default()).await,
        store.heard(m, &[]).await,
        store.put_fence(m, Stream::Live, fence).await,
        store.forget_fence(m, Stream::Live, 1, 1).await,
    ]
}

#[tokio::test]
async fn after_another_handle_owns_a_municipality_nothing_is_written_through_the_first() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let first = PgStore::open(PgConfig::new(&url)).await.unwrap();
    let second = PgStore::open(PgConfig::new(&url)).await.unwrap();
    assert_eq!(first.own_town(&town()).await.unwrap(), 1);
    // There to be written to.
    for answer in write_deliveries(&first, 1).await {
        answer.unwrap();
    }
    first
        .start_replay(replay(), NewAct::default())
        .await
        .unwrap();
    assert_eq!(second.own_town(&town()).await.unwrap(), 2);
    let mut answers = write_everything(&first).await;
    answers.extend(write_deliveries(&first, 1).await);
    for (number, answer) in answers.into_iter().enumerate() {
        let fenced = matches!(answer, Err(StoreError::Fenced(_)));
        assert!(fenced, "write {number}: {answer:?}");
    }
    assert_eq!(second.find_event(&town(), "a").await.unwrap(), None);
    assert_eq!(second.rhythms(&town()).await.unwrap(), []);
    // An instance that never owned it writes nothing either.
    let third = instance(&url, "c:1", LONG).await;
    let mut answers = write_everything(&third).await;
    answers.extend(write_deliveries(&third, 3).await);
    for answer in answers {
        assert!(matches!(answer, Err(StoreError::Fenced(_))), "{answer:?}");
    }
    let mut answers = write_everything(&second).await;
    answers.extend(write_deliveries(&second, 2).await);
    for answer in answers {
        answer.unwrap();
    }
}
