//! Rules of retention: what the store forgets and what it never forgets.
//! The part of the suite that keeps the history as long as it can be asked for.
//! Must never test more than `store/retention.rs` promises.
//! Read next: `server/retention.rs`.

use super::*;
use crate::limits::RETENTION_BATCH;
use crate::store::{Before, HeldFilter};

/// A time behind all outcomes of the suite.
const LATER_MS: i64 = 1_800_000_000_000;

const ALL: Before = Before {
    history_ms: LATER_MS,
    index_ms: Some(LATER_MS),
};

/// Forgets batch by batch until the end; outcomes and events.
async fn forget(store: &dyn Store, before: Before) -> (u64, u64) {
    let (mut outcomes, mut events, mut next) = (0, 0, Some(0));
    while let Some(after) = next {
        let forgotten = store.forget_history(before, after).await.unwrap();
        outcomes += forgotten.outcomes;
        events += forgotten.events;
        next = forgotten.next;
    }
    (outcomes, events)
}

async fn outcomes(store: &dyn Store, id: &str) -> usize {
    store.history(&town(), id).await.unwrap().len()
}

async fn is_known(store: &dyn Store, id: &str) -> bool {
    store.find_event(&town(), id).await.unwrap().is_some()
}

/// Events `a`, `b` and `c` at live 10, 11 and 12, each with an outcome; `c` was published later.
async fn delivered(harness: &dyn Harness) -> (Arc<dyn Store>, u64) {
    let (store, epoch) = opened(harness).await;
    let mut late = placed("c", "r", 1, 12);
    late.claim.published_ms = LATER_MS;
    let all = [placed("a", "p", 1, 10), placed("b", "q", 1, 11), late];
    store.commit_publish(&town(), place(&all)).await.unwrap();
    let step = DeliveryDelta {
        done: vec![
            done(live(1), Outcome::Applied, &["a"]),
            done(live(2), Outcome::Applied, &["b"]),
            done(live(3), Outcome::Applied, &["c"]),
        ],
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    (store, epoch)
}

async fn store_801_where_the_log_begins_never_falls(harness: &dyn Harness) {
    let store = harness.open().await;
    let m = town();
    assert_eq!(
        store.kept_from(&m, Stream::Live).await.unwrap(),
        Position(1)
    );
    for first in [5, 3] {
        store
            .keep_from(&m, Stream::Live, Position(first))
            .await
            .unwrap();
    }
    drop(store);
    let store = harness.open().await;
    assert_eq!(
        store.kept_from(&m, Stream::Live).await.unwrap(),
        Position(5)
    );
    assert_eq!(
        store.kept_from(&m, Stream::Bulk).await.unwrap(),
        Position(1)
    );
    let other = store.kept_from(&other_town(), Stream::Live).await.unwrap();
    assert_eq!(other, Position(1));
}

async fn store_802_what_the_log_still_has_is_not_forgotten(harness: &dyn Harness) {
    let (store, _) = delivered(harness).await;
    assert_eq!(forget(&*store, ALL).await, (0, 0));
    let (live, bulk) = (Stream::Live, Stream::Bulk);
    store.keep_from(&town(), bulk, Position(99)).await.unwrap();
    store
        .keep_from(&other_town(), live, Position(99))
        .await
        .unwrap();
    assert_eq!(forget(&*store, ALL).await, (0, 0));
    store.keep_from(&town(), live, Position(11)).await.unwrap();
    assert_eq!(forget(&*store, ALL).await, (1, 1));
    assert_eq!(
        (outcomes(&*store, "a").await, outcomes(&*store, "b").await),
        (0, 1)
    );
    assert!(!is_known(&*store, "a").await && is_known(&*store, "b").await);
}

async fn store_803_outcomes_and_ids_have_times_of_their_own(harness: &dyn Harness) {
    let (store, _) = delivered(harness).await;
    let live = Stream::Live;
    store.keep_from(&town(), live, Position(99)).await.unwrap();
    // Nothing is as old as that.
    let early = Before {
        history_ms: 1_600_000_000_000,
        index_ms: Some(1_600_000_000_000),
    };
    assert_eq!(forget(&*store, early).await, (0, 0));
    let outcomes_only = Before {
        index_ms: None,
        ..ALL
    };
    assert_eq!(forget(&*store, outcomes_only).await, (2, 0));
    assert_eq!(outcomes(&*store, "a").await, 0);
    assert!(is_known(&*store, "a").await);
    // An id with an outcome that stays is known as long.
    assert_eq!(outcomes(&*store, "c").await, 1);
    assert_eq!(forget(&*store, ALL).await, (0, 2));
    assert!(!is_known(&*store, "a").await && is_known(&*store, "c").await);
}

async fn store_804_what_concerns_a_parked_subject_stays(harness: &dyn Harness) {
    let (store, epoch) = delivered(harness).await;
    let step = DeliveryDelta {
        park: vec![parked(live(9), ParkedState::Rejected, &["p"], &["x"])],
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    let first = Position(99);
    store.keep_from(&town(), Stream::Live, first).await.unwrap();
    assert_eq!(forget(&*store, ALL).await, (1, 1));
    assert!(is_known(&*store, "a").await && !is_known(&*store, "b").await);
    let step = DeliveryDelta {
        unpark: vec![live(9)],
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    assert_eq!(forget(&*store, ALL).await, (1, 1));
}

async fn store_805_only_closed_held_units_are_forgotten(harness: &dyn Harness) {
    let store = harness.open().await;
    let units = [
        held("refused", HeldState::Refused, &[("p", 1)], &[]),
        held("mended", HeldState::Refused, &[("q", 1)], &[]),
        held("waiting", HeldState::Waiting, &[("p", 2)], &["w"]),
        held("young", HeldState::Refused, &[("r", 1)], &[]),
    ];
    let units = units.map(|unit| NewHeld {
        held_ms: if unit.key == "young" {
            LATER_MS
        } else {
            unit.held_ms
        },
        ..unit
    });
    let ids = store.commit_publish(&town(), hold(&units)).await.unwrap();
    let corrected = PublishDelta {
        corrected: vec![
            (ids[1].clone(), "e".to_owned()),
            (ids[3].clone(), "f".to_owned()),
        ],
        ..PublishDelta::default()
    };
    store.commit_publish(&town(), corrected).await.unwrap();
    assert_eq!(store.forget_held(LATER_MS).await.unwrap(), 1);
    assert_eq!(store.forget_held(LATER_MS).await.unwrap(), 0);
    assert!(store.held(&town(), &ids[1]).await.unwrap().is_none());
    for id in [&ids[0], &ids[2], &ids[3]] {
        assert!(store.held(&town(), id).await.unwrap().is_some());
    }
    // A later unit gets a number of its own.
    let next = hold(&[held("next", HeldState::Refused, &[("s", 1)], &[])]);
    let next = store.commit_publish(&town(), next).await.unwrap();
    assert!(!ids.contains(&next[0]));
    let open = store.list_held(&town(), HeldFilter::Open, "", 9).await;
    assert_eq!(open.unwrap().1, 3);
}

async fn store_806_more_than_a_batch_is_forgotten_batch_by_batch(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let count = RETENTION_BATCH * 2 + 3;
    let names: Vec<String> = (0..count).map(|number| format!("e{number}")).collect();
    let events = names.iter().zip(1..).map(|(id, at)| placed(id, "p", 1, at));
    let events: Vec<_> = events.collect();
    store.commit_publish(&town(), place(&events)).await.unwrap();
    let ended = names.iter().zip(1..);
    let step = DeliveryDelta {
        done: ended
            .map(|(id, sequence)| done(live(sequence), Outcome::Applied, &[id]))
            .collect(),
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    // Half of them stay: what stays does not hide what may go.
    let first = Position(count as u64 / 2 + 1);
    store.keep_from(&town(), Stream::Live, first).await.unwrap();
    let gone = count as u64 / 2;
    assert_eq!(forget(&*store, ALL).await, (gone, gone));
    let last = names.last().unwrap();
    assert!(is_known(&*store, last).await && !is_known(&*store, "e0").await);
}

suites! {
    store_801_where_the_log_begins_never_falls,
    store_802_what_the_log_still_has_is_not_forgotten,
    store_803_outcomes_and_ids_have_times_of_their_own,
    store_804_what_concerns_a_parked_subject_stays,
    store_805_only_closed_held_units_are_forgotten,
    store_806_more_than_a_batch_is_forgotten_batch_by_batch,
}
