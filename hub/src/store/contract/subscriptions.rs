//! Rules of ownership, subscriptions, bindings, grants and of the end of a filling.
//! The part of the suite that control records and the swap rest on.
//! Must never test more than `store/delivery.rs` promises.
//! Read next: `store/contract/delivery.rs`.

use super::*;
use crate::store::{RunRow, VersionOf};

async fn ids(store: &dyn Store, m: &Municipality) -> Vec<String> {
    let rows = store.subscriptions(m).await.unwrap();
    rows.into_iter().map(|row| row.id).collect()
}

/// Opens the store with a filling subscription that did some of everything.
async fn filled(harness: &dyn Harness) -> (Arc<dyn Store>, u64) {
    let (store, epoch) = opened(harness).await;
    store.put_subscription(subscription(FILLING)).await.unwrap();
    let filling = DeliveryDelta {
        done: vec![
            done(bulk(1), Outcome::Applied, &["a", "b"]),
            done(bulk(2), Outcome::NotRelevant, &["c"]),
        ],
        park: vec![
            parked(live(7), ParkedState::Rejected, &["p"], &["d"]),
            parked(live(9), ParkedState::Waiting, &["p", "q"], &["e", "f"]),
        ],
        attempts: vec![(live(11), 2)],
        runs_open: vec![RunRow {
            id: "run-1".to_owned(),
            keys: vec![live(11)],
        }],
        ..delta(epoch, FILLING)
    };
    store.commit(filling).await.unwrap();
    (store, epoch)
}

async fn store_301_owning_raises_the_epoch_of_one_municipality(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = store.own(&town()).await.unwrap();
    let second = store.own(&town()).await.unwrap();
    assert!(first > 0 && second > first);
    assert_eq!(store.own(&other_town()).await.unwrap(), first);
    drop(store);
    assert!(harness.open().await.own(&town()).await.unwrap() > second);
}

async fn store_302_municipalities_with_subscriptions_or_events_are_listed(harness: &dyn Harness) {
    let store = harness.open().await;
    assert!(store.municipalities().await.unwrap().is_empty());
    store.put_subscription(subscription(PENSION)).await.unwrap();
    let mut publish = place(&[placed("a", "p", 1, 1)]);
    let source = REGISTRY.to_owned();
    publish.versions = vec![VersionOf {
        source,
        subject: subject("p"),
        version: 1,
    }];
    publish.tail = vec![(Stream::Live, Position(2))];
    store.commit_publish(&other_town(), publish).await.unwrap();
    let mut listed = store.municipalities().await.unwrap();
    listed.sort();
    assert_eq!(listed, [other_town(), town()]);
}

async fn store_303_a_subscription_comes_back_whole(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut row = subscription(FILLING);
    row.live = cursor(17, 3);
    row.bulk = cursor(4, 2);
    row.until = Some((Position(90), Position(12)));
    let replaced = BindingRow {
        cut: Some((Position(30), Position(11))),
        settings: settings(),
        ..binding("hinoki", 1, BindingState::Replaced)
    };
    row.bindings.insert(0, replaced);
    store.put_subscription(row.clone()).await.unwrap();
    assert_eq!(row_of(&*store, FILLING).await, row);
    let found = row_of(&*store, FILLING).await;
    assert_eq!(found.binding().unwrap().product, "ayame");
}

async fn store_304_subscriptions_are_listed_by_id_and_municipality(harness: &dyn Harness) {
    let store = harness.open().await;
    for id in [FILLING, "142042/010", "131016/026", PENSION] {
        store.put_subscription(subscription(id)).await.unwrap();
    }
    assert_eq!(
        ids(&*store, &town()).await,
        ["142042/010", PENSION, FILLING]
    );
    assert_eq!(ids(&*store, &other_town()).await, ["131016/026"]);
}

