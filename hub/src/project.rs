//! Cuts a payload down to what one receiver may see, on the wire bytes.
//! Stands between routing and delivery; also used for replay, dead letters and every view.
//! Must never decode and encode with generated types (they lose what they do not know), and
//! never let a field pass that the contract does not know yet or the grant does not name.
//! Read next: `project/protection.rs`, then `engine.rs`.

mod protection;

use musubi_proto::standard::common::v1::{Address, RedactionKind};
use prost::Message;

pub use protection::{Protection, protection_of};

use crate::grants::{Grant, Mask, View};
use crate::limits::PAYLOAD_DEPTH_MAX;
use crate::schema::wire::{Fields, WireError, WireField, WireValue, check_encoding, put_varint};
use crate::schema::{FieldShape, MessageShape, Schema};

/// What of a receiver's product decides on the view of a protected person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receiver {
    /// The product can hold the protection flag (the adapter's capability).
    pub holds_protection_flag: bool,
}

/// A payload as one receiver may see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Projected {
    /// The granted bytes.
    pub data: Vec<u8>,
    /// Paths that the receiver may take absence below for emptiness.
    pub granted_paths: Vec<String>,
}

/// Why a payload cannot be projected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProjectError {
    /// The grant's event type is not in the schema.
    #[error("the event type `{0}` is not in the schema")]
    UnknownType(String),
    /// The payload is not the wire form of the event type.
    #[error("the payload of `{event_type}` is malformed")]
    Malformed {
        /// Full name of the event type.
        event_type: String,
        /// What is wrong.
        #[source]
        source: WireError,
    },
}

impl Grant {
    /// What the receiver sees of a person's event.
    pub fn view(&self, receiver: &Receiver, protected: bool) -> &View {
        match (protected, receiver.holds_protection_flag) {
            (false, _) => &self.open,
            (true, true) => &self.guarded,
            (true, false) => &self.blind,
        }
    }
}

/// Cuts a payload down to a grant.
///
/// Fields keep their order and their bytes; only lengths of messages that lost something are
/// written anew. `token` names an address that is withheld: it gets the bytes of the address.
///
/// # Errors
/// When the payload is malformed anywhere that the grant reaches.
pub fn project(
    schema: &Schema,
    grant: &Grant,
    data: &[u8],
    receiver: &Receiver,
    protected: bool,
    token: &dyn Fn(&[u8]) -> String,
) -> Result<Projected, ProjectError> {
    let event = schema
        .event_type(&grant.event_type)
        .ok_or_else(|| ProjectError::UnknownType(grant.event_type.clone()))?;
    let view = grant.view(receiver, protected);
    let mut out = Vec::with_capacity(data.len());
    Projection { schema, token }
        .message(schema.at(event.message), &view.mask, data, &mut out, 0)
        .map_err(|source| ProjectError::Malformed {
            event_type: grant.event_type.clone(),
            source,
        })?;
    Ok(Projected {
        data: out,
        granted_paths: view.paths.clone(),
    })
}

struct Projection<'a> {
    schema: &'a Schema,
    token: &'a dyn Fn(&[u8]) -> String,
}

impl Projection<'_> {
    fn message(
        &self,
        shape: &MessageShape,
        mask: &Mask,
        data: &[u8],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), WireError> {
        if depth > PAYLOAD_DEPTH_MAX {
            return Err(WireError::TooDeep);
        }
        let oneof_starts = oneof_starts(shape, data)?;
        for (index, field) in Fields::new(data).enumerate() {
            let field = field?;
            // A number that the contract does not know is withheld until it does.
            let Some(known) = shape.field(field.number) else {
                continue;
            };
            check_encoding(known, field.value)?;
            let Some(mask) = mask.field(field.number) else {
                continue;
            };
            let start = known.oneof.and_then(|oneof| oneof_starts.get(oneof));
            if start.is_some_and(|start| index < *start) {
                continue;
            }
            self.field(known, mask, &field, out, depth)?;
        }
        Ok(())
    }

    fn field(
        &self,
        known: &FieldShape,
        mask: &Mask,
        field: &WireField<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), WireError> {
        let (Some(held), WireValue::Bytes(data)) = (known.message(), field.value) else {
            out.extend_from_slice(field.raw);
            return Ok(());
        };
        let start = out.len();
        out.extend_from_slice(field.tag);
        let content = out.len();
        match mask {
            Mask::Token => out.extend_from_slice(&withheld((self.token)(data))),
            _ => self.message(self.schema.at(held), mask, data, out, depth + 1)?,
        }
        // That a message is there is a fact too: it passes only with something granted in it.
        if out.len() == content && matches!(mask, Mask::Part(_)) && !known.repeated {
            out.truncate(start);
        } else if out.get(content..) == Some(data) {
            out.truncate(start);
            out.extend_from_slice(field.raw);
        } else {
            put_length(out, content);
        }
        Ok(())
    }
}

/// The bytes of an address that says nothing but that it is withheld.
fn withheld(token: String) -> Vec<u8> {
    let redaction = RedactionKind::Token as i32;
    Address {
        redaction,
        redaction_token: token,
        ..Default::default()
    }
    .encode_to_vec()
}

/// Puts the length of what follows `content` in front of it.
fn put_length(out: &mut Vec<u8>, content: usize) {
    let length = out.len() - content;
    let end = out.len();
    put_varint(out, length as u64);
    let width = out.len() - end;
    out[content..].rotate_right(width);
}

/// Where the last run of one member of each oneof begins. Only that run counts: a decoder
/// forgets what other members said before. Were a granted member kept although one that is not
/// granted came later, the receiver would see a value that the sender had replaced.
fn oneof_starts(shape: &MessageShape, data: &[u8]) -> Result<Vec<usize>, WireError> {
    let mut last = vec![(0, 0); shape.oneofs];
    if last.is_empty() {
        return Ok(Vec::new());
    }
    for (index, field) in Fields::new(data).enumerate() {
        let number = field?.number;
        let oneof = shape.field(number).and_then(|known| known.oneof);
        if let Some(run) = oneof.and_then(|oneof| last.get_mut(oneof))
            && run.0 != number
        {
            *run = (number, index);
        }
    }
    Ok(last.into_iter().map(|(_, start)| start).collect())
}

#[cfg(test)]
mod tests;
