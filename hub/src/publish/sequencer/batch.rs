//! One group commit: decide, claim, append, commit, then let follow what waited.
//! The body of the sequencer.
//! Must never answer before the commit.
//! Read next: `publish/sequencer/recovery.rs`.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use musubi_proto::crash;
use musubi_proto::standard::resident::v1::ResidentSnapshotPublished;
use prost::Message;

use super::decide::{Pending, Plan, decide};
use super::protection;
use super::{Answer, Batch, ControlPlace, Entry, Parts, PublishError};
use crate::clock::now_ms;
use crate::event::seal::Sealed;
use crate::event::{Event, Position, Stream, Subject, Unit, is_protection};
use crate::log::{Attributes, NewRecord, RecordKind};
use crate::publish::candidate::{Candidate, CandidateEvent};
use crate::publish::control::{Change, Control};
use crate::publish::source_rules::{OpenHeld, View};
use crate::store::{
    Claim, Followed, HeldRow, HeldState, Placed, PublishDelta, SnapshotMark, VersionOf,
};

/// Publishes batches one after the other in one group commit per source.
pub(super) async fn publish(
    parts: &Parts,
    batches: Vec<Batch>,
) -> Vec<Result<Vec<Answer>, PublishError>> {
    let mut outcomes = Vec::with_capacity(batches.len());
    let mut group: Vec<Batch> = Vec::new();
    for batch in batches {
        // One that is fenced fails alone, whoever stands beside it.
        if let Err(error) = check_epoch(parts, &batch).await {
            publish_next(parts, &mut group, &mut outcomes).await;
            outcomes.push(Err(error));
            continue;
        }
        let same = group.last().is_none_or(|last| {
            last.source == batch.source && last.stream == batch.stream && last.cursor.is_none()
        });
        if !same {
            publish_next(parts, &mut group, &mut outcomes).await;
        }
        group.push(batch);
    }
    publish_next(parts, &mut group, &mut outcomes).await;
    outcomes
}

/// Publishes a group, unless one before it failed: what the log has of that one is committed
/// first, by the recovery before the next batch.
async fn publish_next(
    parts: &Parts,
    group: &mut Vec<Batch>,
    outcomes: &mut Vec<Result<Vec<Answer>, PublishError>>,
) {
    let group = std::mem::take(group);
    let harmless = |outcome: &Result<Vec<Answer>, PublishError>| {
        matches!(outcome, Ok(_) | Err(PublishError::Fenced { .. }))
    };
    match outcomes.iter().find(|outcome| !harmless(outcome)) {
        None | Some(Ok(_)) => outcomes.extend(publish_group(parts, group).await),
        Some(Err(error)) => {
            let others = |_| Err(error.for_others(&parts.municipality));
            let others: Vec<_> = group.iter().map(others).collect();
            outcomes.extend(others);
        }
    }
}

async fn publish_group(parts: &Parts, group: Vec<Batch>) -> Vec<Result<Vec<Answer>, PublishError>> {
    let size = group.len();
    match try_publish(parts, group).await {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => {
            let text = error.to_string();
            let others = (1..size).map(|_| Err(error.for_others(&parts.municipality)));
            let mut outcomes: Vec<_> = others.collect();
            outcomes.insert(0, Err(error));
            tracing::debug!(text, size, "a group commit failed");
            outcomes
        }
    }
}

async fn try_publish(parts: &Parts, group: Vec<Batch>) -> Result<Vec<Vec<Answer>>, PublishError> {
    let Some(first) = group.first() else {
        return Ok(Vec::new());
    };
    let source = first.source.clone();
    let mut view = view_of(parts, &source, &group).await?;
    let anything_held = !view.held.is_empty();
    let mut plan = Plan::default();
    let mut pending: Vec<Vec<Pending>> = Vec::with_capacity(group.len());
    let mut cursor = None;
    for batch in group {
        let (stream, captured) = (batch.stream, batch.captured);
        cursor = batch.cursor.or(cursor);
        let mut answers = Vec::with_capacity(batch.entries.len());
        for entry in batch.entries {
            answers.push(decide(
                &mut view, &mut plan, &source, stream, captured, entry,
            ));
        }
        pending.push(answers);
    }
    // Without held units nothing can wait for what is accepted here.
    let versions = (anything_held || !plan.hold.is_empty()).then_some(&view.versions);
    let (positions, held_ids) = write(parts, &source, plan, cursor, versions).await?;
    let answer = |pending: Pending| match pending {
        Pending::Ready(answer) => answer,
        Pending::Accepted(index) => Answer::Accepted {
            position: positions.get(index).copied().unwrap_or_default(),
            duplicate: false,
        },
        Pending::Repeated(index) => Answer::Accepted {
            position: positions.get(index).copied().unwrap_or_default(),
            duplicate: true,
        },
        Pending::Held(index, rule) => Answer::Held {
            id: held_ids.get(index).cloned().unwrap_or_default(),
            rule,
        },
    };
    Ok(pending
        .into_iter()
        .map(|answers| answers.into_iter().map(answer).collect())
        .collect())
}

