//! What is accepted, repeated and refused.

use super::*;

rules![
    a_unit_is_accepted_once_and_acknowledged_again,
    a_unit_that_is_repeated_within_one_batch_is_accepted_once,
    an_id_stands_for_one_content,
    an_id_stands_for_one_content_within_one_batch_too,
    versions_go_on_by_one,
    a_version_of_a_captured_unit_that_goes_back_is_held,
    a_group_is_accepted_whole_and_a_person_may_stand_in_it_twice,
    positions_rise_in_the_order_of_publishing,
    an_older_capture_epoch_is_fenced_and_nobody_beside_it,
    the_capture_cursor_is_kept_with_its_page,
    a_page_without_units_moves_the_cursor,
    a_snapshot_is_marked_from_its_header_to_its_trailer,
    before_the_first_snapshot_a_subject_begins_with_any_version,
    a_support_measure_protects_at_once_and_until_its_end,
];

async fn a_unit_is_accepted_once_and_acknowledged_again(mut desk: Desk) {
    let first = desk.try_publish(batch(vec![one("e1", "A", 1)])).await;
    let again = desk.try_publish(batch(vec![one("e1", "A", 1)])).await;
    let (first, again) = (first.unwrap(), again.unwrap());
    let Answer::Accepted { position, .. } = first[0] else {
        panic!("{first:?}");
    };
    let duplicate = Answer::Accepted {
        position,
        duplicate: true,
    };
    assert_eq!(again, std::slice::from_ref(&duplicate));
    desk.restart().await;
    let again = desk.try_publish(batch(vec![one("e1", "A", 1)])).await;
    assert_eq!(again.unwrap(), [duplicate]);
    assert_eq!(desk.events().await, ["e1"]);
}

async fn a_unit_that_is_repeated_within_one_batch_is_accepted_once(desk: Desk) {
    let units = vec![one("e1", "A", 1), one("e1", "A", 1), one("e2", "A", 2)];
    let answers = desk.publish(units).await;
    assert_eq!(answers, [Said::Accepted, Said::Duplicate, Said::Accepted]);
    assert_eq!(desk.events().await, ["e1", "e2"]);
}

fn other_content(id: &str, name: &str, version: u32) -> Entry {
    let other = Event {
        data: b"other".to_vec().into(),
        ..event(id, name, version)
    };
    Entry::Unit(candidate(vec![other], ""))
}

async fn an_id_stands_for_one_content(desk: Desk) {
    desk.publish(vec![one("e1", "A", 1)]).await;
    let answers = desk.publish(vec![other_content("e1", "A", 2)]).await;
    assert_eq!(answers, [Said::Refused("ID_REUSED")]);
    // A group that brings an id of another unit is another content as well.
    let members = [("e1", "A", 1), ("e2", "B", 1)];
    let answers = desk.publish(vec![group("G", &members)]).await;
    assert_eq!(answers, [Said::Refused("ID_REUSED")]);
    assert_eq!(desk.events().await, ["e1"]);
    assert_eq!(desk.version("A").await, Some(1));
}

async fn an_id_stands_for_one_content_within_one_batch_too(desk: Desk) {
    let units = vec![
        one("e1", "A", 1),
        other_content("e1", "A", 2),
        group("G", &[("e2", "B", 1), ("e1", "A", 1)]),
        one("e3", "A", 2),
    ];
    let answers = desk.publish(units).await;
    let reused = Said::Refused("ID_REUSED");
    assert_eq!(
        answers,
        [Said::Accepted, reused.clone(), reused, Said::Accepted]
    );
    assert_eq!(desk.events().await, ["e1", "e3"]);
    // The same holds for a unit that the batch holds.
    let gap = vec![
        one("e9", "A", 9),
        one("e9", "A", 9),
        other_content("e9", "A", 9),
    ];
    let answers = desk.publish(gap).await;
    assert!(matches!(answers[0], Said::Held(_)) && matches!(answers[1], Said::Held(_)));
    assert_eq!(answers[2], Said::Refused("ID_REUSED"));
    assert_eq!(desk.held(HeldState::Waiting).await.len(), 1);
}

async fn versions_go_on_by_one(desk: Desk) {
    desk.publish(vec![one("e1", "A", 1), one("e2", "A", 2)])
        .await;
    let answers = desk
        .publish(vec![
            one("e3", "A", 2),
            one("e4", "A", 1),
            one("e5", "A", 5),
            one("e6", "A", 3),
            one("e7", "B", 1),
        ])
        .await;
    let expected = [
        Said::Refused("VERSION_REUSED"),
        Said::Refused("VERSION_GOES_BACK"),
        held_as("VERSION_GAP"),
        Said::Accepted,
        Said::Accepted,
    ];
    assert_eq!(answers, expected);
    assert_eq!(desk.events().await, ["e1", "e2", "e6", "e7"]);
}

