//! Rules of held units: order, idempotence, release and correction.
//! The part of the suite that keeps what was refused from being lost.
//! Must never test more than `store/publish.rs` promises.
//! Read next: `store/contract/subscriptions.rs`.

use super::*;
use crate::store::{HeldFilter, HeldRow, Known};

use HeldState::{Corrected, Refused, Released, Waiting};

/// Holds one unit and returns its id.
async fn holding(store: &dyn Store, unit: NewHeld) -> String {
    store
        .commit_publish(&town(), hold(&[unit]))
        .await
        .unwrap()
        .remove(0)
}

async fn row(store: &dyn Store, id: &str) -> HeldRow {
    store.held(&town(), id).await.unwrap().unwrap()
}

async fn state(store: &dyn Store, id: &str) -> HeldState {
    row(store, id).await.held.state
}

async fn listed(
    store: &dyn Store,
    filter: HeldFilter,
    after: &str,
    limit: usize,
) -> (Vec<String>, u64) {
    let (rows, total) = store
        .list_held(&town(), filter, after, limit)
        .await
        .unwrap();
    (rows.into_iter().map(|row| row.held.key).collect(), total)
}

fn correct(id: &str, event: &str) -> PublishDelta {
    PublishDelta {
        corrected: vec![(id.to_owned(), event.to_owned())],
        ..PublishDelta::default()
    }
}

async fn store_201_held_ids_sort_by_age(harness: &dyn Harness) {
    let store = harness.open().await;
    let units = ["z", "a", "m"].map(|key| held(key, Refused, &[("p", 1)], &[]));
    let mut ids = store
        .commit_publish(&town(), hold(&units[..2]))
        .await
        .unwrap();
    ids.extend(
        store
            .commit_publish(&town(), hold(&units[2..]))
            .await
            .unwrap(),
    );
    assert_eq!(ids.len(), 3);
    assert!(ids.is_sorted());
    assert!(
        ids.iter()
            .all(|id| id.len() == "held-".len() + 12 && id.starts_with("held-"))
    );
    for (id, unit) in ids.iter().zip(&units) {
        assert_eq!(row(&*store, id).await.held.key, unit.key);
    }
}

async fn store_202_a_unit_is_held_once(harness: &dyn Harness) {
    let store = harness.open().await;
    let unit = held("g1", Refused, &[("p", 4)], &[]);
    let id = holding(&*store, unit.clone()).await;
    let again = NewHeld {
        state: Waiting,
        message: "later".to_owned(),
        ..unit.clone()
    };
    assert_eq!(holding(&*store, again).await, id);
    assert_eq!(row(&*store, &id).await.held, unit);
    store
        .commit_publish(&town(), correct(&id, "e"))
        .await
        .unwrap();
    // A page that is read again after a crash does not open what was corrected meanwhile.
    assert_eq!(holding(&*store, unit.clone()).await, id);
    assert_eq!(state(&*store, &id).await, Corrected);
    let others = [
        NewHeld {
            line: 13,
            ..unit.clone()
        },
        NewHeld {
            file: "R0010003.csv".to_owned(),
            ..unit.clone()
        },
        NewHeld {
            source: TAX.to_owned(),
            ..unit.clone()
        },
        NewHeld {
            key: "g2".to_owned(),
            ..unit.clone()
        },
    ];
    let ids = store.commit_publish(&town(), hold(&others)).await.unwrap();
    assert!(ids.iter().all(|other| *other > id));
    assert_eq!(listed(&*store, HeldFilter::Open, "", 9).await.1, 4);
    assert_eq!(
        store
            .commit_publish(&other_town(), hold(&[unit]))
            .await
            .unwrap()
            .len(),
        1
    );
}

