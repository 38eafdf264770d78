//! Events as changes of a person, table by table.

use musubi_proto::standard::common::v1::{
    Address, AliasName, CancelKind, DeletionInfo, FlexibleDate, Gender, PersonName, PersonRef,
    ProtectionFlags, ProtectionLevel, RedactionKind, ResidentRecord, ResidentState, SnapshotPart,
};
use musubi_proto::standard::resident::v1 as resident;

use super::{Field, PersonChange, Protection, State, person_change};
use crate::hub::{DeliveredEvent, Event};
use crate::payload::Payload;
use crate::receipt::Refusal;

fn day(value: &str) -> FlexibleDate {
    musubi_proto::rules::flexible_date(value, false, "")
        .unwrap()
        .unwrap()
}

fn record() -> ResidentRecord {
    ResidentRecord {
        resident_state: ResidentState::MovedOut.into(),
        name: Some(PersonName {
            full_name: "山田　花子".to_owned(),
            furigana: "ヤマダ　ハナコ".to_owned(),
            ..PersonName::default()
        }),
        gender: Gender::Female.into(),
        head: Some(PersonRef {
            atenabango: "0000000018".to_owned(),
            rirekibango: 0,
        }),
        address: Some(Address {
            town: "雪ノ下".to_owned(),
            ..Address::default()
        }),
        previous_address: Some(Address {
            country_code: "USA".to_owned(),
            ..Address::default()
        }),
        protection: Some(ProtectionFlags {
            level: ProtectionLevel::None.into(),
            ..ProtectionFlags::default()
        }),
        ..ResidentRecord::default()
    }
}

fn deliver(payload: impl Into<Payload>, granted: &[&str]) -> DeliveredEvent {
    let payload = payload.into();
    let event = Event {
        id: "e1".to_owned(),
        r#type: payload.type_name(),
        subject: "0000000026".to_owned(),
        subject_version: 7,
        effective_on: Some(day("2026-03-05")),
        data: payload.encode().into(),
        ..Event::default()
    };
    let granted_paths = granted.iter().map(|path| (*path).to_owned()).collect();
    DeliveredEvent {
        event: Some(event),
        granted_paths,
    }
}

fn read(payload: impl Into<Payload>, granted: &[&str]) -> PersonChange {
    person_change(&deliver(payload, granted)).unwrap().unwrap()
}

fn refusal(payload: impl Into<Payload>, granted: &[&str]) -> Refusal {
    person_change(&deliver(payload, granted)).unwrap_err()
}

fn corrected(record: ResidentRecord) -> resident::ResidentAttributesCorrected {
    resident::ResidentAttributesCorrected {
        record: Some(record),
        ..Default::default()
    }
}

#[test]
fn what_is_not_granted_is_untouched_and_what_is_absent_is_clear() {
    let nothing = read(corrected(record()), &[]);
    assert!(nothing.name.is_untouched() && nothing.address.is_untouched());
    assert!(nothing.head_unset.is_untouched() && nothing.state.is_untouched());
    assert_eq!(nothing.protection, Protection::Untouched);
    assert_eq!(
        (nothing.atenabango.as_str(), nothing.version),
        ("0000000026", 7)
    );

    let all = [
        "record.name",
        "record.alias",
        "record.gender",
        "record.head",
        "record.address",
    ];
    let change = read(corrected(record()), &all);
    assert_eq!(change.name.value().unwrap().full_name, "山田　花子");
    assert_eq!(change.kana, Field::Set("ヤマダ　ハナコ".to_owned()));
    assert_eq!(change.alias, Field::Clear);
    assert_eq!(change.gender, Field::Set(Gender::Female));
    assert_eq!(change.head, Field::Set("0000000018".to_owned()));
    assert_eq!(change.head_unset, Field::Set(false));
    assert_eq!(change.address.value().unwrap().town, "雪ノ下");
    assert!(change.birth_on.is_untouched());

    let empty = ResidentRecord {
        name: None,
        head: None,
        ..record()
    };
    let change = read(corrected(empty), &all);
    assert_eq!((change.name, change.kana), (Field::Clear, Field::Clear));
    assert_eq!(
        (change.head, change.head_unset),
        (Field::Clear, Field::Set(true))
    );

    let blank_alias = ResidentRecord {
        alias: Some(AliasName::default()),
        ..record()
    };
    assert_eq!(read(corrected(blank_alias), &all).alias, Field::Clear);
}

#[test]
fn a_granted_child_says_nothing_about_its_parent() {
    let change = read(
        corrected(record()),
        &["record.previous_address.country_code"],
    );
    assert!(change.previous_address.is_untouched());
    assert_eq!(change.previous_country_code, Field::Set("USA".to_owned()));
}