async fn a_version_of_a_captured_unit_that_goes_back_is_held(desk: Desk) {
    desk.publish(vec![one("e1", "A", 1), one("e2", "A", 2)])
        .await;
    let answers = desk.try_publish(page("c", vec![one("e3", "A", 1)])).await;
    assert_eq!(said(answers.unwrap()), [held_as("VERSION_GOES_BACK")]);
    let held = desk.held(HeldState::Refused).await;
    assert_eq!(held[0].held.file, FILE);
    assert_eq!(held[0].held.item, "subject_version");
}

async fn a_group_is_accepted_whole_and_a_person_may_stand_in_it_twice(desk: Desk) {
    // 帰化: the foreign resident is deleted and recorded again in one 届出.
    let members = [("e1", "A", 1), ("e2", "B", 1), ("e3", "A", 2)];
    assert_eq!(
        desk.publish(vec![group("G", &members)]).await,
        [Said::Accepted]
    );
    assert_eq!(desk.version("A").await, Some(2));
    // One wrong member keeps the whole group out.
    let members = [("e4", "C", 1), ("e5", "A", 2)];
    let answers = desk.publish(vec![group("H", &members)]).await;
    assert_eq!(answers, [Said::Refused("VERSION_REUSED")]);
    assert_eq!(desk.events().await, ["e1", "e2", "e3"]);
    assert_eq!(desk.version("C").await, None);
}

