//! Reads the shapes from protobuf descriptors, custom options included.
//! Runs once, before the first event.
//! Must never guess: what a contract says in a way that the hub cannot project is an error.
//! Read next: `schema.rs` for the shapes themselves.

use std::collections::{HashMap, HashSet};

use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, ExtensionDescriptor, FieldDescriptor,
    Kind as ProtoKind, MessageDescriptor,
};

use super::{
    ADDRESS_MESSAGE, Encoding, EnumIndex, EnumShape, EventShape, FieldShape, Kind, MessageIndex,
    MessageShape, RecordPlace, Schema,
};

const ITEM_OPTION: &str = "musubi.standard.common.v1.item";
const STANDARD_PACKAGE: &str = "musubi.standard.";
const COMMON_PACKAGE: &str = "musubi.standard.common.v1";

/// Why the contracts cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// The option that names the items is missing.
    #[error("the contracts do not declare the option `{ITEM_OPTION}`")]
    NoItemOption,
    /// A field is a group of proto2.
    #[error("`{message}.{field}` is a group, which the hub does not accept")]
    Group {
        /// Full name of the message.
        message: String,
        /// Name of the field.
        field: String,
    },
    /// A field's item option does not have the expected form.
    #[error("the item of `{message}.{field}` cannot be read")]
    Item {
        /// Full name of the message.
        message: String,
        /// Name of the field.
        field: String,
    },
    /// An event has a record without the protection that the hub must see.
    #[error("`{event}` has a record without `protection.level`")]
    NoProtection {
        /// Full name of the event.
        event: String,
    },
}

pub(super) fn load(pool: &DescriptorPool) -> Result<Schema, SchemaError> {
    let item = pool
        .get_extension_by_name(ITEM_OPTION)
        .ok_or(SchemaError::NoItemOption)?;
    let mut loader = Loader {
        item,
        messages: Vec::new(),
        by_name: HashMap::new(),
        enums: Vec::new(),
        enums_by_name: HashMap::new(),
    };
    for message in pool.all_messages() {
        if message.package_name().starts_with(STANDARD_PACKAGE) && !message.is_map_entry() {
            loader.message(&message)?;
        }
    }
    let messages: Vec<MessageShape> = loader.messages.into_iter().flatten().collect();
    let mut schema = Schema {
        messages,
        enums: loader.enums,
        by_name: loader.by_name,
        events: HashMap::new(),
    };
    for name in event_names(pool) {
        if let Some(message) = schema.message_index(&name) {
            let shape = event_shape(&schema, message)?;
            schema.events.insert(name, shape);
        }
    }
    Ok(schema)
}

struct Loader {
    item: ExtensionDescriptor,
    // A place is given before its message is read, because messages may hold each other.
    messages: Vec<Option<MessageShape>>,
    by_name: HashMap<String, MessageIndex>,
    enums: Vec<EnumShape>,
    enums_by_name: HashMap<String, EnumIndex>,
}

/// Full names of the messages that can be published.
fn event_names(pool: &DescriptorPool) -> Vec<String> {
    let parts: HashSet<String> = pool
        .all_messages()
        .flat_map(|message| message.fields().collect::<Vec<_>>())
        .filter_map(|field| {
            field
                .kind()
                .as_message()
                .map(|held| held.full_name().to_owned())
        })
        .collect();
    pool.all_messages()
        .filter(|message| {
            let package = message.package_name();
            package.starts_with(STANDARD_PACKAGE)
                && package.ends_with(".v1")
                && package != COMMON_PACKAGE
                && message.parent_message().is_none()
        })
        .map(|message| message.full_name().to_owned())
        .filter(|name| !parts.contains(name))
        .collect()
}

fn event_shape(schema: &Schema, message: MessageIndex) -> Result<EventShape, SchemaError> {
    let shape = schema.at(message);
    let number = |name: &str| shape.field_named(name).map(|field| field.number);
    let is_snapshot = number("snapshot_id").is_some();
    let record = match shape.field_named("record") {
        Some(field) => Some(record_place(schema, shape, field)?),
        None => None,
    };
    Ok(EventShape {
        message,
        record,
        changed_fields: number("changed_fields"),
        snapshot_part: number("part").filter(|_| is_snapshot),
    })
}

fn record_place(
    schema: &Schema,
    event: &MessageShape,
    record: &FieldShape,
) -> Result<RecordPlace, SchemaError> {
    let missing = || SchemaError::NoProtection {
        event: event.name.clone(),
    };
    let held = |field: &FieldShape| field.message().map(|index| schema.at(index));
    let shape = held(record).ok_or_else(missing)?;
    let protection = shape.field_named("protection").ok_or_else(missing)?;
    let level = held(protection)
        .and_then(|flags| flags.field_named("level"))
        .ok_or_else(missing)?;
    Ok(RecordPlace {
        number: record.number,
        required: record.required,
        protection: protection.number,
        level: level.number,
        address: shape.field_named("address").map(|field| field.number),
    })
}

