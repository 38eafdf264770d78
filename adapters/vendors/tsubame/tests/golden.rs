//! Golden files: a few 届出 and the events that they become, as JSON.
//! `UPDATE_GOLDEN=1` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use musubi_adapter_sdk::hub::Event;
use prost_reflect::DynamicMessage;
use serde_json::{Value, json};

use super::{Registry, drain, events, own_town, units};

/// The first group that has all events of a name in it, joined by `+`.
const CASES: [(&str, &str); 10] = [
    ("moved_in", "ResidentMovedIn"),
    ("moved_within", "ResidentMovedWithin"),
    ("moved_out", "ResidentMovedOut"),
    ("died", "ResidentDied"),
    (
        "naturalised",
        "ResidentDeletedByAuthority+ResidentRecordedByAuthority",
    ),
    ("cancelled", "ResidentTransactionCancelled"),
    ("head_changed", "HouseholdHeadChanged"),
    ("foreign_status", "ForeignStatusChanged"),
    ("support_ended", "SupportMeasureEnded"),
    ("name_changed", "ResidentNameChanged"),
];

fn as_json(event: &Event) -> Value {
    let pool = musubi_proto::descriptor_pool();
    let kind = pool.get_message_by_name(&event.r#type).unwrap();
    let data = DynamicMessage::decode(kind, event.data.clone()).unwrap();
    let group = event.group.as_ref();
    json!({
        "id": event.id,
        "type": event.r#type,
        "subject": format!("{}/{}", event.subject, event.subject_version),
        "group": group.map(|group| format!("{} {}/{}", group.id, group.seq, group.size)),
        "reason": event.reason,
        "effective_on": event.effective_on.as_ref().map(|date| date.value.clone()),
        "notified_on": event.notified_on.as_ref().map(|date| date.value.clone()),
        "occurred_at": event.occurred_at.as_ref().map(ToString::to_string),
        "annuls": event.annuls,
        "supersedes": event.supersedes,
        "traceparent": event.traceparent,
        "data": serde_json::to_value(&data).unwrap(),
    })
}

#[tokio::test]
async fn groups_become_the_events_of_the_golden_files() {
    // The golden files are of the project's own town, whatever town the other tests play.
    let registry = Registry::with_part_of_town(&own_town(), usize::MAX, 40);
    let mut capture = registry.open().await;
    capture.resume(None).await.unwrap();
    let units = units(&drain(capture.as_mut(), registry.items).await);
    let mut first: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for unit in &units {
        let events = events(std::slice::from_ref(unit));
        for (case, name) in CASES {
            if !first.contains_key(case)
                && events.len() <= 4
                && name
                    .split('+')
                    .all(|name| events.iter().any(|event| event.r#type.ends_with(name)))
            {
                first.insert(case, events.iter().map(as_json).collect());
            }
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vendors/tsubame/golden");
    for (case, _) in CASES {
        let found = first
            .get(case)
            .unwrap_or_else(|| panic!("no group for {case}"));
        let text = serde_json::to_string_pretty(found).unwrap() + "\n";
        let path = folder.join(format!("{case}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap();
        assert!(text == expected, "{case} differs from its golden file");
    }
}
