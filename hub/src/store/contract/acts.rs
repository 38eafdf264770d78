//! Rules of the acts of operators.
//! The part of the suite that accountability rests on.
//! Must never test more than `store/acts.rs` promises.
//! Read next: `server/admin_service/acts.rs`.

use super::*;
use crate::store::NewAct;

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

suites! {
    store_501_acts_are_listed_latest_first_in_pages_of_one_municipality,
    store_502_an_act_is_recorded_once_and_comes_back_whole,
    store_503_a_delta_records_its_act_and_a_fenced_one_does_not,
}
