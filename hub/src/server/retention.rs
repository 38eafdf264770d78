//! The keepers: they forget what is old or too much and what nobody needs any more.
//! One task a municipality for its log, one for the store; off the path of events.
//! Must never trim past what the store, safe on the disk, still points at.
//! Read next: `retention.rs`, `docs/specs/log.md` (retention).
//!
//! ```text
//!  allowed? ──▶ who holds it? ──▶ the store notes the new beginning (synced) ──▶ the log is trimmed
//!     └ nothing changes hands meanwhile: bindings, fillings and replays wait for the step ┘
//! ```

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use musubi_proto::crash;
use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use super::town::Commons;
use crate::backup;
use crate::clock::now_ms;
use crate::event::{Municipality, Position, Stream};
use crate::limits::{
    HISTORY_PERIOD, RETENTION_BATCH, RETENTION_STEP, RETENTION_STEP_BYTES, UNIT_EVENTS_MAX,
};
use crate::log::{Kept, LogError, ReadLimit, RecordKind};
use crate::publish::control::event_of;
use crate::retention::{Holder, Keep, Who};
use crate::store::StoreError;

#[cfg(test)]
mod tests;

/// What holds for all municipalities.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How much is kept.
    pub keep: Keep,
    /// Time between two looks.
    pub period: Duration,
    /// The data folder, which a backup copies while the hub runs; a cluster has none.
    pub data: Option<PathBuf>,
}

/// A look failed; the next one tries again.
#[derive(Debug, Error)]
enum KeepError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lock that keeps a backup apart.
    #[error("the lock against a backup in `{0}` cannot be taken")]
    Lock(PathBuf, #[source] std::io::Error),
}

/// No backup runs as long as it is held.
struct Apart {
    _lock: Option<File>,
}

/// Keeps the log of a municipality to the rules until the hub stops.
pub(super) fn start(commons: &Commons, m: &Municipality, changing: Arc<Mutex<()>>) {
    if !commons.rules.keep.trims() {
        return;
    }
    let keeper = Keeper {
        commons: commons.clone(),
        m: m.clone(),
        changing,
    };
    let tasks = keeper.commons.tasks.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(keeper.commons.rules.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = keeper.commons.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = keeper.look().await {
                let error: &dyn std::error::Error = &error;
                let municipality = keeper.m.as_str();
                tracing::warn!(
                    error,
                    municipality,
                    "trimming the log failed; it is tried again"
                );
            }
        }
    });
}

/// Keeps the store to the rules until the hub stops.
pub(super) fn start_history(commons: &Commons) {
    if commons.rules.keep.history_days.is_none() {
        return;
    }
    let commons = commons.clone();
    let tasks = commons.tasks.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(HISTORY_PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = commons.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            if let Err(error) = forget(&commons).await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "forgetting old outcomes failed; it is tried again");
            }
        }
    });
}

/// Forgets what is old in the store, batch by batch.
async fn forget(commons: &Commons) -> Result<(), StoreError> {
    let (keep, now_ms) = (commons.rules.keep, now_ms());
    let Some(history_ms) = keep.history_before_ms(now_ms) else {
        return Ok(());
    };
    let (mut outcomes, mut held) = (0, 0);
    let mut next = Some(0);
    while let Some(after) = next.filter(|_| !commons.stop.is_cancelled()) {
        let forgotten = commons.store.forget_history(history_ms, after).await?;
        outcomes += forgotten.outcomes;
        next = forgotten.next;
    }
    loop {
        let batch = commons.store.forget_held(history_ms).await?;
        held += batch;
        if batch < RETENTION_BATCH as u64 || commons.stop.is_cancelled() {
            break;
        }
    }
    if outcomes + held > 0 {
        tracing::info!(outcomes, held, "history.forgotten");
    }
    Ok(())
}

/// Who holds the log, and how many percent of what it may keep it keeps because of them.
///
/// # Errors
/// When the store cannot be read.
pub(super) async fn held(
    commons: &Commons,
    m: &Municipality,
) -> Result<BTreeMap<Who, u64>, StoreError> {
    let mut held = BTreeMap::new();
    if !commons.rules.keep.trims() {
        return Ok(held);
    }
    for stream in Stream::ALL {
        // A log that does not answer is no word about who holds it.
        let Ok(bounds) = commons.log.bounds(m, stream).await else {
            continue;
        };
        let mut holders = holders(commons, m, stream, bounds.first).await?;
        holders.retain(|holder| holder.from < bounds.next);
        for Holder { who, from } in holders {
            if let Ok(kept) = commons.log.kept_from(m, stream, from).await {
                let share = commons.rules.keep.share(kept, now_ms());
                let percent = held.entry(who).or_insert(share);
                *percent = share.max(*percent);
            }
        }
    }
    Ok(held)
}

