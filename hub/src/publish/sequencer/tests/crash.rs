//! A hub that dies between claim, append and commit, and what the next one makes of it.

use super::*;

rules![
    wherever_it_dies_a_unit_is_in_the_log_once,
    wherever_it_dies_a_page_with_held_units_is_kept_once,
    wherever_it_dies_a_correction_lets_follow,
    wherever_it_dies_a_correction_by_name_lets_follow,
    a_fault_that_passes_needs_no_restart,
    nothing_is_acknowledged_that_was_not_committed,
    a_unit_of_unknown_outcome_is_not_replaced_by_another,
];

const ALL: [Fault; 7] = [
    Fault::BeforeClaim,
    Fault::BeforeAppend,
    Fault::AfterAppend,
    Fault::BeforeCommit,
    Fault::AfterCommit,
    Fault::BeforeSecondCommit,
    Fault::BeforeSecondAppend,
];

/// Publishes while the hub dies, starts it again, publishes the same once more.
async fn through(desk: &mut Desk, fault: Fault, page: impl Fn() -> Batch) -> Vec<Said> {
    desk.fail(fault);
    // Where the fault does not strike, the page goes through twice.
    drop(desk.try_publish(page()).await);
    desk.restart().await;
    said(desk.try_publish(page()).await.unwrap())
}

/// Every id stands once in the log, and the index points at it.
async fn assert_once(desk: &Desk, expected: &[&str]) {
    let mut events = desk.events().await;
    events.sort();
    assert_eq!(events, expected);
    let records = desk.records(Stream::Live).await;
    for record in records {
        let found = desk.store.find_event(&town(), &record.key).await.unwrap();
        let at = found.and_then(|event| event.at);
        assert_eq!(at, Some((Stream::Live, record.position)), "{}", record.key);
    }
}

async fn wherever_it_dies_a_unit_is_in_the_log_once(mut desk: Desk) {
    for (fault, version) in ALL.into_iter().zip((1..).step_by(2)) {
        let (id, next) = (format!("e{version}"), format!("e{}", version + 1));
        let cursor = format!("c{version}");
        let units = || {
            page(
                &cursor,
                vec![one(&id, "A", version), one(&next, "A", version + 1)],
            )
        };
        let answers = through(&mut desk, fault, units).await;
        assert!(
            answers
                .iter()
                .all(|said| matches!(said, Said::Accepted | Said::Duplicate)),
            "{fault:?}: {answers:?}"
        );
        assert_eq!(desk.version("A").await, Some(version + 1), "{fault:?}");
        assert_eq!(desk.cursor().await, Some(cursor), "{fault:?}");
    }
    let ids: Vec<String> = (1..=2 * ALL.len()).map(|n| format!("e{n}")).collect();
    let mut ids: Vec<&str> = ids.iter().map(String::as_str).collect();
    ids.sort_unstable();
    assert_once(&desk, &ids).await;
}

async fn wherever_it_dies_a_page_with_held_units_is_kept_once(mut desk: Desk) {
    for (place, fault) in ALL.into_iter().enumerate() {
        let (key, name) = (format!("R{place}"), format!("A{place}"));
        let (good, bad) = (format!("g{place}"), format!("w{place}"));
        let other = format!("B{place}");
        let entries = || {
            vec![
                refused(&key, &[(&name, 1)]),
                one(&bad, &name, 2),
                one(&good, &other, 1),
            ]
        };
        let answers = through(&mut desk, fault, || page("c", entries())).await;
        assert_eq!(answers[0], held_as("BAD_DATE"), "{fault:?}");
        assert_eq!(answers[1], held_as("BEHIND_HELD"), "{fault:?}");
        assert_eq!(
            desk.held(HeldState::Refused).await.len(),
            place + 1,
            "{fault:?}"
        );
        assert_eq!(
            desk.held(HeldState::Waiting).await.len(),
            place + 1,
            "{fault:?}"
        );
    }
    assert_once(&desk, &["g0", "g1", "g2", "g3", "g4", "g5", "g6"]).await;
}

