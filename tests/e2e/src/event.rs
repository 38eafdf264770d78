//! Events that a test makes by hand: a move within the town, from the example of the contract.
//! For clients that publish directly; the registry's events come out of its files.
//! Must never describe a person of a town's files.
//! Read next: `hub.rs`, which publishes them.

use anyhow::{Context, Result};
use musubi_proto::hub::v1::Event;
use musubi_proto::standard::resident::v1::ResidentMovedWithin;
use prost::Message;
use prost_reflect::DynamicMessage;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::hub::{MUNICIPALITY, SOURCE};

/// Type of the events made here.
pub const MOVED_WITHIN: &str = "musubi.standard.resident.v1.ResidentMovedWithin";

/// The example's payload as protobuf JSON.
pub const EXAMPLE: &str = include_str!("../../../schemas/examples/resident_moved_within.json");

/// The example's payload.
pub fn moved_within() -> Result<ResidentMovedWithin> {
    let kind = musubi_proto::descriptor_pool()
        .get_message_by_name(MOVED_WITHIN)
        .context("the contract has no ResidentMovedWithin")?;
    let mut reader = serde_json::Deserializer::from_str(EXAMPLE);
    let message = DynamicMessage::deserialize(kind, &mut reader).context("read the example")?;
    message.transcode_to().context("read the example")
}

/// A move of a person within the town, with a new id.
pub fn moved(subject: &str, version: u32) -> Result<Event> {
    let mut payload = moved_within()?;
    let record = payload.record.as_mut().context("the example's record")?;
    let person = record.person.as_mut().context("the example's person")?;
    subject.clone_into(&mut person.atenabango);
    person.rirekibango = version;
    Ok(event(subject, version, payload.encode_to_vec()))
}

/// An event with a payload of `ResidentMovedWithin` and a new id.
pub fn event(subject: &str, version: u32, data: Vec<u8>) -> Event {
    Event {
        id: Uuid::new_v4().to_string(),
        source: SOURCE.to_owned(),
        r#type: MOVED_WITHIN.to_owned(),
        municipality: MUNICIPALITY.to_owned(),
        subject: subject.to_owned(),
        subject_version: version,
        reason: 40,
        source_digest: Sha256::digest(&data).to_vec().into(),
        data: data.into(),
        ..Event::default()
    }
}
