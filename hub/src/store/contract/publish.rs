//! Rules of the event index, of versions, snapshots, tails and capture bindings.
//! The part of the suite that the sequencer rests on.
//! Must never test more than `store/publish.rs` promises.
//! Read next: `store/contract/held.rs`.

use super::*;
use crate::store::publish::ProtectionMark;
use crate::store::{CaptureState, Known, SnapshotMark, VersionOf};

async fn at(store: &dyn Store, id: &str) -> Option<(Stream, Position)> {
    match store
        .known(&town(), REGISTRY, &names(&[id]))
        .await
        .unwrap()
        .remove(id)
    {
        Some(Known::Claimed { at, .. }) => at,
        other => panic!("`{id}` is not claimed: {other:?}"),
    }
}

fn version_of(source: &str, name: &str, version: u32) -> VersionOf {
    VersionOf {
        source: source.to_owned(),
        subject: subject(name),
        version,
    }
}

fn raise(versions: &[VersionOf]) -> PublishDelta {
    PublishDelta {
        versions: versions.to_vec(),
        ..PublishDelta::default()
    }
}

fn snapshot(id: &str, start: u64, end: Option<u64>) -> PublishDelta {
    let mark = SnapshotMark {
        source: REGISTRY.to_owned(),
        snapshot_id: id.to_owned(),
        bulk_start: Position(start),
        bulk_end: end.map(Position),
        live_mark: Position(start + 100),
    };
    PublishDelta {
        snapshots: vec![mark],
        ..PublishDelta::default()
    }
}

async fn store_101_a_claim_is_known_without_a_place(harness: &dyn Harness) {
    let store = harness.open().await;
    store
        .claim(&town(), REGISTRY, &[claim("a", "p", 1)])
        .await
        .unwrap();
    let known = store
        .known(&town(), REGISTRY, &names(&["a", "b"]))
        .await
        .unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!(
        known["a"],
        Known::Claimed {
            digest: digest("a"),
            at: None
        }
    );
    assert!(
        store
            .known(&town(), REGISTRY, &[])
            .await
            .unwrap()
            .is_empty()
    );
}

async fn store_102_a_claimed_id_stays_as_it_is(harness: &dyn Harness) {
    let store = harness.open().await;
    store
        .claim(&town(), REGISTRY, &[claim("a", "p", 1)])
        .await
        .unwrap();
    let other = Claim {
        digest: digest("else"),
        ..claim("a", "q", 9)
    };
    store
        .claim(&town(), REGISTRY, &[other, claim("b", "p", 2)])
        .await
        .unwrap();
    let known = store
        .known(&town(), REGISTRY, &names(&["a", "b"]))
        .await
        .unwrap();
    assert_eq!(
        known["a"],
        Known::Claimed {
            digest: digest("a"),
            at: None
        }
    );
    assert_eq!(
        known["b"],
        Known::Claimed {
            digest: digest("b"),
            at: None
        }
    );
    assert_eq!(
        store.find_event(&town(), "a").await.unwrap().unwrap().claim,
        claim("a", "p", 1)
    );
}

async fn store_103_a_placed_event_stays_where_it_stands(harness: &dyn Harness) {
    let store = harness.open().await;
    store
        .claim(&town(), REGISTRY, &[claim("a", "p", 1)])
        .await
        .unwrap();
    store
        .commit_publish(&town(), place(&[placed("a", "p", 1, 5)]))
        .await
        .unwrap();
    assert_eq!(at(&*store, "a").await, Some((Stream::Live, Position(5))));
    // A repeat of the same record in the log does not move it.
    store
        .commit_publish(&town(), place(&[placed("a", "p", 1, 9)]))
        .await
        .unwrap();
    store
        .claim(&town(), REGISTRY, &[claim("a", "p", 1)])
        .await
        .unwrap();
    assert_eq!(at(&*store, "a").await, Some((Stream::Live, Position(5))));
}

async fn store_104_an_event_is_placed_without_its_claim(harness: &dyn Harness) {
    let store = harness.open().await;
    store
        .commit_publish(&town(), place(&[placed("a", "p", 1, 5)]))
        .await
        .unwrap();
    assert_eq!(at(&*store, "a").await, Some((Stream::Live, Position(5))));
    let found = store.find_event(&town(), "a").await.unwrap().unwrap();
    assert_eq!(found.claim, claim("a", "p", 1));
}

