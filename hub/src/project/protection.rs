//! Reads from a payload whether its person is protected (支援措置).
//! Runs before projection; the engine combines it with what it holds of the person.
//! Must never take doubt for safety: only an explicit `NONE` says that a person is not
//! protected.
//! Read next: `project.rs`.

use musubi_proto::standard::common::v1::ProtectionLevel;

use crate::schema::wire::{Fields, WireError, WireValue};
use crate::schema::{RecordPlace, Schema};

const NONE: u64 = ProtectionLevel::None as u64;

/// What a payload says about its person's protection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protection {
    /// The event carries no record, so it says nothing.
    Unstated,
    /// The record says `NONE`.
    NotProtected,
    /// The record names a measure, an unknown level or no level at all.
    Protected,
}

/// Reads `record.protection.level` on the wire.
pub fn protection_of(schema: &Schema, event_type: &str, data: &[u8]) -> Protection {
    let Some(event) = schema.event_type(event_type) else {
        return Protection::Protected;
    };
    let Some(place) = event.record else {
        return Protection::Unstated;
    };
    match Levels::read(place, data) {
        Ok(levels) if !levels.record && !place.required => Protection::Unstated,
        Ok(levels) if levels.none && !levels.other => Protection::NotProtected,
        _ => Protection::Protected,
    }
}

/// What was seen. Parts of the wire may occur more than once; every occurrence counts, and
/// one level that is not `NONE` is enough.
#[derive(Default)]
struct Levels {
    record: bool,
    none: bool,
    other: bool,
}

impl Levels {
    fn read(place: RecordPlace, data: &[u8]) -> Result<Self, WireError> {
        let mut levels = Self::default();
        for record in messages(data, place.number) {
            levels.record = true;
            for protection in messages(record?, place.protection) {
                levels.see(place, protection?)?;
            }
        }
        Ok(levels)
    }

    fn see(&mut self, place: RecordPlace, protection: &[u8]) -> Result<(), WireError> {
        for field in Fields::new(protection) {
            let field = field?;
            if field.number == place.level {
                let none = field.value == WireValue::Varint(NONE);
                self.none |= none;
                self.other |= !none;
            }
        }
        Ok(())
    }
}

/// All occurrences of a message field.
fn messages(data: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], WireError>> {
    Fields::new(data).filter_map(move |field| match field {
        Ok(field) if field.number != number => None,
        Ok(field) => match field.value {
            WireValue::Bytes(message) => Some(Ok(message)),
            _ => Some(Err(WireError::WrongEncoding)),
        },
        Err(error) => Some(Err(error)),
    })
}
