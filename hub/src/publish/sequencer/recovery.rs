//! Recovery: what the log has behind the committed tail is committed now.
//! Run before the first publish, and after an append of unknown outcome.
//! Must never drop a record of the log: an append that got through counts.
//! Read next: `log.rs`.

use musubi_proto::crash;
use prost::Message;

use super::{Parts, PublishError, batch};
use crate::event::{Event, Position, Stream, Unit};
use crate::limits::{READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::{ReadLimit, Record, RecordKind};
use crate::publish::candidate::Candidate;
use crate::publish::control::Control;
use crate::store::{HeldFilter, HeldState, PublishDelta};

/// Brings the store up to the log, then lets follow what may follow.
pub(super) async fn recover(parts: &Parts) -> Result<(), PublishError> {
    let protected = parts.store.protected(&parts.municipality).await?;
    parts.protected.send_replace(std::sync::Arc::new(protected));
    for stream in Stream::ALL {
        recover_stream(parts, stream).await?;
    }
    release_all(parts).await
}

async fn recover_stream(parts: &Parts, stream: Stream) -> Result<(), PublishError> {
    let m = &parts.municipality;
    let limit = ReadLimit {
        records: READ_RECORDS_MAX,
        bytes: READ_BYTES_MAX,
    };
    // Finds out first what an append of unknown outcome left.
    parts.log.bounds(m, stream).await?;
    let mut from = parts.store.committed_tail(m, stream).await?;
    let mut delta = PublishDelta::default();
    loop {
        let records = parts.log.read(m, stream, from, limit).await?;
        let Some(last) = records.last() else { break };
        from = last.position.after();
        delta.tail = vec![(stream, from)];
        let mut whole = true;
        for record in records {
            whole = recover_record(parts, stream, record, &mut delta).await?;
        }
        // A correction closes what it corrects only as a whole.
        if whole {
            crash::point("open.recovering");
            batch::commit(parts, std::mem::take(&mut delta)).await?;
        }
    }
    if !delta.tail.is_empty() {
        batch::commit(parts, delta).await?;
    }
    Ok(())
}

/// Notes one record; false when it is a member of a group that goes on.
async fn recover_record(
    parts: &Parts,
    stream: Stream,
    record: Record,
    delta: &mut PublishDelta,
) -> Result<bool, PublishError> {
    let position = record.position;
    let Ok(bytes) = record.sealed.open() else {
        tracing::error!(
            position = position.0,
            "a record of the log cannot be opened"
        );
        return Ok(true);
    };
    match record.kind {
        RecordKind::Control => {
            recover_control(parts, position, &bytes).await?;
            Ok(true)
        }
        RecordKind::Event => {
            let Ok(event) = Event::decode(&bytes[..]) else {
                tracing::error!(position = position.0, "a record of the log cannot be read");
                return Ok(true);
            };
            let recorded = event
                .recorded_at
                .map_or(0, |at| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000);
            let group = event.group.as_ref();
            let whole = group.is_none_or(|group| group.seq >= group.size);
            let source = event.source.clone();
            let unit = Candidate::new(
                &parts.pseudonyms,
                &parts.municipality,
                Unit {
                    events: vec![event],
                },
                None,
                String::new(),
                recorded,
            );
            for event in &unit.events {
                batch::note(parts, &source, stream, position, event, delta).await?;
            }
            Ok(whole)
        }
    }
}

async fn recover_control(
    parts: &Parts,
    position: Position,
    bytes: &[u8],
) -> Result<(), PublishError> {
    match serde_json::from_slice::<Control>(bytes) {
        Ok(control) => Ok((parts.apply)(&parts.municipality, control, position).await?),
        Err(error) => {
            tracing::error!(%error, position = position.0, "a control record cannot be read");
            Ok(())
        }
    }
}

/// A hub that died between a correction and its followers leaves followers waiting.
async fn release_all(parts: &Parts) -> Result<(), PublishError> {
    let m = &parts.municipality;
    let filter = HeldFilter::State(HeldState::Waiting);
    let mut after = String::new();
    loop {
        let (rows, _) = parts
            .store
            .list_held(m, filter, &after, crate::limits::PAGE_DEFAULT)
            .await?;
        let Some(last) = rows.last() else {
            return Ok(());
        };
        after.clone_from(&last.id);
        for row in &rows {
            let subjects: Vec<_> = row.held.subjects.iter().map(|p| p.0.clone()).collect();
            let versions = parts.store.versions(m, &row.held.source, &subjects).await?;
            batch::release(parts, &row.held.source, subjects, &versions).await?;
        }
    }
}