#[test]
fn a_withheld_address_is_neither_new_nor_empty() {
    for kind in [RedactionKind::Token, RedactionKind::Removed] {
        let mut withheld = record();
        withheld.address = Some(Address {
            redaction: kind.into(),
            ..Address::default()
        });
        assert!(
            read(corrected(withheld), &["record.address"])
                .address
                .is_untouched()
        );
    }
}

#[test]
fn arrivals_make_a_resident_and_create_the_person() {
    let arrivals: [Payload; 3] = [
        resident::ResidentMovedIn {
            record: Some(record()),
            ..Default::default()
        }
        .into(),
        resident::ResidentBorn {
            record: Some(record()),
            ..Default::default()
        }
        .into(),
        resident::ResidentRecordedByAuthority {
            record: Some(record()),
            ..Default::default()
        }
        .into(),
    ];
    for payload in arrivals {
        let change = read(payload, &["record.name"]);
        assert!(change.creates, "{}", change.event);
        let state = State {
            state: ResidentState::Resident,
            on: Field::Clear,
        };
        assert_eq!(change.state, Field::Set(state), "{}", change.event);
    }
    assert!(!read(corrected(record()), &[]).creates);
}

#[test]
fn departures_close_with_their_day_where_both_are_granted() {
    let left = resident::ResidentMovedOut {
        record: Some(record()),
        deleted_on: Some(day("2026-03-04")),
        ..Default::default()
    };
    let granted = ["record.resident_state", "deleted_on"];
    let expected = State {
        state: ResidentState::MovedOut,
        on: Field::Set(day("2026-03-04")),
    };
    assert_eq!(read(left.clone(), &granted).state, Field::Set(expected));
    let expected = State {
        state: ResidentState::MovedOut,
        on: Field::Untouched,
    };
    assert_eq!(
        read(left.clone(), &granted[..1]).state,
        Field::Set(expected)
    );
    assert!(read(left, &granted[1..]).state.is_untouched());

    let dead = ResidentRecord {
        resident_state: ResidentState::Died.into(),
        ..record()
    };
    let died = resident::ResidentDied {
        record: Some(dead),
        death_on: Some(day("2026-03-03")),
        ..Default::default()
    };
    let expected = State {
        state: ResidentState::Died,
        on: Field::Set(day("2026-03-03")),
    };
    assert_eq!(
        read(died, &["record.resident_state", "death_on"]).state,
        Field::Set(expected)
    );
}

#[test]
fn a_number_that_goes_on_is_not_closed() {
    let removed = |inherits_number| resident::ResidentDeletedByAuthority {
        record: Some(ResidentRecord {
            resident_state: ResidentState::Deleted.into(),
            ..record()
        }),
        deleted_on: Some(day("2026-03-02")),
        inherits_number,
        ..Default::default()
    };
    let granted = ["record.resident_state", "deleted_on", "inherits_number"];
    assert!(read(removed(true), &granted).state.is_untouched());
    let expected = State {
        state: ResidentState::Deleted,
        on: Field::Set(day("2026-03-02")),
    };
    assert_eq!(read(removed(false), &granted).state, Field::Set(expected));
}

#[test]
fn a_cancellation_restores_the_state_that_the_record_names() {
    let cancelled =
        |state: ResidentState, kind: CancelKind| resident::ResidentTransactionCancelled {
            record: Some(ResidentRecord {
                resident_state: state.into(),
                ..record()
            }),
            cancel_kind: kind.into(),
            ..Default::default()
        };
    let granted = ["record.resident_state", "cancel_kind"];
    let back = read(
        cancelled(ResidentState::Resident, CancelKind::Increase),
        &granted,
    );
    let expected = State {
        state: ResidentState::Resident,
        on: Field::Clear,
    };
    assert_eq!(back.state, Field::Set(expected));
    let gone = read(
        cancelled(ResidentState::Deleted, CancelKind::Decrease),
        &granted,
    );
    let expected = State {
        state: ResidentState::Deleted,
        on: Field::Set(day("2026-03-05")),
    };
    assert_eq!(gone.state, Field::Set(expected));
}

