//! Events as JSON: protobuf JSON of the envelope, with the payload in clear instead of bytes.
//! Between a file of the user and the wire, by the descriptors alone.
//! Must never know an event type by name: a new type needs no change here.
//! Read next: `commands/events.rs`.

use anyhow::{Context, Result, bail};
use musubi_proto::hub::v1::{Event, Unit};
use prost::Message;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Package that a short type name belongs to.
const PACKAGE: &str = "musubi.standard.resident.v1";

/// What a file may leave out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Defaults {
    /// Municipality of the events.
    pub(crate) municipality: String,
    /// Publisher of the events.
    pub(crate) source: Option<String>,
    /// Type of the events.
    pub(crate) event_type: Option<String>,
    /// Held unit that they correct: sent twice, the same file is the same correction.
    pub(crate) corrects: Option<String>,
}

fn descriptor(name: &str) -> Result<MessageDescriptor> {
    musubi_proto::descriptor_pool()
        .get_message_by_name(name)
        .with_context(|| format!("the type `{name}` is not in the contracts"))
}

/// Reads a file: one event, or a unit as `{"events": […]}`.
pub(crate) fn unit_of_json(document: Value, defaults: &Defaults) -> Result<Unit> {
    let Value::Object(mut members) = document else {
        bail!("the file must hold one JSON object: an event, or a unit with `events`");
    };
    let Some(events) = members.remove("events") else {
        return Ok(Unit {
            events: vec![event_of_json(members, defaults)?],
        });
    };
    if let Some(other) = members.keys().next() {
        bail!("a unit has only `events`, not `{other}`");
    }
    let Value::Array(events) = events else {
        bail!("`events` must be a list");
    };
    let events = events
        .into_iter()
        .enumerate()
        .map(|(index, event)| match event {
            Value::Object(members) => {
                event_of_json(members, defaults).with_context(|| format!("events[{index}]"))
            }
            _ => bail!("events[{index}] is no object"),
        });
    Ok(Unit {
        events: events.collect::<Result<_>>()?,
    })
}

fn event_of_json(mut members: Map<String, Value>, defaults: &Defaults) -> Result<Event> {
    if members.contains_key("data") {
        bail!("the payload stands in `payload` as an object, not in `data`");
    }
    let payload = members.remove("payload").context(
        "`payload` is missing; a file that is the payload alone is wrapped as {\"payload\": …}, \
         with `subject` and the like beside it",
    )?;
    let mut event = read(&descriptor("musubi.hub.v1.Event")?, Value::Object(members))
        .context("the envelope cannot be read")?
        .transcode_to::<Event>()
        .context("the envelope cannot be read")?;
    complete(&mut event, defaults)?;
    let kind = descriptor(&event.r#type)?;
    let payload = read(&kind, payload)
        .with_context(|| format!("the payload is no `{}`", event.r#type))?
        .encode_to_vec();
    if event.source_digest.is_empty() {
        event.source_digest = Sha256::digest(&payload).to_vec().into();
    }
    event.data = payload.into();
    if event.id.is_empty() {
        event.id = match &defaults.corrects {
            None => Uuid::now_v7(),
            Some(held) => {
                let content = event.encode_to_vec();
                Uuid::new_v5(&Uuid::NAMESPACE_OID, &[held.as_bytes(), &content].concat())
            }
        }
        .to_string();
    }
    Ok(event)
}

/// Fills in what the file left out.
fn complete(event: &mut Event, defaults: &Defaults) -> Result<()> {
    if let Some(event_type) = &defaults.event_type {
        event.r#type.clone_from(event_type);
    }
    if event.r#type.is_empty() {
        bail!("`type` is missing; write it into the file or name it with --type");
    }
    if !event.r#type.contains('.') {
        event.r#type = format!("{PACKAGE}.{}", event.r#type);
    }
    if event.municipality.is_empty() {
        event.municipality.clone_from(&defaults.municipality);
    }
    if event.source.is_empty() {
        event.source = defaults
            .source
            .clone()
            .context("`source` is missing; write it into the file or name it with --source")?;
    }
    Ok(())
}

fn read(kind: &MessageDescriptor, document: Value) -> Result<DynamicMessage> {
    // By way of text: the reader of protobuf JSON then names line and column of a mistake.
    let text = serde_json::to_vec_pretty(&document)?;
    Ok(musubi_proto::json::read(kind.clone(), &text)?)
}

/// An event as JSON with its payload in clear.
pub(crate) fn json_of_event(event: &Event) -> Result<Value> {
    let mut document = json_of("musubi.hub.v1.Event", event, Defaulted::Left)?;
    if let Value::Object(members) = &mut document {
        members.remove("data");
        let payload = match descriptor(&event.r#type) {
            Ok(kind) => DynamicMessage::decode(kind, event.data.clone())
                .with_context(|| {
                    format!(
                        "the payload of event `{}` is no `{}`",
                        event.id, event.r#type
                    )
                })
                .and_then(|payload| write(&payload, Defaulted::Left))?,
            Err(_) => Value::Null,
        };
        members.insert("payload".to_owned(), payload);
    }
    Ok(document)
}

/// Whether fields with their default value are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaulted {
    /// All fields.
    Written,
    /// Only fields that say something.
    Left,
}

