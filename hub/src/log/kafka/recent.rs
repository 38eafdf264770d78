//! What was appended last, in memory, so that reading at the tail asks no broker.
//! Between append and read of the same instance; oldest first out, over all streams.
//! Must never hold more than its budget, nor have a gap.
//! Read next: `log/kafka/readers.rs`.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::{ReadLimit, Record};
use super::view::Place;
use super::wire::Stored;
use crate::event::Position;

#[derive(Debug, Default)]
struct Kept {
    /// The log from the first of these on is in memory.
    from: HashMap<Place, (Position, VecDeque<Stored>)>,
    /// Whose the oldest ones are, in order of their appending.
    order: VecDeque<Place>,
    bytes: usize,
}

/// The last records of all streams.
#[derive(Debug)]
pub(super) struct Recent {
    kept: Mutex<Kept>,
    bytes_max: usize,
}

/// What a record costs beside its bytes: its headers, its places in the maps.
const OVERHEAD_BYTES: usize = 256;

fn cost(stored: &Stored) -> usize {
    stored.record.sealed.bytes.len() + OVERHEAD_BYTES
}

impl Recent {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self {
            kept: Mutex::default(),
            bytes_max,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets a stream: it has another owner, or its tail is read anew.
    pub(super) fn forget(&self, place: &Place) {
        let mut kept = self.lock();
        if let Some((_, records)) = kept.from.remove(place) {
            kept.bytes -= records.iter().map(cost).sum::<usize>();
            kept.order.retain(|other| other != place);
        }
    }

    /// Keeps a batch that follows everything before `from`.
    pub(super) fn push(&self, place: &Place, from: Position, batch: Vec<Stored>) {
        let mut kept = self.lock();
        let Kept {
            from: streams,
            order,
            bytes,
        } = &mut *kept;
        let (_, records) = streams
            .entry(place.clone())
            .or_insert_with(|| (from, VecDeque::new()));
        for stored in batch {
            *bytes += cost(&stored);
            order.push_back(place.clone());
            records.push_back(stored);
        }
        while *bytes > self.bytes_max {
            let Some(oldest) = order.pop_front() else {
                break;
            };
            let Some((from, records)) = streams.get_mut(&oldest) else {
                continue;
            };
            if let Some(gone) = records.pop_front() {
                *bytes -= cost(&gone);
                *from = gone.record.position.after();
            }
            if records.is_empty() {
                streams.remove(&oldest);
            }
        }
    }

    /// Reads from a position on; `None` when that is not in memory.
    pub(super) fn read(
        &self,
        place: &Place,
        from: Position,
        limit: ReadLimit,
    ) -> Option<Vec<Record>> {
        let kept = self.lock();
        let (begin, records) = kept.from.get(place)?;
        if from < *begin {
            return None;
        }
        let skip = records.partition_point(|stored| stored.record.position < from);
        let mut bytes = 0;
        let mut found = Vec::new();
        for stored in records.iter().skip(skip).take(limit.records) {
            bytes += stored.record.sealed.bytes.len();
            if bytes > limit.bytes && !found.is_empty() {
                break;
            }
            found.push(stored.record.clone());
        }
        Some(found)
    }

    /// The first record at or behind a position; `None` when that is not in memory.
    pub(super) fn first(&self, place: &Place, from: Position) -> Option<Stored> {
        let kept = self.lock();
        let (begin, records) = kept.from.get(place)?;
        let skip = records.partition_point(|stored| stored.record.position < from);
        (from >= *begin).then(|| records.get(skip).cloned())?
    }
}