/// Who needs what of a stream that begins with `first`.
async fn holders(
    commons: &Commons,
    m: &Municipality,
    stream: Stream,
    first: Position,
) -> Result<Vec<Holder>, StoreError> {
    let store = &commons.store;
    let mut holders = vec![Holder {
        who: Who::Store,
        from: store.committed_tail(m, stream).await?,
    }];
    let mut snapshots = BTreeMap::new();
    for mark in store.snapshots(m).await? {
        let from = match stream {
            Stream::Live => mark.live_mark,
            Stream::Bulk => mark.bulk_start,
        };
        // The last complete one; before there is one, the first that is on its way.
        let known = snapshots.entry(mark.source).or_insert(from);
        if mark.bulk_end.is_some() {
            *known = from;
        }
    }
    holders.extend(snapshots.into_iter().map(|(source, from)| Holder {
        who: Who::Source(source),
        from,
    }));
    for row in store.subscriptions(m).await? {
        if row.closed {
            continue;
        }
        let replay = store.running_replay(&row.id).await?;
        let from = replay.map_or(row.cursor(stream).position, |_| first);
        let who = Who::Subscription(row.id);
        holders.push(Holder { who, from });
    }
    Ok(holders)
}

/// Keeps the log of one municipality.
struct Keeper {
    commons: Commons,
    m: Municipality,
    /// Held by whoever binds, cuts or starts a replay.
    changing: Arc<Mutex<()>>,
}

impl Keeper {
    async fn look(&self) -> Result<(), KeepError> {
        for stream in Stream::ALL {
            let before = self.commons.log.bounds(&self.m, stream).await?.first;
            let mut first = before;
            while let Some(trimmed) = self.step(stream).await? {
                first = trimmed;
                if self.commons.stop.is_cancelled() {
                    return Ok(());
                }
            }
            if first > before {
                let (municipality, stream) = (self.m.as_str(), stream.name());
                tracing::info!(municipality, stream, first = first.0, "log.trimmed");
            }
        }
        Ok(())
    }

    /// Trims once; the new beginning, or `None` when nothing may go.
    async fn step(&self, stream: Stream) -> Result<Option<Position>, KeepError> {
        let _nothing_changes_hands = self.changing.lock().await;
        let Some(_no_backup) = self.no_backup()? else {
            return Ok(None);
        };
        let log = &self.commons.log;
        let first = log.bounds(&self.m, stream).await?.first;
        let end = self.step_end(stream, first).await?;
        let allowed = self.allowed(stream, end).await?;
        if allowed <= first {
            return Ok(None);
        }
        let holders = holders(&self.commons, &self.m, stream, first).await?;
        let held = holders.iter().map(|holder| holder.from).min();
        let up_to = held.map_or(allowed, |held| held.min(allowed));
        let up_to = self.unit_start(stream, up_to).await?;
        if up_to <= first {
            return Ok(None);
        }
        // Synced: a power cut takes nothing back that let these records go.
        self.commons.store.keep_from(&self.m, stream, up_to).await?;
        crash::point("retention.noted");
        log.trim(&self.m, stream, up_to).await?;
        crash::point("retention.trimmed");
        Ok(Some(up_to))
    }

    /// Where one step ends at the latest: by positions, and by bytes as long as a whole unit fits.
    async fn step_end(&self, stream: Stream, first: Position) -> Result<Position, LogError> {
        let mut positions = RETENTION_STEP;
        loop {
            let end = Position(first.0 + positions);
            let from = |at| self.commons.log.kept_from(&self.m, stream, at);
            let bytes = |kept: Option<Kept>| kept.map_or(0, |kept| kept.bytes);
            let step = bytes(from(first).await?).saturating_sub(bytes(from(end).await?));
            if step <= RETENTION_STEP_BYTES || positions <= UNIT_EVENTS_MAX as u64 {
                return Ok(end);
            }
            positions = (positions / 2).max(UNIT_EVENTS_MAX as u64);
        }
    }

    /// The lock against a backup; `None` while one runs, which wants log and store of one time.
    fn no_backup(&self) -> Result<Option<Apart>, KeepError> {
        let Some(data) = &self.commons.rules.data else {
            return Ok(Some(Apart { _lock: None }));
        };
        let failed = |error| KeepError::Lock(data.clone(), error);
        let file = backup::lock_file(data).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Apart { _lock: Some(file) })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// The first position up to `end` that days and bytes allow to keep.
    async fn allowed(&self, stream: Stream, end: Position) -> Result<Position, LogError> {
        let (log, keep, now_ms) = (&self.commons.log, self.commons.rules.keep, now_ms());
        let bounds = log.bounds(&self.m, stream).await?;
        let (mut first, mut end) = (bounds.first.0, bounds.next.min(end).0);
        while first < end {
            let middle = first + (end - first) / 2;
            let kept = log.kept_from(&self.m, stream, Position(middle)).await?;
            if keep.share(kept, now_ms) > 100 {
                first = middle + 1;
            } else {
                end = middle;
            }
        }
        Ok(Position(first))
    }

    /// The position of the first event of the unit that stands at a position: what is kept begins
    /// with a whole one.
    async fn unit_start(&self, stream: Stream, at: Position) -> Result<Position, LogError> {
        let limit = ReadLimit {
            records: 1,
            bytes: 1,
        };
        let records = self.commons.log.read(&self.m, stream, at, limit).await?;
        let record = records.into_iter().next();
        let event = record.filter(|record| record.kind == RecordKind::Event);
        let group = event.and_then(event_of).and_then(|event| event.group);
        let before = group.map_or(0, |group| group.seq.saturating_sub(1));
        Ok(Position(at.0.saturating_sub(u64::from(before))))
    }
}
