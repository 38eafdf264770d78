//! What waits in the hub, what corrects it, and what follows then.

use super::*;

rules![
    a_refused_unit_holds_its_persons_and_nobody_else,
    the_next_version_corrects_and_the_waiting_follow_in_order,
    a_correction_by_name_may_be_about_another_person,
    a_correction_within_the_same_batch_lets_follow_at_once,
    a_unit_that_fills_a_gap_lets_follow_what_waited,
    a_group_waits_for_all_its_persons,
    a_row_without_a_readable_person_holds_only_its_group,
    a_page_that_is_published_again_holds_nothing_twice,
    what_was_corrected_stays_corrected_when_its_page_is_published_again,
    an_invalid_captured_unit_is_held_and_corrected,
    a_waiting_unit_of_an_unknown_person_follows_before_the_first_snapshot,
    what_is_held_survives_a_restart,
];

const BEHIND: &str = "BEHIND_HELD";

async fn a_refused_unit_holds_its_persons_and_nobody_else(desk: Desk) {
    let answers = desk
        .publish(vec![
            refused("R", &[("A", 1), ("B", 1)]),
            one("e1", "A", 2),
            one("e2", "B", 2),
            one("e3", "C", 1),
        ])
        .await;
    let expected = [
        held_as("BAD_DATE"),
        held_as(BEHIND),
        held_as(BEHIND),
        Said::Accepted,
    ];
    assert_eq!(answers, expected);
    // Also in a later batch.
    assert_eq!(
        desk.publish(vec![one("e4", "A", 3)]).await,
        [held_as(BEHIND)]
    );
    assert_eq!(desk.events().await, ["e3"]);
    let refused = desk.held(HeldState::Refused).await;
    let held = &refused[0].held;
    assert_eq!(
        (held.file.as_str(), held.line, held.item.as_str()),
        (FILE, 100, "異動日")
    );
    assert_eq!(desk.held(HeldState::Waiting).await.len(), 3);
}

async fn the_next_version_corrects_and_the_waiting_follow_in_order(desk: Desk) {
    desk.publish(vec![
        refused("R", &[("A", 1)]),
        one("e2", "A", 2),
        one("e3", "A", 3),
    ])
    .await;
    assert_eq!(
        desk.publish(vec![one("e1", "A", 1)]).await,
        [Said::Accepted]
    );
    assert_eq!(desk.events().await, ["e1", "e2", "e3"]);
    assert_eq!(desk.version("A").await, Some(3));
    let corrected = desk.held(HeldState::Corrected).await;
    assert_eq!(corrected[0].corrected_by, "e1");
    assert_eq!(desk.held(HeldState::Released).await.len(), 2);
    assert_eq!(
        desk.publish(vec![one("e2", "A", 2)]).await,
        [Said::Duplicate]
    );
}

async fn a_correction_by_name_may_be_about_another_person(desk: Desk) {
    // The number of the person was wrong in the file.
    desk.publish(vec![
        refused("R", &[("A", 1)]),
        one("e2", "A", 2),
        one("e1", "A", 1),
    ])
    .await;
    assert_eq!(desk.events().await, ["e1", "e2"]);
    desk.publish(vec![refused("S", &[("X", 1)]), one("e3", "X", 2)])
        .await;
    let named = desk.held(HeldState::Refused).await[0].id.clone();
    let answers = desk.publish(vec![correction(&named, "e4", "Y", 1)]).await;
    assert_eq!(answers, [Said::Accepted]);
    let row = desk.store.held(&town(), &named).await.unwrap().unwrap();
    assert_eq!(
        (row.held.state, row.corrected_by.as_str()),
        (HeldState::Corrected, "e4")
    );
    // What waited behind the wrong number is free: nothing was before it.
    assert_eq!(desk.events().await, ["e1", "e2", "e4", "e3"]);
}

async fn a_correction_within_the_same_batch_lets_follow_at_once(desk: Desk) {
    let answers = desk
        .publish(vec![
            refused("R", &[("A", 1)]),
            one("e2", "A", 2),
            one("e1", "A", 1),
            one("e3", "A", 3),
        ])
        .await;
    assert_eq!(
        answers[..3],
        [held_as("BAD_DATE"), held_as(BEHIND), Said::Accepted]
    );
    assert_eq!(desk.events().await, ["e1", "e2", "e3"]);
    assert!(desk.held(HeldState::Waiting).await.is_empty());
    assert!(desk.held(HeldState::Refused).await.is_empty());
}