async fn positions_rise_in_the_order_of_publishing(desk: Desk) {
    let many = (0..50).map(|n| {
        let (id, name) = (format!("e{n}"), format!("P{}", n % 7));
        let sequencer = desk.sequencer.clone();
        async move {
            sequencer
                .publish(batch(vec![one(&id, &name, n / 7 + 1)]))
                .await
        }
    });
    let answers = futures::future::join_all(many).await;
    let positions: Vec<_> = answers
        .into_iter()
        .map(|answer| match answer.unwrap()[0] {
            Answer::Accepted { position, .. } => position,
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert!(positions.is_sorted());
    assert_eq!(desk.events().await.len(), 50);
}

async fn an_older_capture_epoch_is_fenced_and_nobody_beside_it(desk: Desk) {
    let store = &desk.store;
    let old = store
        .bind_capture(&town(), SOURCE, "tsubame")
        .await
        .unwrap();
    let new = store.bind_capture(&town(), SOURCE, "suzume").await.unwrap();
    let with = |epoch, entry| Batch {
        capture_epoch: Some(epoch),
        ..batch(vec![entry])
    };
    // All three may end up in one group commit.
    let (late, right, direct) = tokio::join!(
        desk.try_publish(with(old, one("e1", "A", 1))),
        desk.try_publish(with(new, one("e2", "B", 1))),
        desk.try_publish(batch(vec![one("e3", "C", 1)])),
    );
    assert!(matches!(late, Err(PublishError::Fenced { .. })), "{late:?}");
    assert_eq!(said(right.unwrap()), [Said::Accepted]);
    assert_eq!(said(direct.unwrap()), [Said::Accepted]);
    assert_eq!(desk.events().await, ["e2", "e3"]);
    let (right, late) = tokio::join!(
        desk.try_publish(with(new, one("e4", "D", 1))),
        desk.try_publish(with(old, one("e5", "E", 1))),
    );
    assert_eq!(said(right.unwrap()), [Said::Accepted]);
    assert!(matches!(late, Err(PublishError::Fenced { .. })), "{late:?}");
}

async fn the_capture_cursor_is_kept_with_its_page(mut desk: Desk) {
    assert_eq!(desk.cursor().await, None);
    let pages = ["c1", "c2", "c3"]
        .into_iter()
        .zip(1..)
        .map(|(cursor, version)| {
            let (sequencer, id) = (desk.sequencer.clone(), format!("e{version}"));
            async move {
                sequencer
                    .publish(page(cursor, vec![one(&id, "A", version)]))
                    .await
            }
        });
    for answer in futures::future::join_all(pages).await {
        assert_eq!(said(answer.unwrap()), [Said::Accepted]);
    }
    assert_eq!(desk.cursor().await.as_deref(), Some("c3"));
    desk.restart().await;
    assert_eq!(desk.cursor().await.as_deref(), Some("c3"));
}

async fn a_page_without_units_moves_the_cursor(desk: Desk) {
    assert!(
        desk.try_publish(page("c1", vec![]))
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(desk.cursor().await.as_deref(), Some("c1"));
}

pub(super) fn snapshot(part: i32, id: &str, name: &str, version: u32) -> Entry {
    use musubi_proto::standard::resident::v1::ResidentSnapshotPublished;
    use prost::Message;
    let data = ResidentSnapshotPublished {
        snapshot_id: "S1".to_owned(),
        part,
        ..ResidentSnapshotPublished::default()
    };
    let event = Event {
        r#type: "musubi.standard.resident.v1.ResidentSnapshotPublished".to_owned(),
        data: data.encode_to_vec().into(),
        ..event(id, name, version)
    };
    Entry::Unit(candidate(vec![event], ""))
}

async fn publish_snapshot(desk: &Desk) {
    use musubi_proto::standard::common::v1::SnapshotPart as Part;
    let entries = vec![
        snapshot(Part::Header as i32, "s0", "", 0),
        snapshot(Part::Record as i32, "s1", "A", 7),
        snapshot(Part::Record as i32, "s2", "B", 3),
        snapshot(Part::Trailer as i32, "s3", "", 0),
    ];
    let bulk = Batch {
        stream: Stream::Bulk,
        ..batch(entries)
    };
    let answers = desk.try_publish(bulk).await.unwrap();
    assert_eq!(said(answers), vec![Said::Accepted; 4]);
}

async fn a_snapshot_is_marked_from_its_header_to_its_trailer(desk: Desk) {
    desk.publish(vec![one("e1", "C", 1)]).await;
    publish_snapshot(&desk).await;
    let marks = desk.store.snapshots(&town()).await.unwrap();
    let records = desk.records(Stream::Bulk).await;
    assert_eq!(marks.len(), 1);
    assert_eq!(marks[0].snapshot_id, "S1");
    assert_eq!(marks[0].bulk_start, records[0].position);
    assert_eq!(marks[0].bulk_end, Some(records[3].position));
    let live = desk.records(Stream::Live).await;
    assert_eq!(marks[0].live_mark, live[0].position.after());
    // Its records say where each subject stands, and who is not in it is new.
    let units = vec![
        one("e2", "A", 8),
        one("e3", "B", 5),
        one("e4", "N", 2),
        one("e5", "N", 1),
    ];
    let gap = held_as("VERSION_GAP");
    let expected = [Said::Accepted, gap.clone(), gap, Said::Accepted];
    assert_eq!(desk.publish(units).await, expected);
    assert_eq!(desk.events().await, ["e1", "e2", "e5", "e4"]);
}

async fn before_the_first_snapshot_a_subject_begins_with_any_version(desk: Desk) {
    let units = vec![one("e1", "A", 7), one("e2", "A", 8), one("e3", "A", 10)];
    let expected = [Said::Accepted, Said::Accepted, held_as("VERSION_GAP")];
    assert_eq!(desk.publish(units).await, expected);
}

pub(super) fn measure(kind: &str, id: &str, version: u32) -> Entry {
    use musubi_proto::standard::resident::v1::{SupportMeasureEnded, SupportMeasureStarted};
    use prost::Message;
    let (measure_id, measure_version) = ("M1".to_owned(), version);
    let data = if kind == "Ended" {
        SupportMeasureEnded {
            measure_id,
            measure_version,
            ..SupportMeasureEnded::default()
        }
        .encode_to_vec()
    } else {
        SupportMeasureStarted {
            measure_id,
            measure_version,
            ..SupportMeasureStarted::default()
        }
        .encode_to_vec()
    };
    let event = Event {
        r#type: format!("musubi.standard.resident.v1.SupportMeasure{kind}"),
        data: data.into(),
        ..event(id, "A", version)
    };
    Entry::Unit(candidate(vec![event], ""))
}

async fn a_support_measure_protects_at_once_and_until_its_end(mut desk: Desk) {
    desk.publish(vec![measure("Started", "e1", 1)]).await;
    let protects = |desk: &Desk| desk.protected.borrow().contains(&subject("A"));
    assert!(protects(&desk));
    desk.restart().await;
    assert!(protects(&desk));
    desk.publish(vec![measure("Ended", "e2", 2)]).await;
    assert!(!protects(&desk));
    desk.restart().await;
    assert!(!protects(&desk));
}
