//! The person of `ayame`: what a change may hold and how it is merged into the record.
//! `api.rs` parses each change here; the edit is applied by the ledger.
//! It must never touch a property that the change does not name.
//! Read next: `history.rs`.

use serde_json::{Map, Value, json};

use super::history;
use crate::calendar;
use crate::fields::{
    Fault, Refusal, check_day, check_digits, check_key, check_measure, check_text,
};
use crate::ledger::{Change, Doc, Person};

const VERSION_MAX: i64 = 99_999;
const TOP: [&str; 8] = [
    "name",
    "alias",
    "birth",
    "sex",
    "nationalityClass",
    "headOfHousehold",
    "stay",
    "residence",
];
const SEXES: &[&str] = &["male", "female", "unknown"];
const CLASSES: &[&str] = &["japanese", "foreign"];
const STATUSES: &[&str] = &["resident", "moved_out", "deceased", "removed"];
const CATEGORIES: &[&str] = &[
    "mid_to_long_term",
    "special_permanent",
    "temporary_refuge",
    "provisional_stay",
    "transitional_birth",
    "transitional_nationality_loss",
];
const PARTS: [(&str, usize); 5] = [
    ("prefecture", 4),
    ("city", 12),
    ("town", 120),
    ("lot", 50),
    ("building", 300),
];

type Judged<T> = Result<T, Refusal>;

/// Reads a change of a person's record.
pub(super) fn record_change(no: &str, version: i64, mut body: Doc) -> Judged<Change> {
    check_digits("no", no, 1, 15)?;
    if !(1..=VERSION_MAX).contains(&version) {
        return Err(Refusal::new(
            Fault::Malformed,
            "If-Version",
            "integer 1 to 99999",
        ));
    }
    let key = change_id(&mut body)?;
    let create = match body.remove("kind").as_ref().and_then(Value::as_str) {
        Some("register") => true,
        Some("amend") => false,
        _ => return Err(Refusal::new(Fault::Value, "kind", "register or amend")),
    };
    let set = match body.remove("set") {
        None => Map::new(),
        Some(Value::Object(set)) => set,
        Some(_) => return Err(Refusal::new(Fault::Malformed, "set", "an object")),
    };
    check_set(&set)?;
    let address = body.remove("address").map(address).transpose()?;
    let seen = measures(body.remove("confidentialSeen"))?;
    refuse_rest(&body, "")?;
    let edit = Box::new(move |held: Option<Doc>| merge(held, set, address));
    Ok(Change::Record {
        key,
        no: no.to_owned(),
        version,
        create,
        edit,
        seen,
    })
}

/// Reads a change of a confidential measure.
pub(super) fn measure_change(no: &str, measure: &str, mut body: Doc) -> Judged<Change> {
    check_digits("no", no, 1, 15)?;
    check_measure("measure", measure)?;
    let key = change_id(&mut body)?;
    let version = body.remove("version").as_ref().and_then(Value::as_i64);
    let version = version
        .filter(|version| (1..=VERSION_MAX).contains(version))
        .ok_or_else(|| Refusal::new(Fault::Malformed, "version", "integer 1 to 99999"))?;
    let ended = body.remove("ended").as_ref().and_then(Value::as_bool);
    let ended = ended.ok_or_else(|| Refusal::new(Fault::Malformed, "ended", "true or false"))?;
    refuse_rest(&body, "")?;
    Ok(Change::Measure {
        key,
        no: no.to_owned(),
        measure: measure.to_owned(),
        version,
        ended,
    })
}

/// Reads a JSON object.
pub(super) fn object(body: &[u8]) -> Judged<Doc> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(Refusal::new(Fault::Malformed, "", "not a JSON object")),
        Err(error) => Err(Refusal::new(Fault::Malformed, "", error.to_string())),
    }
}

