//! Rules of the delivery commit: fence, cursors, outcomes ahead, runs, parked units, counts.
//! The part of the suite that keeps a restart from losing or repeating a delivery.
//! Must never test more than `store/delivery.rs` promises.
//! Read next: `engine.rs`.

use std::collections::{HashMap, HashSet};

use super::*;
use crate::store::{HistoryRow, RunRow};

use ParkedState::{Rejected, Waiting};

/// Applies a delta of the pension subscription.
async fn commit(store: &dyn Store, epoch: u64, change: impl FnOnce(&mut DeliveryDelta)) {
    let mut step = delta(epoch, PENSION);
    change(&mut step);
    store.commit(step).await.unwrap();
}

async fn tally(store: &dyn Store) -> OutcomeTally {
    row_of(store, PENSION).await.tally
}

fn keys(rows: &[ParkedRow]) -> Vec<UnitKey> {
    rows.iter().map(|row| row.key).collect()
}

/// A delta that touches everything.
fn full(epoch: u64) -> DeliveryDelta {
    DeliveryDelta {
        cursors: vec![(Stream::Live, cursor(20, 5))],
        done: vec![done(live(6), Outcome::Applied, &["a"])],
        attempts: vec![(live(8), 2)],
        park: vec![parked(live(7), Rejected, &["p"], &["b"])],
        unpark: vec![live(2)],
        runs_open: vec![RunRow {
            id: "run-2".to_owned(),
            keys: vec![live(8)],
        }],
        runs_close: vec!["run-1".to_owned()],
        filled: true,
        paused: Some(pause("credentials")),
        ..delta(epoch, PENSION)
    }
}

/// All that is stored of the pension subscription.
#[derive(PartialEq, Debug)]
struct Seen {
    row: SubscriptionRow,
    ahead: HashSet<UnitKey>,
    attempts: Vec<(UnitKey, u32)>,
    runs: Vec<RunRow>,
    parked: Vec<ParkedRow>,
    subjects: HashMap<Subject, UnitKey>,
    history: Vec<HistoryRow>,
}

async fn seen(store: &dyn Store) -> Seen {
    Seen {
        row: row_of(store, PENSION).await,
        ahead: store.ahead(PENSION).await.unwrap(),
        attempts: store.attempts(PENSION).await.unwrap(),
        runs: store.runs(PENSION).await.unwrap(),
        parked: store.parked(PENSION, None, None, 99).await.unwrap(),
        subjects: store.parked_subjects(PENSION).await.unwrap(),
        history: store.history(&town(), "a").await.unwrap(),
    }
}

async fn store_401_a_commit_moves_only_the_cursors_it_names(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    store
        .put_subscription(subscription("142042/010"))
        .await
        .unwrap();
    commit(&*store, epoch, |step| {
        step.cursors = vec![(Stream::Bulk, cursor(9, 4))]
    })
    .await;
    let row = row_of(&*store, PENSION).await;
    assert_eq!((row.live, row.bulk), (cursor(1, 1), cursor(9, 4)));
    assert_eq!(row_of(&*store, "142042/010").await.bulk, cursor(1, 1));
}

async fn store_402_a_commit_of_another_owner_changes_nothing(harness: &dyn Harness) {
    let (store, old) = opened(harness).await;
    commit(&*store, old, |step| {
        step.park = vec![parked(live(2), Waiting, &["q"], &["c"])];
        step.runs_open = vec![RunRow {
            id: "run-1".to_owned(),
            keys: vec![live(3)],
        }];
    })
    .await;
    let new = store.own(&town()).await.unwrap();
    let before = seen(&*store).await;
    for wrong in [old, new + 1] {
        let refused = store.commit(full(wrong)).await;
        assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    }
    assert_eq!(seen(&*store).await, before);
    store.commit(full(new)).await.unwrap();
    assert_ne!(seen(&*store).await, before);
}

async fn store_403_nobody_commits_without_owning(harness: &dyn Harness) {
    let store = harness.open().await;
    store.put_subscription(subscription(PENSION)).await.unwrap();
    // The owner of another municipality is not the owner of this one.
    let epoch = store.own(&other_town()).await.unwrap();
    let refused = store.commit(full(epoch)).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    assert_eq!(row_of(&*store, PENSION).await, subscription(PENSION));
}

