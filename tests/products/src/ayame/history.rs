//! The address history of a person: entries from oldest to newest, at most one current.
//! `person.rs` hands in a judged current address; pure.
//! It must never have two current entries.
//! Read next: §3 of the manual, whose four cases are the branches here.

use serde_json::{Map, Value};

/// Entries that are kept; older ones are dropped.
const ENTRIES_MAX: usize = 100;

/// Enters a new current address; `parts` has every part, `from` only if the caller gave it.
pub(super) fn enter(entries: &mut Vec<Value>, parts: Map<String, Value>, from: Option<Value>) {
    let mut entry = parts;
    entry.insert("to".into(), Value::Null);
    let current = entries.iter_mut().find(|entry| entry["to"].is_null());
    let later = match (&from, &current) {
        (_, None) => true,
        (Some(from), Some(current)) => match (day(from), day(&current["from"])) {
            (Some(new), Some(old)) => new > old,
            _ => false,
        },
        (None, Some(_)) => false,
    };
    match current {
        Some(current) if later => {
            current["to"] = from.as_ref().and_then(day).map_or(Value::Null, Value::from);
        }
        Some(current) => {
            entry.insert(
                "from".into(),
                from.unwrap_or_else(|| current["from"].clone()),
            );
            *current = Value::Object(entry);
            return;
        }
        None => {}
    }
    entry.insert("from".into(), from.unwrap_or(Value::Null));
    entries.push(Value::Object(entry));
    let surplus = entries.len().saturating_sub(ENTRIES_MAX);
    entries.drain(..surplus);
}

/// Ends the current address on a day.
pub(super) fn end(entries: &mut [Value], on: Option<&str>) {
    if let Some(current) = entries.iter_mut().find(|entry| entry["to"].is_null()) {
        let own = day(&current["from"]).map(str::to_owned);
        let last = on
            .map(str::to_owned)
            .or(own)
            .unwrap_or_else(|| "0001-01-01".to_owned());
        current["to"] = Value::from(last);
    }
}

fn day(date: &Value) -> Option<&str> {
    date.get("date").and_then(Value::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(entries: &mut Vec<Value>, town: &str, from: Option<&str>) {
        let parts = Map::from_iter([("town".to_owned(), Value::from(town))]);
        enter(
            entries,
            parts,
            from.map(|from| json!({"date": from, "wording": null})),
        );
    }

    fn shape(entries: &[Value]) -> Vec<String> {
        let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let line = |entry: &Value| {
            [&entry["town"], &entry["from"]["date"], &entry["to"]]
                .map(text)
                .join(" ")
        };
        entries.iter().map(line).collect()
    }

    #[test]
    fn a_later_day_follows_and_the_same_or_an_earlier_day_replaces() {
        let mut entries = Vec::new();
        put(&mut entries, "a", Some("2020-01-01"));
        put(&mut entries, "b", Some("2026-02-24"));
        assert_eq!(
            shape(&entries),
            ["a 2020-01-01 2026-02-24", "b 2026-02-24 -"]
        );
        put(&mut entries, "c", Some("2026-02-24"));
        put(&mut entries, "d", None);
        assert_eq!(
            shape(&entries),
            ["a 2020-01-01 2026-02-24", "d 2026-02-24 -"]
        );
        put(&mut entries, "e", Some("2026-02-20"));
        assert_eq!(
            shape(&entries),
            ["a 2020-01-01 2026-02-24", "e 2026-02-20 -"]
        );
        end(&mut entries, Some("2026-03-01"));
        put(&mut entries, "f", Some("2026-02-01"));
        assert_eq!(
            entries.iter().filter(|entry| entry["to"].is_null()).count(),
            1
        );
        assert_eq!(shape(&entries)[2], "f 2026-02-01 -");
    }

    #[test]
    fn the_history_has_a_limit() {
        let mut entries = Vec::new();
        for n in 0..150 {
            put(
                &mut entries,
                &n.to_string(),
                Some(&format!("{}-01-01", 1900 + n)),
            );
        }
        assert_eq!(entries.len(), ENTRIES_MAX);
        assert_eq!(entries[0]["town"], "50");
    }
}
