//! What travels through the engine: the events of one deliverable, projected when it is sent.
//! Made by the reader, or from a parked copy.
//! Must never hand out an event that was not projected.
//! Read next: `server/runner/session.rs`.

use std::sync::Arc;

use musubi_proto::hub::v1::{DeliveredEvent, DeliveredUnit, Mode};
use prost::Message;

use super::Shared;
use crate::engine::AfterImage;
use crate::event::seal::Sealed;
use crate::event::{Event, Position, Stream, Unit};
use crate::grants::{Grant, GrantTable};
use crate::project::{ProjectError, Protection, Receiver, project, protection_of};
use crate::store::UnitKey;

/// Events of one deliverable, as the log has them.
#[derive(Debug)]
pub struct Payload {
    /// Events that concern the receiver.
    pub events: Vec<Event>,
    /// Position of the unit's last event.
    pub position: Position,
    /// Events of the whole unit.
    pub group_size: u32,
    /// Grants that hold at the position; for what is delivered later on an operator's word or from
    /// the parked ones, the newest.
    pub grants: Arc<GrantTable>,
    /// Delivered once more on an operator's word; the newest grants hold.
    pub replay: Option<Replay>,
}

/// How a unit is delivered once more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Replay {
    /// Replay that wants another effect, so that the key must be another one; `None`: the product
    /// that has it shall say so.
    pub repair: Option<Arc<str>>,
}

impl Payload {
    /// Ids of the events.
    pub fn event_ids(&self) -> Vec<String> {
        self.events.iter().map(|event| event.id.clone()).collect()
    }

    /// A sealed copy for the parked units.
    pub fn sealed(&self) -> Sealed {
        Sealed::seal(
            Unit {
                events: self.events.clone(),
            }
            .encode_to_vec(),
        )
    }

    /// Why it is delivered.
    pub fn mode(&self, otherwise: Mode) -> Mode {
        match self.replay {
            Some(_) => Mode::Replay,
            None => otherwise,
        }
    }

    /// Same for every attempt and replay: the event, or the group of this source. A repair has
    /// keys of its own, the same for each of its attempts.
    pub fn idempotency_key(&self, key: UnitKey) -> String {
        let original = self.original_key(key);
        let replay = self.replay.as_ref();
        match replay.and_then(|replay| replay.repair.as_ref()) {
            Some(id) => format!("{original}~repair-{id}"),
            None => original,
        }
    }

    fn original_key(&self, key: UnitKey) -> String {
        let Some(first) = self.events.first() else {
            return String::new();
        };
        match (&first.group, key.member) {
            (Some(group), 0) if group.size > 1 => format!("{}:{}", first.source, group.id),
            _ => first.id.clone(),
        }
    }

    /// Cuts the events down to what the system is granted; of what is granted no more, the number
    /// is left.
    pub fn project(
        &self,
        shared: &Shared,
        system: &str,
        receiver: &Receiver,
        mode: Mode,
        key: UnitKey,
    ) -> Result<DeliveredUnit, ProjectError> {
        let mut events = Vec::with_capacity(self.events.len());
        let mode = self.mode(mode);
        for event in &self.events {
            if let Some(grant) = self.grant(shared, system, event) {
                events.push(self.project_event(shared, grant, receiver, mode, event)?);
            }
        }
        Ok(DeliveredUnit {
            sequence: key.sequence,
            idempotency_key: self.idempotency_key(key),
            withheld: events.is_empty(),
            events,
            group_size: self.group_size,
            position: self.position.0,
            stream: key.stream.wire(),
            member: key.member,
        })
    }

    /// The grant of an event. What was read from the log concerns the receiver by the same grants.
    fn grant(&self, shared: &Shared, system: &str, event: &Event) -> Option<&Grant> {
        let grant = self.grants.grant(system, &event.r#type)?;
        let concerns = self.replay.is_none() || grant.concerns(&shared.schema, &event.data);
        concerns.then_some(grant)
    }

    fn project_event(
        &self,
        shared: &Shared,
        grant: &Grant,
        receiver: &Receiver,
        mode: Mode,
        event: &Event,
    ) -> Result<DeliveredEvent, ProjectError> {
        let m = &shared.municipality;
        let subject = shared.pseudonyms.of(m, &event.subject);
        // The hub's own knowledge counts as well as the record's: a measure may have started
        // after this event was written.
        let protected = shared.protected.borrow().contains(&subject)
            || protection_of(&shared.schema, &event.r#type, &event.data) == Protection::Protected;
        let token = |bytes: &[u8]| shared.pseudonyms.token(m, bytes);
        let projected = project(
            &shared.schema,
            grant,
            &event.data,
            receiver,
            protected,
            &token,
        )?;
        // The digest would betray a withheld value to somebody who guesses it.
        let event = Event {
            data: projected.data.into(),
            source_digest: Default::default(),
            mode: mode as i32,
            ..event.clone()
        };
        Ok(DeliveredEvent {
            event: Some(event),
            granted_paths: projected.granted_paths,
        })
    }
}

impl AfterImage for Arc<Payload> {
    /// An event carries its subject's state after it, as far as its type says anything of it: a
    /// later one of the same type leaves nothing of an earlier one to be applied.
    fn covers(&self, earlier: &Self) -> bool {
        match (self.events.as_slice(), earlier.events.as_slice()) {
            ([last], [first]) => last.r#type == first.r#type && last.subject == first.subject,
            _ => false,
        }
    }
}

/// Names one deliverable.
pub(super) fn key(stream: Stream, sequence: u64, member: u32) -> UnitKey {
    UnitKey {
        stream,
        sequence,
        member,
    }
}
