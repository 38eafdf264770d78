//! Judges a payload on its wire bytes against the shape of its type.
//! Runs after the envelope; sees the same fields as projection will.
//! Must never refuse a field number that the contract does not know: it is kept, and withheld
//! from receivers until the contract knows it.
//! Read next: `project.rs`.

use musubi_proto::hub::v1::Event;
use prost::Message;

use super::text;
use super::{Fault, Reason};
use crate::limits::{PAYLOAD_BYTES_MAX, PAYLOAD_DEPTH_MAX};
use crate::schema::wire::{Fields, Varints, WireError, WireField, WireValue, check_encoding};
use crate::schema::{Encoding, EnumIndex, FieldShape, Kind, MessageShape, Schema};

const DATE_MESSAGE: &str = "musubi.standard.common.v1.FlexibleDate";

/// Judges an event's payload, and the dates of its envelope by the same rules.
pub(super) fn check(schema: &Schema, event: &Event) -> Result<(), Fault> {
    let walk = Walk { schema };
    if let Some(date) = schema.message(DATE_MESSAGE) {
        for (name, day) in [
            ("effective_on", &event.effective_on),
            ("notified_on", &event.notified_on),
        ] {
            let Some(day) = day else { continue };
            let judged = walk.message(date, &day.encode_to_vec(), 0);
            judged.map_err(|fault| fault.below(name, None))?;
        }
    }
    check_data(&walk, event).map_err(|fault| fault.below("data", None))
}

fn check_data(walk: &Walk<'_>, event: &Event) -> Result<(), Fault> {
    if event.data.is_empty() {
        return Err(Fault::new(
            Reason::MissingField,
            "an event carries its payload",
        ));
    }
    if event.data.len() > PAYLOAD_BYTES_MAX {
        return Err(Fault::new(
            Reason::PayloadTooLarge,
            "the payload has more than 262,144 bytes",
        ));
    }
    // The envelope was judged before, so the type is known.
    match walk.schema.event_type(&event.r#type) {
        Some(shape) => walk.message(walk.schema.at(shape.message), &event.data, 0),
        None => Ok(()),
    }
}

struct Walk<'a> {
    schema: &'a Schema,
}

/// What was seen of the fields of one message, a bit a field; fields beyond the last bit share
/// it, which can only hide a missing field, never invent one.
#[derive(Default)]
struct Seen {
    set: u64,
    twice: u64,
}

impl Seen {
    const SHARED: usize = 63;

    fn bit(place: usize) -> u64 {
        1 << place.min(Self::SHARED)
    }
}

