//! Edit and resend: a corrected payload becomes a new event in the place of a parked one.
//! Behind `AdminService.EditParked`; judged like a publish, ordered by a control record.
//! Must never change whom the event is about, nor what kind of event it is.
//! Read next: `server/runner/edit.rs`.

use musubi_proto::hub::v1::{EditParkedRequest, EditParkedResponse};
use musubi_proto::standard::common::v1::{PersonRef, ResidentRecord};
use musubi_proto::standard::resident::v1::ResidentSnapshotPublished;
use prost::Message;
use sha2::{Digest, Sha256};
use tonic::Code;
use uuid::Uuid;

use super::{parked, repair, unit_key, unreadable};
use crate::event::{Event, Unit};
use crate::publish::candidate::is_snapshot;
use crate::publish::control::Change;
use crate::publish::validate::validate_unit;
use crate::server::hub::Hub;
use crate::server::runner::{Repair, RepairAsk, RepairError};
use crate::server::status::{Failure, invalid, not_found, who_and_why};
use crate::server::town::Town;
use crate::store::{ParkedRow, UnitKey};

/// Replaces a parked event.
pub(super) async fn edit(
    hub: &Hub,
    town: &Town,
    request: EditParkedRequest,
) -> Result<EditParkedResponse, Failure> {
    who_and_why(&request.operator, &request.reason)?;
    let key = unit_key(request.stream, request.sequence, request.member);
    let plan = RepairAsk {
        what: Repair::Edit(key),
        operator: request.operator.clone(),
        reason: request.reason.clone(),
        revision: request.revision,
        dry_run: true,
    };
    let report = repair::repair(town, &request.subscription, plan).await?;
    let row = report.units.first().ok_or(RepairError::Missing)?;
    let (old, given) = (event_of(row, &request.event_id)?, request.event.as_ref());
    let given = given.ok_or_else(|| invalid("event", "hand in the corrected event"))?;
    let new = correction(&old, given)?;
    let alone = Unit {
        // Its group was judged when it was published; here may be less than the whole of it.
        events: vec![Event {
            group: None,
            ..new.clone()
        }],
    };
    validate_unit(&hub.commons.schema, &town.municipality, &old.source, &alone).map_err(|r| {
        let field = r.field.replacen("events[0]", "event", 1);
        Failure::new(Code::InvalidArgument, r.reason.as_str(), r.message).field(&field)
    })?;
    let mut response = EditParkedResponse {
        event_id: new.id.clone(),
        freed: report.freed,
        parked: Some(parked::wire(&request.subscription, row)),
    };
    if request.dry_run {
        return Ok(response);
    }
    let row = order(hub, town, &request, key, row.revision, &old.id, &new).await?;
    response.parked = row.map(|row| parked::wire(&request.subscription, &row));
    Ok(response)
}

/// The event of a unit that is to be corrected.
fn event_of(row: &ParkedRow, id: &str) -> Result<Event, Failure> {
    let bytes = row.content.clone().open();
    let bytes = bytes.map_err(|_| unreadable("parked unit"))?;
    let unit = Unit::decode(&bytes[..]).map_err(|_| unreadable("parked unit"))?;
    if id.is_empty() && unit.events.len() > 1 {
        let message = "the unit has several events; name the one that is corrected";
        return Err(invalid("event_id", message));
    }
    let mut events = unit.events.into_iter();
    events
        .find(|event| id.is_empty() || event.id == id)
        .ok_or_else(|| not_found("event of the unit", id).field("event_id"))
}

/// The new event: what the operator gave, in the envelope of the old one.
fn correction(old: &Event, given: &Event) -> Result<Event, Failure> {
    let texts = [
        ("event.municipality", &given.municipality, &old.municipality),
        ("event.source", &given.source, &old.source),
        ("event.type", &given.r#type, &old.r#type),
        ("event.subject", &given.subject, &old.subject),
    ];
    let text = texts
        .iter()
        .find(|(_, given, old)| !given.is_empty() && given != old);
    let version = given.subject_version != 0 && given.subject_version != old.subject_version;
    let group = given.group.is_some() && given.group != old.group;
    let changed = match text {
        Some((field, _, _)) => Some(*field),
        None if version => Some("event.subject_version"),
        None if group => Some("event.group"),
        None if person_of(given, &old.r#type) != person_of(old, &old.r#type) => {
            Some("event.data.record.person")
        }
        None => None,
    };
    if let Some(field) = changed {
        let message = "a correction keeps municipality, source, type, subject, version and group; \
                       publish another event for another subject";
        let failure = Failure::new(Code::InvalidArgument, "EDIT_NOT_ALLOWED", message);
        return Err(failure.field(field));
    }
    if given.data == old.data {
        return Err(invalid("event.data", "this is the payload as it is parked"));
    }
    let namespace = Uuid::parse_str(&old.id).unwrap_or(Uuid::NAMESPACE_OID);
    Ok(Event {
        id: Uuid::new_v5(&namespace, &given.data).to_string(),
        supersedes: old.id.clone(),
        causation_id: old.id.clone(),
        source_digest: Sha256::digest(&given.data).to_vec().into(),
        data: given.data.clone(),
        ..old.clone()
    })
}

/// The person that a payload's record is about.
fn person_of(event: &Event, event_type: &str) -> Option<PersonRef> {
    /// Any event with a record carries it in field 1, but the snapshot.
    #[derive(Clone, PartialEq, Message)]
    struct Recorded {
        #[prost(message, optional, tag = "1")]
        record: Option<ResidentRecord>,
    }
    let record = if is_snapshot(event_type) {
        ResidentSnapshotPublished::decode(&event.data[..])
            .ok()?
            .record
    } else {
        Recorded::decode(&event.data[..]).ok()?.record
    };
    record?.person
}

/// Appends the control record; the unit as it is then.
async fn order(
    hub: &Hub,
    town: &Town,
    request: &EditParkedRequest,
    key: UnitKey,
    revision: u64,
    old: &str,
    new: &Event,
) -> Result<Option<ParkedRow>, Failure> {
    let change = Change::Edit {
        subscription: request.subscription.clone(),
        stream: key.stream.number(),
        sequence: key.sequence,
        member: key.member,
        revision,
        event_id: old.to_owned(),
        event: new.encode_to_vec(),
    };
    let (operator, reason) = (request.operator.clone(), request.reason.clone());
    let place = town.sequencer.control(operator, reason, change).await?;
    let store = &hub.commons.store;
    let name = crate::server::town::act_name(place.live);
    let acts = store.acts_on(&request.subscription, key).await?;
    let row = store.parked_unit(&request.subscription, key).await?;
    if !acts.iter().any(|act| act.act.id == name) {
        let now = row.map_or(0, |row| row.revision);
        return Err(RepairError::Changed { now }.into());
    }
    Ok(row)
}