async fn a_unit_that_fills_a_gap_lets_follow_what_waited(desk: Desk) {
    desk.publish(vec![one("e1", "A", 1)]).await;
    let gap = held_as("VERSION_GAP");
    let answers = desk
        .publish(vec![one("e4", "A", 4), one("e3", "A", 3)])
        .await;
    assert_eq!(answers, [gap.clone(), gap]);
    assert_eq!(
        desk.publish(vec![one("e2", "A", 2)]).await,
        [Said::Accepted]
    );
    assert_eq!(desk.events().await, ["e1", "e2", "e3", "e4"]);
}

async fn a_group_waits_for_all_its_persons(desk: Desk) {
    desk.publish(vec![refused("R", &[("A", 1)]), refused("S", &[("B", 1)])])
        .await;
    let members = [("e1", "A", 2), ("e2", "B", 2)];
    let answers = desk
        .publish(vec![group("G", &members), one("e3", "C", 1)])
        .await;
    assert_eq!(answers, [held_as(BEHIND), Said::Accepted]);
    desk.publish(vec![one("e4", "A", 1)]).await;
    assert_eq!(desk.events().await, ["e3", "e4"]);
    desk.publish(vec![one("e5", "B", 1)]).await;
    assert_eq!(desk.events().await, ["e3", "e4", "e5", "e1", "e2"]);
}

async fn a_row_without_a_readable_person_holds_only_its_group(desk: Desk) {
    let answers = desk
        .publish(vec![
            refused("R", &[("", 0), ("A", 1)]),
            one("e1", "A", 2),
            one("e2", "B", 1),
        ])
        .await;
    let expected = [held_as("BAD_DATE"), held_as(BEHIND), Said::Accepted];
    assert_eq!(answers, expected);
}

async fn a_page_that_is_published_again_holds_nothing_twice(desk: Desk) {
    let entries = || {
        vec![
            refused("R", &[("A", 1)]),
            one("e2", "A", 2),
            one("e3", "B", 1),
        ]
    };
    let first = desk.try_publish(page("c1", entries())).await.unwrap();
    let again = desk.try_publish(page("c1", entries())).await.unwrap();
    assert_eq!(first[..2], again[..2]);
    assert_eq!(said(again)[2], Said::Duplicate);
    assert_eq!(desk.held(HeldState::Refused).await.len(), 1);
    assert_eq!(desk.held(HeldState::Waiting).await.len(), 1);
}

async fn what_was_corrected_stays_corrected_when_its_page_is_published_again(desk: Desk) {
    desk.publish(vec![refused("R", &[("A", 1)])]).await;
    desk.publish(vec![one("e1", "A", 1)]).await;
    // The same file once more, cut differently: behind the old row stands a new one.
    desk.publish(vec![refused("R", &[("A", 1)]), one("e2", "A", 2)])
        .await;
    assert_eq!(desk.events().await, ["e1", "e2"]);
    assert!(desk.held(HeldState::Waiting).await.is_empty());
    assert!(desk.held(HeldState::Refused).await.is_empty());
}

async fn an_invalid_captured_unit_is_held_and_corrected(desk: Desk) {
    let broken = Broken {
        rule: "TEXT_TOO_LONG".to_owned(),
        field: "events[0].data.record.name".to_owned(),
        message: String::new(),
    };
    let invalid = Entry::Invalid(candidate(vec![event("e1", "A", 1)], ""), broken);
    let answers = desk.publish(vec![invalid, one("e2", "A", 2)]).await;
    assert_eq!(answers, [held_as("TEXT_TOO_LONG"), held_as(BEHIND)]);
    // A correction takes a new number.
    assert_eq!(
        desk.publish(vec![one("e9", "A", 1)]).await,
        [Said::Accepted]
    );
    assert_eq!(desk.events().await, ["e9", "e2"]);
}

async fn a_waiting_unit_of_an_unknown_person_follows_before_the_first_snapshot(desk: Desk) {
    desk.publish(vec![refused("R", &[("A", 5)])]).await;
    let members = [("e1", "A", 6), ("e2", "B", 9)];
    assert_eq!(
        desk.publish(vec![group("G", &members)]).await,
        [held_as(BEHIND)]
    );
    desk.publish(vec![one("e3", "A", 5)]).await;
    assert_eq!(desk.events().await, ["e3", "e1", "e2"]);
}

async fn what_is_held_survives_a_restart(mut desk: Desk) {
    desk.publish(vec![refused("R", &[("A", 1)]), one("e2", "A", 2)])
        .await;
    desk.restart().await;
    assert_eq!(
        desk.publish(vec![one("e3", "A", 3)]).await,
        [held_as(BEHIND)]
    );
    desk.publish(vec![one("e1", "A", 1)]).await;
    assert_eq!(desk.events().await, ["e1", "e2", "e3"]);
}
