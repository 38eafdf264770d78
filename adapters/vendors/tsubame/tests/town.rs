//! The whole town: every right row becomes an event, every wrong one its rule.

use std::collections::{BTreeMap, BTreeSet};

use musubi_adapter_sdk::hub::{DeliveredEvent, Stream};
use musubi_adapter_sdk::payload::decode_payload;

use super::{Registry, drain, events, records, refused, town, units};

#[tokio::test]
async fn every_right_row_becomes_one_event_and_none_is_refused() {
    let registry = Registry::with_town(40);
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    let pages = drain(capture.as_mut(), registry.items).await;
    for page in &pages {
        assert!(page.units.len() <= musubi_adapter_sdk::limits::PAGE_UNITS_MAX);
        assert!(page.cursor.len() <= musubi_adapter_sdk::limits::CURSOR_BYTES_MAX);
    }
    let units = units(&pages);
    assert_eq!(refused(&units), Vec::new());
    let events = events(&units);
    assert_eq!(events.len(), registry.items);
    let ids: BTreeSet<&String> = events.iter().map(|event| &event.id).collect();
    assert_eq!(ids.len(), events.len(), "ids are unique");
    assert!(pages.iter().any(|page| page.stream == Stream::Bulk));

    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in &events {
        let delivered = DeliveredEvent {
            event: Some(event.clone()),
            granted_paths: Vec::new(),
        };
        let payload = decode_payload(&delivered).unwrap();
        *counts.entry(payload.name().to_owned()).or_default() += 1;
        assert_eq!(event.source_digest.len(), 32);
        assert!(event.occurred_at.is_some(), "{}", payload.name());
    }
    let snapshot = counts.remove("ResidentSnapshotPublished").unwrap();
    let changes = records(&town().join("changes.csv")).len() - 1;
    assert_eq!(counts.values().sum::<usize>(), changes);
    assert_eq!(snapshot + changes, registry.items);
    for name in [
        "ResidentMovedIn",
        "ResidentDied",
        "HouseholdHeadChanged",
        "SupportMeasureEnded",
    ] {
        assert!(counts.contains_key(name), "{name} in {counts:?}");
    }
}

#[tokio::test]
async fn every_wrong_row_is_refused_by_its_own_rule() {
    // These are found by the hub, from the versions that it accepted before.
    const BY_THE_HUB: [&str; 3] = ["VERSION_GOES_BACK", "VERSION_REUSED", "VERSION_GAP"];
    let mut registry = Registry::with_town(40);
    let before = registry.items;
    let rules = registry.write_invalid();
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    drain(capture.as_mut(), before).await;
    let units = units(&drain(capture.as_mut(), rules.len()).await);
    let refused = refused(&units);
    let expected: Vec<&String> = rules
        .iter()
        .filter(|rule| !BY_THE_HUB.contains(&rule.as_str()))
        .collect();
    let found: Vec<&String> = refused.iter().map(|row| &row.rule).collect();
    assert_eq!(found, expected);
    assert_eq!(events(&units).len(), rules.len() - expected.len());
    for row in &refused {
        let origin = row.origin.as_ref().unwrap();
        assert!(origin.file.ends_with("_sabun.csv") && origin.line > 0);
        assert!(
            !row.row.is_empty() && !row.message.is_empty() && !row.item.is_empty(),
            "{row:?}"
        );
    }
    let nobody: Vec<&str> = refused
        .iter()
        .filter(|row| row.subject.is_empty())
        .map(|row| row.rule.as_str())
        .collect();
    let unreadable = [
        "MISSING_ATENABANGO",
        "LETTERS_IN_CODE",
        "FULLWIDTH_IN_CODE",
        "ATENABANGO_TOO_LONG",
    ];
    assert_eq!(nobody, unreadable);
}

#[tokio::test]
async fn a_group_with_one_wrong_row_is_refused_whole_and_later_rows_go_on() {
    let changes = records(&town().join("changes.csv"));
    let group = changes
        .iter()
        .find(|row| super::field(row, 3) == "2")
        .unwrap();
    let id = super::field(group, 1);
    let mut broken: Vec<Vec<u8>> = changes.clone();
    let place = broken
        .iter()
        .position(|row| super::field(row, 1) == id)
        .unwrap();
    let text = String::from_utf8(broken[place].clone()).unwrap();
    broken[place] = text.replacen(",142042,", ",142043,", 2).into_bytes();
    let mut registry = Registry::new();
    registry.write("zenken", &records(&town().join("residents_before.csv")));
    let before = registry.items;
    let end = broken[place + 2..]
        .windows(2)
        .position(|pair| super::field(&pair[0], 1) != super::field(&pair[1], 1));
    registry.write("sabun", &broken[..place + 3 + end.unwrap()]);
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    drain(capture.as_mut(), before).await;
    let units = units(&drain(capture.as_mut(), registry.items - before).await);
    let refused = refused(&units);
    assert_eq!(refused.len(), 2, "both rows of the group");
    assert_eq!(
        refused.iter().filter(|row| row.rule.is_empty()).count(),
        1,
        "one is right itself"
    );
    assert_eq!(events(&units).len(), registry.items - before - 2);
}

/// The register after all changes: items by name.
fn register_afterwards() -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(town().join("residents_after.csv")).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

#[tokio::test]
async fn the_last_record_of_every_resident_is_the_register_afterwards() {
    let registry = Registry::with_town(40);
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    let mut last = BTreeMap::new();
    for event in events(&units(&drain(capture.as_mut(), registry.items).await)) {
        let delivered = DeliveredEvent {
            event: Some(event.clone()),
            granted_paths: Vec::new(),
        };
        if let Some(record) = decode_payload(&delivered).unwrap().record() {
            last.insert(event.subject, record.clone());
        }
    }
    let register = register_afterwards();
    let heads: BTreeMap<&str, &str> = register
        .iter()
        .filter(|row| row["zokugarakodo"] == "01")
        .map(|row| (row["setaibango"].as_str(), row["atenabango"].as_str()))
        .collect();
    for row in &register {
        let who = &row["atenabango"];
        let record = &last[who];
        let address = record.address.clone().unwrap_or_default();
        let name = record.name.clone().unwrap_or_default();
        let alias = record.alias.clone().unwrap_or_default();
        for (item, found) in [
            (
                "setaibango",
                record.household.clone().unwrap_or_default().setaibango,
            ),
            ("shimei", name.full_name),
            ("shimei_furigana", name.furigana),
            ("tsusho", alias.tsusho),
            (
                "zokugara",
                record.relationship.clone().unwrap_or_default().text,
            ),
            ("jusho_choaza", address.town),
            ("jusho_banchigohyoki", address.lot),
            ("jusho_katagaki", address.building),
            (
                "seinengappi",
                record.birth_on.clone().unwrap_or_default().value,
            ),
            (
                "honseki",
                record.family_register.clone().unwrap_or_default().honseki,
            ),
        ] {
            assert_eq!(found, row[item], "{item} of {who}");
        }
        let head = record.head.as_ref().map(|head| head.atenabango.as_str());
        assert_eq!(
            head,
            heads.get(row["setaibango"].as_str()).copied(),
            "head of {who}"
        );
    }
}