async fn store_404_outcomes_ahead_of_the_cursor_are_kept_until_it_passes(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let member = UnitKey {
        member: 2,
        ..live(6)
    };
    commit(&*store, epoch, |step| {
        step.cursors = vec![(Stream::Live, cursor(20, 5))];
        let keys = [live(4), live(5), member, bulk(3)];
        step.done = keys.map(|key| done(key, Outcome::Applied, &["a"])).to_vec();
    })
    .await;
    let ahead = store.ahead(PENSION).await.unwrap();
    assert_eq!(ahead, HashSet::from([live(5), member, bulk(3)]));
    commit(&*store, epoch, |step| {
        step.cursors = vec![(Stream::Live, cursor(21, 6))]
    })
    .await;
    let ahead = store.ahead(PENSION).await.unwrap();
    assert_eq!(ahead, HashSet::from([member, bulk(3)]));
    commit(&*store, epoch, |step| {
        step.cursors = vec![(Stream::Live, cursor(22, 7))]
    })
    .await;
    assert_eq!(
        store.ahead(PENSION).await.unwrap(),
        HashSet::from([bulk(3)])
    );
}

async fn store_405_the_cursor_passes_parked_units(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    commit(&*store, epoch, |step| {
        step.park = vec![parked(live(2), Rejected, &["p"], &["a"])];
    })
    .await;
    assert_eq!(
        store.ahead(PENSION).await.unwrap(),
        HashSet::from([live(2)])
    );
    commit(&*store, epoch, |step| {
        step.cursors = vec![(Stream::Live, cursor(9, 3))]
    })
    .await;
    assert!(store.ahead(PENSION).await.unwrap().is_empty());
    assert_eq!(store.parked(PENSION, None, None, 9).await.unwrap().len(), 1);
    // Its outcome comes when the cursor has long passed.
    commit(&*store, epoch, |step| {
        step.unpark = vec![live(2)];
        step.done = vec![done(live(2), Outcome::Applied, &["a"])];
    })
    .await;
    assert!(store.ahead(PENSION).await.unwrap().is_empty());
}

async fn store_406_attempts_are_kept_until_the_unit_is_done(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    commit(&*store, epoch, |step| {
        step.attempts = vec![(live(1), 2), (bulk(1), 3)]
    })
    .await;
    commit(&*store, epoch, |step| step.attempts = vec![(live(1), 4)]).await;
    let mut attempts = store.attempts(PENSION).await.unwrap();
    attempts.sort();
    assert_eq!(attempts, [(live(1), 4), (bulk(1), 3)]);
    commit(&*store, epoch, |step| {
        // Both in one delta: the unit is done all the same.
        step.attempts = vec![(live(1), 5)];
        step.done = vec![done(live(1), Outcome::Applied, &["a"])];
    })
    .await;
    assert_eq!(store.attempts(PENSION).await.unwrap(), [(bulk(1), 3)]);
}

async fn store_407_a_run_keeps_its_composition_until_it_is_closed(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let run = |id: &str, keys: &[UnitKey]| RunRow {
        id: id.to_owned(),
        keys: keys.to_vec(),
    };
    // A run's order is that of its units as sent, whatever their sequences are.
    let first = run("run-1", &[live(3), bulk(9), live(1)]);
    let second = run("run-2", &[live(4)]);
    commit(&*store, epoch, |step| {
        step.runs_open = vec![first.clone(), second.clone()]
    })
    .await;
    commit(&*store, epoch, |step| step.runs_open = vec![first.clone()]).await;
    assert_eq!(store.runs(PENSION).await.unwrap(), [first, second.clone()]);
    // One that is closed makes room for another with the same first unit.
    let again = run("run-1", &[live(3)]);
    commit(&*store, epoch, |step| {
        step.runs_close = names(&["run-1"]);
        step.runs_open = vec![again.clone()];
    })
    .await;
    assert!(store.runs(PENSION).await.unwrap().contains(&again));
    commit(&*store, epoch, |step| step.runs_close = names(&["run-1"])).await;
    assert_eq!(store.runs(PENSION).await.unwrap(), [second]);
}

