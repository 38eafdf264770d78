//! Appends to a topic, and forgets its beginning: what the owner alone does, one after the other.
//! Under `append`, `trim` and a migration.
//! Must never acknowledge what a later fence overrules, nor go on after an unknown outcome.
//! Read next: `log/kafka/settle.rs`, `log/kafka/sender.rs`.

use std::ops::ControlFlow;

use super::super::{AppendError, LogError, NewRecord, Record};
use super::sender::Unsent;
use super::view::{End, Place, View};
use super::wire::{self, Seen, Stored};
use super::{KafkaLog, Slot};
use crate::event::Position;

impl KafkaLog {
    pub(super) async fn write(
        &self,
        place: &Place,
        batch: Vec<NewRecord>,
        at_s: impl Fn(usize) -> i64 + Send,
    ) -> Result<Vec<Position>, AppendError> {
        let m = &place.municipality;
        let not_written = |source: Box<dyn std::error::Error + Send + Sync>| {
            AppendError::NotWritten(m.clone(), source)
        };
        let slot = self.slot(place);
        let _turn = slot.turn.lock().await;
        let view = self.view_in_turn(&slot, place).await;
        let view = view.map_err(|source| not_written(source.into()))?;
        let sizes: Vec<u64> = batch
            .iter()
            .map(|new| new.sealed.bytes.len() as u64)
            .collect();
        let marks = view.marks(&sizes, at_s);
        let kept: Vec<_> = batch
            .iter()
            .map(|new| (new.kind, new.key.clone(), new.sealed.clone()))
            .collect();
        let outgoing = batch
            .into_iter()
            .zip(&marks)
            .map(|(new, marks)| wire::data(m, place.stream, marks, new))
            .collect();
        // Whatever ends this early, also a caller that is gone: the tail is settled first.
        slot.lock().view = None;
        let sent = self.sender.send(&self.topic(place), outgoing).await;
        let offsets = sent.map_err(|error| match error {
            Unsent::NotTaken(_) | Unsent::Refused(_) => not_written(error.into()),
            Unsent::Unknown(_) | Unsent::NoAnswer => {
                AppendError::OutcomeUnknown(m.clone(), error.into())
            }
        })?;
        musubi_proto::crash::point("publish.written");
        let positions: Vec<Position> = offsets.into_iter().map(wire::position).collect();
        self.must_be_mine(&slot, place, &view, &positions).await?;
        let stored = kept.into_iter().zip(marks).zip(&positions);
        let stored: Vec<Stored> = stored
            .map(|(((kind, key, sealed), marks), &position)| Stored {
                record: Record {
                    position,
                    kind,
                    key,
                    sealed,
                },
                marks,
            })
            .collect();
        self.appended(&slot, place, view, stored);
        Ok(positions)
    }

    /// What stands where it was expected stands behind no fence of another owner. If somebody
    /// wrote between, it must not have been one.
    pub(super) async fn must_be_mine(
        &self,
        slot: &Slot,
        place: &Place,
        view: &View,
        positions: &[Position],
    ) -> Result<(), AppendError> {
        let (Some(first), Some(last)) = (positions.first(), positions.last()) else {
            return Ok(());
        };
        if *first < view.expected {
            let m = place.municipality.clone();
            let replaced = place.replaced(self.topic(place), view.expected);
            return Err(AppendError::OutcomeUnknown(m, replaced.into()));
        }
        if last.0 + 1 == view.expected.0 + positions.len() as u64 {
            return Ok(());
        }
        let own = view.fence;
        let take = move |later: &mut Option<u64>, _, seen| match seen {
            Seen::Fence(id) if id > own => {
                *later = Some(id.epoch);
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        };
        let scanned = self.scan(place, view.expected, last.after(), None, take);
        let m = || place.municipality.clone();
        match scanned.await {
            Ok(None) => Ok(()),
            Ok(Some(by)) => {
                {
                    let mut known = slot.lock();
                    known.epoch = 0;
                    known.readable = None;
                }
                let taken = LogError::TakenOver {
                    municipality: m(),
                    epoch: own.epoch,
                    by,
                };
                Err(AppendError::NotWritten(m(), taken.into()))
            }
            Err(error) => Err(AppendError::OutcomeUnknown(m(), error.into())),
        }
    }

    /// Forgets what stands before a place that the view tells.
    pub(super) async fn forget_before(
        &self,
        place: &Place,
        up_to: impl Fn(&View) -> Position + Send,
    ) -> Result<(), LogError> {
        let slot = self.slot(place);
        let _turn = slot.turn.lock().await;
        let mut view = self.view_in_turn(&slot, place).await?;
        let first = up_to(&view);
        if first <= view.first {
            return Ok(());
        }
        let topic = self.topic(place);
        let trimmed = self.topics.trim(&topic, wire::offset(first));
        trimmed.await.map_err(|e| place.failed("trimming", e))?;
        musubi_proto::crash::point("trim.deleted");
        view.first = first;
        // A fence is read no more when the one behind it stands before the first record too.
        let over = view.fences.partition_point(|fence| fence.position <= first);
        let over = view.fences.drain(..over.saturating_sub(1));
        let over: Vec<_> = over.collect();
        let m = &place.municipality;
        {
            let mut known = slot.lock();
            known.readable = Some(view.clone());
            known.view = Some(view);
        }
        for fence in over {
            let forgotten = self
                .book
                .forget_fence(m, place.stream, fence.epoch, fence.number);
            forgotten
                .await
                .map_err(|e| place.failed("forgetting a fence of", e))?;
        }
        Ok(())
    }

    pub(super) fn appended(&self, slot: &Slot, place: &Place, mut view: View, stored: Vec<Stored>) {
        let Some(last) = stored.last() else { return };
        let before = view.next();
        view.end = End::behind(last);
        view.expected = view.end.next;
        view.batches += 1;
        let next = view.next();
        self.recent.push(place, before, stored);
        let mut known = slot.lock();
        known.readable = Some(view.clone());
        known.view = Some(view);
        drop(known);
        self.tails.moved(&place.municipality, place.stream, next);
    }
}
