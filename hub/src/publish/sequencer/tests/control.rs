//! Control records: their place, and what a crash leaves of them.

use super::*;

rules![
    a_control_record_stands_between_publishes_and_cuts_both_streams,
    a_control_record_is_applied_again_after_a_crash,
];

fn change() -> Change {
    Change::Grants {
        text: "grants".to_owned(),
    }
}

async fn control(desk: &Desk) -> Result<ControlPlace, PublishError> {
    let words = ("operator".to_owned(), "because".to_owned());
    desk.sequencer.control(words.0, words.1, change()).await
}

async fn a_control_record_stands_between_publishes_and_cuts_both_streams(desk: Desk) {
    desk.publish(vec![one("e1", "A", 1)]).await;
    let bulk = Batch {
        stream: Stream::Bulk,
        ..batch(vec![one("b1", "B", 1)])
    };
    desk.try_publish(bulk).await.unwrap();
    let place = control(&desk).await.unwrap();
    desk.publish(vec![one("e2", "A", 2)]).await;
    let live = desk.records(Stream::Live).await;
    assert_eq!(live[1].kind, RecordKind::Control);
    assert_eq!(live[1].position, place.live);
    let bulk = desk.records(Stream::Bulk).await;
    assert_eq!(place.bulk, bulk[0].position.after());
    let applied = desk.applied.lock().unwrap();
    let [(position, control)] = applied.as_slice() else {
        panic!("{applied:?}");
    };
    assert_eq!(
        (*position, control.bulk_position),
        (place.live, place.bulk.0)
    );
    assert_eq!(control.change, change());
}

async fn a_control_record_is_applied_again_after_a_crash(mut desk: Desk) {
    for fault in [Fault::AfterAppend, Fault::BeforeCommit] {
        desk.applied.lock().unwrap().clear();
        desk.fail(fault);
        assert!(control(&desk).await.is_err());
        desk.restart().await;
        let last = desk.records(Stream::Live).await.pop().unwrap();
        let applied = desk.applied.lock().unwrap().clone();
        assert!(!applied.is_empty(), "{fault:?}");
        for (position, control) in applied {
            assert_eq!(position, last.position, "{fault:?}");
            assert_eq!(control.reason, "because", "{fault:?}");
        }
        // And not once more when the hub starts the next time.
        desk.applied.lock().unwrap().clear();
        desk.restart().await;
        assert!(desk.applied.lock().unwrap().is_empty(), "{fault:?}");
    }
    // What was not written has no effect.
    desk.fail(Fault::BeforeAppend);
    assert!(control(&desk).await.is_err());
    desk.restart().await;
    assert!(desk.applied.lock().unwrap().is_empty());
}
