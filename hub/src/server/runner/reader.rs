//! Reads the log for one subscription: records → units → what concerns the receiver.
//! Routing: a pure function of the log and the grants that hold at the position.
//! Must never give a unit a sequence that depends on anything but the log before it.
//! Read next: `server/runner/payload.rs`.

use std::sync::Arc;

use prost::Message;

use musubi_proto::hub::v1::UnitScope;

use super::payload::{Payload, key};
use super::{DeliveryDelta, Shared, State, StepError};
use crate::engine::{Input, UnitIn, Work};
use crate::event::{Event, Position, Stream, Subject, is_protection};
use crate::grants::GrantTable;
use crate::limits::{READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::{ReadLimit, Record, RecordKind};
use crate::store::Cursor;

/// A unit as read: its events with the positions of the first and behind the last.
#[derive(Debug)]
pub(super) struct ReadUnit {
    pub(super) events: Vec<Event>,
    pub(super) first: Position,
    pub(super) last: Position,
}

/// What a batch of records holds.
#[derive(Debug)]
pub(super) enum Item {
    Unit(ReadUnit),
    /// A record that is no event.
    Other(Position),
}

/// Puts records together to whole units; a unit that is not complete is left for the next read.
pub(super) fn assemble(stream: Stream, records: Vec<Record>) -> Result<Vec<Item>, StepError> {
    let mut items = Vec::new();
    let mut open: Option<ReadUnit> = None;
    for record in records {
        let position = record.position;
        let broken = |what| StepError::Record {
            stream: stream.name(),
            position: position.0,
            what,
        };
        if record.kind == RecordKind::Control {
            items.push(Item::Other(position));
            continue;
        }
        let bytes = record
            .sealed
            .open()
            .map_err(|_| broken("its key is not known"))?;
        let event = Event::decode(&bytes[..]).map_err(|_| broken("it is not an event"))?;
        let size = event.group.as_ref().map_or(1, |group| group.size.max(1)) as usize;
        let mut unit = open.take().unwrap_or(ReadUnit {
            events: Vec::new(),
            first: position,
            last: position,
        });
        unit.last = position;
        unit.events.push(event);
        if unit.events.len() >= size {
            items.push(Item::Unit(unit));
        } else {
            open = Some(unit);
        }
    }
    Ok(items)
}

impl State {
    /// Reads one batch of one stream into the engine; false when nothing could be read.
    pub(super) async fn read(&mut self) -> Result<bool, StepError> {
        let now = self.now();
        let Some(session) = self.session.as_mut() else {
            return Ok(false);
        };
        session.step(Input::Tick, now);
        let order = if self.row.filled {
            [Stream::Live, Stream::Bulk]
        } else {
            [Stream::Bulk, Stream::Live]
        };
        for stream in order {
            if self.read_stream(stream).await? {
                return Ok(true);
            }
        }
        self.look_ahead().await
    }

    async fn read_stream(&mut self, stream: Stream) -> Result<bool, StepError> {
        let tail = *self.tail(stream).borrow();
        let Some(session) = &self.session else {
            return Ok(false);
        };
        let from = session.position(stream);
        let room = session.engine.room(stream);
        if session.is_full(stream) || session.ended(stream) == Some((from, tail)) {
            return Ok(false);
        }
        let limit = ReadLimit {
            records: room.min(READ_RECORDS_MAX),
            bytes: READ_BYTES_MAX,
        };
        let records = self
            .shared
            .log
            .read(&self.shared.municipality, stream, from, limit)
            .await?;
        if records.is_empty()
            && let Some(session) = self.session.as_mut()
        {
            session.set_ended(stream, (from, tail));
            return Ok(false);
        }
        let mut items = assemble(stream, records)?;
        if items.is_empty() && !self.at_tail(stream, from).await? {
            // One unit alone is larger than a read.
            items = self.read_large(stream, from).await?;
        }
        let end = self.end_of(stream).await?;
        let now = self.now();
        let mut moved = false;
        for item in items {
            let last = match &item {
                Item::Unit(unit) => unit.last,
                Item::Other(position) => *position,
            };
            if end.is_some_and(|end| last >= end) {
                break;
            }
            if !self.offer(stream, item, now)? {
                break;
            }
            moved = true;
        }
        Ok(moved)
    }

    pub(super) fn tail(&self, stream: Stream) -> &tokio::sync::watch::Receiver<Position> {
        match stream {
            Stream::Live => &self.live_tail,
            Stream::Bulk => &self.bulk_tail,
        }
    }

    pub(super) async fn at_tail(&self, stream: Stream, from: Position) -> Result<bool, StepError> {
        let bounds = self
            .shared
            .log
            .bounds(&self.shared.municipality, stream)
            .await?;
        Ok(from >= bounds.next)
    }

    pub(super) async fn read_large(
        &self,
        stream: Stream,
        from: Position,
    ) -> Result<Vec<Item>, StepError> {
        let limit = ReadLimit {
            records: crate::limits::UNIT_EVENTS_MAX,
            bytes: crate::limits::UNIT_EVENTS_MAX * crate::limits::PAYLOAD_BYTES_MAX,
        };
        let records = self
            .shared
            .log
            .read(&self.shared.municipality, stream, from, limit)
            .await?;
        let mut items = assemble(stream, records)?;
        items.truncate(1);
        Ok(items)
    }

    /// Where reading of a stream must stop: at the cut of a filling subscription, or, while the
    /// first snapshot is on its way, at the changes that belong to the state after it.
    pub(super) async fn end_of(&mut self, stream: Stream) -> Result<Option<Position>, StepError> {
        let until = self.row.until.map(|until| match stream {
            Stream::Live => until.0,
            Stream::Bulk => until.1,
        });
        if self.row.filled || stream == Stream::Bulk {
            return Ok(until);
        }
        let Some(session) = &self.session else {
            return Ok(until);
        };
        let bulk = session.engine.cursor(Stream::Bulk).position;
        let snapshots = self
            .shared
            .store
            .snapshots(&self.shared.municipality)
            .await?;
        let complete = snapshots
            .iter()
            .rev()
            .find_map(|snapshot| snapshot.bulk_end);
        if complete.is_some_and(|end| end < bulk) {
            let delta = DeliveryDelta {
                filled: true,
                ..self.delta()
            };
            self.shared.store.commit(delta).await?;
            self.row.filled = true;
            return Ok(until);
        }
        // Snapshots that lie behind the place where filling began say nothing.
        let ahead = snapshots
            .iter()
            .find(|one| one.bulk_end.is_none_or(|end| end >= bulk));
        let mark = ahead.map(|snapshot| snapshot.live_mark);
        Ok(match (until, mark) {
            (Some(until), Some(mark)) => Some(until.min(mark)),
            (until, mark) => until.or(mark),
        })
    }

    /// Offers one item to the engine; false when it has no room.
    fn offer(&mut self, stream: Stream, item: Item, now: i64) -> Result<bool, StepError> {
        let Some(session) = self.session.as_mut() else {
            return Ok(false);
        };
        if !session.engine.has_room(stream) {
            return Ok(false);
        }
        let sequence = session.engine.frontier(stream).sequence;
        let unit = match item {
            Item::Other(position) => {
                let cursor = Cursor {
                    position: position.after(),
                    sequence,
                };
                session.step(Input::Frontier(stream, cursor), now);
                return Ok(true);
            }
            Item::Unit(unit) => unit,
        };
        let route = Route {
            shared: &self.shared,
            system: &self.row.system,
            stream,
        };
        let concerned = route.concerned(&unit);
        if concerned.is_empty() {
            let cursor = Cursor {
                position: unit.last.after(),
                sequence,
            };
            session.step(Input::Frontier(stream, cursor), now);
            return Ok(true);
        }
        let (first, after) = (unit.first, unit.last.after());
        let works = route.works(sequence, session.scope, unit, concerned);
        let unit = UnitIn {
            stream,
            sequence,
            first,
            after,
            works,
        };
        session.step(Input::Unit(unit), now);
        Ok(true)
    }
}

/// Decides what of a unit is for a system.
#[derive(Debug)]
pub(super) struct Route<'a> {
    pub(super) shared: &'a Shared,
    pub(super) system: &'a str,
    pub(super) stream: Stream,
}

