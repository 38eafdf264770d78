//! Rules of what the store knows of alarms.
//! The part of the suite that the look for alarms rests on.
//! Must never test more than `store/alarms.rs` promises.
//! Read next: `server/town/alarms.rs`.

use super::*;
use crate::store::{Pile, Piles, StandingRow};

use ParkedState::{Dead, Due, Rejected, Waiting};

async fn store_701_piles_count_what_waits_for_a_human_with_the_oldest(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    assert_eq!(store.piles(PENSION).await.unwrap(), Piles::default());
    let at = |sequence, state, at_ms, reason: &str| ParkedRow {
        at_ms,
        reason: reason.to_owned(),
        ..parked(live(sequence), state, &[&format!("s{sequence}")], &["a"])
    };
    let park = vec![
        at(7, Rejected, 300, "UNMAPPABLE"),
        at(8, Rejected, 100, "TOO_LONG"),
        at(9, Waiting, 50, ""),
        at(10, Due, 40, "HTTP_503"),
        at(11, Dead, 200, "HTTP_500"),
    ];
    let delta = DeliveryDelta {
        park,
        ..delta(epoch, PENSION)
    };
    store.commit(delta).await.unwrap();
    let pile = |count, oldest_ms, reason: &str| Pile {
        count,
        oldest_ms,
        reason: reason.to_owned(),
    };
    assert_eq!(
        store.piles(PENSION).await.unwrap(),
        Piles {
            refused: pile(2, 100, "TOO_LONG"),
            dead: pile(1, 200, "HTTP_500"),
        }
    );
}

async fn store_702_standing_alarms_are_replaced_whole_and_come_back(harness: &dyn Harness) {
    let store = harness.open().await;
    let row = |kind, subscription: &str, since_ms| StandingRow {
        kind,
        subscription: subscription.to_owned(),
        source: String::new(),
        since_ms,
    };
    let first = vec![row(1, PENSION, 5), row(3, PENSION, 6)];
    store.put_standing(&town(), first.clone()).await.unwrap();
    let other = vec![row(1, "131016/026", 7)];
    store
        .put_standing(&other_town(), other.clone())
        .await
        .unwrap();
    drop(store);
    let store = harness.open().await;
    assert_eq!(store.standing(&town()).await.unwrap(), first);
    let second = vec![row(3, PENSION, 6)];
    store.put_standing(&town(), second.clone()).await.unwrap();
    assert_eq!(store.standing(&town()).await.unwrap(), second);
    store.put_standing(&town(), Vec::new()).await.unwrap();
    assert_eq!(store.standing(&town()).await.unwrap(), []);
    assert_eq!(store.standing(&other_town()).await.unwrap(), other);
}

suites! {
    store_701_piles_count_what_waits_for_a_human_with_the_oldest,
    store_702_standing_alarms_are_replaced_whole_and_come_back,
}