async fn wherever_it_dies_a_correction_lets_follow(mut desk: Desk) {
    for (place, fault) in ALL.into_iter().enumerate() {
        let (key, name) = (format!("R{place}"), format!("A{place}"));
        let (first, second, third) = (
            format!("a{place}"),
            format!("b{place}"),
            format!("c{place}"),
        );
        let waits = vec![
            refused(&key, &[(&name, 1)]),
            one(&second, &name, 2),
            one(&third, &name, 3),
        ];
        desk.publish(waits).await;
        let corrects = || batch(vec![one(&first, &name, 1)]);
        let answers = through(&mut desk, fault, corrects).await;
        assert!(
            matches!(answers[0], Said::Accepted | Said::Duplicate),
            "{fault:?}"
        );
        assert_eq!(desk.version(&name).await, Some(3), "{fault:?}");
        let mut events = desk.events().await;
        let place = events.len() - 3;
        assert_eq!(events.split_off(place), [first, second, third], "{fault:?}");
        assert!(desk.held(HeldState::Waiting).await.is_empty(), "{fault:?}");
        assert!(desk.held(HeldState::Refused).await.is_empty(), "{fault:?}");
    }
}

async fn wherever_it_dies_a_correction_by_name_lets_follow(mut desk: Desk) {
    for (place, fault) in ALL.into_iter().enumerate() {
        let (key, wrong, right) = (
            format!("R{place}"),
            format!("X{place}"),
            format!("Y{place}"),
        );
        let (first, second) = (format!("a{place}"), format!("b{place}"));
        desk.publish(vec![refused(&key, &[(&wrong, 1)]), one(&second, &wrong, 2)])
            .await;
        let named = desk.held(HeldState::Refused).await[0].id.clone();
        let corrects = || batch(vec![correction(&named, &first, &right, 1)]);
        let answers = through(&mut desk, fault, corrects).await;
        assert!(
            matches!(answers[0], Said::Accepted | Said::Duplicate),
            "{fault:?}"
        );
        let row = desk.store.held(&town(), &named).await.unwrap().unwrap();
        assert_eq!(row.held.state, HeldState::Corrected, "{fault:?}");
        assert_eq!(row.corrected_by, first, "{fault:?}");
        assert_eq!(desk.version(&wrong).await, Some(2), "{fault:?}");
    }
}

async fn a_fault_that_passes_needs_no_restart(desk: Desk) {
    for (fault, version) in ALL[..5].iter().zip(1..) {
        desk.fail(*fault);
        let id = format!("e{version}");
        let units = || batch(vec![one(&id, "A", version)]);
        assert!(desk.try_publish(units()).await.is_err(), "{fault:?}");
        // Sent again while it lasts, it may get through or not.
        drop(desk.try_publish(units()).await);
        *desk.fault.lock().unwrap() = None;
        let answers = desk.publish(vec![one(&id, "A", version)]).await;
        assert!(
            matches!(answers[0], Said::Accepted | Said::Duplicate),
            "{fault:?}"
        );
    }
    assert_once(&desk, &["e1", "e2", "e3", "e4", "e5"]).await;
}

async fn nothing_is_acknowledged_that_was_not_committed(desk: Desk) {
    for fault in [Fault::BeforeClaim, Fault::BeforeAppend, Fault::BeforeCommit] {
        desk.fail(fault);
        // Alone, and together with others in one group commit.
        let many = (0..5).map(|n| {
            let (id, name) = (format!("{fault:?}{n}"), format!("{fault:?}{n}"));
            let sequencer = desk.sequencer.clone();
            async move { sequencer.publish(batch(vec![one(&id, &name, 1)])).await }
        });
        for answer in futures::future::join_all(many).await {
            assert!(answer.is_err(), "{fault:?}");
        }
        *desk.fault.lock().unwrap() = None;
    }
}

async fn a_unit_of_unknown_outcome_is_not_replaced_by_another(mut desk: Desk) {
    desk.fail(Fault::AfterAppend);
    drop(desk.try_publish(batch(vec![one("e1", "A", 1)])).await);
    desk.restart().await;
    // The hub has accepted version 1, whether the publisher knows or not.
    let answers = desk
        .publish(vec![one("e2", "A", 1), one("e1", "A", 1)])
        .await;
    assert_eq!(answers, [Said::Refused("VERSION_REUSED"), Said::Duplicate]);
    assert_once(&desk, &["e1"]).await;
}