impl Route<'_> {
    /// Indexes of the events that concern the receiver, by the grants at the unit's position.
    pub(super) fn concerned(&self, unit: &ReadUnit) -> Vec<usize> {
        let Some(grants) = self.grants(unit.last) else {
            return Vec::new();
        };
        let concerns = |event: &Event| {
            let grant = grants.grant(self.system, &event.r#type);
            grant.is_some_and(|grant| grant.concerns(&self.shared.schema, &event.data))
        };
        let events = unit.events.iter().enumerate();
        events
            .filter(|(_, event)| concerns(event))
            .map(|(index, _)| index)
            .collect()
    }

    pub(super) fn grants(&self, position: Position) -> Option<Arc<GrantTable>> {
        self.shared
            .grants
            .borrow()
            .at(self.stream, position)
            .cloned()
    }

    fn works(
        &self,
        sequence: u64,
        scope: UnitScope,
        unit: ReadUnit,
        concerned: Vec<usize>,
    ) -> Vec<Work<Arc<Payload>>> {
        let Some(grants) = self.grants(unit.last) else {
            return Vec::new();
        };
        let group_size = unit.events.len() as u32;
        let last = unit.last;
        let mut whole: Vec<Event> = Vec::new();
        let mut works = Vec::new();
        for (index, event) in unit.events.into_iter().enumerate() {
            if !concerned.contains(&index) {
                continue;
            }
            let protection = is_protection(&event.r#type);
            if scope == UnitScope::Group && !protection {
                whole.push(event);
                continue;
            }
            let key = key(self.stream, sequence, index as u32 + 1);
            works.push(self.work(key, vec![event], last, group_size, &grants, protection));
        }
        if !whole.is_empty() {
            let key = key(self.stream, sequence, 0);
            works.push(self.work(key, whole, last, group_size, &grants, false));
        }
        works
    }

    pub(super) fn work(
        &self,
        key: crate::store::UnitKey,
        events: Vec<Event>,
        position: Position,
        group_size: u32,
        grants: &Arc<GrantTable>,
        protection: bool,
    ) -> Work<Arc<Payload>> {
        let payload = Payload {
            events,
            position,
            group_size,
            grants: grants.clone(),
            replay: None,
        };
        self.work_of(key, payload, protection)
    }

    /// The same of a payload that is there.
    pub(super) fn work_of(
        &self,
        key: crate::store::UnitKey,
        payload: Payload,
        protection: bool,
    ) -> Work<Arc<Payload>> {
        let mut subjects: Vec<Subject> = Vec::new();
        for event in &payload.events {
            let subject = self
                .shared
                .pseudonyms
                .of(&self.shared.municipality, &event.subject);
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        Work {
            key,
            subjects,
            protection,
            payload: Arc::new(payload),
        }
    }
}