/// Any message of the contracts as protobuf JSON; 64-bit numbers are numbers.
pub(crate) fn json_of(name: &str, message: &impl Message, defaulted: Defaulted) -> Result<Value> {
    let mut dynamic = DynamicMessage::new(descriptor(name)?);
    dynamic
        .transcode_from(message)
        .with_context(|| format!("write `{name}` as JSON"))?;
    write(&dynamic, defaulted)
}

fn write(message: &DynamicMessage, defaulted: Defaulted) -> Result<Value> {
    let options = SerializeOptions::new()
        .stringify_64_bit_integers(false)
        .skip_default_fields(defaulted == Defaulted::Left);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options)?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn defaults() -> Defaults {
        Defaults {
            municipality: "142042".into(),
            source: Some("urn:jp:lg:142042:system:001".into()),
            event_type: None,
            corrects: None,
        }
    }

    fn moved() -> Value {
        let payload = include_str!("../../schemas/examples/resident_moved_within.json");
        json!({
            "type": "ResidentMovedWithin",
            "subject": "0000012345",
            "subjectVersion": 4,
            "reason": 40,
            "payload": serde_json::from_str::<Value>(payload).unwrap(),
        })
    }

    #[test]
    fn an_event_comes_back_as_it_was_written() {
        let unit = unit_of_json(moved(), &defaults()).unwrap();
        let event = &unit.events[0];
        assert_eq!(
            event.r#type,
            "musubi.standard.resident.v1.ResidentMovedWithin"
        );
        assert_eq!(event.municipality, "142042");
        let back = json_of_event(event).unwrap();
        assert_eq!(back["payload"], moved()["payload"]);
        assert_eq!(back["subjectVersion"], 4);
        assert!(back.get("data").is_none());
    }

    #[test]
    fn a_unit_keeps_the_order_of_its_events() {
        let mut second = moved();
        second["subject"] = json!("0000012346");
        let unit = unit_of_json(json!({"events": [moved(), second]}), &defaults()).unwrap();
        let subjects: Vec<&str> = unit
            .events
            .iter()
            .map(|event| event.subject.as_str())
            .collect();
        assert_eq!(subjects, ["0000012345", "0000012346"]);
    }

    #[test]
    fn a_typo_in_envelope_or_payload_is_named() {
        let mut typo = moved();
        typo["subjekt"] = json!("1");
        let error = format!("{:#}", unit_of_json(typo, &defaults()).unwrap_err());
        assert!(error.contains("subjekt"), "{error}");
        let mut typo = moved();
        typo["payload"]["recrod"] = json!({});
        let error = format!("{:#}", unit_of_json(typo, &defaults()).unwrap_err());
        assert!(error.contains("recrod"), "{error}");
        let mut unknown = moved();
        unknown["type"] = json!("ResidentFlewAway");
        let error = format!("{:#}", unit_of_json(unknown, &defaults()).unwrap_err());
        assert!(error.contains("ResidentFlewAway"), "{error}");
    }
}