async fn store_408_outcomes_are_counted_by_their_events(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    commit(&*store, epoch, |step| {
        step.done = vec![
            done(live(1), Outcome::Applied, &["a", "b", "c"]),
            done(live(2), Outcome::Duplicate, &["d"]),
            done(live(3), Outcome::Superseded, &["e", "f"]),
            done(bulk(1), Outcome::NotRelevant, &["g"]),
            done(live(4), Outcome::PendingReview, &["h"]),
        ];
    })
    .await;
    commit(&*store, epoch, |step| {
        step.done = vec![
            done(live(5), Outcome::Applied, &["i"]),
            done(live(6), Outcome::SupersededBySwap, &["j"]),
        ];
    })
    .await;
    let expected = OutcomeTally {
        applied: 4,
        duplicate: 1,
        superseded: 3,
        not_relevant: 1,
        pending_review: 1,
        ..OutcomeTally::default()
    };
    assert_eq!(tally(&*store).await, expected);
}

async fn store_409_parked_events_are_counted_as_long_as_they_are_parked(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    commit(&*store, epoch, |step| {
        step.park = vec![
            parked(live(1), Rejected, &["p"], &["a", "b"]),
            parked(live(2), Waiting, &["p"], &["c"]),
        ];
        // The refusal is a step in the life of its events, not one more count.
        step.done = vec![done(live(1), Outcome::Rejected, &["a", "b"])];
    })
    .await;
    let parked_now = OutcomeTally {
        rejected: 2,
        waiting: 1,
        ..OutcomeTally::default()
    };
    assert_eq!(tally(&*store).await, parked_now);
    commit(&*store, epoch, |step| {
        step.unpark = vec![live(1)];
        step.done = vec![done(live(1), Outcome::Applied, &["a", "b"])];
    })
    .await;
    let later = OutcomeTally {
        applied: 2,
        waiting: 1,
        ..OutcomeTally::default()
    };
    assert_eq!(tally(&*store).await, later);
}

async fn store_410_a_parked_unit_comes_back_whole_and_takes_a_new_state(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let waiting = parked(
        UnitKey {
            member: 1,
            ..live(2)
        },
        Waiting,
        &["q", "p"],
        &["b", "a"],
    );
    commit(&*store, epoch, |step| step.park = vec![waiting.clone()]).await;
    let found = store.parked_unit(PENSION, waiting.key).await.unwrap();
    assert_eq!(found, Some(waiting.clone()));
    assert_eq!(store.parked_unit(PENSION, live(2)).await.unwrap(), None);
    assert_eq!(
        store.parked_unit("142042/010", waiting.key).await.unwrap(),
        None
    );
    let rejected = ParkedRow {
        state: Rejected,
        reason: "INVALID".to_owned(),
        field: "record.sex".to_owned(),
        message: "refused".to_owned(),
        attempts: 4,
        at_ms: 1_700_000_000_009,
        revision: 2,
        ..waiting
    };
    commit(&*store, epoch, |step| step.park = vec![rejected.clone()]).await;
    assert_eq!(
        store.parked(PENSION, None, None, 9).await.unwrap(),
        [rejected]
    );
}

async fn store_411_a_subject_is_parked_as_long_as_one_unit_parks_it(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    commit(&*store, epoch, |step| {
        step.park = vec![
            // A person may stand twice in a group.
            parked(live(1), Rejected, &["p", "q", "p"], &["a", "b", "c"]),
            parked(live(2), Waiting, &["p"], &["d"]),
        ];
    })
    .await;
    let both = HashMap::from([(subject("p"), live(1)), (subject("q"), live(1))]);
    assert_eq!(store.parked_subjects(PENSION).await.unwrap(), both);
    assert!(
        store
            .parked_subjects("142042/010")
            .await
            .unwrap()
            .is_empty()
    );
    commit(&*store, epoch, |step| step.unpark = vec![live(1)]).await;
    assert_eq!(
        store.parked_subjects(PENSION).await.unwrap(),
        HashMap::from([(subject("p"), live(2))])
    );
    commit(&*store, epoch, |step| step.unpark = vec![live(2)]).await;
    assert!(store.parked_subjects(PENSION).await.unwrap().is_empty());
}

