//! The log in memory: for tests and simulations.
//! Implements the log seam; nothing survives the process.
//! Must never be offered by `musubi serve`.
//! Read next: `log/contract.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::{
    AppendError, Bounds, Capabilities, EventLog, Kept, LogError, NewRecord, ReadLimit, Record,
    Tails,
};
use crate::clock::now_ms;
use crate::event::{Municipality, Position, Stream};

#[derive(Debug, Default)]
struct Sequence {
    first: u64,
    records: Vec<Record>,
    /// When each was appended, in seconds since 1970.
    appended_s: Vec<i64>,
}

#[derive(Debug, Default)]
struct Shared {
    sequences: HashMap<(Municipality, Stream), Sequence>,
    /// Epoch of whoever owns a municipality last.
    owners: HashMap<Municipality, u64>,
}

/// Log in memory.
#[derive(Debug, Default)]
pub struct MemoryLog {
    shared: Arc<Mutex<Shared>>,
    tails: Arc<Tails>,
    /// Epochs of this handle.
    epochs: Mutex<HashMap<Municipality, u64>>,
}

impl MemoryLog {
    /// The same log in the hands of another owner.
    pub fn another(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            tails: self.tails.clone(),
            epochs: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epoch(&self, m: &Municipality) -> u64 {
        let epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.get(m).copied().unwrap_or_default()
    }
}

fn taken_over(m: &Municipality, epoch: u64, by: u64) -> LogError {
    LogError::TakenOver {
        municipality: m.clone(),
        epoch,
        by,
    }
}

impl Sequence {
    fn next(&self) -> u64 {
        self.first.max(1) + self.records.len() as u64
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            repeats_possible: false,
            durable: false,
        }
    }

    async fn own(&self, m: &Municipality, owner_epoch: u64) -> Result<(), LogError> {
        let mut shared = self.lock();
        let owner = shared.owners.entry(m.clone()).or_default();
        if *owner > owner_epoch {
            return Err(taken_over(m, owner_epoch, *owner));
        }
        *owner = owner_epoch;
        let mut epochs = self.epochs.lock().unwrap_or_else(PoisonError::into_inner);
        epochs.insert(m.clone(), owner_epoch);
        Ok(())
    }

    async fn append(
        &self,
        m: &Municipality,
        stream: Stream,
        batch: Vec<NewRecord>,
    ) -> Result<Vec<Position>, AppendError> {
        let mut shared = self.lock();
        let (epoch, owner) = (self.epoch(m), shared.owners.get(m).copied());
        if let Some(by) = owner.filter(|&by| by > epoch) {
            let taken = taken_over(m, epoch, by);
            return Err(AppendError::NotWritten(m.clone(), taken.into()));
        }
        let sequence = shared.sequences.entry((m.clone(), stream)).or_default();
        let mut positions = Vec::with_capacity(batch.len());
        let last_s = sequence.appended_s.last().copied().unwrap_or(0);
        let at_s = last_s.max(now_ms() / 1_000);
        for new in batch {
            let NewRecord {
                kind, key, sealed, ..
            } = new;
            let position = Position(sequence.next());
            sequence.records.push(Record {
                position,
                kind,
                key,
                sealed,
            });
            sequence.appended_s.push(at_s);
            positions.push(position);
        }
        self.tails.moved(m, stream, Position(sequence.next()));
        Ok(positions)
    }

    async fn read(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, LogError> {
        let shared = self.lock();
        let Some(sequence) = shared.sequences.get(&(m.clone(), stream)) else {
            return Ok(Vec::new());
        };
        let first = sequence.first.max(1);
        if from.0.max(1) < first {
            return Err(LogError::Trimmed {
                municipality: m.clone(),
                stream,
                position: from,
                first: Position(first),
            });
        }
        let skip = from.0.saturating_sub(first) as usize;
        let mut bytes = 0;
        let mut found = Vec::new();
        for record in sequence.records.iter().skip(skip).take(limit.records) {
            bytes += record.sealed.bytes.len();
            if bytes > limit.bytes && !found.is_empty() {
                break;
            }
            found.push(record.clone());
        }
        Ok(found)
    }

    async fn bounds(&self, m: &Municipality, stream: Stream) -> Result<Bounds, LogError> {
        let shared = self.lock();
        let (first, next) = shared
            .sequences
            .get(&(m.clone(), stream))
            .map_or((1, 1), |sequence| (sequence.first.max(1), sequence.next()));
        Ok(Bounds {
            first: Position(first),
            next: Position(next),
        })
    }

    async fn kept_from(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
    ) -> Result<Option<Kept>, LogError> {
        let shared = self.lock();
        let Some(sequence) = shared.sequences.get(&(m.clone(), stream)) else {
            return Ok(None);
        };
        let skip = from.0.saturating_sub(sequence.first.max(1)) as usize;
        let kept = sequence.records.iter().skip(skip);
        let bytes = kept.map(|record| record.sealed.bytes.len() as u64).sum();
        let since_s = sequence.appended_s.get(skip);
        Ok(since_s.map(|&since_s| Kept { since_s, bytes }))
    }

    fn watch_tail(&self, m: &Municipality, stream: Stream) -> watch::Receiver<Position> {
        self.tails.watch(m, stream)
    }

    async fn trim(
        &self,
        m: &Municipality,
        stream: Stream,
        up_to: Position,
    ) -> Result<(), LogError> {
        let mut shared = self.lock();
        let sequence = shared.sequences.entry((m.clone(), stream)).or_default();
        let cut = up_to
            .0
            .min(sequence.next())
            .saturating_sub(sequence.first.max(1)) as usize;
        sequence.records.drain(..cut);
        sequence.appended_s.drain(..cut);
        sequence.first = sequence.first.max(1) + cut as u64;
        Ok(())
    }
}
