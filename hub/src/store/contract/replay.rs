//! Rules of replays: what a subscription had, and how far a replay is.
//! The part of the suite that keeps a replay complete, in order, and alone.
//! Must never test more than `store/replay.rs` promises.
//! Read next: `server/runner/replay.rs`.

use super::*;
use crate::store::{
    HadEvent, NewAct, ReplayAt, ReplayProgress, ReplayRow, ReplayState, Selected, Selection,
};

/// Three live units about two persons, one of them a pair of events, and a snapshot record.
async fn delivered(harness: &dyn Harness) -> (Arc<dyn Store>, u64) {
    let (store, epoch) = opened(harness).await;
    let snapshot = Placed {
        stream: Stream::Bulk,
        ..placed("s", "p", 1, 7)
    };
    let mut late = placed("c", "p", 3, 13);
    late.claim.published_ms += 60_000;
    late.claim.event_type = "musubi.standard.resident.v1.ResidentDied".to_owned();
    let all = [snapshot, placed("a", "p", 2, 10), placed("b", "q", 1, 11)];
    let more = [placed("x", "q", 2, 12), late];
    for events in [&all[..], &more[..]] {
        store.commit_publish(&town(), place(events)).await.unwrap();
    }
    let done = vec![
        done(bulk(1), Outcome::Applied, &["s"]),
        done(live(1), Outcome::Applied, &["a"]),
        done(live(2), Outcome::Applied, &["x", "b"]),
        done(live(3), Outcome::NotRelevant, &["c"]),
    ];
    let step = DeliveryDelta {
        done,
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    (store, epoch)
}

fn ids(had: &[HadEvent]) -> Vec<&str> {
    had.iter().map(|event| event.id.as_str()).collect()
}

async fn live_of(store: &dyn Store, of: &Selection, after: u64, limit: usize) -> Vec<HadEvent> {
    let had = store.had(PENSION, Stream::Live, after, Some(of), limit);
    had.await.unwrap()
}

fn replay(id: &str) -> ReplayRow {
    ReplayRow {
        id: id.to_owned(),
        subscription: PENSION.to_owned(),
        binding_epoch: 3,
        selection: Selection {
            stream: Some(Stream::Bulk),
            from_position: Some(Position(2)),
            to_position: Some(Position(9)),
            from_ms: Some(5),
            to_ms: Some(6),
            subjects: vec![subject("p")],
            types: names(&["t"]),
        },
        repair: true,
        operator: "sato".to_owned(),
        reason: "復旧".to_owned(),
        started_ms: 1_700_000_000_009,
        selected: (4, 2),
        progress: ReplayProgress::start(false),
    }
}

fn act(id: &str) -> NewAct {
    NewAct {
        id: id.to_owned(),
        ..NewAct::now(12, "sato", "復旧")
    }
}

async fn store_601_what_was_had_comes_in_whole_units_by_sequence(harness: &dyn Harness) {
    let (store, _) = delivered(harness).await;
    let all = Selection::default();
    assert_eq!(
        ids(&live_of(&*store, &all, 0, 9).await),
        ["a", "b", "x", "c"]
    );
    assert_eq!(ids(&live_of(&*store, &all, 1, 1).await), ["b", "x"]);
    assert!(live_of(&*store, &all, 3, 9).await.is_empty());
    let bulk = store.had(PENSION, Stream::Bulk, 0, None, 9).await.unwrap();
    assert_eq!((bulk[0].sequence, bulk[0].position), (1, Position(7)));
    assert_eq!(bulk[0].subject, subject("p"));
    let other = store.had(FILLING, Stream::Live, 0, None, 9).await.unwrap();
    assert!(other.is_empty());
}

async fn store_602_each_word_of_a_selection_narrows_it(harness: &dyn Harness) {
    let (store, _) = delivered(harness).await;
    let all = Selection::default;
    let late_ms = 1_700_000_030_000;
    for (of, expected, counted) in [
        (
            Selection {
                from_position: Some(Position(12)),
                stream: Some(Stream::Live),
                ..all()
            },
            vec!["b", "x", "c"],
            (2, 2),
        ),
        (
            Selection {
                to_position: Some(Position(11)),
                stream: Some(Stream::Live),
                ..all()
            },
            vec!["a", "b", "x"],
            (2, 2),
        ),
        (
            Selection {
                from_ms: Some(late_ms),
                ..all()
            },
            vec!["c"],
            (1, 1),
        ),
        (
            Selection {
                to_ms: Some(late_ms),
                subjects: vec![subject("p")],
                ..all()
            },
            vec!["a"],
            (2, 1),
        ),
        (
            Selection {
                types: names(&["musubi.standard.resident.v1.ResidentDied"]),
                ..all()
            },
            vec!["c"],
            (1, 1),
        ),
        (
            Selection {
                types: names(&["other"]),
                ..all()
            },
            vec![],
            (0, 0),
        ),
    ] {
        assert_eq!(ids(&live_of(&*store, &of, 0, 9).await), expected, "{of:?}");
        let Selected {
            units, subjects, ..
        } = store.selected(PENSION, &of).await.unwrap();
        assert_eq!((units, subjects), counted, "{of:?}");
    }
    let first = store.selected(PENSION, &all()).await.unwrap().first;
    assert_eq!(first, [Some(Position(10)), Some(Position(7))]);
}

async fn store_603_the_last_outcome_counts_and_a_skipped_event_is_not_selected(
    harness: &dyn Harness,
) {
    let (store, epoch) = delivered(harness).await;
    let before = row_of(&*store, PENSION).await;
    let step = DeliveryDelta {
        replayed: vec![done(live(1), Outcome::Duplicate, &["a"])],
        ..delta(epoch, PENSION)
    };
    assert!(!step.is_empty());
    store.commit(step).await.unwrap();
    assert_eq!(row_of(&*store, PENSION).await, before, "counted once");
    assert_eq!(store.history(&town(), "a").await.unwrap().len(), 2);
    let all = Selection::default();
    let had = live_of(&*store, &all, 0, 1).await;
    assert_eq!(
        (ids(&had), had[0].outcome),
        (vec!["a"], Outcome::Duplicate as i32)
    );
    let step = DeliveryDelta {
        done: vec![done(live(1), Outcome::Skipped, &["a"])],
        ..delta(epoch, PENSION)
    };
    store.commit(step).await.unwrap();
    assert_eq!(ids(&live_of(&*store, &all, 0, 1).await), ["b", "x"]);
    let any = store.had(PENSION, Stream::Live, 0, None, 1).await.unwrap();
    assert_eq!(ids(&any), ["a"]);
}

async fn store_604_subjects_touched_come_in_pages_and_each_has_its_events(harness: &dyn Harness) {
    let (store, _) = delivered(harness).await;
    let all = Selection::default();
    let first = store.touched(PENSION, &all, false, None, 1).await.unwrap();
    assert_eq!(first, [subject("p")]);
    let rest = store
        .touched(PENSION, &all, false, first.last(), 9)
        .await
        .unwrap();
    assert_eq!(rest, [subject("q")]);
    let had = store.had_of(PENSION, &subject("p")).await.unwrap();
    assert_eq!(ids(&had), ["s", "a", "c"], "bulk before live");
    let had = store.had_of(PENSION, &subject("q")).await.unwrap();
    assert_eq!(ids(&had), ["b", "x"]);
}

async fn store_605_one_replay_of_a_subscription_runs_at_a_time(harness: &dyn Harness) {
    let (store, _) = opened(harness).await;
    assert!(store.start_replay(replay("r1"), act("a")).await.unwrap());
    assert!(!store.start_replay(replay("r2"), act("b")).await.unwrap());
    drop(store);
    let store = harness.open().await;
    let mut stopped = replay("r1");
    stopped.progress = ReplayProgress {
        state: ReplayState::Stopped,
        note: "by hand".to_owned(),
        ended_ms: Some(9),
        at: ReplayAt::Subjects(Some(subject("p"))),
        delivered: 3,
        known: 2,
        parked: 1,
    };
    let progress = stopped.progress.clone();
    assert!(
        store
            .move_replay("r1", progress.clone(), Some(act("c")))
            .await
            .unwrap()
    );
    assert!(
        !store
            .move_replay("r1", progress, Some(act("d")))
            .await
            .unwrap()
    );
    assert!(store.start_replay(replay("r2"), act("e")).await.unwrap());
    let rows = store.replays(&town(), 9).await.unwrap();
    assert_eq!(rows, [replay("r2"), stopped]);
    assert_eq!(store.replays(&town(), 1).await.unwrap().len(), 1);
    assert!(store.replays(&other_town(), 9).await.unwrap().is_empty());
    let acts = store.acts(&town(), 0, 9).await.unwrap();
    let acts: Vec<_> = acts.iter().map(|row| row.act.id.as_str()).collect();
    assert_eq!(acts, ["e", "c", "a"]);
}

suites! {
    store_601_what_was_had_comes_in_whole_units_by_sequence,
    store_602_each_word_of_a_selection_narrows_it,
    store_603_the_last_outcome_counts_and_a_skipped_event_is_not_selected,
    store_604_subjects_touched_come_in_pages_and_each_has_its_events,
    store_605_one_replay_of_a_subscription_runs_at_a_time,
}