async fn check_epoch(parts: &Parts, batch: &Batch) -> Result<(), PublishError> {
    let Some(given) = batch.capture_epoch else {
        return Ok(());
    };
    let m = &parts.municipality;
    let capture = parts.store.capture(m, &batch.source).await?;
    if capture.epoch == given {
        return Ok(());
    }
    Err(PublishError::Fenced {
        source_name: batch.source.clone(),
        current: capture.epoch,
        given,
    })
}

async fn view_of(parts: &Parts, source: &str, group: &[Batch]) -> Result<View, PublishError> {
    let m = &parts.municipality;
    let mut ids: Vec<String> = Vec::new();
    let mut subjects: Vec<Subject> = Vec::new();
    for entry in group.iter().flat_map(|batch| &batch.entries) {
        match entry {
            Entry::Unit(unit) | Entry::Invalid(unit, _) => {
                ids.extend(unit.events.iter().map(|event| event.claim.id.clone()));
                subjects.extend(unit.events.iter().map(|event| event.claim.subject.clone()));
            }
            Entry::Refused(refused) => {
                subjects.extend(refused.subjects.iter().map(|pair| pair.0.clone()));
            }
        }
    }
    // Side by side: they read the same moment, for nobody else writes meanwhile.
    let (mut held, known, versions, snapshot_complete) = tokio::try_join!(
        async { Ok::<_, PublishError>(parts.store.held_behind(m, source, &subjects).await?) },
        async { Ok(parts.store.known(m, source, &ids).await?) },
        async { Ok(parts.store.versions(m, source, &subjects).await?) },
        snapshot_complete(parts, source),
    )?;
    held.extend(named_corrections(parts, source, group, &held).await?);
    held.sort_by(|one, other| one.id.cmp(&other.id));
    Ok(View {
        known,
        versions,
        held: held.iter().map(open_held).collect(),
        snapshot_complete,
    })
}

async fn snapshot_complete(parts: &Parts, source: &str) -> Result<bool, PublishError> {
    let snapshots = parts.store.snapshots(&parts.municipality).await?;
    let complete = |mark: &SnapshotMark| mark.source == source && mark.bulk_end.is_some();
    Ok(snapshots.iter().any(complete))
}

/// Open held units that are corrected by name: their subjects may be others than the correction's.
async fn named_corrections(
    parts: &Parts,
    source: &str,
    group: &[Batch],
    seen: &[HeldRow],
) -> Result<Vec<HeldRow>, PublishError> {
    let mut rows: Vec<HeldRow> = Vec::new();
    for entry in group.iter().flat_map(|batch| &batch.entries) {
        let Entry::Unit(unit) = entry else { continue };
        let mut known = seen.iter().chain(&rows);
        if unit.corrects.is_empty() || known.any(|row| row.id == unit.corrects) {
            continue;
        }
        let row = parts
            .store
            .held(&parts.municipality, &unit.corrects)
            .await?;
        let open =
            |row: &HeldRow| matches!(row.held.state, HeldState::Refused | HeldState::Waiting);
        rows.extend(row.filter(|row| row.held.source == source && open(row)));
    }
    Ok(rows)
}

fn open_held(row: &HeldRow) -> OpenHeld {
    OpenHeld {
        id: row.id.clone(),
        state: row.held.state,
        subjects: row.held.subjects.clone(),
    }
}

/// Claims, appends and commits; lets follow what waited, where `versions` are given. Returns the
/// position of each accepted unit's last event and the ids of the held units.
async fn write(
    parts: &Parts,
    source: &str,
    plan: Plan,
    cursor: Option<String>,
    versions: Option<&HashMap<Subject, u32>>,
) -> Result<(Vec<Position>, Vec<String>), PublishError> {
    let Plan {
        accepted,
        hold,
        corrected,
        freed,
    } = plan;
    let mut delta = PublishDelta {
        hold,
        corrected,
        cursor: cursor.map(|cursor| (source.to_owned(), cursor)),
        ..PublishDelta::default()
    };
    let positions = append(parts, source, &accepted, &mut delta).await?;
    let held_ids = commit(parts, delta).await?;
    crash::point("publish.committed");
    let events = accepted.iter().flat_map(|(_, unit)| &unit.events);
    let subjects = events.map(|event| event.claim.subject.clone());
    let subjects: HashSet<Subject> = subjects.chain(freed).collect();
    if let Some(versions) = versions {
        release(parts, source, subjects.into_iter().collect(), versions).await?;
    }
    Ok((positions, held_ids))
}

