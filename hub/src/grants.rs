//! Who may see what: which fields of which events each system is granted.
//! Read from `schemas/grants/`, kept as a control record in the log, used by routing and
//! projection. What is not granted here does not exist for the receiver.
//! Must never grant by default, and never grant an address without the person's protection.
//! Read next: `grants/mask.rs`, then `project.rs`.

mod mask;
mod parse;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

pub use mask::{Mask, View};
pub use parse::{GrantError, GrantRule};

use crate::schema::Schema;
use crate::schema::wire::{Fields, WireValue};

const BUILTIN: [(&str, &str); 3] = [
    ("010.csv", include_str!("../../schemas/grants/010.csv")),
    ("024.csv", include_str!("../../schemas/grants/024.csv")),
    ("026.csv", include_str!("../../schemas/grants/026.csv")),
];

/// The grants of all systems.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct GrantTable {
    systems: BTreeMap<String, BTreeMap<String, Grant>>,
}

/// What one system is granted of one event type.
#[derive(Clone, PartialEq, Debug)]
pub struct Grant {
    /// 業務ID of the receiver.
    pub system: String,
    /// Full name of the event type.
    pub event_type: String,
    /// Granted paths in the event, as listed.
    pub paths: Vec<String>,
    /// What happens to the addresses of a protected person.
    pub protected_rule: ProtectedRule,
    /// Whose events the receiver needs; declared, not enforced.
    pub population: String,
    /// What the receiver needs the event for, in Japanese.
    pub purpose: String,
    /// What the receiver needs the event for, in English; may be empty.
    pub purpose_en: String,
    /// Articles that the need rests on.
    pub legal_basis: String,
    /// How long the receiver may keep it; may be empty.
    pub retention_note: String,
    /// Specification that shows the event; may be empty.
    pub source: String,
    /// What anybody's events show: the mask of [`Grant::paths`].
    pub open: View,
    /// What a protected person's events show to a receiver that holds the protection flag.
    pub guarded: View,
    /// What a protected person's events show to a receiver that cannot hold the flag.
    pub blind: View,
}

/// How a grant treats the addresses of a protected person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProtectedRule {
    /// P0: the event is the protection itself.
    Protection,
    /// P3: no address in the grant.
    NoAddress,
    /// P1: the current address, in clear where the flag is held.
    Current,
    /// P2: other addresses, never in clear.
    Others,
    /// P1 and P2.
    CurrentAndOthers,
}

impl ProtectedRule {
    /// The rule as it stands in the tables.
    pub fn as_str(self) -> &'static str {
        match self {
            ProtectedRule::Protection => "P0",
            ProtectedRule::NoAddress => "P3",
            ProtectedRule::Current => "P1",
            ProtectedRule::Others => "P2",
            ProtectedRule::CurrentAndOthers => "P1+P2",
        }
    }
}

impl GrantTable {
    /// The grants that are built in.
    ///
    /// # Errors
    /// When a table breaks a rule, which the tests of this crate exclude.
    pub fn builtin(schema: &Schema) -> Result<Self, GrantError> {
        Self::parse(schema, &BUILTIN)
    }

    /// Reads tables: pairs of file name and CSV text. A file named `<業務ID>.csv` may only
    /// grant to that system.
    ///
    /// # Errors
    /// Names the file, the line and the rule that is broken.
    pub fn parse(schema: &Schema, files: &[(&str, &str)]) -> Result<Self, GrantError> {
        parse::parse(schema, files)
    }

    /// Reads what [`GrantTable::to_text`] wrote.
    ///
    /// # Errors
    /// When the text is no table, or a grant does not fit the schema.
    pub fn from_text(schema: &Schema, text: &str) -> Result<Self, GrantError> {
        Self::parse(schema, &[("grants", text)])
    }

    /// The table as one text: the same grants always give the same text.
    pub fn to_text(&self) -> String {
        parse::write(self.all())
    }

    /// SHA-256 of [`GrantTable::to_text`], in hex.
    pub fn digest(&self) -> String {
        Sha256::digest(self.to_text())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// What a system is granted of an event type; nothing unless a table says so.
    pub fn grant(&self, system: &str, event_type: &str) -> Option<&Grant> {
        self.systems.get(system)?.get(event_type)
    }

    /// All systems that are granted anything, sorted.
    pub fn systems(&self) -> Vec<&str> {
        self.systems.keys().map(String::as_str).collect()
    }

    /// All grants by system and event type.
    pub fn all(&self) -> impl Iterator<Item = &Grant> {
        self.systems.values().flat_map(BTreeMap::values)
    }
}

impl Grant {
    /// Says whether an event concerns the receiver at all. A correction concerns it only when
    /// a changed path touches a granted one; where that cannot be told, the event concerns it.
    pub fn concerns(&self, schema: &Schema, data: &[u8]) -> bool {
        let event = schema.event_type(&self.event_type);
        let Some((event, number)) = event.and_then(|event| Some((event, event.changed_fields?)))
        else {
            return true;
        };
        let record = event
            .record
            .and_then(|place| schema.at(event.message).field(place.number));
        let Some(record) = record.and_then(crate::schema::FieldShape::message) else {
            return true;
        };
        let mut named = false;
        for field in Fields::new(data) {
            let path = match field {
                Ok(field) if field.number != number => continue,
                Ok(field) => changed_path(field.value),
                Err(_) => None,
            };
            let Some(path) = path.filter(|path| mask::resolves(schema, record, path)) else {
                return true;
            };
            if self.paths.iter().any(|granted| touches(granted, path)) {
                return true;
            }
            named = true;
        }
        !named
    }
}

/// The changed path, relative to the record.
fn changed_path(value: WireValue<'_>) -> Option<&str> {
    let WireValue::Bytes(bytes) = value else {
        return None;
    };
    let path = std::str::from_utf8(bytes).ok()?;
    Some(path.strip_prefix("record.").unwrap_or(path))
}

/// True when one path is the other or stands above it.
fn touches(granted: &str, changed_in_record: &str) -> bool {
    let Some(granted) = granted.strip_prefix("record") else {
        return false;
    };
    if granted.is_empty() {
        return true;
    }
    granted.strip_prefix('.').is_some_and(|granted| {
        let mut granted = granted.split('.');
        let mut changed = changed_in_record.split('.');
        loop {
            match (granted.next(), changed.next()) {
                (Some(left), Some(right)) if left == right => {}
                (Some(_), Some(_)) => return false,
                _ => return true,
            }
        }
    })
}

#[cfg(test)]
mod tests;