async fn store_305_writing_a_subscription_again_leaves_what_deliveries_moved(
    harness: &dyn Harness,
) {
    let (store, epoch) = opened(harness).await;
    let step = DeliveryDelta {
        cursors: vec![(Stream::Live, cursor(20, 5)), (Stream::Bulk, cursor(8, 2))],
        done: vec![done(live(4), Outcome::Applied, &["a"])],
        filled: true,
        paused: Some(pause("credentials")),
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    // The control record is read again after a restart and knows nothing of it.
    store.put_subscription(subscription(PENSION)).await.unwrap();
    let row = row_of(&*store, PENSION).await;
    assert_eq!((row.live, row.bulk), (cursor(20, 5), cursor(8, 2)));
    assert_eq!(row.tally.applied, 1);
    assert!(row.filled);
    assert_eq!(row.binding().unwrap().paused, pause("credentials"));
}

async fn store_306_a_control_record_changes_bindings_and_the_end(harness: &dyn Harness) {
    let (store, _) = opened(harness).await;
    let cut = Some((Position(30), Position(11)));
    let mut row = subscription(PENSION);
    row.until = cut;
    row.bindings = vec![
        binding("hinoki", 1, BindingState::Replaced),
        BindingRow {
            cut,
            settings: settings(),
            ..binding("ayame", 2, BindingState::Serving)
        },
    ];
    store.put_subscription(row.clone()).await.unwrap();
    assert_eq!(row_of(&*store, PENSION).await, row);
    assert_eq!(
        row_of(&*store, PENSION).await.binding().unwrap().product,
        "ayame"
    );
}

fn settings() -> BindingSettings {
    BindingSettings {
        concurrency: 50,
        hours: vec!["mon-fri 08:30-17:15".to_owned()],
        ..BindingSettings::default()
    }
}

async fn store_307_grants_hold_from_their_position_oldest_first(harness: &dyn Harness) {
    let store = harness.open().await;
    assert!(store.grants(&town()).await.unwrap().is_empty());
    let (first, second) = ((Position(1), Position(1)), (Position(50), Position(2)));
    store.put_grants(&town(), first, "a").await.unwrap();
    store.put_grants(&town(), second, "b").await.unwrap();
    // Read again from the log after a crash.
    store.put_grants(&town(), second, "b").await.unwrap();
    let grants = store.grants(&town()).await.unwrap();
    assert_eq!(grants, [(first, "a".to_owned()), (second, "b".to_owned())]);
    assert!(store.grants(&other_town()).await.unwrap().is_empty());
}

async fn store_308_the_end_of_a_filling_moves_what_is_parked_and_counted(harness: &dyn Harness) {
    let (store, epoch) = filled(harness).await;
    let own = DeliveryDelta {
        done: vec![done(live(1), Outcome::Applied, &["a"])],
        ..delta(epoch, PENSION)
    };
    store.commit(own).await.unwrap();
    let moved = store.parked(FILLING, None, None, 9).await.unwrap();
    store.finish_filling(FILLING, PENSION).await.unwrap();
    assert_eq!(store.parked(PENSION, None, None, 9).await.unwrap(), moved);
    assert_eq!(store.parked_subjects(PENSION).await.unwrap().len(), 2);
    let of_q = store
        .parked(PENSION, Some(&subject("q")), None, 9)
        .await
        .unwrap();
    assert_eq!(of_q, moved[1..]);
    let expected = OutcomeTally {
        applied: 3,
        not_relevant: 1,
        rejected: 1,
        waiting: 2,
        ..OutcomeTally::default()
    };
    assert_eq!(row_of(&*store, PENSION).await.tally, expected);
    assert!(!row_of(&*store, PENSION).await.closed);
}

async fn store_309_a_finished_filling_is_closed_and_empty(harness: &dyn Harness) {
    let (store, _) = filled(harness).await;
    store.finish_filling(FILLING, PENSION).await.unwrap();
    assert!(row_of(&*store, FILLING).await.closed);
    assert!(
        store
            .parked(FILLING, None, None, 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.parked_subjects(FILLING).await.unwrap().is_empty());
    assert!(store.attempts(FILLING).await.unwrap().is_empty());
    assert!(store.runs(FILLING).await.unwrap().is_empty());
    // The control record of the filling is read again and does not open it.
    store.put_subscription(subscription(FILLING)).await.unwrap();
    assert!(row_of(&*store, FILLING).await.closed);
}

async fn store_310_finishing_a_filling_twice_is_as_once(harness: &dyn Harness) {
    let (store, _) = filled(harness).await;
    store.finish_filling(FILLING, PENSION).await.unwrap();
    let once = row_of(&*store, PENSION).await;
    let parked = store.parked(PENSION, None, None, 9).await.unwrap();
    store.finish_filling(FILLING, PENSION).await.unwrap();
    assert_eq!(row_of(&*store, PENSION).await, once);
    assert_eq!(store.parked(PENSION, None, None, 9).await.unwrap(), parked);
}

async fn store_311_the_end_of_a_filling_leaves_the_rest_of_its_system_alone(harness: &dyn Harness) {
    let (store, epoch) = filled(harness).await;
    let own = DeliveryDelta {
        cursors: vec![(Stream::Live, cursor(20, 5))],
        done: vec![done(live(6), Outcome::Applied, &["x"])],
        park: vec![parked(live(3), ParkedState::Rejected, &["r"], &["y"])],
        attempts: vec![(live(8), 3)],
        runs_open: vec![RunRow {
            id: "run-9".to_owned(),
            keys: vec![live(8)],
        }],
        ..delta(epoch, PENSION)
    };
    store.commit(own).await.unwrap();
    store.finish_filling(FILLING, PENSION).await.unwrap();
    assert_eq!(row_of(&*store, PENSION).await.live, cursor(20, 5));
    assert!(store.ahead(PENSION).await.unwrap().contains(&live(6)));
    assert_eq!(store.attempts(PENSION).await.unwrap(), [(live(8), 3)]);
    assert_eq!(store.runs(PENSION).await.unwrap().len(), 1);
    let keys: Vec<UnitKey> = store
        .parked(PENSION, None, None, 9)
        .await
        .unwrap()
        .iter()
        .map(|row| row.key)
        .collect();
    assert_eq!(keys, [live(3), live(7), live(9)]);
}

async fn store_390_subscriptions_and_grants_survive_reopen(harness: &dyn Harness) {
    let (store, _) = filled(harness).await;
    store
        .put_grants(&town(), (Position(1), Position(1)), "a")
        .await
        .unwrap();
    store.finish_filling(FILLING, PENSION).await.unwrap();
    let before = store.subscriptions(&town()).await.unwrap();
    drop(store);

    let store = harness.open().await;
    assert_eq!(store.subscriptions(&town()).await.unwrap(), before);
    assert_eq!(store.grants(&town()).await.unwrap().len(), 1);
    assert_eq!(store.parked_subjects(PENSION).await.unwrap().len(), 2);
}

suites!(
    store_301_owning_raises_the_epoch_of_one_municipality,
    store_302_municipalities_with_subscriptions_or_events_are_listed,
    store_303_a_subscription_comes_back_whole,
    store_304_subscriptions_are_listed_by_id_and_municipality,
    store_305_writing_a_subscription_again_leaves_what_deliveries_moved,
    store_306_a_control_record_changes_bindings_and_the_end,
    store_307_grants_hold_from_their_position_oldest_first,
    store_308_the_end_of_a_filling_moves_what_is_parked_and_counted,
    store_309_a_finished_filling_is_closed_and_empty,
    store_310_finishing_a_filling_twice_is_as_once,
    store_311_the_end_of_a_filling_leaves_the_rest_of_its_system_alone,
    store_390_subscriptions_and_grants_survive_reopen,
);