async fn store_203_a_held_unit_comes_back_whole(harness: &dyn Harness) {
    let store = harness.open().await;
    // A person may stand twice in a group; a version may be unreadable.
    let subjects = [("p", 4), ("q", 0), ("p", 5)];
    let unit = held("g1", Waiting, &subjects, &["e2", "e1"]);
    let id = holding(&*store, unit.clone()).await;
    let expected = HeldRow {
        id: id.clone(),
        held: unit,
        corrected_by: String::new(),
    };
    assert_eq!(row(&*store, &id).await, expected);
    let empty = held("g2", Refused, &[], &[]);
    let id = holding(&*store, empty.clone()).await;
    assert_eq!(row(&*store, &id).await.held, empty);
    assert_eq!(
        store.held(&town(), "held-000000009999").await.unwrap(),
        None
    );
    assert_eq!(store.held(&town(), "nonsense").await.unwrap(), None);
}

async fn store_204_events_of_open_held_units_are_known_as_held(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(&*store, held("g1", Waiting, &[("p", 4)], &["e1"])).await;
    let known = async |id| {
        store
            .known(&town(), REGISTRY, &names(&[id]))
            .await
            .unwrap()
            .remove(id)
    };
    let is_held = Some(Known::Held {
        held_id: id,
        digest: digest("e1"),
    });
    assert_eq!(known("e1").await, is_held);
    // A claim for its release that a crash left without a place changes nothing yet.
    store
        .claim(&town(), REGISTRY, &[claim("e1", "p", 4)])
        .await
        .unwrap();
    assert_eq!(known("e1").await, is_held);
    store
        .commit_publish(&town(), place(&[placed("e1", "p", 4, 8)]))
        .await
        .unwrap();
    let at = Some((Stream::Live, Position(8)));
    assert_eq!(
        known("e1").await,
        Some(Known::Claimed {
            digest: digest("e1"),
            at
        })
    );
}

async fn store_205_placing_an_event_releases_the_unit_that_waits_with_it(harness: &dyn Harness) {
    let store = harness.open().await;
    let with = holding(
        &*store,
        held("g1", Waiting, &[("p", 4), ("q", 2)], &["e1", "e2"]),
    )
    .await;
    // The same subject and version, but other events: it is not the unit that followed.
    let without = holding(&*store, held("g2", Waiting, &[("p", 4)], &["e3"])).await;
    let both = [placed("e1", "p", 4, 8), placed("e2", "q", 2, 9)];
    store.commit_publish(&town(), place(&both)).await.unwrap();
    let released = row(&*store, &with).await;
    assert_eq!(
        (released.held.state, released.corrected_by.as_str()),
        (Released, "")
    );
    assert_eq!(state(&*store, &without).await, Waiting);
}

async fn store_206_the_same_subject_and_version_correct_a_refused_unit(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(
        &*store,
        held("g1", Refused, &[("p", 4), ("unreadable", 0)], &[]),
    )
    .await;
    store
        .commit_publish(&town(), place(&[placed("e1", "p", 4, 8)]))
        .await
        .unwrap();
    let corrected = row(&*store, &id).await;
    assert_eq!(
        (corrected.held.state, corrected.corrected_by.as_str()),
        (Corrected, "e1")
    );
}

async fn store_207_a_refused_group_is_corrected_only_as_a_whole(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(&*store, held("g1", Refused, &[("p", 4), ("q", 2)], &[])).await;
    store
        .commit_publish(&town(), place(&[placed("e1", "p", 4, 8)]))
        .await
        .unwrap();
    assert_eq!(state(&*store, &id).await, Refused);
    let both = [placed("e2", "p", 4, 9), placed("e3", "q", 2, 10)];
    store.commit_publish(&town(), place(&both)).await.unwrap();
    let corrected = row(&*store, &id).await;
    assert_eq!(corrected.held.state, Corrected);
    assert!(["e2", "e3"].contains(&corrected.corrected_by.as_str()));
}

async fn store_208_another_version_subject_or_source_corrects_nothing(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(&*store, held("g1", Refused, &[("p", 4)], &[])).await;
    let others = [
        placed("e1", "p", 5, 8),
        placed("e2", "q", 4, 9),
        Placed {
            source: TAX.to_owned(),
            ..placed("e3", "p", 4, 10)
        },
    ];
    store.commit_publish(&town(), place(&others)).await.unwrap();
    store
        .commit_publish(&other_town(), place(&[placed("e4", "p", 4, 1)]))
        .await
        .unwrap();
    assert_eq!(state(&*store, &id).await, Refused);
}

