//! Taking over, and finding out: a new fence is written, then the tail before it is read.
//! Run by `own`, and after an append whose outcome is unknown.
//! Must never let an append follow before the tail is settled and noted in the book.
//! Read next: `log/kafka/view.rs` (the rules).
//!
//! ```text
//!   book: "2.0 comes at or behind p"  ──▶  topic: fence 2.0  ──▶  read what stands before it
//!     ──▶  book: "2.0 stands at q; of what was before, what lies before e counts"
//! ```

use std::ops::ControlFlow;

use super::super::{LogError, ReadLimit};
use super::KafkaLog;
use super::view::{End, Judge, Place, Tail, View};
use super::wire::{self, FenceId, Seen};
use crate::event::Position;
use crate::limits::KAFKA_TAIL_RECORDS;
use crate::log::fences::Fence;

/// What the book says of a stream before a new fence is written.
struct Book {
    /// Fences that stand, by position.
    settled: Vec<Fence>,
    /// Those of which it is not known whether they were written.
    pending: Vec<Fence>,
}

impl Book {
    fn last(&self) -> Option<Fence> {
        self.settled.last().copied()
    }

    fn greatest(&self) -> Option<FenceId> {
        let all = self.settled.iter().chain(&self.pending);
        all.map(id_of).max()
    }
}

fn id_of(fence: &Fence) -> FenceId {
    FenceId {
        epoch: fence.epoch,
        number: fence.number,
    }
}

impl KafkaLog {
    /// Writes a fence of this epoch and finds out what stands before it.
    pub(super) async fn settle(&self, place: &Place, epoch: u64) -> Result<View, LogError> {
        let topic = self.topic(place);
        let book = self.book_of(place).await?;
        let greatest = book.greatest().unwrap_or_default();
        if greatest.epoch > epoch {
            return Err(taken(place, epoch, greatest.epoch));
        }
        let id = FenceId {
            epoch,
            number: if greatest.epoch == epoch {
                greatest.number + 1
            } else {
                0
            },
        };
        let asked = self.topics.watermarks(&topic).await;
        let (low, high) = asked.map_err(|source| place.failed("measuring", source))?;
        self.must_be_the_same(place, &book, low, high).await?;
        let intent = Fence {
            epoch,
            number: id.number,
            position: wire::position(high),
            end: None,
        };
        self.put(place, intent).await?;
        let fence = wire::fence(&place.municipality, place.stream, id);
        let sent = self.sender.send(&topic, vec![fence]).await;
        let sent = sent.map_err(|source| place.failed("fencing", source))?;
        let stands = sent.first().copied().unwrap_or(high);
        let tail = self.tail(place, &book, id, low, high, stands).await?;
        if let Some(by) = tail.taken_by {
            self.forget(place, id).await?;
            return Err(taken(place, epoch, by.epoch));
        }
        self.note(place, book, tail, id, low, stands).await
    }

