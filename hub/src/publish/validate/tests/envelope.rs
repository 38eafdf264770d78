//! Refusals of envelopes and groups.

use musubi_proto::hub::v1::Group;
use musubi_proto::standard::common::v1::{FlexibleDate, SnapshotPart};
use musubi_proto::standard::resident::v1::ResidentSnapshotPublished;

use super::Reason::*;
use super::*;
use crate::limits::PAYLOAD_BYTES_MAX;

/// A change, and the reason and field of its refusal.
type Case<T> = (fn(&mut T), Reason, &'static str);

#[test]
fn right_events_pass() {
    assert_eq!(judge(vec![event()]), Ok(()));
    let mut full = event();
    full.group = Some(Group {
        id: "todoke-1".to_owned(),
        seq: 1,
        size: 1,
    });
    full.effective_on = record(&mut moved()).birth_on.clone();
    full.notified_on = record(&mut moved()).became_resident_on.clone();
    full.occurred_at = Some(prost_types::Timestamp {
        seconds: 1_772_496_000,
        nanos: 5,
    });
    full.supersedes = "0197a0b0-0000-7000-8000-000000000009".to_owned();
    full.traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned();
    full.source_digest = vec![7; 32].into();
    full.schema_fingerprint = "ab".repeat(32);
    assert_eq!(judge(vec![full]), Ok(()));
}

#[test]
fn ids_and_places_of_the_envelope_are_judged() {
    let cases: &[Case<Event>] = &[
        (|event| event.id.clear(), MissingField, "id"),
        (|event| event.id = "17".to_owned(), InvalidField, "id"),
        (
            |event| event.id = event.id.to_uppercase(),
            InvalidField,
            "id",
        ),
        (
            |event| event.id = event.id.replace('-', ""),
            InvalidField,
            "id",
        ),
        (
            |event| event.id = uuid::Uuid::nil().to_string(),
            InvalidField,
            "id",
        ),
        (
            |event| event.municipality.clear(),
            MissingField,
            "municipality",
        ),
        (
            |event| event.municipality = "131016".to_owned(),
            WrongMunicipality,
            "municipality",
        ),
        (|event| event.source.clear(), MissingField, "source"),
        (
            |event| event.source = "001".to_owned(),
            InvalidField,
            "source",
        ),
        (|event| event.source.push('1'), InvalidField, "source"),
        (
            |event| event.source = SOURCE.replace("142042", "131016"),
            InvalidField,
            "source",
        ),
        (
            |event| event.source = SOURCE.replace("001", "010"),
            WrongSource,
            "source",
        ),
        (|event| event.r#type.clear(), MissingField, "type"),
        (
            |event| event.r#type = "ResidentMovedWithin".to_owned(),
            UnknownType,
            "type",
        ),
        (
            |event| event.r#type = "musubi.hub.v1.Event".to_owned(),
            UnknownType,
            "type",
        ),
    ];
    refuse_all(cases);
}

#[test]
fn subject_and_version_of_the_envelope_are_judged() {
    let cases: &[Case<Event>] = &[
        (|event| event.subject.clear(), MissingField, "subject"),
        (
            |event| event.subject = "1".repeat(16),
            TextTooLong,
            "subject",
        ),
        (
            |event| event.subject = "１２３".to_owned(),
            InvalidField,
            "subject",
        ),
        (
            |event| event.subject = "1 2".to_owned(),
            InvalidField,
            "subject",
        ),
        (
            |event| event.subject_version = 0,
            MissingField,
            "subject_version",
        ),
        (|event| event.reason = -1, InvalidField, "reason"),
        (|event| event.reason = 100, InvalidField, "reason"),
        (|event| event.data.clear(), MissingField, "data"),
        (
            |event| event.data = vec![0; PAYLOAD_BYTES_MAX + 1].into(),
            PayloadTooLarge,
            "data",
        ),
    ];
    refuse_all(cases);
}

#[test]
fn references_and_digests_of_the_envelope_are_judged() {
    let cases: &[Case<Event>] = &[
        (
            |event| event.annuls = "17".to_owned(),
            InvalidField,
            "annuls",
        ),
        (
            |event| event.correlation_id = "x".repeat(201),
            TextTooLong,
            "correlation_id",
        ),
        (
            |event| event.traceparent = "a\nb".to_owned(),
            InvalidField,
            "traceparent",
        ),
        (
            |event| event.source_digest = vec![1; 20].into(),
            InvalidField,
            "source_digest",
        ),
        (
            |event| event.schema_fingerprint = "x".repeat(64),
            InvalidField,
            "schema_fingerprint",
        ),
        (
            |event| event.occurred_at = Some(time(i64::MAX, 0)),
            InvalidField,
            "occurred_at",
        ),
        (
            |event| event.occurred_at = Some(time(0, -1)),
            InvalidField,
            "occurred_at",
        ),
    ];
    refuse_all(cases);
}

fn time(seconds: i64, nanos: i32) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos }
}

