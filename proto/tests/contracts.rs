//! The contracts, the grants and the examples fit together.
//! They read the files of the repository as an operator's tools would.
//! They never need a running hub.
//! Read `schemas/README.md` for what the grants mean.

#![allow(
    clippy::unwrap_used,
    reason = "a file that cannot be read fails the test"
)]

use std::fs;
use std::path::{Path, PathBuf};

use musubi_proto::standard::common::v1::{DataClass, MoveReason};
use musubi_proto::{descriptor_pool, item};
use prost_reflect::{DynamicMessage, Kind, MessageDescriptor, ReflectMessage};

const RESIDENT: &str = "musubi.standard.resident.v1";

fn schemas() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas")
}

fn message(name: &str) -> MessageDescriptor {
    descriptor_pool()
        .get_message_by_name(name)
        .unwrap_or_else(|| panic!("no message {name}"))
}

// The last segment's descriptor, as a `Kind`; `None` when the path leads nowhere.
fn resolve(root: &MessageDescriptor, path: &str) -> Option<Kind> {
    let mut kind = Kind::Message(root.clone());
    for segment in path.split('.') {
        kind = kind.as_message()?.get_field_by_name(segment)?.kind();
    }
    Some(kind)
}

fn grant_rows() -> Vec<(String, csv::StringRecord)> {
    let mut rows = Vec::new();
    for entry in fs::read_dir(schemas().join("grants")).unwrap() {
        let path = entry.unwrap().path();
        let receiver = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut reader = csv::Reader::from_path(&path).unwrap();
        let expected = "event,receiver,purpose_ja,purpose_en,legal_basis,population,granted,\
                        protected_person_rule,retention_note,source";
        assert_eq!(
            reader
                .headers()
                .unwrap()
                .iter()
                .collect::<Vec<_>>()
                .join(","),
            expected
        );
        rows.extend(reader.records().map(|row| (receiver.clone(), row.unwrap())));
    }
    assert!(!rows.is_empty());
    rows
}

#[test]
fn every_granted_path_exists_in_its_event() {
    for (receiver, row) in grant_rows() {
        assert_eq!(receiver, row[1], "receiver and file name of {}", &row[0]);
        let event = message(&row[0]);
        for path in row[6].split("; ") {
            assert!(
                resolve(&event, path).is_some(),
                "{receiver} {}: {path}",
                &row[0]
            );
        }
    }
}

#[test]
fn no_event_is_granted_twice_to_one_receiver() {
    let mut keys: Vec<_> = grant_rows()
        .iter()
        .map(|(receiver, row)| (receiver.clone(), row[0].to_owned()))
        .collect();
    let all = keys.len();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), all);
}

#[test]
fn an_address_is_granted_only_with_the_protection_beside_it() {
    let address = message("musubi.standard.common.v1.Address");
    for (receiver, row) in grant_rows() {
        let event = message(&row[0]);
        let paths: Vec<_> = row[6].split("; ").collect();
        let shows_address = paths.iter().any(|path| {
            resolve(&event, path).is_some_and(|kind| kind.as_message() == Some(&address))
        });
        let rule = &row[7];
        assert!(
            rule.split('+')
                .all(|part| ["P0", "P1", "P2", "P3"].contains(&part)),
            "{receiver} {}: {rule}",
            &row[0]
        );
        if shows_address {
            assert!(
                paths.contains(&"record.protection"),
                "{receiver} {}",
                &row[0]
            );
            assert!(
                !rule.contains("P3") && !rule.contains("P0"),
                "{receiver} {}",
                &row[0]
            );
        }
    }
}

#[test]
fn every_field_of_a_standard_event_carries_its_item() {
    let pool = descriptor_pool();
    let mut events = 0;
    for message in pool.all_messages().filter(|message| {
        message.package_name() == RESIDENT || message.full_name().ends_with(".ResidentRecord")
    }) {
        events += 1;
        for field in message.fields() {
            let item = item(&field).unwrap_or_else(|| panic!("no item at {}", field.full_name()));
            assert!(!item.japanese.is_empty(), "{}", field.full_name());
            assert!(!item.source.is_empty(), "{}", field.full_name());
            assert_ne!(
                item.data_class(),
                DataClass::Unspecified,
                "{}",
                field.full_name()
            );
            assert_ne!(
                item.data_class(),
                DataClass::RestrictedNumber,
                "{}",
                field.full_name()
            );
        }
    }
    assert_eq!(events, 26);
}

#[test]
fn items_show_length_and_duty() {
    let name = message("musubi.standard.common.v1.PersonName");
    let full_name = item(&name.get_field_by_name("full_name").unwrap()).unwrap();
    assert_eq!(
        (full_name.japanese.as_str(), full_name.max_chars),
        ("氏名", 100)
    );
    assert!(!full_name.required);
    let moved_in = message("musubi.standard.resident.v1.ResidentMovedIn");
    assert!(
        item(&moved_in.get_field_by_name("move_in_kind").unwrap())
            .unwrap()
            .required
    );
    let unit = message("musubi.hub.v1.Unit");
    assert_eq!(item(&unit.get_field_by_name("events").unwrap()), None);
}

#[test]
fn codes_keep_their_numbers() {
    assert_eq!(MoveReason::KokunaiTennyu as i32, 1);
    assert_eq!(MoveReason::Tenkyo as i32, 40);
    assert_eq!(MoveReason::IdoTorikeshiShusei as i32, 58);
}

#[test]
fn examples_are_read_as_their_events() {
    for (file, event) in [
        ("resident_moved_within.json", "ResidentMovedWithin"),
        ("support_measure_started.json", "SupportMeasureStarted"),
    ] {
        let text = fs::read_to_string(schemas().join("examples").join(file)).unwrap();
        let mut json = serde_json::Deserializer::from_str(&text);
        let read = DynamicMessage::deserialize(message(&format!("{RESIDENT}.{event}")), &mut json);
        json.end().unwrap();
        let unset: Vec<_> = required_and_unset(&read.unwrap());
        assert!(unset.is_empty(), "{file}: {unset:?}");
    }
}

// Required message fields that are absent; a scalar's absence cannot be told from its zero.
fn required_and_unset(value: &DynamicMessage) -> Vec<String> {
    value
        .descriptor()
        .fields()
        .filter(|field| field.kind().as_message().is_some() && !field.is_list())
        .filter(|field| item(field).is_some_and(|item| item.required) && !value.has_field(field))
        .map(|field| field.full_name().to_owned())
        .collect()
}
