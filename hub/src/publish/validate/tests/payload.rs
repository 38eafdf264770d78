//! Refusals of payloads.

use musubi_proto::standard::common::v1::{FlexibleDate, PersonRef, ProtectionFlags};

use super::*;

#[test]
fn required_items_must_be_set() {
    use Reason::MissingField;
    payload_refused(|moved| moved.record = None, MissingField, "record");
    payload_refused(
        |moved| record(moved).person = None,
        MissingField,
        "record.person",
    );
    payload_refused(
        |moved| record(moved).protection = None,
        MissingField,
        "record.protection",
    );
    payload_refused(
        |moved| record(moved).gender = 0,
        MissingField,
        "record.gender",
    );
    let nobody = Some(PersonRef::default());
    payload_refused(
        |moved| record(moved).head = nobody.clone(),
        MissingField,
        "record.head.atenabango",
    );
    let flags = Some(ProtectionFlags {
        level: 1,
        ..Default::default()
    });
    payload_refused(
        |moved| record(moved).protection = flags.clone(),
        MissingField,
        "record.protection.as_of",
    );
}

#[test]
fn enum_values_must_be_known() {
    use Reason::UnknownEnumValue;
    payload_refused(
        |moved| moved.whole_or_part = 99,
        UnknownEnumValue,
        "whole_or_part",
    );
    payload_refused(
        |moved| moved.whole_or_part = -1,
        UnknownEnumValue,
        "whole_or_part",
    );
    payload_refused(
        |moved| record(moved).resident_type = 77,
        UnknownEnumValue,
        "record.resident_type",
    );
    // A packed list is judged value by value.
    let steps = |moved: &mut ResidentMovedWithin| {
        record(moved)
            .relationship
            .as_mut()
            .expect("a relationship")
            .steps = vec![1, 999];
    };
    payload_refused(steps, UnknownEnumValue, "record.relationship.steps");
}

#[test]
fn texts_keep_to_their_items_and_count_characters() {
    use Reason::{InvalidField, TextTooLong};
    let mut right = moved();
    address(&mut right).building = "棟".repeat(300);
    address(&mut right).town = "一\n二".to_owned();
    assert_eq!(judge(vec![with(right.encode_to_vec())]), Ok(()));
    let long = "棟".repeat(301);
    payload_refused(
        |moved| address(moved).building = long.clone(),
        TextTooLong,
        "record.address.building",
    );
    for text in ["a\0", "a\tb", "\u{feff}a", "a\u{7f}", "a\rb", "\u{85}"] {
        payload_refused(
            |moved| address(moved).building = text.to_owned(),
            InvalidField,
            "record.address.building",
        );
    }
}

#[test]
fn a_my_number_is_refused_in_free_text_and_not_in_identifiers() {
    use Reason::MyNumberInText;
    for text in [
        "123456789018",
        "番号１２３４５６７８９０１８です",
        "1234-5678-9018",
    ] {
        payload_refused(
            |moved| address(moved).building = text.to_owned(),
            MyNumberInText,
            "record.address.building",
        );
    }
    payload_refused(
        |moved| {
            moved
                .old_address
                .as_mut()
                .expect("an address")
                .municipality_name = "123456789018".to_owned()
        },
        MyNumberInText,
        "old_address.municipality_name",
    );
    let mut right = moved();
    record(&mut right)
        .person
        .as_mut()
        .expect("a person")
        .atenabango = "123456789018".to_owned();
    record(&mut right)
        .household
        .as_mut()
        .expect("a household")
        .setaibango = "123456789018".to_owned();
    let flags = record(&mut right).protection.as_mut().expect("flags");
    flags.measure_ids = vec!["123456789018".to_owned()];
    address(&mut right).building = "123456789017".to_owned();
    assert_eq!(judge(vec![with(right.encode_to_vec())]), Ok(()));
}

#[test]
fn elements_of_lists_are_named_by_their_place() {
    let mut notified = musubi_proto::standard::resident::v1::ResidentMoveOutNotified {
        record: moved().record,
        ..Default::default()
    };
    let person = PersonRef {
        atenabango: "1".to_owned(),
        rirekibango: 1,
    };
    notified.remaining_members = vec![person.clone(), PersonRef::default(), person];
    notified.scheduled_out_on = Some(FlexibleDate {
        kind: 1,
        ..Default::default()
    });
    notified.destination_kind = 1;
    notified.whole_or_part = 1;
    let mut event = with(notified.encode_to_vec());
    event.r#type = "musubi.standard.resident.v1.ResidentMoveOutNotified".to_owned();
    refused(
        event,
        Reason::MissingField,
        "events[0].data.remaining_members[1].atenabango",
    );
}

#[test]
fn malformed_payloads_are_refused_where_they_break() {
    let wrong = |more: &[u8], field: &str| {
        let data = [&moved().encode_to_vec(), more].concat();
        refused(with(data), Reason::UndecodablePayload, field);
    };
    wrong(&[0x08], "events[0].data");
    wrong(&[0x0a, 0x7f, 0x01], "events[0].data");
    wrong(&[0x0b, 0x0c], "events[0].data");
    wrong(&[0x00, 0x01], "events[0].data");
    wrong(&[0x0a, 0x02, 0x0b, 0x0c], "events[0].data.record");
    wrong(&[0x22, 0x00], "events[0].data.household_changed");
    wrong(&[0x4a, 0x02, 0xff, 0xfe], "events[0].data.ward_from");
    refused(
        with(b"{\"record\":{}}".to_vec()),
        Reason::UndecodablePayload,
        "events[0].data",
    );
}

#[test]
fn unknown_field_numbers_are_kept_and_occurrences_are_read_as_decoders_do() {
    let data = moved().encode_to_vec();
    let unknown = [&data[..], &[0xfa, 0x3e, 0x01, b'x'], &[0xf8, 0x3f, 0x05]].concat();
    assert_eq!(judge(vec![with(unknown)]), Ok(()));
    // A message in two parts is one message: the second part alone would miss everything.
    let record = moved().record.expect("a record").encode_to_vec();
    let person = PersonRef {
        atenabango: "9".to_owned(),
        rirekibango: 2,
    }
    .encode_to_vec();
    let second = [
        &[0x0a, person.len() as u8 + 2, 0x0a, person.len() as u8][..],
        &person,
    ]
    .concat();
    assert!(record.len() > person.len());
    assert_eq!(judge(vec![with([&data[..], &second].concat())]), Ok(()));
    // A later empty text takes the earlier one away.
    let emptied = [&data[..], &[0x0a, 0x04, 0x0a, 0x02, 0x0a, 0x00]].concat();
    refused(
        with(emptied),
        Reason::MissingField,
        "events[0].data.record.person.atenabango",
    );
}

#[test]
fn refusals_never_repeat_a_value() {
    let schema = Schema::load().expect("the built-in contracts load");
    let municipality = Municipality::parse("142042").expect("a right code");
    let mut wrong = moved();
    address(&mut wrong).building = "ひみつ 123456789018".to_owned();
    let unit = Unit {
        events: vec![with(wrong.encode_to_vec())],
    };
    let refusal = validate_unit(&schema, &municipality, SOURCE, &unit).expect_err("refused");
    assert_eq!(refusal.reason.as_str(), "MY_NUMBER_IN_TEXT");
    let text = refusal.to_string();
    assert!(
        text.starts_with("`events[0].data.record.address.building`: "),
        "{text}"
    );
    assert!(
        !text.contains("ひみつ") && !text.contains("123456789018"),
        "{text}"
    );
}
