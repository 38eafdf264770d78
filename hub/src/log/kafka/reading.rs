//! Reads what counts from a topic, and sets aside what is not ours.
//! Under `read`, and wherever a tail is settled.
//! Must never give out a record that a fence overruled, nor pass over one that is gone.
//! Read next: `log/kafka/view.rs` (the rules), `log/kafka/readers.rs`.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::super::{LogError, ReadLimit};
use super::readers::{Stretch, Unread};
use super::view::{Judge, Place, View};
use super::wire::{self, Seen, Stored};
use super::{KafkaLog, Slot};
use crate::event::{Municipality, Position, Stream};
use crate::limits::KAFKA_SET_ASIDE_MAX;

impl KafkaLog {
    /// Everything between two positions, read from the brokers.
    pub(super) async fn scan<T: Send + 'static>(
        &self,
        place: &Place,
        from: Position,
        until: Position,
        state: T,
        take: impl FnMut(&mut T, Position, Seen) -> ControlFlow<()> + Send + 'static,
    ) -> Result<T, LogError> {
        let stretch = Stretch {
            place: place.clone(),
            topic: self.topic(place),
            from: wire::offset(from),
            until: wire::offset(until),
        };
        let read = self.readers.read(stretch, state, take).await;
        read.map_err(|source| place.unread(from, source))
    }

    /// What counts between two positions, read from the brokers, at most so much; and the places
    /// of what is not ours.
    pub(super) async fn stored(
        &self,
        place: &Place,
        judge: Judge,
        from: Position,
        until: Position,
        limit: ReadLimit,
    ) -> Result<Reading, LogError> {
        let reading = Reading {
            judge,
            bytes: 0,
            found: Vec::new(),
            foreign: Vec::new(),
            damage: None,
        };
        let at = place.clone();
        let take =
            move |reading: &mut Reading, position, seen| reading.take(&at, position, seen, limit);
        let mut reading = self.scan(place, from, until, reading, take).await?;
        match reading.damage.take() {
            // What stands before the damage is given out; the next read meets it.
            Some(damage) if reading.found.is_empty() => Err(damage),
            _ => Ok(reading),
        }
    }

    pub(super) async fn read_topic(
        &self,
        slot: &Slot,
        place: &Place,
        view: &View,
        from: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Stored>, LogError> {
        let reading = self.stored(place, Judge::new(view), from, view.next(), limit);
        let reading = reading.await?;
        for (position, what) in reading.foreign {
            self.set_one_aside(slot, place, position, what);
        }
        if reading.found.is_empty() {
            return Err(place.gone(from));
        }
        Ok(reading.found)
    }

    /// Says each once.
    pub(super) fn set_one_aside(
        &self,
        slot: &Slot,
        place: &Place,
        position: Position,
        what: &'static str,
    ) {
        let mut known = slot.lock();
        if !known.set_aside.insert(position) {
            return;
        }
        if known.set_aside.len() > KAFKA_SET_ASIDE_MAX {
            known.set_aside.pop_first();
        }
        drop(known);
        self.set_aside.fetch_add(1, Ordering::Relaxed);
        tracing::warn!(
            municipality = place.municipality.as_str(),
            stream = place.stream.name(),
            position = position.0,
            what,
            "a record in the topic is not ours and was set aside"
        );
    }
}

/// What a read of a topic has come to.
pub(super) struct Reading {
    judge: Judge,
    bytes: usize,
    pub(super) found: Vec<Stored>,
    foreign: Vec<(Position, &'static str)>,
    damage: Option<LogError>,
}

impl Reading {
    fn take(
        &mut self,
        place: &Place,
        position: Position,
        seen: Seen,
        limit: ReadLimit,
    ) -> ControlFlow<()> {
        match seen {
            Seen::Fence(_) => {}
            Seen::Foreign(what) => self.foreign.push((position, what)),
            Seen::Data(stored) => match self.judge.counts(place, &stored) {
                Err(damage) => {
                    self.damage = Some(damage);
                    return ControlFlow::Break(());
                }
                Ok(false) => {}
                Ok(true) => {
                    self.bytes += stored.record.sealed.bytes.len();
                    self.found.push(*stored);
                    // One more than the bytes allow: what was read is not read again.
                    if self.found.len() >= limit.records || self.bytes >= limit.bytes {
                        return ControlFlow::Break(());
                    }
                }
            },
        }
        ControlFlow::Continue(())
    }
}

impl Place {
    pub(super) fn new(m: &Municipality, stream: Stream) -> Self {
        Self {
            municipality: m.clone(),
            stream,
        }
    }

    pub(super) fn failed(
        &self,
        action: &'static str,
        source: impl std::error::Error + Send + Sync + 'static,
    ) -> LogError {
        LogError::Backend {
            action,
            municipality: self.municipality.clone(),
            source: source.into(),
        }
    }

    /// Nobody trims but the owner, who knows: a record that is not there was lost.
    pub(super) fn unread(&self, position: Position, error: Unread) -> LogError {
        match error {
            Unread::Gone => self.gone(position),
            other => self.failed("reading", other),
        }
    }

    pub(super) fn gone(&self, position: Position) -> LogError {
        LogError::Damaged {
            municipality: self.municipality.clone(),
            stream: self.stream,
            position,
            what: "the record is gone",
        }
    }

    pub(super) fn replaced(&self, topic: String, position: Position) -> LogError {
        LogError::ReplacedTopic {
            municipality: self.municipality.clone(),
            topic,
            position,
        }
    }
}