async fn store_105_municipalities_are_apart(harness: &dyn Harness) {
    let store = harness.open().await;
    let mut delta = place(&[placed("a", "p", 1, 5)]);
    delta.versions = vec![version_of(REGISTRY, "p", 1)];
    delta.tail = vec![(Stream::Live, Position(6))];
    delta.cursor = Some((REGISTRY.to_owned(), "3".to_owned()));
    store.commit_publish(&town(), delta).await.unwrap();
    let other = other_town();
    assert!(
        store
            .known(&other, REGISTRY, &names(&["a"]))
            .await
            .unwrap()
            .is_empty()
    );
    assert!(
        store
            .versions(&other, REGISTRY, &[subject("p")])
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(store.find_event(&other, "a").await.unwrap(), None);
    assert!(
        store
            .events_of(&other, &subject("p"), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.committed_tail(&other, Stream::Live).await.unwrap() <= Position(1));
    assert_eq!(
        store.capture(&other, REGISTRY).await.unwrap(),
        CaptureState::default()
    );
}

async fn store_106_versions_rise_and_never_fall(harness: &dyn Harness) {
    let store = harness.open().await;
    let first = raise(&[version_of(REGISTRY, "p", 4), version_of(TAX, "p", 1)]);
    store.commit_publish(&town(), first).await.unwrap();
    let second = raise(&[version_of(REGISTRY, "p", 3), version_of(REGISTRY, "q", 2)]);
    store.commit_publish(&town(), second).await.unwrap();
    let asked = [subject("p"), subject("q"), subject("unknown")];
    let versions = store.versions(&town(), REGISTRY, &asked).await.unwrap();
    assert_eq!(versions.len(), 2);
    assert_eq!((versions[&subject("p")], versions[&subject("q")]), (4, 2));
    assert_eq!(
        store.versions(&town(), TAX, &asked).await.unwrap()[&subject("p")],
        1
    );
    store
        .commit_publish(&town(), raise(&[version_of(REGISTRY, "p", 7)]))
        .await
        .unwrap();
    assert_eq!(
        store.versions(&town(), REGISTRY, &asked).await.unwrap()[&subject("p")],
        7
    );
}

async fn store_107_an_event_is_found_with_its_claim_and_place(harness: &dyn Harness) {
    let store = harness.open().await;
    store
        .claim(&town(), TAX, &[claim("open", "p", 1)])
        .await
        .unwrap();
    let one = Placed {
        stream: Stream::Bulk,
        ..placed("a", "p", 2, 8)
    };
    store.commit_publish(&town(), place(&[one])).await.unwrap();
    let open = store.find_event(&town(), "open").await.unwrap().unwrap();
    assert_eq!((open.source.as_str(), open.at), (TAX, None));
    let found = store.find_event(&town(), "a").await.unwrap().unwrap();
    assert_eq!(found.source, REGISTRY);
    assert_eq!(found.claim, claim("a", "p", 2));
    assert_eq!(found.at, Some((Stream::Bulk, Position(8))));
    assert_eq!(store.find_event(&town(), "unknown").await.unwrap(), None);
}

async fn store_108_events_of_a_subject_come_in_order_of_publishing(harness: &dyn Harness) {
    let store = harness.open().await;
    let published = |id: &str, version, ms| Claim {
        published_ms: ms,
        ..claim(id, "p", version)
    };
    // A measure of protection overtakes, so versions do not follow the order of publishing.
    let claims = [
        published("z", 5, 10),
        published("y", 6, 10),
        published("a", 2, 20),
    ];
    store.claim(&town(), REGISTRY, &claims).await.unwrap();
    store
        .claim(&town(), REGISTRY, &[claim("other", "q", 1)])
        .await
        .unwrap();
    let ids = async |limit| -> Vec<String> {
        let found = store
            .events_of(&town(), &subject("p"), limit)
            .await
            .unwrap();
        found.into_iter().map(|event| event.claim.id).collect()
    };
    assert_eq!(ids(9).await, ["z", "y", "a"]);
    assert_eq!(ids(2).await, ["z", "y"]);
}

async fn store_109_each_stream_has_a_tail_that_never_falls(harness: &dyn Harness) {
    let store = harness.open().await;
    assert!(store.committed_tail(&town(), Stream::Live).await.unwrap() <= Position(1));
    let tail = |stream, position| PublishDelta {
        tail: vec![(stream, Position(position))],
        ..PublishDelta::default()
    };
    store
        .commit_publish(&town(), tail(Stream::Live, 9))
        .await
        .unwrap();
    store
        .commit_publish(&town(), tail(Stream::Bulk, 3))
        .await
        .unwrap();
    store
        .commit_publish(&town(), tail(Stream::Live, 7))
        .await
        .unwrap();
    assert_eq!(
        store.committed_tail(&town(), Stream::Live).await.unwrap(),
        Position(9)
    );
    assert_eq!(
        store.committed_tail(&town(), Stream::Bulk).await.unwrap(),
        Position(3)
    );
}

async fn store_110_a_new_capture_binding_raises_the_epoch_and_keeps_the_cursor(
    harness: &dyn Harness,
) {
    let store = harness.open().await;
    assert_eq!(
        store.capture(&town(), REGISTRY).await.unwrap(),
        CaptureState::default()
    );
    let first = store
        .bind_capture(&town(), REGISTRY, "tsubame")
        .await
        .unwrap();
    assert!(first > 0);
    assert_eq!(store.capture(&town(), REGISTRY).await.unwrap().cursor, None);
    let delta = PublishDelta {
        cursor: Some((REGISTRY.to_owned(), "file 3".to_owned())),
        ..PublishDelta::default()
    };
    store.commit_publish(&town(), delta).await.unwrap();
    let second = store
        .bind_capture(&town(), REGISTRY, "tsubame")
        .await
        .unwrap();
    assert!(second > first);
    let state = store.capture(&town(), REGISTRY).await.unwrap();
    assert_eq!((state.epoch, state.product.as_str()), (second, "tsubame"));
    assert_eq!(state.cursor.as_deref(), Some("file 3"));
    assert_eq!(
        store.capture(&town(), TAX).await.unwrap(),
        CaptureState::default()
    );
}

async fn store_111_a_cursor_moves_without_a_binding(harness: &dyn Harness) {
    let store = harness.open().await;
    for cursor in ["1", "2"] {
        let delta = PublishDelta {
            cursor: Some((TAX.to_owned(), cursor.to_owned())),
            ..PublishDelta::default()
        };
        store.commit_publish(&town(), delta).await.unwrap();
    }
    let state = store.capture(&town(), TAX).await.unwrap();
    assert_eq!((state.epoch, state.cursor.as_deref()), (0, Some("2")));
}

async fn store_112_a_snapshot_begins_and_ends_once(harness: &dyn Harness) {
    let store = harness.open().await;
    for delta in [
        snapshot("s1", 1, None),
        // The trailer knows its own position, not that of the header.
        snapshot("s1", 50, Some(50)),
        snapshot("s2", 60, None),
        // Both are read again after a crash.
        snapshot("s1", 1, None),
        snapshot("s1", 50, Some(50)),
    ] {
        store.commit_publish(&town(), delta).await.unwrap();
    }
    let marks = store.snapshots(&town()).await.unwrap();
    let expected: Vec<_> = [snapshot("s1", 1, Some(50)), snapshot("s2", 60, None)]
        .into_iter()
        .flat_map(|delta| delta.snapshots)
        .collect();
    assert_eq!(marks, expected);
}

async fn store_113_many_ids_are_known_in_one_call(harness: &dyn Harness) {
    let store = harness.open().await;
    let ids: Vec<String> = (0..2_000).map(|number| format!("id-{number}")).collect();
    let claims: Vec<Claim> = ids.iter().map(|id| claim(id, id, 1)).collect();
    store.claim(&town(), REGISTRY, &claims).await.unwrap();
    assert_eq!(
        store.known(&town(), REGISTRY, &ids).await.unwrap().len(),
        ids.len()
    );
}

async fn store_114_a_subject_is_protected_while_any_measure_is_not_ended(harness: &dyn Harness) {
    let store = harness.open().await;
    let mark = async |name: &str, measure: &str, version, active| {
        let (subject, measure) = (subject(name), measure.to_owned());
        let delta = PublishDelta {
            protection: vec![ProtectionMark {
                subject,
                measure,
                version,
                active,
            }],
            ..PublishDelta::default()
        };
        store.commit_publish(&town(), delta).await.unwrap();
        let protected = store.protected(&town()).await.unwrap();
        let mut protected: Vec<String> = protected.into_iter().map(|one| one.0).collect();
        protected.sort();
        protected
    };
    assert_eq!(mark("p", "m1", 0, true).await, ["p"]);
    assert_eq!(mark("p", "m2", 1, true).await, ["p"]);
    assert_eq!(mark("q", "m1", 1, true).await, ["p", "q"]);
    assert_eq!(mark("p", "m1", 2, false).await, ["p", "q"]);
    assert_eq!(mark("p", "m2", 2, false).await, ["q"]);
    // What comes late, or again, never opens an ended measure, and never ends an open one.
    assert_eq!(mark("p", "m2", 1, true).await, ["q"]);
    assert_eq!(mark("p", "m2", 2, true).await, ["q"]);
    assert_eq!(mark("q", "m1", 1, false).await, ["q"]);
    // Ended before it was ever seen as started.
    assert_eq!(mark("r", "m1", 3, false).await, ["q"]);
    assert_eq!(mark("r", "m1", 1, true).await, ["q"]);
    assert_eq!(mark("p", "m2", 3, true).await, ["p", "q"]);
    assert!(store.protected(&other_town()).await.unwrap().is_empty());
}

async fn store_190_the_publish_side_survives_reopen(harness: &dyn Harness) {
    let store = harness.open().await;
    store
        .claim(&town(), REGISTRY, &[claim("claimed", "p", 2)])
        .await
        .unwrap();
    let epoch = store
        .bind_capture(&town(), REGISTRY, "tsubame")
        .await
        .unwrap();
    let mut delta = place(&[placed("placed", "p", 1, 5)]);
    delta.versions = vec![version_of(REGISTRY, "p", 1)];
    delta.tail = vec![(Stream::Live, Position(6))];
    delta.cursor = Some((REGISTRY.to_owned(), "3".to_owned()));
    delta.snapshots = snapshot("s1", 1, Some(4)).snapshots;
    let (measure, version) = ("m1".to_owned(), 1);
    delta.protection = vec![ProtectionMark {
        subject: subject("p"),
        measure,
        version,
        active: true,
    }];
    store.commit_publish(&town(), delta).await.unwrap();
    drop(store);

    let store = harness.open().await;
    assert_eq!(at(&*store, "claimed").await, None);
    assert_eq!(
        at(&*store, "placed").await,
        Some((Stream::Live, Position(5)))
    );
    let versions = store
        .versions(&town(), REGISTRY, &[subject("p")])
        .await
        .unwrap();
    assert_eq!(versions[&subject("p")], 1);
    assert_eq!(
        store.committed_tail(&town(), Stream::Live).await.unwrap(),
        Position(6)
    );
    assert_eq!(store.snapshots(&town()).await.unwrap().len(), 1);
    assert_eq!(store.protected(&town()).await.unwrap().len(), 1);
    let capture = store.capture(&town(), REGISTRY).await.unwrap();
    assert_eq!(
        (capture.epoch, capture.cursor.as_deref()),
        (epoch, Some("3"))
    );
    assert!(
        store
            .bind_capture(&town(), REGISTRY, "tsubame")
            .await
            .unwrap()
            > epoch
    );
}

suites!(
    store_101_a_claim_is_known_without_a_place,
    store_102_a_claimed_id_stays_as_it_is,
    store_103_a_placed_event_stays_where_it_stands,
    store_104_an_event_is_placed_without_its_claim,
    store_105_municipalities_are_apart,
    store_106_versions_rise_and_never_fall,
    store_107_an_event_is_found_with_its_claim_and_place,
    store_108_events_of_a_subject_come_in_order_of_publishing,
    store_109_each_stream_has_a_tail_that_never_falls,
    store_110_a_new_capture_binding_raises_the_epoch_and_keeps_the_cursor,
    store_111_a_cursor_moves_without_a_binding,
    store_112_a_snapshot_begins_and_ends_once,
    store_113_many_ids_are_known_in_one_call,
    store_114_a_subject_is_protected_while_any_measure_is_not_ended,
    store_190_the_publish_side_survives_reopen,
);