/// Commits a delta, and tells the runners at once whom it protects.
pub(super) async fn commit(
    parts: &Parts,
    delta: PublishDelta,
) -> Result<Vec<String>, PublishError> {
    let m = &parts.municipality;
    let protects = !delta.protection.is_empty();
    let held_ids = parts.store.commit_publish(m, delta).await?;
    if protects {
        parts
            .protected
            .send_replace(std::sync::Arc::new(parts.store.protected(m).await?));
    }
    Ok(held_ids)
}

/// Where the log may repeat a record, the claim decides which one counts. Where it cannot, the
/// tail is read before anything else is appended, and only the place in a file would be lost.
fn needed_claims(parts: &Parts, units: &[(Stream, Candidate)]) -> Vec<Claim> {
    let all = parts.log.capabilities().repeats_possible;
    let events = units.iter().flat_map(|(_, unit)| &unit.events);
    events
        .map(|event| &event.claim)
        .filter(|claim| all || !claim.file.is_empty())
        .cloned()
        .collect()
}

/// Claims and appends units, and notes their places in the delta.
async fn append(
    parts: &Parts,
    source: &str,
    units: &[(Stream, Candidate)],
    delta: &mut PublishDelta,
) -> Result<Vec<Position>, PublishError> {
    let m = &parts.municipality;
    let claims = needed_claims(parts, units);
    if !claims.is_empty() {
        parts.store.claim(m, source, &claims).await?;
    }
    let mut last = vec![Position::default(); units.len()];
    for stream in Stream::ALL {
        let of_stream: Vec<(usize, &Candidate)> = units
            .iter()
            .enumerate()
            .filter(|(_, unit)| unit.0 == stream)
            .map(|(index, unit)| (index, &unit.1))
            .collect();
        if of_stream.is_empty() {
            continue;
        }
        let records = of_stream
            .iter()
            .flat_map(|(_, unit)| &unit.events)
            .map(record)
            .collect();
        let appending = crate::telemetry::Appending::start(m, stream);
        let positions = parts.log.append(m, stream, records).await?;
        crash::point("publish.flushed");
        appending.appended(&of_stream, &positions);
        let mut positions = positions.into_iter();
        for (index, unit) in of_stream {
            for (event, position) in unit.events.iter().zip(positions.by_ref()) {
                note(parts, source, stream, position, event, delta).await?;
                if let Some(slot) = last.get_mut(index) {
                    *slot = position;
                }
            }
        }
        if let Some(end) = last.iter().max() {
            delta.tail.push((stream, end.after()));
        }
    }
    Ok(last)
}

fn record(candidate: &CandidateEvent) -> NewRecord {
    let CandidateEvent { claim, event, .. } = candidate;
    let time = event.occurred_at.or(event.recorded_at);
    NewRecord {
        kind: RecordKind::Event,
        key: event.id.clone(),
        sealed: Sealed::seal(event.encode_to_vec()),
        attributes: Attributes {
            source: event.source.clone(),
            event_type: event.r#type.clone(),
            subject: claim.subject.0.clone(),
            time: time.map(|time| time.to_string()).unwrap_or_default(),
        },
    }
}

/// Notes one placed event: its place, its subject's version, and where a snapshot begins or ends.
pub(super) async fn note(
    parts: &Parts,
    source: &str,
    stream: Stream,
    position: Position,
    event: &CandidateEvent,
    delta: &mut PublishDelta,
) -> Result<(), PublishError> {
    delta.placed.push(Placed {
        source: source.to_owned(),
        claim: event.claim.clone(),
        stream,
        position,
    });
    if event.claim.version > 0 {
        delta.versions.push(VersionOf {
            source: source.to_owned(),
            subject: event.claim.subject.clone(),
            version: event.claim.version,
        });
    }
    delta
        .protection
        .extend(protection::marks(&event.claim.subject, &event.event));
    if is_protection(&event.claim.event_type) {
        delta.follow.push(Followed {
            id: event.claim.id.clone(),
            event_type: event.claim.event_type.clone(),
            stream,
            position,
            at_ms: event.claim.published_ms,
        });
    }
    if event.snapshot && stream == Stream::Bulk {
        delta
            .snapshots
            .extend(snapshot_mark(parts, source, position, &event.event).await?);
    }
    Ok(())
}