async fn store_209_an_unreadable_unit_is_closed_only_by_name(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(&*store, held("g1", Refused, &[("p", 0)], &[])).await;
    let nobody = holding(&*store, held("g2", Refused, &[], &[])).await;
    store
        .commit_publish(&town(), place(&[placed("e1", "p", 4, 8)]))
        .await
        .unwrap();
    assert_eq!(state(&*store, &id).await, Refused);
    assert_eq!(state(&*store, &nobody).await, Refused);
    store
        .commit_publish(&town(), correct(&id, "e2"))
        .await
        .unwrap();
    let corrected = row(&*store, &id).await;
    assert_eq!(
        (corrected.held.state, corrected.corrected_by.as_str()),
        (Corrected, "e2")
    );
    assert_eq!(state(&*store, &nobody).await, Refused);
}

async fn store_210_a_closed_unit_stays_closed(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(&*store, held("g1", Refused, &[("p", 4)], &[])).await;
    store
        .commit_publish(&town(), correct(&id, "first"))
        .await
        .unwrap();
    store
        .commit_publish(&town(), correct(&id, "second"))
        .await
        .unwrap();
    store
        .commit_publish(&town(), place(&[placed("third", "p", 4, 8)]))
        .await
        .unwrap();
    assert_eq!(row(&*store, &id).await.corrected_by, "first");
    let id = holding(&*store, held("g2", Waiting, &[("q", 1)], &["e"])).await;
    store
        .commit_publish(&town(), place(&[placed("e", "q", 1, 9)]))
        .await
        .unwrap();
    store
        .commit_publish(&town(), correct(&id, "late"))
        .await
        .unwrap();
    let released = row(&*store, &id).await;
    assert_eq!(
        (released.held.state, released.corrected_by.as_str()),
        (Released, "")
    );
}

async fn store_211_open_units_stand_in_the_way_of_their_subjects(harness: &dyn Harness) {
    let store = harness.open().await;
    let refused = holding(&*store, held("g1", Refused, &[("p", 4), ("q", 0)], &[])).await;
    let waiting = holding(&*store, held("g2", Waiting, &[("q", 3)], &["e"])).await;
    let closed = holding(&*store, held("g3", Refused, &[("p", 9)], &[])).await;
    store
        .commit_publish(&town(), correct(&closed, "c"))
        .await
        .unwrap();
    let of_tax = NewHeld {
        source: TAX.to_owned(),
        ..held("g4", Refused, &[("p", 1)], &[])
    };
    holding(&*store, of_tax).await;
    let behind = async |subjects: &[&str]| -> Vec<String> {
        let subjects: Vec<Subject> = subjects.iter().map(|name| subject(name)).collect();
        let rows = store
            .held_behind(&town(), REGISTRY, &subjects)
            .await
            .unwrap();
        rows.into_iter().map(|row| row.id).collect()
    };
    assert_eq!(behind(&["p"]).await, std::slice::from_ref(&refused));
    assert_eq!(behind(&["q", "p"]).await, [refused, waiting]);
    assert!(behind(&["nobody"]).await.is_empty());
    assert!(behind(&[]).await.is_empty());
    let other = store
        .held_behind(&other_town(), REGISTRY, &[subject("p")])
        .await
        .unwrap();
    assert!(other.is_empty());
}

