//! The shape of the standard messages, read once from the descriptors and kept small.
//! Stands under validation, grants and projection, which all work on wire bytes.
//! Must never hold values: it knows names, numbers, types and lengths only.
//! Read next: `schema/wire.rs`, then `grants.rs`.

mod load;
pub mod wire;

use std::collections::HashMap;

pub use load::SchemaError;

/// Number of `DATA_CLASS_ADDRESS`.
const ADDRESS_CLASS: i32 = musubi_proto::standard::common::v1::DataClass::Address as i32;
const ADDRESS_MESSAGE: &str = "musubi.standard.common.v1.Address";

/// All standard messages and which of them are events.
#[derive(Debug)]
pub struct Schema {
    messages: Vec<MessageShape>,
    enums: Vec<EnumShape>,
    by_name: HashMap<String, MessageIndex>,
    events: HashMap<String, EventShape>,
}

/// Place of a message in its [`Schema`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MessageIndex(usize);

/// Place of an enum in its [`Schema`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EnumIndex(usize);

/// One message.
#[derive(Debug)]
pub struct MessageShape {
    /// Full protobuf name.
    pub name: String,
    /// True for the entry of a map field.
    pub map_entry: bool,
    /// True when a publisher must set at least one of its fields.
    pub has_required: bool,
    /// True for the standard `Address`.
    pub is_address: bool,
    /// Number of its oneofs.
    pub oneofs: usize,
    fields: Vec<FieldShape>,
}

/// One field.
#[derive(Debug)]
pub struct FieldShape {
    /// Field number.
    pub number: u32,
    /// Name in the contract.
    pub name: String,
    /// Japanese name of the item; empty for a field that carries no item.
    pub japanese: String,
    /// Type.
    pub kind: Kind,
    /// True for lists and maps.
    pub repeated: bool,
    /// Place, below [`MessageShape::oneofs`], of the oneof that the field belongs to.
    pub oneof: Option<usize>,
    /// True when a publisher must set it.
    pub required: bool,
    /// Most characters; 0 when there is no limit of its own.
    pub max_chars: u32,
    /// Number of the `DataClass`.
    pub data_class: i32,
}

/// Type of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A number or a boolean.
    Number(Encoding),
    /// UTF-8 text.
    Text,
    /// Bytes.
    Bytes,
    /// A value of an enum.
    Enum(EnumIndex),
    /// A message, or the entry of a map.
    Message(MessageIndex),
}

/// How a single value stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// Wire type 0.
    Varint,
    /// Wire type 1.
    Fixed64,
    /// Wire type 2.
    Bytes,
    /// Wire type 5.
    Fixed32,
}

/// One enum.
#[derive(Debug)]
pub struct EnumShape {
    /// Full protobuf name.
    pub name: String,
    /// Known numbers, sorted.
    numbers: Vec<i32>,
}

/// One event type, with the places that the hub itself looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventShape {
    /// The payload's message.
    pub message: MessageIndex,
    /// Field `record`: the resident record after the change.
    pub record: Option<RecordPlace>,
    /// Field `changed_fields`: what a correction changed.
    pub changed_fields: Option<u32>,
    /// Field `part` of a snapshot.
    pub snapshot_part: Option<u32>,
}

/// Where the record and its protection stand in an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecordPlace {
    /// Number of `record`.
    pub number: u32,
    /// True when every event of the type has a record.
    pub required: bool,
    /// Number of `protection` in the record.
    pub protection: u32,
    /// Number of `level` in the protection.
    pub level: u32,
    /// Number of the current address in the record.
    pub address: Option<u32>,
}

impl Schema {
    /// Reads the shapes from the contracts that are built in.
    ///
    /// # Errors
    /// When a contract uses what the hub cannot project.
    pub fn load() -> Result<Self, SchemaError> {
        Self::from_pool(&musubi_proto::descriptor_pool())
    }

    /// Reads the shapes of the standard messages in a pool.
    ///
    /// # Errors
    /// When a contract uses what the hub cannot project.
    pub fn from_pool(pool: &prost_reflect::DescriptorPool) -> Result<Self, SchemaError> {
        load::load(pool)
    }

    /// Finds a message by its full name.
    pub fn message(&self, name: &str) -> Option<&MessageShape> {
        self.by_name.get(name).map(|index| self.at(*index))
    }

    /// Finds a message's place by its full name.
    pub fn message_index(&self, name: &str) -> Option<MessageIndex> {
        self.by_name.get(name).copied()
    }

    /// Finds an event type by its full name: a message of a package `musubi.standard.*.v1`
    /// that is no part of other messages.
    pub fn event_type(&self, name: &str) -> Option<&EventShape> {
        self.events.get(name)
    }

    /// Full names of all event types, sorted.
    pub fn event_types(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.events.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// The message at a place of this schema.
    pub fn at(&self, index: MessageIndex) -> &MessageShape {
        &self.messages[index.0]
    }

    /// The enum at a place of this schema.
    pub fn enum_at(&self, index: EnumIndex) -> &EnumShape {
        &self.enums[index.0]
    }
}

impl MessageShape {
    /// Finds a field by its number.
    pub fn field(&self, number: u32) -> Option<&FieldShape> {
        self.place(number).map(|place| &self.fields[place])
    }

    /// Finds a field's place in [`MessageShape::fields`] by its number.
    pub fn place(&self, number: u32) -> Option<usize> {
        // Most messages number their fields from 1 without gaps.
        let guess = (number as usize).wrapping_sub(1);
        if self
            .fields
            .get(guess)
            .is_some_and(|field| field.number == number)
        {
            return Some(guess);
        }
        self.fields
            .binary_search_by_key(&number, |field| field.number)
            .ok()
    }

    /// Finds a field by its name.
    pub fn field_named(&self, name: &str) -> Option<&FieldShape> {
        self.fields.iter().find(|field| field.name == name)
    }

    /// All fields by number.
    pub fn fields(&self) -> &[FieldShape] {
        &self.fields
    }
}

impl FieldShape {
    /// How a single value of the field stands on the wire.
    pub fn encoding(&self) -> Encoding {
        match self.kind {
            Kind::Number(encoding) => encoding,
            Kind::Enum(_) => Encoding::Varint,
            Kind::Text | Kind::Bytes | Kind::Message(_) => Encoding::Bytes,
        }
    }

    /// The message that the field holds.
    pub fn message(&self) -> Option<MessageIndex> {
        match self.kind {
            Kind::Message(index) => Some(index),
            _ => None,
        }
    }

    /// True for a text outside of an `Address` that says where somebody lives or lived.
    pub fn is_address_text(&self) -> bool {
        self.kind == Kind::Text && self.data_class == ADDRESS_CLASS
    }
}

impl EnumShape {
    /// True when the number is in the contract.
    pub fn knows(&self, number: i32) -> bool {
        self.numbers.binary_search(&number).is_ok()
    }
}

#[cfg(test)]
mod tests;
