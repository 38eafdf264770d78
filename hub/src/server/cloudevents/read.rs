//! From a CloudEvents request to units of events; pure.
//! Binary mode (headers and body), structured mode and batches (JSON).
//! Must never drop an attribute that it does not know, nor repeat a value in a text.
//! Read next: `server/cloudevents.rs`; `docs/specs/publish.md` names the attributes.

use std::collections::HashMap;

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, StatusCode};
use bytes::Bytes;
use musubi_proto::hub::v1::{Event, Unit};
use musubi_proto::json;
use musubi_proto::rules::flexible_date;
use percent_encoding::percent_decode;
use prost::Message;
use serde_json::{Map, Value, json};

use super::answer::Problem;
use crate::limits::PUBLISH_UNITS_MAX;

/// Attributes and the fields of the envelope that they are, by their names in protobuf JSON.
const FIELDS: [(&str, &str); 14] = [
    ("id", "id"),
    ("source", "source"),
    ("type", "type"),
    ("subject", "subject"),
    ("time", "occurredAt"),
    ("subjectversion", "subjectVersion"),
    ("reason", "reason"),
    ("supersedes", "supersedes"),
    ("annuls", "annuls"),
    ("causationid", "causationId"),
    ("correlationid", "correlationId"),
    ("traceparent", "traceparent"),
    ("sourcedigest", "sourceDigest"),
    ("schemafingerprint", "schemaFingerprint"),
];
const DATES: [(&str, &str); 2] = [("effectiveon", "effectiveOn"), ("notifiedon", "notifiedOn")];
const GROUP: [(&str, &str); 3] = [
    ("groupid", "id"),
    ("groupseq", "seq"),
    ("groupsize", "size"),
];
/// Attributes that are no part of an event, and say nothing that the hub needs.
const PASSED_OVER: [&str; 4] = ["specversion", "datacontenttype", "dataschema", "tracestate"];

const ENVELOPE: &str = "musubi.hub.v1.Event";
const JSON: &str = "application/json";
const PROTOBUF: [&str; 3] = [
    "application/protobuf",
    "application/x-protobuf",
    "application/vnd.google.protobuf",
];

/// The events of a request.
#[derive(Debug)]
pub(super) struct Events {
    /// Whether they came as a batch.
    pub(super) batch: bool,
    /// The events in order, or why one cannot be read.
    pub(super) events: Vec<Result<Event, Problem>>,
}

/// Media type of a request without its parameters; empty when it names none.
pub(super) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(CONTENT_TYPE);
    bare(value.and_then(|value| value.to_str().ok()).unwrap_or(""))
}

fn bare(media_type: &str) -> String {
    let kind = media_type.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
}

/// Reads the events of a request, in any mode.
pub(super) fn events(m: &str, headers: &HeaderMap, body: Bytes) -> Result<Events, Problem> {
    let kind = media_type(headers);
    let (batch, events) = match kind.as_str() {
        "application/cloudevents+json" => (false, vec![structured(m, whole(&body)?)]),
        "application/cloudevents-batch+json" => {
            let documents: Vec<Value> = whole(&body)?;
            if documents.len() > PUBLISH_UNITS_MAX {
                let message =
                    format!("at most {PUBLISH_UNITS_MAX} events in a batch; send several");
                return Err(Problem::new(
                    StatusCode::BAD_REQUEST,
                    "TOO_MANY_UNITS",
                    message,
                ));
            }
            let events = documents
                .into_iter()
                .map(|document| structured(m, document));
            (true, events.collect())
        }
        kind if kind.starts_with("application/cloudevents") => return Err(media(kind_is_wrong())),
        kind => {
            let mut attributes = attributes(headers)?;
            attributes.insert("datacontenttype".to_owned(), kind.into());
            (false, vec![event(m, attributes, body)])
        }
    };
    Ok(Events { batch, events })
}

/// Joins the events of one group into a unit, at the place of its first event.
pub(super) fn units(events: Vec<Result<Event, Problem>>) -> Vec<Result<Unit, Problem>> {
    let mut units: Vec<Result<Unit, Problem>> = Vec::new();
    let mut groups: HashMap<String, usize> = HashMap::new();
    for event in events {
        let group = event.as_ref().ok().and_then(|event| event.group.as_ref());
        let place = group.map(|group| *groups.entry(group.id.clone()).or_insert(units.len()));
        match (event, place.and_then(|place| units.get_mut(place))) {
            (Ok(event), Some(Ok(unit))) => unit.events.push(event),
            (event, _) => units.push(event.map(|event| Unit {
                events: vec![event],
            })),
        }
    }
    units
}

/// Attributes of the headers.
fn attributes(headers: &HeaderMap) -> Result<Map<String, Value>, Problem> {
    let mut attributes = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else {
            continue;
        };
        let value = percent_decode(value.as_bytes()).decode_utf8();
        let value = value.map_err(|_| Problem::invalid(name, "the value is not UTF-8"))?;
        let before = attributes.insert(name.to_owned(), value.into_owned().into());
        if before.is_some() {
            return Err(Problem::invalid(name, "the attribute stands twice"));
        }
    }
    Ok(attributes)
}