async fn snapshot_mark(
    parts: &Parts,
    source: &str,
    position: Position,
    event: &Event,
) -> Result<Option<SnapshotMark>, PublishError> {
    use musubi_proto::standard::common::v1::SnapshotPart;
    // Validation has decoded the payload before; an event that cannot be read marks nothing.
    let Ok(snapshot) = ResidentSnapshotPublished::decode(&event.data[..]) else {
        return Ok(None);
    };
    let end = match snapshot.part() {
        SnapshotPart::Header => None,
        SnapshotPart::Trailer => Some(position),
        _ => return Ok(None),
    };
    let live = parts.log.bounds(&parts.municipality, Stream::Live).await?;
    Ok(Some(SnapshotMark {
        source: source.to_owned(),
        snapshot_id: snapshot.snapshot_id,
        bulk_start: position,
        bulk_end: end,
        live_mark: live.next,
    }))
}

/// Lets waiting units follow whose turn has come, until none is left.
pub(super) async fn release(
    parts: &Parts,
    source: &str,
    subjects: Vec<Subject>,
    known_versions: &HashMap<Subject, u32>,
) -> Result<(), PublishError> {
    let m = &parts.municipality;
    let mut subjects = subjects;
    let mut versions = known_versions.clone();
    let snapshot_complete = snapshot_complete(parts, source).await?;
    loop {
        let rows = parts.store.held_behind(m, source, &subjects).await?;
        if !rows.iter().any(|row| row.held.state == HeldState::Waiting) {
            return Ok(());
        }
        let mut concerned: Vec<Subject> = rows
            .iter()
            .flat_map(|row| row.held.subjects.iter().map(|p| p.0.clone()))
            .collect();
        concerned.sort();
        concerned.dedup();
        let all_rows = parts.store.held_behind(m, source, &concerned).await?;
        versions.extend(parts.store.versions(m, source, &concerned).await?);
        let mut view = View {
            versions: std::mem::take(&mut versions),
            held: all_rows.iter().map(open_held).collect(),
            snapshot_complete,
            ..View::default()
        };
        let mut followers = Vec::new();
        for row in all_rows
            .iter()
            .filter(|row| row.held.state == HeldState::Waiting)
        {
            if followers.len() < crate::limits::HELD_RELEASE_UNITS
                && view.may_follow(&open_held(row))
                && let Some(unit) = waiting_unit(parts, row)
            {
                view.accepted(&unit);
                view.closed(std::slice::from_ref(&row.id));
                followers.push((Stream::Live, unit));
            }
        }
        if followers.is_empty() {
            return Ok(());
        }
        let mut delta = PublishDelta::default();
        append(parts, source, &followers, &mut delta).await?;
        commit(parts, delta).await?;
        versions = view.versions;
        subjects = concerned;
    }
}

/// The events of a waiting unit; `None`, with an alarm, when they cannot be read.
fn waiting_unit(parts: &Parts, row: &HeldRow) -> Option<Candidate> {
    let content = row.held.content.clone().open();
    let unit = content.ok().and_then(|bytes| Unit::decode(&bytes[..]).ok());
    if unit.is_none() {
        tracing::error!(
            held = row.id,
            "a held unit cannot be read; restore it from a backup"
        );
    }
    let origin = musubi_proto::hub::v1::Origin {
        file: row.held.file.clone(),
        line: row.held.line,
    };
    Some(Candidate::new(
        &parts.pseudonyms,
        &parts.municipality,
        unit?,
        Some(&origin),
        String::new(),
        now_ms(),
    ))
}

/// Appends and applies one control record.
pub(super) async fn control(
    parts: &Parts,
    operator: String,
    reason: String,
    change: Change,
) -> Result<ControlPlace, PublishError> {
    let started = Instant::now();
    let m = &parts.municipality;
    let bulk = parts.log.bounds(m, Stream::Bulk).await?.next;
    let control = Control {
        bulk_position: bulk.0,
        operator,
        reason,
        change,
    };
    let text = serde_json::to_vec(&control).unwrap_or_default();
    let record = NewRecord {
        kind: RecordKind::Control,
        key: uuid::Uuid::now_v7().to_string(),
        sealed: Sealed::seal(text),
        attributes: Attributes::default(),
    };
    let positions = parts.log.append(m, Stream::Live, vec![record]).await?;
    let live = positions.first().copied().unwrap_or_default();
    crash::point("control.appended");
    (parts.apply)(m, control, live).await?;
    let delta = PublishDelta {
        tail: vec![(Stream::Live, live.after())],
        ..Default::default()
    };
    parts.store.commit_publish(m, delta).await?;
    let pause_us = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    Ok(ControlPlace {
        live,
        bulk,
        pause_us,
    })
}
