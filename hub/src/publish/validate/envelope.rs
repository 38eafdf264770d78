//! Judges the envelope of an event and the group that ties a unit together.
//! Runs before the payload is read.
//! Must never trust what the hub sets itself: `recorded_at` and `mode` of a caller mean nothing.
//! Read next: `payload.rs`.

use std::collections::HashSet;

use musubi_proto::hub::v1::{Event, Group};
use musubi_proto::standard::common::v1::SnapshotPart;

use super::text;
use super::{Fault, Reason, Refusal};
use crate::event::{Municipality, Unit};
use crate::limits::IDENTIFIER_CHARS_MAX;
use crate::schema::Schema;
use crate::schema::wire::{Fields, WireValue};

/// Longest 宛名番号, 世帯番号 or other subject.
const SUBJECT_CHARS_MAX: usize = 15;
/// Codes of 異動事由 have two digits.
const REASON_MAX: i32 = 99;
/// SHA-256.
const DIGEST_BYTES: usize = 32;
/// 9999-12-31T23:59:59Z.
const SECONDS_MAX: i64 = 253_402_300_799;
/// 0001-01-01T00:00:00Z.
const SECONDS_MIN: i64 = -62_135_596_800;
const NANOS_MAX: i32 = 999_999_999;

pub(super) fn check(
    schema: &Schema,
    municipality: &Municipality,
    source: &str,
    event: &Event,
) -> Result<(), Fault> {
    named("id", check_id(&event.id))?;
    named(
        "municipality",
        check_municipality(municipality, &event.municipality),
    )?;
    named("source", check_source(municipality, source, &event.source))?;
    named("type", check_type(schema, &event.r#type))?;
    if !is_frame(schema, event) {
        named("subject", check_present(&event.subject))?;
        named("subject_version", check_version(event.subject_version))?;
    }
    named("subject", check_subject(&event.subject))?;
    named("reason", check_reason(event.reason))?;
    named("occurred_at", check_time(event.occurred_at.as_ref()))?;
    for (name, id) in [
        ("supersedes", &event.supersedes),
        ("annuls", &event.annuls),
        ("causation_id", &event.causation_id),
    ] {
        if !id.is_empty() {
            named(name, check_id(id))?;
        }
    }
    named("correlation_id", check_identifier(&event.correlation_id))?;
    named("traceparent", check_identifier(&event.traceparent))?;
    named("source_digest", check_digest(&event.source_digest))?;
    named(
        "schema_fingerprint",
        check_fingerprint(&event.schema_fingerprint),
    )?;
    match &event.group {
        Some(group) => named("group", check_group_values(group)),
        None => Ok(()),
    }
}

/// Judges that the unit is one event that stands alone, or one whole group in order.
pub(super) fn check_group(unit: &Unit) -> Result<(), Refusal> {
    let count = unit.events.len();
    let first = unit.events.first().and_then(|event| event.group.as_ref());
    for (index, event) in unit.events.iter().enumerate() {
        let judged = match (&event.group, first) {
            (None, _) if count == 1 => Ok(()),
            (Some(group), Some(first)) => {
                check_member(group, first, index, count).map_err(|fault| fault.below("group", None))
            }
            (None, _) | (Some(_), None) => {
                let message = "events that travel together belong to one group";
                named("group", Err(Fault::new(Reason::MissingField, message)))
            }
        };
        judged.map_err(|fault| fault.in_event(index))?;
    }
    let mut ids = HashSet::new();
    match unit
        .events
        .iter()
        .position(|event| !ids.insert(event.id.as_str()))
    {
        Some(index) => {
            let fault = invalid("the id stands twice in the unit").below("id", None);
            Err(fault.in_event(index))
        }
        None => Ok(()),
    }
}

fn check_member(group: &Group, first: &Group, index: usize, count: usize) -> Result<(), Fault> {
    if group.id != first.id {
        let message = "all events of a unit have the same group";
        return named("id", Err(invalid(message)));
    }
    if group.size as usize != count {
        let message = "the unit does not hold all events of its group";
        return named("size", Err(Fault::new(Reason::GroupIncomplete, message)));
    }
    if group.seq as usize != index + 1 {
        let message = "the events of a group stand in the order of their places";
        return named("seq", Err(invalid(message)));
    }
    Ok(())
}

fn check_group_values(group: &Group) -> Result<(), Fault> {
    named(
        "id",
        check_present(&group.id).and_then(|()| check_identifier(&group.id)),
    )?;
    if group.size == 0 {
        return named("size", Err(missing()));
    }
    if group.seq == 0 || group.seq > group.size {
        let message = "the place in a group lies between 1 and its size";
        return named("seq", Err(invalid(message)));
    }
    Ok(())
}

fn check_id(id: &str) -> Result<(), Fault> {
    check_present(id)?;
    // One spelling for one id: otherwise the same event could be accepted twice.
    let canonical = uuid::Uuid::try_parse(id).is_ok_and(|uuid| {
        let mut buffer = uuid::Uuid::encode_buffer();
        !uuid.is_nil() && uuid.as_hyphenated().encode_lower(&mut buffer) == id
    });
    if canonical {
        Ok(())
    } else {
        Err(invalid("an id is a UUID in lower case with hyphens"))
    }
}

fn check_municipality(caller: &Municipality, code: &str) -> Result<(), Fault> {
    check_present(code)?;
    if code == caller.as_str() {
        Ok(())
    } else {
        let message = "the municipality is not the one that the caller publishes for";
        Err(Fault::new(Reason::WrongMunicipality, message))
    }
}

fn check_source(municipality: &Municipality, caller: &str, source: &str) -> Result<(), Fault> {
    check_present(source)?;
    let system = source
        .strip_prefix("urn:jp:lg:")
        .and_then(|rest| rest.strip_prefix(municipality.as_str()))
        .and_then(|rest| rest.strip_prefix(":system:"));
    if !system.is_some_and(|system| system.len() == 3 && is_digits(system)) {
        return Err(invalid(
            "a source is `urn:jp:lg:<municipality>:system:<業務ID>`",
        ));
    }
    if source == caller {
        Ok(())
    } else {
        let message = "the source is not the one that the caller publishes for";
        Err(Fault::new(Reason::WrongSource, message))
    }
}

fn check_type(schema: &Schema, name: &str) -> Result<(), Fault> {
    check_present(name)?;
    match schema.event_type(name) {
        Some(_) => Ok(()),
        None => Err(Fault::new(
            Reason::UnknownType,
            "the event type is not in the contracts",
        )),
    }
}

fn check_subject(subject: &str) -> Result<(), Fault> {
    if subject.chars().count() > SUBJECT_CHARS_MAX {
        return Err(Fault::new(
            Reason::TextTooLong,
            "a subject has at most 15 characters",
        ));
    }
    if subject.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(invalid(
            "a subject is written in half-width characters without spaces",
        ))
    }
}

fn check_version(version: u32) -> Result<(), Fault> {
    if version > 0 {
        Ok(())
    } else {
        Err(Fault::new(Reason::MissingField, "a version counts from 1"))
    }
}

/// True for the header or trailer of a snapshot, which is about nobody: it may come without a
/// subject and without a version.
fn is_frame(schema: &Schema, event: &Event) -> bool {
    let shape = schema.event_type(&event.r#type);
    let Some(number) = shape.and_then(|shape| shape.snapshot_part) else {
        return false;
    };
    let part = Fields::new(&event.data)
        .filter_map(Result::ok)
        .filter(|field| field.number == number)
        .filter_map(|field| match field.value {
            WireValue::Varint(part) => Some(part),
            _ => None,
        })
        .last();
    [SnapshotPart::Header, SnapshotPart::Trailer]
        .iter()
        .any(|frame| part == Some(*frame as u64))
}

fn check_reason(reason: i32) -> Result<(), Fault> {
    if (0..=REASON_MAX).contains(&reason) {
        Ok(())
    } else {
        Err(invalid("a reason is a code of 異動事由, 0 to 99"))
    }
}

fn check_time(time: Option<&prost_types::Timestamp>) -> Result<(), Fault> {
    let right = time.is_none_or(|time| {
        (SECONDS_MIN..=SECONDS_MAX).contains(&time.seconds) && (0..=NANOS_MAX).contains(&time.nanos)
    });
    if right {
        Ok(())
    } else {
        Err(invalid("the time is not between the years 1 and 9999"))
    }
}

fn check_identifier(text: &str) -> Result<(), Fault> {
    text::check(text, IDENTIFIER_CHARS_MAX)?;
    if text.contains(['\n', '\r']) {
        return Err(invalid("an identifier has one line"));
    }
    Ok(())
}

fn check_digest(digest: &[u8]) -> Result<(), Fault> {
    if digest.is_empty() || digest.len() == DIGEST_BYTES {
        Ok(())
    } else {
        Err(invalid("a digest has the 32 bytes of SHA-256"))
    }
}

fn check_fingerprint(fingerprint: &str) -> Result<(), Fault> {
    let hex = fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit());
    if hex && (fingerprint.is_empty() || fingerprint.len() == 2 * DIGEST_BYTES) {
        Ok(())
    } else {
        Err(invalid("a fingerprint is SHA-256 in hex"))
    }
}

fn check_present(text: &str) -> Result<(), Fault> {
    if text.is_empty() {
        Err(missing())
    } else {
        Ok(())
    }
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn missing() -> Fault {
    Fault::new(Reason::MissingField, "the field must be set")
}

fn invalid(message: &'static str) -> Fault {
    Fault::new(Reason::InvalidField, message)
}

fn named<T>(name: &str, judged: Result<T, Fault>) -> Result<T, Fault> {
    judged.map_err(|fault| fault.below(name, None))
}