/// A person as the interface shows it.
pub(super) fn show(person: Person) -> Value {
    let mut doc = person.doc;
    let mut shown = Map::new();
    shown.insert("no".into(), person.no.into());
    shown.insert("version".into(), person.version.into());
    for name in TOP {
        shown.insert(name.into(), doc.remove(name).unwrap_or(Value::Null));
    }
    for (name, members) in [
        ("name", ["full", "reading"].as_slice()),
        ("alias", &["full", "reading"]),
        ("stay", &["category", "expires"]),
        ("residence", &["status", "on"]),
    ] {
        if let Some(Value::Object(object)) = shown.get_mut(name) {
            for member in members {
                object.entry(*member).or_insert(Value::Null);
            }
        }
    }
    shown.insert(
        "addresses".into(),
        doc.remove("addresses").unwrap_or_else(|| json!([])),
    );
    let active = person.measures.iter().any(|measure| !measure.ended);
    let measures: Vec<Value> = person
        .measures
        .into_iter()
        .map(|held| json!({"measure": held.measure, "version": held.version, "ended": held.ended}))
        .collect();
    shown.insert(
        "confidential".into(),
        json!({"active": active, "measures": measures}),
    );
    Value::Object(shown)
}

fn change_id(body: &mut Doc) -> Judged<String> {
    match body.remove("changeId") {
        Some(Value::String(key)) => check_key("changeId", &key).map(|()| key),
        _ => Err(Refusal::new(Fault::Missing, "changeId", "needed")),
    }
}

fn check_set(set: &Doc) -> Judged<()> {
    for (name, value) in set {
        let path = format!("set.{name}");
        match name.as_str() {
            "name" | "alias" => check_members(&path, value, |member, path, value| match member {
                "full" | "reading" => {
                    nullable(value, path, |text| check_text(path, text, 100, false))
                }
                _ => Err(unknown(path)),
            })?,
            "birth" if value.is_null() => return Err(fixed(&path)),
            "birth" => check_date(&path, value)?,
            "sex" => check_code(&path, value, SEXES)?,
            "nationalityClass" => check_code(&path, value, CLASSES)?,
            "headOfHousehold" => nullable(value, &path, |text| check_digits(&path, text, 1, 15))?,
            "stay" => check_members(&path, value, |member, path, value| match member {
                "category" if value.is_null() => Ok(()),
                "category" => check_code(path, value, CATEGORIES),
                "expires" if value == "indefinite" => Ok(()),
                "expires" => nullable(value, path, |text| {
                    check_day(path, calendar::parse_iso(text), false)
                }),
                _ => Err(unknown(path)),
            })?,
            "residence" if value.is_null() => return Err(fixed(&path)),
            "residence" => check_members(&path, value, |member, path, value| match member {
                "status" => check_code(path, value, STATUSES),
                "on" if value.is_null() => Ok(()),
                "on" => check_date(path, value),
                _ => Err(unknown(path)),
            })?,
            _ => return Err(unknown(&path)),
        }
    }
    Ok(())
}

fn check_members(
    path: &str,
    value: &Value,
    check: impl Fn(&str, &str, &Value) -> Judged<()>,
) -> Judged<()> {
    match value {
        Value::Null => Ok(()),
        Value::Object(members) => members
            .iter()
            .try_for_each(|(member, value)| check(member, &format!("{path}.{member}"), value)),
        _ => Err(Refusal::new(Fault::Malformed, path, "an object or null")),
    }
}

fn nullable(value: &Value, path: &str, check: impl Fn(&str) -> Judged<()>) -> Judged<()> {
    match value {
        Value::Null => Ok(()),
        Value::String(text) => check(text),
        _ => Err(Refusal::new(Fault::Malformed, path, "text or null")),
    }
}

fn check_code(path: &str, value: &Value, values: &[&str]) -> Judged<()> {
    match value {
        Value::String(text) if values.contains(&text.as_str()) => Ok(()),
        Value::Null => Err(fixed(path)),
        _ => Err(Refusal::new(
            Fault::Value,
            path,
            format!("not one of {}", values.join(" ")),
        )),
    }
}

fn check_date(path: &str, value: &Value) -> Judged<()> {
    let Value::Object(members) = value else {
        return Err(Refusal::new(Fault::Malformed, path, "a date object"));
    };
    let mut worded = false;
    for (member, value) in members {
        match (member.as_str(), value) {
            ("date", Value::String(_)) | ("wording", Value::Null) => {}
            ("wording", Value::String(wording)) => {
                check_text(&format!("{path}.wording"), wording, 72, false)?;
                worded = true;
            }
            ("date" | "wording", _) => {
                return Err(Refusal::new(
                    Fault::Malformed,
                    format!("{path}.{member}"),
                    "text",
                ));
            }
            _ => return Err(unknown(&format!("{path}.{member}"))),
        }
    }
    let date = members
        .get("date")
        .and_then(Value::as_str)
        .unwrap_or_default();
    check_day(&format!("{path}.date"), calendar::parse_iso(date), worded)
}

