use musubi_proto::standard::common::v1::{PersonRef, ProtectionFlags, ResidentRecord};
use musubi_proto::standard::resident::v1::{
    ResidentMovedIn, ResidentMovedOut, SupportMeasureEnded,
};

use super::*;
use crate::grants::{GrantRule, GrantTable};

mod canaries;
mod oracle;
mod random;
mod wire_forms;

pub(super) const MOVED_IN: &str = "musubi.standard.resident.v1.ResidentMovedIn";
const MOVED_OUT: &str = "musubi.standard.resident.v1.ResidentMovedOut";
const SNAPSHOT: &str = "musubi.standard.resident.v1.ResidentSnapshotPublished";

pub(super) const HOLDS: Receiver = Receiver {
    holds_protection_flag: true,
};
const CANNOT_HOLD: Receiver = Receiver {
    holds_protection_flag: false,
};

pub(super) fn schema() -> Schema {
    Schema::load().expect("the built-in contracts load")
}

/// A grant of some paths of an event, with whatever rule for protected persons they ask for.
pub(super) fn grant(schema: &Schema, event: &str, paths: &str) -> Grant {
    let with_rule = |rule: &str| {
        let text = format!(
            "event,receiver,purpose_ja,legal_basis,population,granted,protected_person_rule\n\
             {event},010,用途,法,all,{paths},{rule}\n"
        );
        GrantTable::parse(schema, &[("010.csv", &text)])
    };
    let table = with_rule("P3").or_else(|error| match error.rule {
        GrantRule::OtherProtectedRule { expected } => with_rule(expected),
        _ => Err(error),
    });
    let table = table.unwrap_or_else(|error| panic!("{error}"));
    table.grant("010", event).expect("granted").clone()
}

pub(super) fn token(bytes: &[u8]) -> String {
    format!("token-{:x}", bytes.len())
}

fn address(town: &str) -> Address {
    Address {
        town: town.to_owned(),
        postal_code: "2480001".to_owned(),
        ..Default::default()
    }
}

fn moved_in() -> ResidentMovedIn {
    ResidentMovedIn {
        record: Some(ResidentRecord {
            person: Some(PersonRef {
                atenabango: "1".to_owned(),
                rirekibango: 2,
            }),
            address: Some(address("now")),
            previous_address: Some(address("before")),
            protection: Some(ProtectionFlags {
                level: 3,
                ..Default::default()
            }),
            ..Default::default()
        }),
        from_abroad: true,
        re_entry: true,
        ..Default::default()
    }
}

const PATHS: &str = "record.person; record.address; record.previous_address; record.protection; \
                     from_abroad";

fn seen(receiver: Receiver, protected: bool) -> (ResidentMovedIn, Vec<String>) {
    let schema = schema();
    let grant = grant(&schema, MOVED_IN, PATHS);
    let data = moved_in().encode_to_vec();
    let projected =
        project(&schema, &grant, &data, &receiver, protected, &token).expect("projected");
    let event = ResidentMovedIn::decode(projected.data.as_slice()).expect("decodes");
    (event, projected.granted_paths)
}

#[test]
fn only_granted_fields_pass() {
    let (event, paths) = seen(CANNOT_HOLD, false);
    let mut expected = moved_in();
    expected.re_entry = false;
    assert_eq!(event, expected);
    assert_eq!(paths.join("; "), PATHS);
}

#[test]
fn a_receiver_with_the_flag_sees_the_current_address_and_a_token_for_others() {
    let (event, paths) = seen(HOLDS, true);
    let record = event.record.expect("a record");
    assert_eq!(record.address, Some(address("now")));
    let expected = Address {
        redaction: RedactionKind::Token as i32,
        redaction_token: token(&address("before").encode_to_vec()),
        ..Default::default()
    };
    assert_eq!(record.previous_address, Some(expected));
    assert_eq!(
        paths,
        [
            "record.person",
            "record.address",
            "record.protection",
            "from_abroad"
        ]
    );
}

#[test]
fn a_receiver_without_the_flag_sees_no_address_of_a_protected_person() {
    let (event, paths) = seen(CANNOT_HOLD, true);
    let mut record = moved_in().record.expect("a record");
    record.address = None;
    record.previous_address = None;
    assert_eq!(event.record, Some(record));
    assert_eq!(paths, ["record.person", "record.protection", "from_abroad"]);
}