fn refuse_all(cases: &[Case<Event>]) {
    for (change, reason, field) in cases {
        let mut event = event();
        change(&mut event);
        let expected = Err((*reason, format!("events[0].{field}")));
        assert_eq!(judge(vec![event]), expected);
    }
}

#[test]
fn dates_of_the_envelope_are_judged_like_those_of_the_payload() {
    let cases: &[Case<Event>] = &[
        (
            |event| event.effective_on = date(99, ""),
            UnknownEnumValue,
            "effective_on.kind",
        ),
        (
            |event| event.notified_on = date(0, ""),
            MissingField,
            "notified_on.kind",
        ),
        (
            |event| event.notified_on = date(1, "番号１２３４５６７８９０１８"),
            MyNumberInText,
            "notified_on.notation",
        ),
    ];
    refuse_all(cases);
}

fn date(kind: i32, notation: &str) -> Option<FlexibleDate> {
    Some(FlexibleDate {
        kind,
        notation: notation.to_owned(),
        ..Default::default()
    })
}

fn group(count: u32) -> Vec<Event> {
    (1..=count)
        .map(|seq| {
            let mut event = event();
            event.id = format!("0197a0b0-0000-7000-8000-{seq:012}");
            event.group = Some(Group {
                id: "todoke-1".to_owned(),
                seq,
                size: count,
            });
            event
        })
        .collect()
}

#[test]
fn a_unit_is_one_event_or_one_whole_group() {
    assert_eq!(judge(group(1)), Ok(()));
    assert_eq!(judge(group(3)), Ok(()));
    assert_eq!(judge(vec![]), Err((MissingField, "events".to_owned())));
    let many = vec![event(); UNIT_EVENTS_MAX + 1];
    assert_eq!(judge(many), Err((UnitTooLarge, "events".to_owned())));
}

#[test]
fn a_group_is_whole_and_in_order() {
    let cases: &[Case<Vec<Event>>] = &[
        (
            |events| events.truncate(1),
            GroupIncomplete,
            "events[0].group.size",
        ),
        (
            |events| events.truncate(2),
            GroupIncomplete,
            "events[0].group.size",
        ),
        (
            |events| drop(events.remove(0)),
            GroupIncomplete,
            "events[0].group.size",
        ),
        (
            |events| events.swap(0, 1),
            InvalidField,
            "events[0].group.seq",
        ),
        (
            |events| events[2].group = None,
            MissingField,
            "events[2].group",
        ),
        (
            |events| events[0].group = None,
            MissingField,
            "events[0].group",
        ),
    ];
    refuse_groups(cases);
}

#[test]
fn members_of_a_group_agree_on_it() {
    let cases: &[Case<Vec<Event>>] = &[
        (
            |events| second(events).id = "other".to_owned(),
            InvalidField,
            "events[1].group.id",
        ),
        (
            |events| second(events).id.clear(),
            MissingField,
            "events[1].group.id",
        ),
        (
            |events| second(events).seq = 0,
            InvalidField,
            "events[1].group.seq",
        ),
        (
            |events| second(events).seq = 9,
            InvalidField,
            "events[1].group.seq",
        ),
        (
            |events| second(events).size = 0,
            MissingField,
            "events[1].group.size",
        ),
        (
            |events| second(events).size = 2,
            GroupIncomplete,
            "events[1].group.size",
        ),
        (
            |events| events[1].id = events[0].id.clone(),
            InvalidField,
            "events[1].id",
        ),
    ];
    refuse_groups(cases);
}

fn refuse_groups(cases: &[Case<Vec<Event>>]) {
    for (change, reason, field) in cases {
        let mut events = group(3);
        change(&mut events);
        assert_eq!(judge(events), Err((*reason, (*field).to_owned())));
    }
}

fn second(events: &mut [Event]) -> &mut Group {
    events[1].group.as_mut().expect("a group")
}

#[test]
fn frames_of_a_snapshot_need_no_subject_and_its_records_do() {
    let part = |part: SnapshotPart, record: Option<ResidentRecord>| {
        let snapshot = ResidentSnapshotPublished {
            snapshot_id: "s1".to_owned(),
            part: part as i32,
            as_of: "2026-03-01T00:00:00+09:00".to_owned(),
            record,
            ..Default::default()
        };
        let mut event = with(snapshot.encode_to_vec());
        event.r#type = "musubi.standard.resident.v1.ResidentSnapshotPublished".to_owned();
        event.subject_version = 0;
        event.subject.clear();
        judge(vec![event])
    };
    assert_eq!(part(SnapshotPart::Header, None), Ok(()));
    assert_eq!(part(SnapshotPart::Trailer, None), Ok(()));
    let missing = Err((MissingField, "events[0].subject".to_owned()));
    assert_eq!(part(SnapshotPart::Record, moved().record), missing);
    assert_eq!(part(SnapshotPart::Unspecified, None), missing);
}
