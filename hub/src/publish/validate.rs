//! Judges a unit before anything of it is kept: envelope, group and payload.
//! First step of the event path; what passes here is well-formed for everyone behind.
//! Must never repair a value, and never repeat one in an answer: refusals name the field.
//! Read next: `validate/payload.rs`, then `sequencer.rs`.

mod envelope;
mod payload;
mod text;

use std::collections::HashSet;

use crate::event::{Municipality, Unit};
use crate::limits::UNIT_EVENTS_MAX;
use crate::schema::Schema;

/// Why a unit is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{field}`: {message}")]
pub struct Refusal {
    /// Stable reason.
    pub reason: Reason,
    /// Path of the field, such as `events[0].data.record.address.building`.
    pub field: String,
    /// What the rule says, without the value.
    pub message: String,
}

/// Stable reasons of refusals.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Reason {
    /// The event type is not in the contracts.
    UnknownType,
    /// The payload is not the wire form of its type.
    UndecodablePayload,
    /// The payload is over the limit.
    PayloadTooLarge,
    /// The unit has too many events.
    UnitTooLarge,
    /// The municipality is not the caller's.
    WrongMunicipality,
    /// The source is not the caller's.
    WrongSource,
    /// A needed field is missing or empty.
    MissingField,
    /// A field has a value that its rule does not allow.
    InvalidField,
    /// A value is not in the enum.
    UnknownEnumValue,
    /// A text has too many characters.
    TextTooLong,
    /// The unit is not one whole group.
    GroupIncomplete,
    /// A free text holds what can be a 個人番号.
    MyNumberInText,
}

impl Reason {
    /// Stable name, as in `docs/errors/`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::UnknownType => "UNKNOWN_TYPE",
            Reason::UndecodablePayload => "UNDECODABLE_PAYLOAD",
            Reason::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Reason::UnitTooLarge => "UNIT_TOO_LARGE",
            Reason::WrongMunicipality => "WRONG_MUNICIPALITY",
            Reason::WrongSource => "WRONG_SOURCE",
            Reason::MissingField => "MISSING_FIELD",
            Reason::InvalidField => "INVALID_FIELD",
            Reason::UnknownEnumValue => "UNKNOWN_ENUM_VALUE",
            Reason::TextTooLong => "TEXT_TOO_LONG",
            Reason::GroupIncomplete => "GROUP_INCOMPLETE",
            Reason::MyNumberInText => "MY_NUMBER_IN_TEXT",
        }
    }
}

/// Judges a unit of a caller who may speak for this municipality and this source.
///
/// # Errors
/// Names the first broken rule. Nothing of the unit may be kept then.
pub fn validate_unit(
    schema: &Schema,
    municipality: &Municipality,
    source: &str,
    unit: &Unit,
) -> Result<(), Refusal> {
    if unit.events.is_empty() {
        return Err(Fault::new(Reason::MissingField, "a unit has at least one event").at("events"));
    }
    if unit.events.len() > UNIT_EVENTS_MAX {
        let fault = Fault::new(Reason::UnitTooLarge, "a unit has at most 1,000 events");
        return Err(fault.at("events"));
    }
    for (index, event) in unit.events.iter().enumerate() {
        let judged = envelope::check(schema, municipality, source, event);
        judged.map_err(|fault| fault.in_event(index))?;
    }
    envelope::check_group(unit)?;
    let mut ids = HashSet::new();
    for (index, event) in unit.events.iter().enumerate() {
        if !ids.insert(event.id.as_str()) {
            let fault = Fault::new(Reason::InvalidField, "two events of the unit have this id");
            return Err(fault.below("id", None).in_event(index));
        }
    }
    for (index, event) in unit.events.iter().enumerate() {
        let judged = payload::check(schema, event);
        judged.map_err(|fault| fault.in_event(index))?;
    }
    Ok(())
}

/// A broken rule on its way up: the path grows from the end, and only when a rule is broken.
#[derive(Debug)]
struct Fault {
    reason: Reason,
    message: &'static str,
    path: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    name: String,
    index: Option<usize>,
}

impl Fault {
    fn new(reason: Reason, message: &'static str) -> Self {
        Self {
            reason,
            message,
            path: Vec::new(),
        }
    }

    /// Puts a field above the fault.
    fn below(mut self, name: &str, index: Option<usize>) -> Self {
        self.path.push(Step {
            name: name.to_owned(),
            index,
        });
        self
    }

    fn at(self, name: &str) -> Refusal {
        self.below(name, None).refusal()
    }

    fn in_event(self, index: usize) -> Refusal {
        self.below("events", Some(index)).refusal()
    }

    fn refusal(self) -> Refusal {
        let mut field = String::new();
        for step in self.path.iter().rev() {
            if !field.is_empty() {
                field.push('.');
            }
            field.push_str(&step.name);
            if let Some(index) = step.index {
                field.push_str(&format!("[{index}]"));
            }
        }
        Refusal {
            reason: self.reason,
            field,
            message: self.message.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests;