async fn store_412_parked_units_are_read_in_pages_in_order(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let members = [2, 1].map(|member| UnitKey { member, ..live(10) });
    commit(&*store, epoch, |step| {
        step.park = vec![
            parked(live(30), Waiting, &["p"], &["a"]),
            parked(members[0], Waiting, &["q"], &["b"]),
            parked(members[1], Rejected, &["p", "q"], &["c"]),
            parked(live(9), Rejected, &["p"], &["d"]),
        ];
    })
    .await;
    let page = async |about: Option<&str>, after, limit| {
        let about = about.map(subject);
        let rows = store
            .parked(PENSION, about.as_ref(), after, limit)
            .await
            .unwrap();
        keys(&rows)
    };
    assert_eq!(page(None, None, 2).await, [live(9), members[1]]);
    assert_eq!(
        page(None, Some(members[1]), 2).await,
        [members[0], live(30)]
    );
    assert!(page(None, Some(live(30)), 2).await.is_empty());
    assert_eq!(page(Some("q"), None, 9).await, [members[1], members[0]]);
    assert_eq!(page(Some("p"), Some(live(9)), 1).await, [members[1]]);
    assert!(page(Some("nobody"), None, 9).await.is_empty());
}

async fn store_413_every_step_of_an_event_is_in_its_history(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    store
        .put_subscription(subscription("142042/010"))
        .await
        .unwrap();
    commit(&*store, epoch, |step| {
        step.done = vec![
            done(live(1), Outcome::Rejected, &["a", "b"]),
            done(live(2), Outcome::Applied, &["c"]),
        ];
    })
    .await;
    let tax = DeliveryDelta {
        done: vec![Done {
            product: "kaede".to_owned(),
            ..done(live(5), Outcome::Applied, &["a"])
        }],
        ..delta(epoch, "142042/010")
    };
    store.commit(tax).await.unwrap();
    commit(&*store, epoch, |step| {
        step.done = vec![done(live(1), Outcome::Applied, &["a", "b"])];
    })
    .await;
    let step = |subscription: &str, product: &str, key, outcome: Outcome| HistoryRow {
        subscription: subscription.to_owned(),
        product: product.to_owned(),
        key,
        attempt: 2,
        outcome: outcome as i32,
        reason: "LATER_IMAGE".to_owned(),
        at_ms: 1_700_000_000_002,
    };
    let expected = [
        step(PENSION, "hinoki", live(1), Outcome::Rejected),
        step("142042/010", "kaede", live(5), Outcome::Applied),
        step(PENSION, "hinoki", live(1), Outcome::Applied),
    ];
    assert_eq!(store.history(&town(), "a").await.unwrap(), expected);
    assert!(store.history(&town(), "unknown").await.unwrap().is_empty());
    assert!(store.history(&other_town(), "a").await.unwrap().is_empty());
}

async fn store_414_the_snapshot_is_through_once_and_for_all(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    commit(&*store, epoch, |step| step.filled = true).await;
    assert!(row_of(&*store, PENSION).await.filled);
    commit(&*store, epoch, |step| {
        step.cursors = vec![(Stream::Live, cursor(2, 2))]
    })
    .await;
    assert!(row_of(&*store, PENSION).await.filled);
}

async fn store_417_what_is_set_aside_is_listed_by_the_time_it_is_due(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let due = |sequence, at| ParkedRow {
        due_ms: Some(at),
        ..parked(live(sequence), ParkedState::Due, &["p"], &["a"])
    };
    commit(&*store, epoch, |step| {
        step.park = vec![
            due(3, 900),
            due(5, 400),
            parked(live(7), Waiting, &["p"], &["b"]),
        ];
    })
    .await;
    let listed = store.due(PENSION, 10).await.unwrap();
    assert_eq!(listed, [(400, live(5)), (900, live(3))]);
    assert_eq!(store.due(PENSION, 1).await.unwrap(), [(400, live(5))]);
    assert_eq!(store.due("142042/010", 1).await.unwrap(), []);
    // Refused in the end, it waits for a human and not for a time.
    commit(&*store, epoch, |step| {
        step.park = vec![parked(live(5), Rejected, &["p"], &["a"])];
        step.unpark = vec![live(3)];
    })
    .await;
    assert_eq!(store.due(PENSION, 10).await.unwrap(), []);
}

async fn store_415_a_pause_concerns_the_binding_that_serves(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let mut row = subscription(PENSION);
    row.bindings
        .push(binding("ayame", 2, BindingState::Filling));
    store.put_subscription(row.clone()).await.unwrap();
    commit(&*store, epoch, |step| {
        step.paused = Some(pause("credentials"))
    })
    .await;
    let paused = row_of(&*store, PENSION).await.bindings;
    assert_eq!(paused[0].paused, pause("credentials"));
    assert_eq!(paused[1].paused, None);
    commit(&*store, epoch, |step| step.filled = true).await;
    assert_eq!(
        row_of(&*store, PENSION).await.binding().unwrap().paused,
        pause("credentials")
    );
    commit(&*store, epoch, |step| step.paused = Some(None)).await;
    assert_eq!(row_of(&*store, PENSION).await.bindings, row.bindings);
}

