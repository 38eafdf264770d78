//! Rules of retention: what the store forgets and what it never forgets.
//! The part of the suite that keeps the history as long as it can be asked for.
//! Must never test more than `store/retention.rs` promises.
//! Read next: `server/retention.rs`.

use super::*;
use crate::limits::RETENTION_BATCH;
use crate::store::HeldFilter;

/// A time behind all outcomes of the suite.
const LATER_MS: i64 = 1_800_000_000_000;

/// Forgets batch by batch until the end; returns how many outcomes.
async fn forget(store: &dyn Store, before_ms: i64) -> u64 {
    let (mut outcomes, mut next) = (0, Some(0));
    while let Some(after) = next {
        let forgotten = store.forget_history(before_ms, after).await.unwrap();
        outcomes += forgotten.outcomes;
        next = forgotten.next;
    }
    outcomes
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
    assert_eq!(forget(&*store, LATER_MS).await, 0);
    let (live, bulk) = (Stream::Live, Stream::Bulk);
    store.keep_from(&town(), bulk, Position(99)).await.unwrap();
    store
        .keep_from(&other_town(), live, Position(99))
        .await
        .unwrap();
    assert_eq!(forget(&*store, LATER_MS).await, 0);
    store.keep_from(&town(), live, Position(11)).await.unwrap();
    assert_eq!(forget(&*store, LATER_MS).await, 1);
    assert_eq!(
        (outcomes(&*store, "a").await, outcomes(&*store, "b").await),
        (0, 1)
    );
}

async fn store_803_outcomes_have_a_time_and_ids_stay(harness: &dyn Harness) {
    let (store, _) = delivered(harness).await;
    let live = Stream::Live;
    store.keep_from(&town(), live, Position(99)).await.unwrap();
    // Nothing is as old as that.
    assert_eq!(forget(&*store, 1_600_000_000_000).await, 0);
    assert_eq!(forget(&*store, LATER_MS).await, 3);
    for id in ["a", "b", "c"] {
        assert_eq!(outcomes(&*store, id).await, 0);
        assert!(is_known(&*store, id).await, "the same id is a duplicate");
    }
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
    assert_eq!(forget(&*store, LATER_MS).await, 2);
    assert_eq!(outcomes(&*store, "a").await, 1);
    let step = DeliveryDelta {
        unpark: vec![live(9)],
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    assert_eq!(forget(&*store, LATER_MS).await, 1);
}

async fn store_805_only_closed_held_units_lose_their_content(harness: &dyn Harness) {
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
    for (place, forgotten) in [(0, false), (1, true), (2, false), (3, false)] {
        let row = store.held(&town(), &ids[place]).await.unwrap().unwrap();
        assert_eq!(row.held.content.bytes.is_empty(), forgotten, "{place}");
    }
    // The same row again is known, and not held anew.
    let again = store.commit_publish(&town(), hold(&units[1..2])).await;
    assert_eq!(again.unwrap(), [ids[1].clone()]);
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
    assert_eq!(forget(&*store, LATER_MS).await, gone);
    let last = names.last().unwrap();
    assert_eq!(
        (outcomes(&*store, last).await, outcomes(&*store, "e0").await),
        (1, 0)
    );
}

suites! {
    store_801_where_the_log_begins_never_falls,
    store_802_what_the_log_still_has_is_not_forgotten,
    store_803_outcomes_have_a_time_and_ids_stay,
    store_804_what_concerns_a_parked_subject_stays,
    store_805_only_closed_held_units_lose_their_content,
    store_806_more_than_a_batch_is_forgotten_batch_by_batch,
}
