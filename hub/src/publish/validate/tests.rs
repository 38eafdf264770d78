use musubi_proto::standard::common::v1::{Address, ResidentRecord};
use musubi_proto::standard::resident::v1::ResidentMovedWithin;
use prost::Message;
use prost_reflect::DynamicMessage;

use super::*;
use crate::event::Event;

mod envelope;
mod payload;

const TYPE: &str = "musubi.standard.resident.v1.ResidentMovedWithin";
const SOURCE: &str = "urn:jp:lg:142042:system:001";
const EXAMPLE: &str = include_str!("../../../../schemas/examples/resident_moved_within.json");

fn moved() -> ResidentMovedWithin {
    let pool = musubi_proto::descriptor_pool();
    let descriptor = pool.get_message_by_name(TYPE).expect("the event");
    let mut json = serde_json::Deserializer::from_str(EXAMPLE);
    let message = DynamicMessage::deserialize(descriptor, &mut json).expect("the example reads");
    message.transcode_to().expect("the example is the event")
}

fn with(data: Vec<u8>) -> Event {
    Event {
        id: "0197a0b0-0000-7000-8000-000000000001".to_owned(),
        source: SOURCE.to_owned(),
        r#type: TYPE.to_owned(),
        municipality: "142042".to_owned(),
        subject: "0000012345".to_owned(),
        subject_version: 4,
        reason: 40,
        data: data.into(),
        ..Default::default()
    }
}

fn event() -> Event {
    with(moved().encode_to_vec())
}

fn judge(events: Vec<Event>) -> Result<(), (Reason, String)> {
    let schema = Schema::load().expect("the built-in contracts load");
    let municipality = Municipality::parse("142042").expect("a right code");
    validate_unit(&schema, &municipality, SOURCE, &Unit { events })
        .map_err(|refusal| (refusal.reason, refusal.field))
}

#[track_caller]
fn refused(event: Event, reason: Reason, field: &str) {
    assert_eq!(judge(vec![event]), Err((reason, field.to_owned())));
}

/// The refusal of a change to the right payload.
#[track_caller]
fn payload_refused(change: impl Fn(&mut ResidentMovedWithin), reason: Reason, field: &str) {
    let mut moved = moved();
    change(&mut moved);
    refused(
        with(moved.encode_to_vec()),
        reason,
        &format!("events[0].data.{field}"),
    );
}

fn record(moved: &mut ResidentMovedWithin) -> &mut ResidentRecord {
    moved.record.as_mut().expect("a record")
}

fn address(moved: &mut ResidentMovedWithin) -> &mut Address {
    record(moved).address.as_mut().expect("an address")
}
