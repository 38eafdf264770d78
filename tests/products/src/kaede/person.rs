//! The items of a taxpayer's record and how a request changes them.
//! `api.rs` parses a body here; the edit is applied by the ledger.
//! It must never touch an item that the body does not name.
//! Read next: `ledger.rs`.

use serde_json::{Map, Value, json};

use crate::fields::{
    DateForm, Fault, Field, Kind, Refusal, check_digits, check_key, check_measure, code, date,
    number, text,
};
use crate::ledger::{Change, Doc, Person};

const WAREKI: DateForm = DateForm::Wareki;
const VERSION_MAX: i64 = 99_999;
const STATES: &[&str] = &["ZAIJU", "TENSHUTSU", "SHIBO", "SHOJO"];

/// All items in the order of the manual.
pub(super) const FIELDS: [Field; 18] = [
    text("shimei", 100),
    text("shimeiKana", 100),
    text("tsusho", 100),
    text("tsushoKana", 100),
    date("umare", WAREKI, "umareFusho").needed(),
    text("umareFusho", 72),
    code("seibetsu", &["M", "F", "X"]).needed(),
    code("kubun", &["N", "G"]).needed(),
    text("jusho", 500),
    number("yubin", 7, 7),
    date("jushoSadame", WAREKI, "jushoSadameFusho"),
    text("jushoSadameFusho", 72),
    number("setai", 1, 15),
    number("setainushi", 1, 15),
    text("zokugara", 50),
    code("jotai", STATES).fixed(),
    date("jotaiHi", WAREKI, "jotaiHiFusho"),
    text("jotaiHiFusho", 72),
];

/// Whether an unknown person is registered or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    Register,
    Refuse,
}

/// Reads the body of a registration or an update.
pub(super) fn record_change(
    key: String,
    no: &str,
    body: &[u8],
    unknown: Unknown,
) -> Result<Change, Refusal> {
    check_digits("atenabango", no, 1, 15)?;
    let mut body = object(body)?;
    let version = integer(&mut body, "rireki", 1, VERSION_MAX)?;
    let seen = measures(body.remove("hogoTsuika"))?;
    for (name, value) in &body {
        let field = FIELDS
            .iter()
            .find(|field| field.name == name)
            .ok_or_else(|| {
                Refusal::new(
                    Fault::UnknownItem,
                    name.clone(),
                    "this interface has no such item",
                )
            })?;
        check(field, value, &body)?;
    }
    let edit = Box::new(move |held: Option<Doc>| merge(held, body));
    let create = unknown == Unknown::Register;
    Ok(Change::Record {
        key,
        no: no.to_owned(),
        version,
        create,
        edit,
        seen,
    })
}

/// Reads the body of a protection measure.
pub(super) fn measure_change(
    key: String,
    no: &str,
    measure: &str,
    body: &[u8],
) -> Result<Change, Refusal> {
    check_digits("atenabango", no, 1, 15)?;
    check_measure("sochi", measure)?;
    let mut body = object(body)?;
    let version = integer(&mut body, "han", 1, VERSION_MAX)?;
    let ended = match body.remove("shuryo") {
        Some(Value::Bool(ended)) => ended,
        Some(_) => return Err(Refusal::new(Fault::Malformed, "shuryo", "true or false")),
        None => return Err(Refusal::new(Fault::Missing, "shuryo", "needed")),
    };
    if let Some(name) = body.keys().next() {
        return Err(Refusal::new(
            Fault::UnknownItem,
            name,
            "this interface has no such item",
        ));
    }
    Ok(Change::Measure {
        key,
        no: no.to_owned(),
        measure: measure.to_owned(),
        version,
        ended,
    })
}

/// Judges the caller's key.
pub(super) fn key(value: Option<&str>) -> Result<String, Refusal> {
    let value = value.unwrap_or_default();
    check_key("Idempotency-Key", value)?;
    Ok(value.to_owned())
}

/// A person as the interface shows it.
pub(super) fn show(person: Person) -> Value {
    let mut shown = Map::new();
    shown.insert("atenabango".into(), person.no.into());
    shown.insert("rireki".into(), person.version.into());
    let mut doc = person.doc;
    for field in &FIELDS {
        shown.insert(
            field.name.into(),
            doc.remove(field.name).unwrap_or(Value::Null),
        );
    }
    let protected = person.measures.iter().any(|measure| !measure.ended);
    let measures: Vec<Value> = person
        .measures
        .into_iter()
        .map(|held| json!({"bango": held.measure, "han": held.version, "shuryo": held.ended}))
        .collect();
    shown.insert(
        "hogo".into(),
        json!({"hogochu": protected, "sochi": measures}),
    );
    Value::Object(shown)
}

fn check(field: &Field, value: &Value, body: &Doc) -> Result<(), Refusal> {
    match value {
        Value::Null => field.check_clear(),
        Value::String(value) => field.check(value, |wording| {
            body.get(wording).is_some_and(Value::is_string)
        }),
        _ => Err(Refusal::new(Fault::Malformed, field.name, "text or null")),
    }
}

fn merge(held: Option<Doc>, body: Doc) -> Result<Doc, Refusal> {
    let mut doc = match held {
        Some(held) => held,
        None => {
            let missing = FIELDS
                .iter()
                .find(|field| field.needed && !body.contains_key(field.name));
            if let Some(field) = missing {
                return Err(Refusal::new(
                    Fault::Missing,
                    field.name,
                    "needed at registration",
                ));
            }
            Doc::from_iter([("jotai".to_owned(), Value::from(STATES[0]))])
        }
    };
    for (name, value) in body {
        if value.is_null() {
            doc.remove(&name);
        } else {
            doc.insert(name, value);
        }
    }
    for field in &FIELDS {
        still_worded(field, &doc)?;
    }
    Ok(doc)
}

/// A day outside the calendar must not lose its wording later.
fn still_worded(field: &Field, doc: &Doc) -> Result<(), Refusal> {
    let Kind::Date { .. } = field.kind else {
        return Ok(());
    };
    match doc.get(field.name).and_then(Value::as_str) {
        Some(value) => field.check(value, |wording| doc.contains_key(wording)),
        None => Ok(()),
    }
}

fn object(body: &[u8]) -> Result<Doc, Refusal> {
    match serde_json::from_slice(body) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(Refusal::new(
            Fault::Malformed,
            "",
            "the body must be a JSON object",
        )),
        Err(error) => Err(Refusal::new(Fault::Malformed, "", error.to_string())),
    }
}

fn integer(body: &mut Doc, name: &str, min: i64, max: i64) -> Result<i64, Refusal> {
    match body.remove(name).map(|value| value.as_i64()) {
        None => Err(Refusal::new(Fault::Missing, name, "needed")),
        Some(Some(value)) if (min..=max).contains(&value) => Ok(value),
        Some(_) => Err(Refusal::new(
            Fault::Malformed,
            name,
            format!("integer {min} to {max}"),
        )),
    }
}

fn measures(value: Option<Value>) -> Result<Vec<String>, Refusal> {
    let items = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(items)) if items.len() <= 100 => items,
        Some(_) => {
            return Err(Refusal::new(
                Fault::Malformed,
                "hogoTsuika",
                "list of at most 100",
            ));
        }
    };
    let mut found = Vec::with_capacity(items.len());
    for item in items {
        let Value::String(item) = item else {
            return Err(Refusal::new(
                Fault::Malformed,
                "hogoTsuika",
                "measure numbers",
            ));
        };
        check_measure("hogoTsuika", &item)?;
        found.push(item);
    }
    Ok(found)
}
