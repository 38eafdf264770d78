//! Rules of what the store knows of alarms.
//! The part of the suite that the look for alarms rests on.
//! Must never test more than `store/alarms.rs` promises.
//! Read next: `server/town/alarms.rs`.

use std::collections::HashMap;

use super::*;
use crate::store::{Followed, HeldPile, NewAct, Pile, Piles, RhythmRow, StandingRow};

use ParkedState::{Dead, Due, Rejected, Waiting};

async fn store_701_piles_count_what_waits_for_a_human_with_the_oldest(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let named = ["142042/other".to_owned(), PENSION.to_owned()];
    assert_eq!(store.piles(&named).await.unwrap(), HashMap::new());
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
    let piles = Piles {
        refused: pile(2, 100, "TOO_LONG"),
        dead: pile(1, 200, "HTTP_500"),
        due: pile(1, 40, "HTTP_503"),
    };
    let found = store.piles(&named).await.unwrap();
    assert_eq!(found, HashMap::from([(PENSION.to_owned(), piles)]));
    let found = store.piles(&named[..1]).await.unwrap();
    assert_eq!(found, HashMap::new(), "only what is named");
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

async fn store_703_held_units_are_counted_by_source_and_by_what_they_wait_for(
    harness: &dyn Harness,
) {
    let store = harness.open().await;
    let at = |key: &str, state, rule: &str, held_ms| NewHeld {
        rule: rule.to_owned(),
        held_ms,
        ..held(key, state, &[("a", 1)], &[key])
    };
    let of_tax = NewHeld {
        source: TAX.to_owned(),
        ..at("f", HeldState::Waiting, "VERSION_GAP", 5)
    };
    let units = [
        at("a", HeldState::Refused, "BAD_DATE", 20),
        at("b", HeldState::Refused, "TOO_LONG", 10),
        at("c", HeldState::Waiting, "BEHIND_HELD", 1),
        at("d", HeldState::Waiting, "VERSION_GAP", 30),
        of_tax,
    ];
    store.commit_publish(&town(), hold(&units)).await.unwrap();
    let pile = |source: &str, refused, count, oldest_ms, reason: &str| HeldPile {
        source: source.to_owned(),
        refused,
        pile: Pile {
            count,
            oldest_ms,
            reason: reason.to_owned(),
        },
    };
    assert_eq!(
        store.held_piles(&town()).await.unwrap(),
        [
            pile(REGISTRY, true, 2, 10, "TOO_LONG"),
            pile(REGISTRY, false, 1, 30, "VERSION_GAP"),
            pile(TAX, false, 1, 5, "VERSION_GAP"),
        ]
    );
    assert_eq!(store.held_piles(&other_town()).await.unwrap(), []);
}

fn followed(id: &str, position: u64, at_ms: i64) -> Followed {
    Followed {
        id: id.to_owned(),
        event_type: "musubi.standard.resident.v1.SupportMeasureStarted".to_owned(),
        stream: Stream::Live,
        position: Position(position),
        at_ms,
    }
}

async fn store_704_a_followed_event_is_open_until_it_has_an_outcome_at_the_subscription(
    harness: &dyn Harness,
) {
    let (store, epoch) = opened(harness).await;
    let at = row_of(&*store, PENSION).await.live;
    let place = at.position.0;
    let events = [
        followed("b", place + 1, 2),
        followed("a", place, 1),
        followed("c", place + 2, 3),
        followed("passed", place - 1, 0),
    ];
    let delta_of = PublishDelta {
        follow: events.to_vec(),
        ..PublishDelta::default()
    };
    store.commit_publish(&town(), delta_of).await.unwrap();
    let names = |events: Vec<Followed>| {
        let ids = events.into_iter().map(|event| event.id);
        ids.collect::<Vec<_>>().join(" ")
    };
    let all = store.followed(&town(), 9).await.unwrap();
    assert_eq!(names(all), "passed a b c", "oldest first");
    assert_eq!(names(store.followed(&town(), 2).await.unwrap()), "passed a");
    let m = town();
    let open = || store.open_followed(&m, PENSION, 9);
    assert_eq!(names(open().await.unwrap()), "a b c");
    // One ends ahead of the cursor, one is refused and lies parked, and the cursor passes both.
    let refused = parked(live(at.sequence + 1), Rejected, &["s"], &["b"]);
    let ended = DeliveryDelta {
        done: vec![done(live(at.sequence), Outcome::Applied, &["a"])],
        park: vec![refused],
        cursors: vec![(
            Stream::Live,
            Cursor {
                position: Position(place + 2),
                sequence: at.sequence + 2,
            },
        )],
        ..delta(epoch, PENSION)
    };
    store.commit(ended).await.unwrap();
    assert_eq!(names(open().await.unwrap()), "b c");
    let skipped = DeliveryDelta {
        unpark: vec![live(at.sequence + 1)],
        done: vec![done(live(at.sequence + 1), Outcome::Skipped, &["b"])],
        ..delta(epoch, PENSION)
    };
    store.commit(skipped).await.unwrap();
    assert_eq!(names(open().await.unwrap()), "c");
    let ids = ["passed".to_owned(), "b".to_owned()];
    store.unfollow(&town(), &ids).await.unwrap();
    drop(store);
    let store = harness.open().await;
    assert_eq!(names(store.followed(&town(), 9).await.unwrap()), "a c");
}

async fn store_705_a_rhythm_is_set_with_its_act_and_a_time_never_goes_back(harness: &dyn Harness) {
    let store = harness.open().await;
    let row = |rhythm_ms, heard_ms| RhythmRow {
        source: REGISTRY.to_owned(),
        rhythm_ms,
        heard_ms,
    };
    let act = |id: &str| NewAct {
        id: id.to_owned(),
        ..NewAct::default()
    };
    let m = town();
    let heard = |at_ms| [(REGISTRY.to_owned(), at_ms), (TAX.to_owned(), at_ms)];
    store.heard(&m, &heard(1)).await.unwrap();
    assert_eq!(store.rhythms(&m).await.unwrap(), [], "none is set");
    store.put_rhythm(&m, row(60, 10), act("a")).await.unwrap();
    store.heard(&m, &heard(30)).await.unwrap();
    store.heard(&m, &heard(20)).await.unwrap();
    drop(store);
    let store = harness.open().await;
    assert_eq!(store.rhythms(&m).await.unwrap(), [row(60, 30)]);
    assert_eq!(store.rhythms(&other_town()).await.unwrap(), []);
    store.put_rhythm(&m, row(0, 40), act("b")).await.unwrap();
    assert_eq!(store.rhythms(&m).await.unwrap(), []);
    assert_eq!(store.acts(&m, 0, 9).await.unwrap().len(), 2);
}

suites! {
    store_703_held_units_are_counted_by_source_and_by_what_they_wait_for,
    store_704_a_followed_event_is_open_until_it_has_an_outcome_at_the_subscription,
    store_705_a_rhythm_is_set_with_its_act_and_a_time_never_goes_back,
    store_701_piles_count_what_waits_for_a_human_with_the_oldest,
    store_702_standing_alarms_are_replaced_whole_and_come_back,
}
