//! What an owner knows of one stream: where its fences stand, where it begins and ends.
//! Pure: the rules by which a record counts, over what the topic showed.
//! Must never count a record that stands behind a later fence, nor a part of a batch.
//! Read next: `log/kafka/settle.rs`.
//!
//! ```text
//!   fence 1.0        a b │c …   fence 2.0  (c' of 1.0: late)  d e   fence 2.1  f
//!   ────┴────────────────┴──────────┴─────────────────────────────────┴──────────▶ offsets
//!                        └ end of 2.0: the batch of c never became whole
//! ```

use super::super::LogError;
use super::wire::{FenceId, Marks, Member, Seen, Stored};
use crate::event::{Municipality, Position, Stream};
use crate::log::fences::Fence;

/// Where the records that count end, and what is carried on from the last of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// Behind the last record that counts.
    pub(super) next: Position,
    /// Bytes of all records up to here.
    pub(super) written: u64,
    /// When the last one was appended; 0 without one.
    pub(super) at_s: i64,
}

impl End {
    /// Of a stream in which nothing counts yet.
    pub(super) const START: End = End {
        next: Position(1),
        written: 0,
        at_s: 0,
    };

    pub(super) fn behind(stored: &Stored) -> Self {
        Self {
            next: stored.record.position.after(),
            written: stored.written(),
            at_s: stored.marks.at_s,
        }
    }
}

/// Which stream of whom.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Place {
    pub(super) municipality: Municipality,
    pub(super) stream: Stream,
}

/// One stream as its owner sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct View {
    /// The owner's own fence, under which it writes.
    pub(super) fence: FenceId,
    /// Fences that stand, by position; the last one is the owner's.
    pub(super) fences: Vec<Fence>,
    /// First position that may still hold a record.
    pub(super) first: Position,
    /// The end.
    pub(super) end: End,
    /// Batches written under the fence.
    pub(super) batches: u64,
    /// Where the next record will stand if nobody else writes.
    pub(super) expected: Position,
}

impl View {
    /// Position behind the last record.
    pub(super) fn next(&self) -> Position {
        self.end.next.max(self.first)
    }

    /// What stands beside each record of a batch that is appended now.
    pub(super) fn marks(&self, sizes: &[u64], at_s: impl Fn(usize) -> i64) -> Vec<Marks> {
        let mut last_s = self.end.at_s;
        let count = sizes.len() as u64;
        let mut before = self.end.written;
        let mut marks = Vec::with_capacity(sizes.len());
        for (place, size) in sizes.iter().enumerate() {
            let (batch, index) = (self.batches, place as u64);
            last_s = last_s.max(at_s(place));
            let member = Member {
                batch,
                index,
                count,
            };
            marks.push(Marks {
                fence: self.fence,
                member,
                before,
                at_s: last_s,
            });
            before += size;
        }
        marks
    }
}

/// Which records count, while a stretch of the topic is read in order.
#[derive(Debug)]
pub(super) struct Judge {
    fences: Vec<Fence>,
    next: Position,
    last: Option<(Position, u64)>,
}

impl Judge {
    pub(super) fn new(view: &View) -> Self {
        Self {
            fences: view.fences.clone(),
            next: view.next(),
            last: None,
        }
    }

    /// Whether a record counts. One that counts continues the one before it, or that one's
    /// successor is gone.
    pub(super) fn counts(&mut self, place: &Place, stored: &Stored) -> Result<bool, LogError> {
        let position = stored.record.position;
        let behind = self.fences.partition_point(|f| f.position < position);
        let Some(current) = behind.checked_sub(1).and_then(|at| self.fences.get(at)) else {
            return Ok(false);
        };
        let end = match self.fences.get(behind) {
            Some(successor) => successor.end.unwrap_or(successor.position),
            None => self.next,
        };
        let of_current = FenceId {
            epoch: current.epoch,
            number: current.number,
        };
        if stored.marks.fence != of_current || position >= end {
            return Ok(false);
        }
        if let Some((before, written)) = self.last
            && written != stored.marks.before
        {
            return Err(LogError::Damaged {
                municipality: place.municipality.clone(),
                stream: place.stream,
                position: before.after(),
                what: "the record is gone",
            });
        }
        self.last = Some((position, stored.written()));
        Ok(true)
    }
}

/// What the tail of a topic says, read in order up to an owner's own fence.
#[derive(Debug)]
pub(super) struct Tail {
    /// The fence that is being looked for.
    own: FenceId,
    /// The last fence so far, and where what was written under it ends.
    current: FenceId,
    end: Option<End>,
    batch: Option<(u64, u64)>,
    /// The first record may be inside a batch whose head was trimmed: it was whole, or nobody would
    /// have trimmed it.
    headless: bool,
    /// Fences that were found, each with the end of what stands before it.
    pub(super) found: Vec<(FenceId, Position, Option<End>)>,
    /// A later fence than the own one was found: somebody else owns the stream.
    pub(super) taken_by: Option<FenceId>,
}

impl Tail {
    pub(super) fn new(own: FenceId, current: FenceId, headless: bool) -> Self {
        Self {
            own,
            current,
            end: None,
            batch: None,
            headless,
            found: Vec::new(),
            taken_by: None,
        }
    }

    /// Takes what stands at a position; false when the end is reached.
    pub(super) fn take(&mut self, position: Position, seen: &Seen) -> bool {
        match seen {
            Seen::Foreign(_) => true,
            Seen::Fence(id) => self.fence(*id, position),
            Seen::Data(stored) => {
                self.data(stored);
                true
            }
        }
    }

    fn fence(&mut self, id: FenceId, position: Position) -> bool {
        if id > self.own {
            self.taken_by = Some(id);
            return false;
        }
        if id > self.current {
            self.headless = false;
            self.found.push((id, position, self.end.take()));
            self.current = id;
            self.batch = None;
        }
        id != self.own
    }

    fn data(&mut self, stored: &Stored) {
        if stored.marks.fence != self.current {
            return;
        }
        let Member { batch, index, .. } = stored.marks.member;
        let headless = std::mem::take(&mut self.headless);
        let goes_on = index == 0 || headless || self.batch == Some((batch, index));
        self.batch = goes_on.then_some((batch, index + 1));
        if goes_on && stored.marks.member.is_last() {
            self.end = Some(End::behind(stored));
        }
    }
}