async fn store_212_held_units_are_listed_in_pages_with_their_number(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut ids = Vec::new();
    for (key, state) in [
        ("a", Refused),
        ("b", Waiting),
        ("c", Refused),
        ("d", Refused),
    ] {
        ids.push(holding(&*store, held(key, state, &[(key, 1)], &[])).await);
    }
    store
        .commit_publish(&town(), correct(&ids[2], "e"))
        .await
        .unwrap();
    let open = |after, limit| listed(&*store, HeldFilter::Open, after, limit);
    assert_eq!(open("", 2).await, (names(&["a", "b"]), 3));
    assert_eq!(open(&ids[1], 2).await, (names(&["d"]), 3));
    assert_eq!(open(&ids[3], 2).await, (Vec::new(), 3));
    let refused = listed(&*store, HeldFilter::State(Refused), "", 9).await;
    assert_eq!(refused, (names(&["a", "d"]), 2));
    let corrected = listed(&*store, HeldFilter::State(Corrected), "", 9).await;
    assert_eq!(corrected, (names(&["c"]), 1));
    assert_eq!(
        listed(&*store, HeldFilter::State(Released), "", 9).await,
        (Vec::new(), 0)
    );
}

async fn store_213_nobody_sees_or_closes_units_of_another_municipality(harness: &dyn Harness) {
    let store = harness.open().await;
    let id = holding(&*store, held("g1", Refused, &[("p", 4)], &["e1"])).await;
    let other = other_town();
    assert_eq!(store.held(&other, &id).await.unwrap(), None);
    assert_eq!(
        store
            .list_held(&other, HeldFilter::Open, "", 9)
            .await
            .unwrap()
            .1,
        0
    );
    store
        .commit_publish(&other, correct(&id, "foreign"))
        .await
        .unwrap();
    assert_eq!(state(&*store, &id).await, Refused);
    assert!(
        store
            .known(&other, REGISTRY, &names(&["e1"]))
            .await
            .unwrap()
            .is_empty()
    );
}

async fn store_214_one_delta_holds_places_and_moves_the_cursor(harness: &dyn Harness) {
    let store = harness.open().await;
    let waiting = holding(&*store, held("g1", Waiting, &[("p", 4)], &["e1"])).await;
    let mut delta = place(&[placed("e1", "p", 4, 8)]);
    delta.hold = vec![held("g2", Refused, &[("q", 1)], &[])];
    delta.cursor = Some((REGISTRY.to_owned(), "9".to_owned()));
    let ids = store.commit_publish(&town(), delta).await.unwrap();
    assert_eq!(state(&*store, &waiting).await, Released);
    assert_eq!(state(&*store, &ids[0]).await, Refused);
    let cursor = store.capture(&town(), REGISTRY).await.unwrap().cursor;
    assert_eq!(cursor.as_deref(), Some("9"));
}

async fn store_290_held_units_survive_reopen(harness: &dyn Harness) {
    let store = harness.open().await;
    let open = holding(&*store, held("g1", Refused, &[("p", 4)], &[])).await;
    let closed = holding(&*store, held("g2", Waiting, &[("q", 1)], &["e"])).await;
    store
        .commit_publish(&town(), place(&[placed("e", "q", 1, 9)]))
        .await
        .unwrap();
    let before = row(&*store, &open).await;
    drop(store);

    let store = harness.open().await;
    assert_eq!(row(&*store, &open).await, before);
    assert_eq!(state(&*store, &closed).await, Released);
    let next = holding(&*store, held("g3", Refused, &[("r", 1)], &[])).await;
    assert!(next > closed);
}

suites!(
    store_201_held_ids_sort_by_age,
    store_202_a_unit_is_held_once,
    store_203_a_held_unit_comes_back_whole,
    store_204_events_of_open_held_units_are_known_as_held,
    store_205_placing_an_event_releases_the_unit_that_waits_with_it,
    store_206_the_same_subject_and_version_correct_a_refused_unit,
    store_207_a_refused_group_is_corrected_only_as_a_whole,
    store_208_another_version_subject_or_source_corrects_nothing,
    store_209_an_unreadable_unit_is_closed_only_by_name,
    store_210_a_closed_unit_stays_closed,
    store_211_open_units_stand_in_the_way_of_their_subjects,
    store_212_held_units_are_listed_in_pages_with_their_number,
    store_213_nobody_sees_or_closes_units_of_another_municipality,
    store_214_one_delta_holds_places_and_moves_the_cursor,
    store_290_held_units_survive_reopen,
);