/// A current address: `None` ends it, else its parts and, if given, its first day.
type Address = Option<(Doc, Option<Value>)>;

fn address(value: Value) -> Judged<Address> {
    let mut given = match value {
        Value::Null => return Ok(None),
        Value::Object(given) => given,
        _ => {
            return Err(Refusal::new(
                Fault::Malformed,
                "address",
                "an object or null",
            ));
        }
    };
    let from = given.remove("from");
    if let Some(from) = from.as_ref().filter(|from| !from.is_null()) {
        check_date("address.from", from)?;
    }
    let mut parts = Map::new();
    for (name, max) in PARTS {
        let value = given.remove(name).unwrap_or(Value::Null);
        let path = format!("address.{name}");
        nullable(&value, &path, |text| {
            check_text(&path, text, max, name == "building")
        })?;
        parts.insert(name.to_owned(), value);
    }
    let postal = given.remove("postalCode").unwrap_or(Value::Null);
    let path = "address.postalCode";
    nullable(&postal, path, |text| check_digits(path, text, 7, 7))?;
    parts.insert("postalCode".to_owned(), postal);
    refuse_rest(&given, "address.")?;
    Ok(Some((parts, from.map(full_date))))
}

fn measures(value: Option<Value>) -> Judged<Vec<String>> {
    let wrong = || Refusal::new(Fault::Malformed, "confidentialSeen", "list of at most 100");
    let items = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= 100 => items,
        Some(_) => return Err(wrong()),
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let Value::String(item) = item else {
            return Err(wrong());
        };
        check_measure("confidentialSeen", &item)?;
        found.push(item);
    }
    Ok(found)
}

fn merge(held: Option<Doc>, set: Doc, address: Option<Address>) -> Judged<Doc> {
    let mut doc = match held {
        Some(held) => held,
        None => {
            for name in ["birth", "sex", "nationalityClass"] {
                if !set.contains_key(name) {
                    let path = format!("set.{name}");
                    return Err(Refusal::new(Fault::Missing, path, "needed at registration"));
                }
            }
            Doc::from_iter([(
                "residence".to_owned(),
                json!({"status": "resident", "on": null}),
            )])
        }
    };
    for (name, value) in set {
        match (name.as_str(), value) {
            (_, Value::Null) => {
                doc.remove(&name);
            }
            ("name" | "alias" | "stay" | "residence", Value::Object(members)) => {
                merge_members(&mut doc, name, members);
            }
            ("birth", date) => {
                doc.insert(name, full_date(date));
            }
            (_, value) => {
                doc.insert(name, value);
            }
        }
    }
    if let Some(address) = address {
        let mut entries = match doc.remove("addresses") {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        match address {
            Some((parts, from)) => history::enter(&mut entries, parts, from),
            None => {
                let on = doc
                    .get("residence")
                    .and_then(|held| held["on"]["date"].as_str());
                history::end(&mut entries, on);
            }
        }
        doc.insert("addresses".to_owned(), Value::Array(entries));
    }
    Ok(doc)
}

fn merge_members(doc: &mut Doc, name: String, members: Doc) {
    let mut object = match doc.remove(&name) {
        Some(Value::Object(object)) => object,
        _ => Map::new(),
    };
    for (member, value) in members {
        let value = if member == "on" {
            full_date(value)
        } else {
            value
        };
        object.insert(member, value);
    }
    if object.values().any(|value| !value.is_null()) {
        doc.insert(name, Value::Object(object));
    }
}

/// A date object with both members, so that reading back always shows them.
fn full_date(mut date: Value) -> Value {
    if let Value::Object(members) = &mut date {
        members.entry("wording").or_insert(Value::Null);
    }
    date
}

fn refuse_rest(body: &Doc, prefix: &str) -> Judged<()> {
    match body.keys().next() {
        None => Ok(()),
        Some(name) => Err(unknown(&format!("{prefix}{name}"))),
    }
}

fn unknown(path: &str) -> Refusal {
    Refusal::new(Fault::UnknownItem, path, "no such property")
}

fn fixed(path: &str) -> Refusal {
    Refusal::new(Fault::Missing, path, "cannot be cleared")
}