impl Walk<'_> {
    fn message(&self, shape: &MessageShape, data: &[u8], depth: usize) -> Result<(), Fault> {
        if depth > PAYLOAD_DEPTH_MAX {
            return Err(malformed(WireError::TooDeep));
        }
        let seen = self.values(shape, data)?;
        self.check_required(shape, &seen)?;
        if seen.twice == 0 {
            return self.messages(shape, data, depth);
        }
        self.messages_merged(shape, data, &seen, depth)
    }

    /// Judges everything but the messages below; the last occurrence of a single value counts.
    fn values(&self, shape: &MessageShape, data: &[u8]) -> Result<Seen, Fault> {
        let mut seen = Seen::default();
        for field in Fields::new(data) {
            let field = field.map_err(malformed)?;
            let Some(place) = shape.place(field.number) else {
                continue;
            };
            let known = &shape.fields()[place];
            let set = self
                .value(known, &field)
                .map_err(|fault| above(fault, known, data, &field))?;
            let bit = Seen::bit(place);
            if known.message().is_some() && !known.repeated {
                seen.twice |= seen.set & bit;
            }
            if set {
                seen.set |= bit;
            } else if place < Seen::SHARED {
                seen.set &= !bit;
            }
        }
        Ok(seen)
    }

    /// Judges one value; says whether it counts as set.
    fn value(&self, known: &FieldShape, field: &WireField<'_>) -> Result<bool, Fault> {
        check_encoding(known, field.value).map_err(malformed)?;
        match (known.kind, field.value) {
            (Kind::Text, WireValue::Bytes(bytes)) => {
                let text = text::read(bytes, known.max_chars as usize)?;
                if text::is_free(known) {
                    text::check_my_number(text)?;
                }
                Ok(!text.is_empty())
            }
            (Kind::Enum(index), WireValue::Varint(value)) => self.enum_value(index, value),
            (Kind::Enum(index), WireValue::Bytes(list)) => {
                for value in Varints::new(list) {
                    self.enum_value(index, value.map_err(malformed)?)?;
                }
                Ok(!list.is_empty())
            }
            _ => Ok(true),
        }
    }

    fn enum_value(&self, index: EnumIndex, value: u64) -> Result<bool, Fault> {
        // Decoders take the low 32 bits, and so does everyone behind.
        let number = value as i32;
        if self.schema.enum_at(index).knows(number) {
            Ok(number != 0)
        } else {
            Err(Fault::new(
                Reason::UnknownEnumValue,
                "the value is not in the enum",
            ))
        }
    }

    /// A number or a boolean cannot be told from an absent one, so only texts, enums and
    /// messages are asked for.
    fn check_required(&self, shape: &MessageShape, seen: &Seen) -> Result<(), Fault> {
        if !shape.has_required {
            return Ok(());
        }
        let missing = shape.fields().iter().enumerate().find(|(place, field)| {
            field.required
                && matches!(field.kind, Kind::Text | Kind::Enum(_) | Kind::Message(_))
                && seen.set & Seen::bit(*place) == 0
        });
        match missing {
            Some((_, field)) => {
                let fault = Fault::new(Reason::MissingField, "the item must be set");
                Err(fault.below(&field.name, None))
            }
            None => Ok(()),
        }
    }

    fn messages(&self, shape: &MessageShape, data: &[u8], depth: usize) -> Result<(), Fault> {
        for field in Fields::new(data) {
            let field = field.map_err(malformed)?;
            let Some((known, held, content)) = self.held(shape, &field) else {
                continue;
            };
            self.message(held, content, depth + 1)
                .map_err(|fault| above(fault, known, data, &field))?;
        }
        Ok(())
    }

    /// Judges the messages of a message in which a single one occurs more than once. Readers
    /// merge such occurrences, which is the same as reading their bytes one after the other.
    fn messages_merged(
        &self,
        shape: &MessageShape,
        data: &[u8],
        seen: &Seen,
        depth: usize,
    ) -> Result<(), Fault> {
        let mut merged: Vec<(usize, Vec<u8>)> = Vec::new();
        for field in Fields::new(data) {
            let field = field.map_err(malformed)?;
            let Some((known, held, content)) = self.held(shape, &field) else {
                continue;
            };
            let place = shape.place(field.number).unwrap_or(usize::MAX);
            if known.repeated || seen.twice & Seen::bit(place) == 0 {
                self.message(held, content, depth + 1)
                    .map_err(|fault| above(fault, known, data, &field))?;
            } else if let Some((_, bytes)) = merged.iter_mut().find(|(other, _)| *other == place) {
                bytes.extend_from_slice(content);
            } else {
                merged.push((place, content.to_vec()));
            }
        }
        for (place, bytes) in merged {
            let known = &shape.fields()[place];
            let Some(held) = known.message() else {
                continue;
            };
            self.message(self.schema.at(held), &bytes, depth + 1)
                .map_err(|fault| fault.below(&known.name, None))?;
        }
        Ok(())
    }

    /// The field, its message and its bytes, when it holds a message.
    fn held<'s, 'd>(
        &'s self,
        shape: &'s MessageShape,
        field: &WireField<'d>,
    ) -> Option<(&'s FieldShape, &'s MessageShape, &'d [u8])> {
        let known = shape.field(field.number)?;
        let held = self.schema.at(known.message()?);
        match field.value {
            WireValue::Bytes(content) => Some((known, held, content)),
            _ => None,
        }
    }
}

fn malformed(error: WireError) -> Fault {
    let message = match error {
        WireError::Truncated => "the bytes end inside a value",
        WireError::VarintTooLong => "a varint is longer than 64 bits",
        WireError::InvalidTag => "a field tag is not valid",
        WireError::LengthOverEnd => "a length reaches over the end",
        WireError::Group => "groups of the wire format are not accepted",
        WireError::WrongEncoding => "the encoding does not fit the field's type",
        WireError::TooDeep => "messages are nested too deep",
    };
    Fault::new(Reason::UndecodablePayload, message)
}

/// Names the field of a fault; for a list also the element, which is counted only now. Within a
/// packed list the list itself is named.
fn above(fault: Fault, known: &FieldShape, data: &[u8], field: &WireField<'_>) -> Fault {
    let packed = known.encoding() != Encoding::Bytes && matches!(field.value, WireValue::Bytes(_));
    let index = (known.repeated && !packed).then(|| {
        Fields::new(data)
            .filter_map(Result::ok)
            .take_while(|other| !std::ptr::eq(other.raw, field.raw))
            .filter(|other| other.number == field.number)
            .count()
    });
    fault.below(&known.name, index)
}