    async fn book_of(&self, place: &Place) -> Result<Book, LogError> {
        let all = self.book.fences(&place.municipality, place.stream).await;
        let all = all.map_err(|source| place.failed("reading the fences of", source))?;
        let (mut settled, pending): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|fence| fence.end.is_some());
        settled.sort_by_key(|fence| fence.position);
        Ok(Book { settled, pending })
    }

    /// A topic that was deleted and made again has not the fence that the book knows.
    async fn must_be_the_same(
        &self,
        place: &Place,
        book: &Book,
        low: i64,
        high: i64,
    ) -> Result<(), LogError> {
        let Some(last) = book.last() else {
            return Ok(());
        };
        let at = wire::offset(last.position);
        if at >= high {
            return Err(place.replaced(self.topic(place), last.position));
        }
        if at < low {
            return Ok(());
        }
        let take = |state: &mut Option<Seen>, _, seen| {
            *state = Some(seen);
            ControlFlow::Break(())
        };
        let (from, until) = (last.position, last.position.after());
        match self.scan(place, from, until, None, take).await? {
            Some(Seen::Fence(id)) if id == id_of(&last) => Ok(()),
            _ => Err(place.replaced(self.topic(place), last.position)),
        }
    }

    /// Reads what stands before a new fence, as far back as there is something that counts.
    async fn tail(
        &self,
        place: &Place,
        book: &Book,
        id: FenceId,
        low: i64,
        high: i64,
        stands: i64,
    ) -> Result<Tail, LogError> {
        let lowest = match book.last() {
            Some(last) => low.max(wire::offset(last.position.after())),
            None => low,
        };
        let current = book.last().as_ref().map(id_of).unwrap_or_default();
        let intents = book
            .pending
            .iter()
            .map(|fence| wire::offset(fence.position));
        let floor = intents.min().unwrap_or(high).min(high);
        if lowest == stands && floor == high {
            // The new fence stands right behind the last one, or first of all.
            let mut tail = Tail::new(id, current, true);
            tail.take(wire::position(stands), &Seen::Fence(id));
            return Ok(tail);
        }
        let mut back = KAFKA_TAIL_RECORDS.cast_signed();
        loop {
            let start = floor.saturating_sub(back).max(lowest);
            let (from, until) = (wire::position(start), wire::position(stands).after());
            let take = |tail: &mut Tail, position, seen| match tail.take(position, &seen) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            };
            let tail = Tail::new(id, current, start == low);
            let tail = self.scan(place, from, until, tail, take).await?;
            let complete = tail.found.first().is_some_and(|found| found.2.is_some());
            if complete || start <= lowest || tail.taken_by.is_some() {
                return Ok(tail);
            }
            back = back.saturating_mul(4);
        }
    }

    /// Notes what was found, and forgets the fences that were never written.
    async fn note(
        &self,
        place: &Place,
        book: Book,
        tail: Tail,
        id: FenceId,
        low: i64,
        stands: i64,
    ) -> Result<View, LogError> {
        let mut end = self.end_before(place, &book, low).await?;
        let mut fences = book.settled;
        for (found, position, before) in &tail.found {
            end = before.unwrap_or(end);
            let fence = Fence {
                epoch: found.epoch,
                number: found.number,
                position: *position,
                end: Some(end.next),
            };
            self.put(place, fence).await?;
            fences.push(fence);
        }
        for pending in &book.pending {
            if !tail.found.iter().any(|found| found.0 == id_of(pending)) {
                self.forget(place, id_of(pending)).await?;
            }
        }
        Ok(View {
            fence: id,
            fences,
            first: wire::position(low),
            end,
            batches: 0,
            expected: wire::position(stands).after(),
        })
    }

    /// The end of what counts before the last fence of the book, which points behind its last
    /// record.
    async fn end_before(&self, place: &Place, book: &Book, low: i64) -> Result<End, LogError> {
        let Some(next) = book.last().and_then(|last| last.end) else {
            return Ok(End::START);
        };
        let unknown = End { next, ..End::START };
        let last = Position(next.0.saturating_sub(1));
        if last.0 == 0 || wire::offset(last) < low {
            return Ok(unknown);
        }
        let view = View {
            fence: FenceId::default(),
            fences: book.settled.clone(),
            first: wire::position(low),
            end: unknown,
            batches: 0,
            expected: next,
        };
        let one = ReadLimit {
            records: 1,
            bytes: 1,
        };
        let read = self.stored(place, Judge::new(&view), last, next, one);
        Ok(read.await?.found.first().map_or(unknown, End::behind))
    }

    async fn put(&self, place: &Place, fence: Fence) -> Result<(), LogError> {
        let put = self
            .book
            .put_fence(&place.municipality, place.stream, fence);
        put.await
            .map_err(|source| place.failed("noting a fence of", source))
    }

    async fn forget(&self, place: &Place, id: FenceId) -> Result<(), LogError> {
        let m = &place.municipality;
        let forgotten = self.book.forget_fence(m, place.stream, id.epoch, id.number);
        forgotten
            .await
            .map_err(|source| place.failed("forgetting a fence of", source))
    }
}

fn taken(place: &Place, epoch: u64, by: u64) -> LogError {
    LogError::TakenOver {
        municipality: place.municipality.clone(),
        epoch,
        by,
    }
}
