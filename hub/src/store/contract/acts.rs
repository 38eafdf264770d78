//! Rules of the acts of operators.
//! The part of the suite that accountability rests on.
//! Must never test more than `store/acts.rs` promises.
//! Read next: `server/admin_service/acts.rs`.

use super::*;
use crate::store::{NewAct, ParkedFilter};

use ParkedState::{Dead, Rejected, Waiting};

fn act(id: &str, units: &[UnitKey]) -> NewAct {
    NewAct {
        id: id.to_owned(),
        at_ms: 1_700_000_000_009,
        operator: "sato".to_owned(),
        reason: "外字を登録した".to_owned(),
        kind: 5,
        subscription: PENSION.to_owned(),
        target: format!("{PENSION} live 7"),
        units: units.to_vec(),
        subjects: 1,
        note: "again".to_owned(),
    }
}

async fn store_501_acts_are_listed_latest_first_in_pages_of_one_municipality(
    harness: &dyn Harness,
) {
    let store = harness.open().await;
    for id in ["a", "b", "c"] {
        store.record_act(&town(), act(id, &[])).await.unwrap();
    }
    store
        .record_act(&other_town(), act("d", &[]))
        .await
        .unwrap();
    let first = store.acts(&town(), 0, 2).await.unwrap();
    let rest = store.acts(&town(), first[1].number, 2).await.unwrap();
    let names: Vec<_> = first.iter().chain(&rest).map(|row| &row.act.id).collect();
    assert_eq!(names, ["c", "b", "a"]);
    assert_eq!(store.acts(&other_town(), 0, 9).await.unwrap().len(), 1);
}

async fn store_502_an_act_is_recorded_once_and_comes_back_whole(harness: &dyn Harness) {
    let store = harness.open().await;
    let done = act("a", &[live(7), live(9)]);
    store.record_act(&town(), done.clone()).await.unwrap();
    store.record_act(&town(), done.clone()).await.unwrap();
    drop(store);
    let store = harness.open().await;
    let rows = store.acts(&town(), 0, 9).await.unwrap();
    assert_eq!((rows.len(), rows[0].units), (1, 2));
    let units = done.units.clone();
    assert_eq!(
        NewAct {
            units,
            ..rows[0].act.clone()
        },
        done
    );
}

async fn store_503_a_delta_records_its_act_and_a_fenced_one_does_not(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let with = |owner_epoch, id| DeliveryDelta {
        act: Some(act(id, &[live(7)])),
        ..delta(owner_epoch, PENSION)
    };
    store.commit(with(epoch, "a")).await.unwrap();
    store.commit(with(epoch + 1, "b")).await.unwrap_err();
    let rows = store.acts(&town(), 0, 9).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(store.acts_on(PENSION, live(7)).await.unwrap(), rows);
    assert!(store.acts_on(PENSION, live(8)).await.unwrap().is_empty());
    assert!(store.acts_on(FILLING, live(7)).await.unwrap().is_empty());
}

async fn store_504_the_revision_of_a_parked_unit_rises_with_each_refusal_and_act(
    harness: &dyn Harness,
) {
    let (store, epoch) = opened(harness).await;
    let park = |state, sequence| DeliveryDelta {
        park: vec![parked(live(sequence), state, &["p"], &["a"])],
        ..delta(epoch, PENSION)
    };
    store.commit(park(Rejected, 7)).await.unwrap();
    store.commit(park(Waiting, 8)).await.unwrap();
    store.commit(park(Rejected, 7)).await.unwrap();
    let acted = DeliveryDelta {
        act: Some(act("a", &[live(7)])),
        ..delta(epoch, PENSION)
    };
    store.commit(acted).await.unwrap();
    drop(store);
    let store = harness.open().await;
    let rows = store.parked(PENSION, None, None, 9).await.unwrap();
    let revisions: Vec<_> = rows.iter().map(|row| row.revision).collect();
    assert_eq!(revisions, [3, 1]);
    let history = store.history(&town(), "a").await.unwrap();
    let refused: Vec<_> = history.iter().map(|row| (row.key, row.outcome)).collect();
    let rejected = Outcome::Rejected as i32;
    assert_eq!(refused, [(live(7), rejected); 2], "each refusal is history");
}

async fn store_505_parked_units_are_found_by_state_reason_age_and_subject(harness: &dyn Harness) {
    let (store, epoch) = opened(harness).await;
    let mut dead = parked(live(3), Dead, &["r"], &["c"]);
    dead.reason = "RETRIES_EXHAUSTED".to_owned();
    dead.at_ms = 5;
    let park = DeliveryDelta {
        park: vec![
            parked(live(1), Rejected, &["p"], &["a"]),
            parked(live(2), Waiting, &["p", "q"], &["b"]),
            dead,
        ],
        ..delta(epoch, PENSION)
    };
    store.commit(park).await.unwrap();
    let found = async |filter: ParkedFilter, after, limit| {
        let rows = store.find_parked(PENSION, &filter, after, limit).await;
        let rows = rows.unwrap();
        assert!(rows.iter().all(|row| filter.finds(row)));
        rows.iter().map(|row| row.key.sequence).collect::<Vec<_>>()
    };
    let all = ParkedFilter::default();
    assert_eq!(found(all.clone(), None, 9).await, [1, 2, 3]);
    assert_eq!(found(all.clone(), None, 2).await, [1, 2]);
    assert_eq!(found(all.clone(), Some(live(1)), 9).await, [2, 3]);
    let states = vec![Rejected, Dead];
    let by_state = ParkedFilter {
        states,
        ..all.clone()
    };
    assert_eq!(found(by_state, None, 9).await, [1, 3]);
    let reason = Some("RETRIES_EXHAUSTED".to_owned());
    let by_reason = ParkedFilter {
        reason,
        ..all.clone()
    };
    assert_eq!(found(by_reason, None, 9).await, [3]);
    let before_ms = Some(6);
    let by_age = ParkedFilter {
        before_ms,
        ..all.clone()
    };
    assert_eq!(found(by_age, None, 9).await, [3]);
    let by_subject = ParkedFilter {
        subject: Some(subject("q")),
        ..all
    };
    assert_eq!(found(by_subject, None, 9).await, [2]);
    let all = ParkedFilter::default();
    let elsewhere = store.find_parked(FILLING, &all, None, 9).await.unwrap();
    assert!(elsewhere.is_empty());
}

suites! {
    store_504_the_revision_of_a_parked_unit_rises_with_each_refusal_and_act,
    store_505_parked_units_are_found_by_state_reason_age_and_subject,
    store_501_acts_are_listed_latest_first_in_pages_of_one_municipality,
    store_502_an_act_is_recorded_once_and_comes_back_whole,
    store_503_a_delta_records_its_act_and_a_fenced_one_does_not,
}