async fn store_416_subscriptions_are_apart(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    store
        .put_subscription(subscription("142042/010"))
        .await
        .unwrap();
    let before = seen(&*store).await;
    let tax = DeliveryDelta {
        subscription: "142042/010".to_owned(),
        ..full(epoch)
    };
    store
        .commit(DeliveryDelta {
            done: Vec::new(),
            ..tax
        })
        .await
        .unwrap();
    assert_eq!(seen(&*store).await, before);
    assert_eq!(store.attempts("142042/010").await.unwrap(), [(live(8), 2)]);
    assert_eq!(store.runs("142042/010").await.unwrap().len(), 1);
}

async fn store_418_deltas_at_the_same_time_stand_or_fall_by_themselves(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let system = |number: u64| format!("142042/{number:03}");
    let mut deltas = Vec::new();
    // Each subscription twice: the second delta finds what the first one did.
    for number in 100..180 {
        store
            .put_subscription(subscription(&system(number)))
            .await
            .unwrap();
        for done_up_to in [2, 3] {
            // Every tenth belongs to somebody else by now.
            let epoch = if number % 10 == 0 { epoch + 1 } else { epoch };
            deltas.push(store.commit(DeliveryDelta {
                cursors: vec![(Stream::Live, cursor(done_up_to, done_up_to))],
                done: vec![
                    done(live(done_up_to - 1), Outcome::Applied, &["a", "b"]),
                    done(live(9), Outcome::Applied, &["c"]),
                ],
                ..delta(epoch, &system(number))
            }));
        }
    }
    let answers = futures::future::join_all(deltas).await;
    for (index, answer) in answers.into_iter().enumerate() {
        let number = 100 + index as u64 / 2;
        let fenced = matches!(answer, Err(StoreError::Fenced(id)) if id == system(number));
        assert_eq!(fenced, number.is_multiple_of(10), "{number}");
    }
    for number in 100..180 {
        let row = row_of(&*store, &system(number)).await;
        let (at, events, ahead) = match number % 10 {
            0 => (1, 0, 0),
            _ => (3, 6, 1),
        };
        assert_eq!(row.live, cursor(at, at), "{number}");
        assert_eq!(row.tally.applied, events, "{number}");
        assert_eq!(store.ahead(&row.id).await.unwrap().len(), ahead, "{number}");
    }
}

async fn store_490_deliveries_survive_reopen(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    store.commit(full(epoch)).await.unwrap();
    let before = seen(&*store).await;
    drop(store);

    let store = harness.open().await;
    assert_eq!(seen(&*store).await, before);
    assert_eq!(
        store.ahead(PENSION).await.unwrap(),
        HashSet::from([live(6), live(7)])
    );
    // The owner of before goes on until another one takes over.
    commit(&*store, epoch, |step| step.unpark = vec![live(7)]).await;
    store.own(&town()).await.unwrap();
    let refused = store.commit(full(epoch)).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
}

suites!(
    store_401_a_commit_moves_only_the_cursors_it_names,
    store_402_a_commit_of_another_owner_changes_nothing,
    store_403_nobody_commits_without_owning,
    store_404_outcomes_ahead_of_the_cursor_are_kept_until_it_passes,
    store_405_the_cursor_passes_parked_units,
    store_406_attempts_are_kept_until_the_unit_is_done,
    store_407_a_run_keeps_its_composition_until_it_is_closed,
    store_408_outcomes_are_counted_by_their_events,
    store_409_parked_events_are_counted_as_long_as_they_are_parked,
    store_410_a_parked_unit_comes_back_whole_and_takes_a_new_state,
    store_411_a_subject_is_parked_as_long_as_one_unit_parks_it,
    store_412_parked_units_are_read_in_pages_in_order,
    store_417_what_is_set_aside_is_listed_by_the_time_it_is_due,
    store_413_every_step_of_an_event_is_in_its_history,
    store_414_the_snapshot_is_through_once_and_for_all,
    store_415_a_pause_concerns_the_binding_that_serves,
    store_416_subscriptions_are_apart,
    store_418_deltas_at_the_same_time_stand_or_fall_by_themselves,
    store_490_deliveries_survive_reopen,
);