#[test]
fn protection_in_a_record_only_adds_and_an_unknown_level_is_refused() {
    let with = |level: i32, ids: &[&str]| {
        let measure_ids = ids.iter().map(|id| (*id).to_owned()).collect();
        let flags = ProtectionFlags {
            level,
            measure_ids,
            ..ProtectionFlags::default()
        };
        corrected(ResidentRecord {
            protection: Some(flags),
            ..record()
        })
    };
    let granted = ["record.protection"];
    let none = ProtectionLevel::None.into();
    let active = ProtectionLevel::Active.into();
    assert_eq!(
        read(with(none, &[]), &granted).protection,
        Protection::Untouched
    );
    let seen = Protection::Seen {
        measure_ids: vec!["S1".to_owned()],
    };
    assert_eq!(read(with(active, &["S1"]), &granted).protection, seen);
    assert_eq!(refusal(with(0, &[]), &granted).reason, "PROTECTION_UNKNOWN");
    assert_eq!(
        refusal(with(77, &["S1"]), &granted).reason,
        "PROTECTION_UNKNOWN"
    );
    assert_eq!(
        refusal(with(active, &[]), &granted).reason,
        "MEASURE_MISSING"
    );
}

#[test]
fn support_measures_change_nothing_but_the_protection() {
    let started = resident::SupportMeasureStarted {
        measure_id: "S1".to_owned(),
        measure_version: 2,
        level: ProtectionLevel::Provisional.into(),
        ..Default::default()
    };
    let change = read(started, &["measure_id", "measure_version", "level"]);
    assert!(change.protection_only && !change.creates && change.state.is_untouched());
    let expected = Protection::InForce {
        measure_id: "S1".to_owned(),
        measure_version: 2,
        level: ProtectionLevel::Provisional,
    };
    assert_eq!(change.protection, expected);
    let ended = resident::SupportMeasureEnded {
        measure_id: "S1".to_owned(),
        measure_version: 3,
        ..Default::default()
    };
    let expected = Protection::Ended {
        measure_id: "S1".to_owned(),
        measure_version: 3,
    };
    assert_eq!(read(ended, &[]).protection, expected);
    assert_eq!(
        refusal(resident::SupportMeasureEnded::default(), &[]).reason,
        "MEASURE_MISSING"
    );
}

#[test]
fn what_cannot_be_read_is_refused_and_never_guessed() {
    let mut unknown_type = deliver(corrected(record()), &[]);
    unknown_type.event.as_mut().unwrap().r#type = "musubi.standard.resident.v1.Other".to_owned();
    let mut garbage = deliver(corrected(record()), &[]);
    garbage.event.as_mut().unwrap().data = vec![0xff, 0xff].into();
    let mut nobody = deliver(corrected(record()), &[]);
    nobody.event.as_mut().unwrap().subject.clear();
    for (delivered, reason) in [
        (unknown_type, "TYPE_UNKNOWN"),
        (garbage, "PAYLOAD_UNDECODABLE"),
        (nobody, "SUBJECT_MISSING"),
        (DeliveredEvent::default(), "ENVELOPE_MISSING"),
        (
            deliver(resident::ResidentAttributesCorrected::default(), &[]),
            "RECORD_MISSING",
        ),
    ] {
        assert_eq!(person_change(&delivered).unwrap_err().reason, reason);
    }
    let code = ResidentRecord {
        gender: 99,
        ..record()
    };
    let refused = refusal(corrected(code), &["record.gender"]);
    assert_eq!(
        (refused.reason.as_str(), refused.field.as_str()),
        ("CODE_UNKNOWN", "record.gender")
    );
}

#[test]
fn the_edges_of_a_snapshot_are_about_nobody() {
    for part in [SnapshotPart::Header, SnapshotPart::Trailer] {
        let edge = resident::ResidentSnapshotPublished {
            part: part.into(),
            ..Default::default()
        };
        let mut edge = deliver(edge, &["part", "record.name"]);
        edge.event.as_mut().unwrap().subject.clear();
        assert_eq!(person_change(&edge).unwrap(), None);
    }
}

#[test]
fn a_snapshot_creates_a_person_in_the_state_of_the_record() {
    let row = resident::ResidentSnapshotPublished {
        part: SnapshotPart::Record.into(),
        record: Some(ResidentRecord {
            deletion: Some(DeletionInfo {
                moved_out_on: Some(day("2025-10-01")),
                ..DeletionInfo::default()
            }),
            ..record()
        }),
        ..Default::default()
    };
    let change = read(row.clone(), &["record.resident_state"]);
    assert!(change.creates);
    let expected = State {
        state: ResidentState::MovedOut,
        on: Field::Untouched,
    };
    assert_eq!(change.state, Field::Set(expected));
    let change = read(
        row,
        &["record.resident_state", "record.deletion.moved_out_on"],
    );
    let expected = State {
        state: ResidentState::MovedOut,
        on: Field::Set(day("2025-10-01")),
    };
    assert_eq!(change.state, Field::Set(expected));
}