fn structured(m: &str, document: Value) -> Result<Event, Problem> {
    let Value::Object(mut attributes) = document else {
        return Err(undecodable("an event is a JSON object"));
    };
    attributes.retain(|_, value| !value.is_null());
    if let Some(encoded) = attributes.remove("data_base64") {
        if attributes.contains_key("data") {
            let message = "an event has `data` or `data_base64`, not both";
            return Err(Problem::invalid("data", message));
        }
        let data = envelope(json!({ "data": encoded }));
        let data = data.ok_or_else(|| Problem::invalid("data_base64", "the data is no Base64"))?;
        return event(m, attributes, data.data);
    }
    let data = attributes.remove("data").unwrap_or_default();
    let kind = attributes.get("datacontenttype").and_then(Value::as_str);
    if kind.is_some_and(|kind| bare(kind) != JSON) {
        return Err(media(
            "data of another type than JSON stands in `data_base64`",
        ));
    }
    event(m, attributes, data.to_string().into())
}

/// An event of its attributes and the bytes of its data.
fn event(m: &str, attributes: Map<String, Value>, data: Bytes) -> Result<Event, Problem> {
    match attributes.get("specversion") {
        Some(version) if version == "1.0" => {}
        Some(_) => {
            return Err(Problem::invalid(
                "specversion",
                "the hub knows CloudEvents 1.0",
            ));
        }
        None => {
            let message = "no CloudEvent: neither `ce-specversion` nor a media type of CloudEvents";
            let missing = Problem::new(StatusCode::BAD_REQUEST, "MISSING_FIELD", message);
            return Err(missing.field("specversion"));
        }
    }
    let kind = attributes.get("datacontenttype").and_then(Value::as_str);
    let kind = kind.map_or_else(|| JSON.to_owned(), bare);
    let mut fields = Map::new();
    for (name, value) in &attributes {
        place(&mut fields, name, value)?;
    }
    let mut event = envelope(Value::Object(fields)).ok_or_else(|| wrong_of(&attributes))?;
    m.clone_into(&mut event.municipality);
    event.data = match kind.as_str() {
        JSON => bytes_of_json(&event.r#type, &data)?,
        kind if PROTOBUF.contains(&kind) => data,
        _ => return Err(media(kind_is_wrong())),
    };
    Ok(event)
}

/// Puts an attribute where the envelope has it.
fn place(fields: &mut Map<String, Value>, name: &str, value: &Value) -> Result<(), Problem> {
    let of = |table: &[(&str, &'static str)]| {
        let mut rows = table.iter();
        rows.find(|row| row.0 == name).map(|row| row.1)
    };
    if let Some(field) = of(&FIELDS) {
        fields.insert(field.to_owned(), value.clone());
    } else if let Some(field) = of(&DATES) {
        fields.insert(field.to_owned(), date(value));
    } else if let Some(field) = of(&GROUP) {
        let group = fields.entry("group").or_insert_with(|| json!({}));
        group[field] = value.clone();
    } else if !PASSED_OVER.contains(&name) {
        return Err(Problem::invalid(
            name,
            "the hub does not know this attribute",
        ));
    }
    Ok(())
}

/// A day of the calendar as `YYYY-MM-DD`, any other as the JSON of a FlexibleDate.
fn date(value: &Value) -> Value {
    let text = value.as_str().unwrap_or_default();
    match flexible_date(text, false, "") {
        Ok(Some(date)) => json!({
            "year": date.year, "month": date.month, "day": date.day,
            "kind": date.kind, "value": date.value,
        }),
        // What is neither stays a text, which is no date.
        _ => serde_json::from_str(text).map_or_else(|_| value.clone(), Value::Object),
    }
}

fn envelope(fields: Value) -> Option<Event> {
    let kind = musubi_proto::descriptor_pool().get_message_by_name(ENVELOPE)?;
    let read = json::read(kind, fields.to_string().as_bytes()).ok()?;
    read.transcode_to().ok()
}

/// Names the attribute that keeps an envelope from being read.
fn wrong_of(attributes: &Map<String, Value>) -> Problem {
    let wrong = attributes.iter().find(|(name, value)| {
        let mut fields = Map::new();
        place(&mut fields, name, value).is_err() || envelope(Value::Object(fields)).is_none()
    });
    let name = wrong.map_or("", |(name, _)| name.as_str());
    Problem::invalid(name, "the value has not the form of this attribute")
}

fn bytes_of_json(event_type: &str, data: &[u8]) -> Result<Bytes, Problem> {
    let kind = musubi_proto::descriptor_pool().get_message_by_name(event_type);
    let kind = kind.ok_or_else(|| {
        let message = "the event type is not in the contracts";
        Problem::new(StatusCode::BAD_REQUEST, "UNKNOWN_TYPE", message).field("type")
    })?;
    // The reader's own text could repeat a value.
    let message = json::read(kind, data).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let message = format!(
            "the data is no protobuf JSON of its type: line {line}, column {column} of the data"
        );
        undecodable(message).field("data")
    })?;
    Ok(message.encode_to_vec().into())
}

fn whole<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        undecodable(format!(
            "the body is not the JSON that its media type says: line {line}, column {column}"
        ))
    })
}

fn undecodable(message: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "UNDECODABLE_PAYLOAD", message)
}

fn media(message: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "MEDIA_TYPE", message).field("datacontenttype")
}

fn kind_is_wrong() -> &'static str {
    "send `application/json` or `application/protobuf` data, or `application/cloudevents+json` or \
     `application/cloudevents-batch+json`"
}