#[test]
fn a_part_of_another_address_is_a_token_of_the_whole() {
    let schema = schema();
    let paths = "record.protection; record.previous_address.municipality_code; \
                 record.deletion; planned_destination";
    let grant = grant(&schema, MOVED_OUT, paths);
    let mut record = moved_in().record.expect("a record");
    record.deletion = Some(musubi_proto::standard::common::v1::DeletionInfo {
        confirmed_destination: Some(address("next")),
        ..Default::default()
    });
    let event = ResidentMovedOut {
        record: Some(record),
        planned_destination: Some(address("plan")),
        ..Default::default()
    };
    let data = event.encode_to_vec();
    let projected = project(&schema, &grant, &data, &HOLDS, true, &token).expect("projected");
    let seen = ResidentMovedOut::decode(projected.data.as_slice()).expect("decodes");
    let withheld = |town: &str| {
        let redaction_token = token(&address(town).encode_to_vec());
        Some(Address {
            redaction: 2,
            redaction_token,
            ..Default::default()
        })
    };
    let record = seen.record.expect("a record");
    assert_eq!(record.previous_address, withheld("before"));
    assert_eq!(
        record.deletion.expect("deletion").confirmed_destination,
        withheld("next")
    );
    assert_eq!(seen.planned_destination, withheld("plan"));
    assert!(
        !projected
            .granted_paths
            .iter()
            .any(|path| path.contains("address"))
    );
    assert!(
        !projected
            .granted_paths
            .iter()
            .any(|path| path.contains("destination"))
    );
    assert!(
        projected
            .granted_paths
            .contains(&"record.deletion.reason".to_owned())
    );
}

#[test]
fn only_an_explicit_none_says_that_a_person_is_not_protected() {
    let schema = schema();
    let with = |flags: Option<ProtectionFlags>| {
        let mut event = moved_in();
        event.record.as_mut().expect("a record").protection = flags;
        protection_of(&schema, MOVED_IN, &event.encode_to_vec())
    };
    let level = |level: i32| {
        Some(ProtectionFlags {
            level,
            ..Default::default()
        })
    };
    assert_eq!(with(level(1)), Protection::NotProtected);
    for level in [
        level(0),
        level(2),
        level(3),
        level(4),
        level(9),
        level(-1),
        None,
    ] {
        assert_eq!(with(level), Protection::Protected);
    }
    assert_eq!(protection_of(&schema, MOVED_IN, &[]), Protection::Protected);
    assert_eq!(
        protection_of(&schema, MOVED_IN, &[0x0a, 0x05]),
        Protection::Protected
    );
    assert_eq!(
        protection_of(&schema, "x.Unknown", &[]),
        Protection::Protected
    );
    // A second occurrence may add a level, never take one away.
    let none = moved_in_with(1);
    let twice = [moved_in().encode_to_vec(), none.clone()].concat();
    assert_eq!(
        protection_of(&schema, MOVED_IN, &twice),
        Protection::Protected
    );
    let twice = [none.clone(), none].concat();
    assert_eq!(
        protection_of(&schema, MOVED_IN, &twice),
        Protection::NotProtected
    );
}

fn moved_in_with(level: i32) -> Vec<u8> {
    let mut event = moved_in();
    event.record.as_mut().expect("a record").protection = Some(ProtectionFlags {
        level,
        ..Default::default()
    });
    event.encode_to_vec()
}

#[test]
fn events_without_a_record_say_nothing_about_protection() {
    let schema = schema();
    let ended = SupportMeasureEnded {
        level_after: 1,
        ..Default::default()
    }
    .encode_to_vec();
    let event = "musubi.standard.resident.v1.SupportMeasureEnded";
    assert_eq!(protection_of(&schema, event, &ended), Protection::Unstated);
    // The header of a snapshot has no record either.
    assert_eq!(
        protection_of(&schema, SNAPSHOT, &[0x10, 0x01]),
        Protection::Unstated
    );
    assert_eq!(
        protection_of(&schema, SNAPSHOT, &[0x42, 0x00]),
        Protection::Protected
    );
}
