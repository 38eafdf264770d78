//! What a subscription had by its sequence, for a receiver whose numbers have a gap (P8).
//! Beside the runner: reads history, parked units and the log, and moves nothing.
//! Must never show more of a unit than its receiver is granted now.
//! Read next: `server/runner/replay.rs`, `server/delivery_service/missed.rs`.

use std::collections::{BTreeMap, HashSet};
use std::ops::RangeInclusive;

use musubi_proto::hub::v1::{DeliveredUnit, MissedUnit, Mode, Outcome, UnitScope};
use prost::Message;

use super::payload::{Payload, Replay, key};
use super::reader::{Item, Route, assemble};
use super::replay::read_again;
use super::{Shared, StepError};
use crate::event::{Event, Position, Stream, Unit, is_protection};
use crate::limits::{PAGE_MAX, READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::ReadLimit;
use crate::project::Receiver;
use crate::store::{HadEvent, ParkedRow, Selection, SubscriptionRow, UnitKey};

/// What a receiver asks for.
#[derive(Debug)]
pub struct Ask {
    /// The subscription.
    pub row: SubscriptionRow,
    /// Stream of the sequences.
    pub stream: Stream,
    /// Which of them.
    pub sequences: RangeInclusive<u64>,
    /// How open units are taken.
    pub scope: UnitScope,
    /// What the product holds.
    pub receiver: Receiver,
}

/// What is found.
#[derive(Debug)]
pub enum Missed {
    /// Units by sequence and member.
    Units(Vec<MissedUnit>),
    /// The hub has a unit no longer.
    Gone {
        /// Its sequence.
        sequence: u64,
        /// The first sequence from which on there is everything.
        first: u64,
    },
}

/// A unit before it is projected.
struct Found {
    payload: Payload,
    outcome: i32,
    reason: String,
}

type Parts = BTreeMap<(u64, u32), Found>;

/// Collects the units of a range of sequences.
///
/// # Errors
/// When log or store cannot be read.
pub async fn missed(shared: &Shared, ask: Ask) -> Result<Missed, StepError> {
    let mut parts = Parts::new();
    let mut seen = HashSet::new();
    // Before and behind: a unit that ends meanwhile is found by one of the three.
    parked(shared, &ask, &mut parts, &mut seen).await?;
    if let Some(sequence) = ended(shared, &ask, &mut parts, &mut seen).await? {
        return gone(shared, &ask, sequence).await;
    }
    parked(shared, &ask, &mut parts, &mut seen).await?;
    // What was before the cursor ended or lies parked; of what is neither, nothing is known now.
    let known: HashSet<u64> = parts.keys().map(|(sequence, _)| *sequence).collect();
    let done = ask
        .sequences
        .clone()
        .take_while(|one| *one < ask.row.cursor(ask.stream).sequence);
    if let Some(sequence) = done.into_iter().find(|one| !known.contains(one)) {
        return gone(shared, &ask, sequence).await;
    }
    open(shared, &ask, &mut parts, &seen).await?;
    let units = parts.into_iter().map(|((sequence, member), found)| {
        let key = key(ask.stream, sequence, member);
        let (system, receiver) = (&ask.row.system, &ask.receiver);
        let projected = found
            .payload
            .project(shared, system, receiver, Mode::Replay, key);
        // What cannot be projected must not leave the hub: its number is left.
        let unit = projected.unwrap_or_else(|_| DeliveredUnit {
            sequence,
            idempotency_key: found.payload.idempotency_key(key),
            group_size: found.payload.group_size,
            position: found.payload.position.0,
            stream: ask.stream.wire(),
            member,
            withheld: true,
            ..DeliveredUnit::default()
        });
        MissedUnit {
            unit: Some(unit),
            outcome: found.outcome,
            reason: found.reason,
        }
    });
    Ok(Missed::Units(units.collect()))
}

/// A unit that the log, or the history, has no longer; and where what is there begins.
async fn gone(shared: &Shared, ask: &Ask, sequence: u64) -> Result<Missed, StepError> {
    let m = &shared.municipality;
    let bounds = shared.log.bounds(m, ask.stream).await?;
    let kept = Selection {
        stream: Some(ask.stream),
        from_position: Some(bounds.first),
        ..Selection::default()
    };
    let store = &shared.store;
    let had = store.had(&ask.row.id, ask.stream, sequence, Some(&kept), 1);
    let first = had.await?.first().map(|event| event.sequence);
    let first = first.unwrap_or(ask.row.cursor(ask.stream).sequence);
    Ok(Missed::Gone { sequence, first })
}

const AGAIN: Replay = Replay { repair: None };

/// Units with an outcome. Returns the sequence of one that the log has no longer.
async fn ended(
    shared: &Shared,
    ask: &Ask,
    parts: &mut Parts,
    seen: &mut HashSet<String>,
) -> Result<Option<u64>, StepError> {
    let before = ask.sequences.start().saturating_sub(1);
    let limit = ask.sequences.clone().count();
    let store = &shared.store;
    let mut had = store
        .had(&ask.row.id, ask.stream, before, None, limit)
        .await?;
    had.retain(|event| ask.sequences.contains(&event.sequence));
    for unit in had.chunk_by(|a, b| a.sequence == b.sequence) {
        let Some(read) = read_again(shared, unit).await? else {
            return Ok(unit.first().map(|event| event.sequence));
        };
        let mut members: BTreeMap<u32, Vec<&HadEvent>> = BTreeMap::new();
        for event in unit {
            seen.insert(event.id.clone());
            members.entry(event.member).or_default().push(event);
        }
        for (member, had) in members {
            let of_member = |event: &Event| had.iter().any(|had| had.id == event.id);
            let events = read.events.iter().map(|(_, event)| event);
            let events = events.filter(|event| of_member(event)).cloned().collect();
            let payload = read.payload(shared, events, AGAIN);
            let first = had.first();
            if let (Some(first), Some(payload)) = (first, payload) {
                let found = Found {
                    payload,
                    outcome: first.outcome,
                    reason: first.reason.clone(),
                };
                parts.insert((first.sequence, member), found);
            }
        }
    }
    Ok(None)
}

/// Units that lie parked.
async fn parked(
    shared: &Shared,
    ask: &Ask,
    parts: &mut Parts,
    seen: &mut HashSet<String>,
) -> Result<(), StepError> {
    let mut after = UnitKey {
        stream: ask.stream,
        sequence: ask.sequences.start().saturating_sub(1),
        member: u32::MAX,
    };
    loop {
        let store = &shared.store;
        let rows = store
            .parked(&ask.row.id, None, Some(after), PAGE_MAX)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after = last.key;
        for row in &rows {
            let UnitKey {
                stream, sequence, ..
            } = row.key;
            if stream != ask.stream || !ask.sequences.contains(&sequence) {
                return Ok(());
            }
            seen.extend(row.event_ids.iter().cloned());
            if let Some(payload) = parked_payload(shared, row) {
                parts.insert((sequence, row.key.member), unanswered(payload));
            }
        }
    }
}

fn parked_payload(shared: &Shared, row: &ParkedRow) -> Option<Payload> {
    let bytes = row.content.clone().open().ok()?;
    let events = Unit::decode(&bytes[..]).ok()?.events;
    let group = events.first()?.group.as_ref();
    let group_size = group.map_or(1, |group| group.size);
    again(shared, events, row.position, group_size)
}

fn again(
    shared: &Shared,
    events: Vec<Event>,
    position: Position,
    group_size: u32,
) -> Option<Payload> {
    Some(Payload {
        events,
        position,
        group_size,
        grants: shared.grants.borrow().latest().cloned()?,
        replay: Some(AGAIN),
    })
}

fn unanswered(payload: Payload) -> Found {
    Found {
        payload,
        outcome: Outcome::Unspecified as i32,
        reason: String::new(),
    }
}

/// Units that are open: from the cursor on, as the reader numbers them.
async fn open(
    shared: &Shared,
    ask: &Ask,
    parts: &mut Parts,
    seen: &HashSet<String>,
) -> Result<(), StepError> {
    let cursor = ask.row.cursor(ask.stream);
    let (mut sequence, mut from) = (cursor.sequence, cursor.position);
    let route = Route {
        shared,
        system: &ask.row.system,
        stream: ask.stream,
    };
    let mut records = READ_RECORDS_MAX;
    while sequence <= *ask.sequences.end() {
        let limit = ReadLimit {
            records,
            bytes: READ_BYTES_MAX.max(records * crate::limits::PAYLOAD_BYTES_MAX),
        };
        let m = &shared.municipality;
        let read = shared.log.read(m, ask.stream, from, limit).await?;
        let items = assemble(ask.stream, read)?;
        if items.is_empty() && records == READ_RECORDS_MAX {
            // The end, or one unit alone is larger than a read.
            records = crate::limits::UNIT_EVENTS_MAX;
            continue;
        }
        if items.is_empty() {
            return Ok(());
        }
        for item in items {
            let unit = match item {
                Item::Other(position) => {
                    from = position.after();
                    continue;
                }
                Item::Unit(unit) => unit,
            };
            from = unit.last.after();
            let concerned = route.concerned(&unit);
            if concerned.is_empty() {
                continue;
            }
            if ask.sequences.contains(&sequence) {
                let size = unit.events.len() as u32;
                let events = unit.events.into_iter().enumerate();
                let open = events
                    .filter(|(index, event)| concerned.contains(index) && !seen.contains(&event.id))
                    .map(|(index, event)| (index as u32 + 1, event));
                for (member, events) in by_member(ask.scope, open) {
                    let payload = again(shared, events, unit.last, size);
                    let found = payload.map(|payload| ((sequence, member), unanswered(payload)));
                    parts.extend(found);
                }
            }
            sequence += 1;
        }
    }
    Ok(())
}

/// As the attached adapter takes them: protection always goes by itself.
fn by_member(
    scope: UnitScope,
    events: impl Iterator<Item = (u32, Event)>,
) -> BTreeMap<u32, Vec<Event>> {
    let mut members: BTreeMap<u32, Vec<Event>> = BTreeMap::new();
    for (member, event) in events {
        let whole = scope == UnitScope::Group && !is_protection(&event.r#type);
        let member = if whole { 0 } else { member };
        members.entry(member).or_default().push(event);
    }
    members
}