impl Loader {
    fn message(&mut self, descriptor: &MessageDescriptor) -> Result<MessageIndex, SchemaError> {
        if let Some(index) = self.by_name.get(descriptor.full_name()) {
            return Ok(*index);
        }
        let index = MessageIndex(self.messages.len());
        self.messages.push(None);
        self.by_name
            .insert(descriptor.full_name().to_owned(), index);
        let mut fields = Vec::new();
        for field in descriptor.fields() {
            fields.push(self.field(&field)?);
        }
        fields.sort_by_key(|field| field.number);
        self.messages[index.0] = Some(MessageShape {
            name: descriptor.full_name().to_owned(),
            map_entry: descriptor.is_map_entry(),
            has_required: fields.iter().any(|field| field.required),
            is_address: descriptor.full_name() == ADDRESS_MESSAGE,
            oneofs: descriptor
                .oneofs()
                .filter(|oneof| !oneof.is_synthetic())
                .count(),
            fields,
        });
        Ok(index)
    }

    fn field(&mut self, descriptor: &FieldDescriptor) -> Result<FieldShape, SchemaError> {
        if descriptor.is_group() {
            return Err(SchemaError::Group {
                message: descriptor.parent_message().full_name().to_owned(),
                field: descriptor.name().to_owned(),
            });
        }
        let item = self.item(descriptor)?;
        Ok(FieldShape {
            number: descriptor.number(),
            name: descriptor.name().to_owned(),
            japanese: item.japanese,
            kind: self.kind(&descriptor.kind())?,
            repeated: descriptor.is_list() || descriptor.is_map(),
            oneof: oneof(descriptor),
            required: item.required,
            max_chars: item.max_chars,
            data_class: item.data_class,
        })
    }

    fn kind(&mut self, kind: &ProtoKind) -> Result<Kind, SchemaError> {
        Ok(match kind {
            ProtoKind::String => Kind::Text,
            ProtoKind::Bytes => Kind::Bytes,
            ProtoKind::Message(message) => Kind::Message(self.message(message)?),
            ProtoKind::Enum(values) => Kind::Enum(self.enumeration(values)),
            ProtoKind::Double | ProtoKind::Fixed64 | ProtoKind::Sfixed64 => {
                Kind::Number(Encoding::Fixed64)
            }
            ProtoKind::Float | ProtoKind::Fixed32 | ProtoKind::Sfixed32 => {
                Kind::Number(Encoding::Fixed32)
            }
            ProtoKind::Int32
            | ProtoKind::Int64
            | ProtoKind::Uint32
            | ProtoKind::Uint64
            | ProtoKind::Sint32
            | ProtoKind::Sint64
            | ProtoKind::Bool => Kind::Number(Encoding::Varint),
        })
    }

    fn enumeration(&mut self, descriptor: &EnumDescriptor) -> EnumIndex {
        if let Some(index) = self.enums_by_name.get(descriptor.full_name()) {
            return *index;
        }
        let mut numbers: Vec<i32> = descriptor.values().map(|value| value.number()).collect();
        numbers.sort_unstable();
        let index = EnumIndex(self.enums.len());
        self.enums.push(EnumShape {
            name: descriptor.full_name().to_owned(),
            numbers,
        });
        self.enums_by_name
            .insert(descriptor.full_name().to_owned(), index);
        index
    }

    fn item(&self, descriptor: &FieldDescriptor) -> Result<Item, SchemaError> {
        let options = descriptor.options();
        if !options.has_extension(&self.item) {
            return Ok(Item::default());
        }
        options
            .get_extension(&self.item)
            .as_message()
            .and_then(Item::read)
            .ok_or_else(|| SchemaError::Item {
                message: descriptor.parent_message().full_name().to_owned(),
                field: descriptor.name().to_owned(),
            })
    }
}

/// Place of the oneof that the contract shows; `optional` fields have a hidden one, which
/// does not count.
fn oneof(descriptor: &FieldDescriptor) -> Option<usize> {
    let oneof = descriptor.containing_oneof()?;
    let message = descriptor.parent_message();
    message
        .oneofs()
        .filter(|other| !other.is_synthetic())
        .position(|other| other == oneof)
}

#[derive(Default)]
struct Item {
    japanese: String,
    max_chars: u32,
    data_class: i32,
    required: bool,
}

impl Item {
    fn read(message: &DynamicMessage) -> Option<Self> {
        Some(Self {
            japanese: message.get_field_by_name("japanese")?.as_str()?.to_owned(),
            max_chars: message.get_field_by_name("max_chars")?.as_u32()?,
            data_class: message.get_field_by_name("data_class")?.as_enum_number()?,
            required: message.get_field_by_name("required")?.as_bool()?,
        })
    }
}
