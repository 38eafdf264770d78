//! Messages of the contracts from protobuf JSON, by the descriptors alone.
//! Used where people and foreign programs write events: the command line and CloudEvents.
//! Must never know a message by name: a new event type needs no change here.
//! Read next: `lib.rs`, which holds the descriptors.

use prost_reflect::{DynamicMessage, MessageDescriptor};

/// Reads a message of a type; an unknown field is an error.
///
/// # Errors
/// With line and column of the mistake. The text may repeat a value: show it only to who wrote it.
pub fn read(kind: MessageDescriptor, json: &[u8]) -> Result<DynamicMessage, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let message = DynamicMessage::deserialize(kind, &mut reader)?;
    reader.end()?;
    Ok(message)
}
