//! A cut: what was open at the old product is closed; a filling subscription ends.
//! Runs before each round of a runner; does nothing unless a cut is due.
//! Must never wait for the old product, and never close what stands behind the cut.
//! Read next: `server/town.rs`, which makes the cut.
//!
//! ```text
//!  old product's cursor      cut (control record)
//!        │ open: closed here   │  the new product's, after it was filled up to the cut
//!  ──────┴─────────────────────┴──────────────────▶
//!  start │ filled by the filling subscription │
//! ```

use super::payload::key;
use super::reader::{Item, ReadUnit, Route, assemble};
use super::{State, StepError};
use crate::event::{Position, Stream, is_protection};
use crate::limits::{PAGE_DEFAULT, READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::ReadLimit;
use crate::store::{Cursor, DeliveryDelta, UnitKey};

const REASON: &str = "REPLACED";

impl State {
    /// Closes everything before the cut that the old product has not answered: once a cut, and
    /// always before the new product's filling ends, so that nothing of its own is closed.
    pub(super) async fn close_out(&mut self) -> Result<(), StepError> {
        let Some((live, bulk)) = self.row.binding().and_then(|binding| binding.cut) else {
            return Ok(());
        };
        let epoch = self.row.binding().map_or(0, |binding| binding.epoch);
        if self.row.is_filling() || self.closed_out == epoch {
            return Ok(());
        }
        self.refresh().await?;
        // The cursor may stand at the cut already when the old product was idle; what lies
        // parked is closed all the same.
        if !self.filled_before_cut {
            self.close_parked().await?;
            self.close_stream(Stream::Bulk, bulk).await?;
            self.close_stream(Stream::Live, live).await?;
        }
        self.closed_out = epoch;
        Ok(())
    }

    async fn close_parked(&mut self) -> Result<(), StepError> {
        loop {
            let rows = self
                .shared
                .store
                .parked(&self.row.id, None, None, PAGE_DEFAULT)
                .await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut delta = self.delta();
            for row in rows {
                delta.done.push(self.closed(row.key, row.event_ids, REASON));
                delta.unpark.push(row.key);
            }
            self.shared.store.commit(delta).await?;
        }
    }

    async fn close_stream(&mut self, stream: Stream, cut: Position) -> Result<(), StepError> {
        let limit = ReadLimit {
            records: READ_RECORDS_MAX,
            bytes: READ_BYTES_MAX,
        };
        while self.row.cursor(stream).position < cut {
            let ahead = self.shared.store.ahead(&self.row.id).await?;
            let mut cursor = self.row.cursor(stream);
            let m = &self.shared.municipality;
            let records = self
                .shared
                .log
                .read(m, stream, cursor.position, limit)
                .await?;
            let mut items = assemble(stream, records)?;
            if items.is_empty() {
                items = self.read_rest(stream, cursor.position).await?;
            }
            let mut delta = self.delta();
            for item in items {
                self.close_item(stream, cut, item, &ahead, &mut cursor, &mut delta);
            }
            if cursor.position == self.row.cursor(stream).position {
                // Nothing stands between here and the cut.
                cursor.position = cut;
            }
            delta.cursors.push((stream, cursor));
            self.shared.store.commit(delta).await?;
            match stream {
                Stream::Live => self.row.live = cursor,
                Stream::Bulk => self.row.bulk = cursor,
            }
        }
        Ok(())
    }

    /// A unit larger than one read.
    async fn read_rest(&self, stream: Stream, from: Position) -> Result<Vec<Item>, StepError> {
        let limit = ReadLimit {
            records: crate::limits::UNIT_EVENTS_MAX,
            bytes: crate::limits::UNIT_EVENTS_MAX * crate::limits::PAYLOAD_BYTES_MAX,
        };
        let m = &self.shared.municipality;
        let mut items = assemble(stream, self.shared.log.read(m, stream, from, limit).await?)?;
        items.truncate(1);
        Ok(items)
    }

    fn close_item(
        &self,
        stream: Stream,
        cut: Position,
        item: Item,
        ahead: &std::collections::HashSet<UnitKey>,
        cursor: &mut Cursor,
        delta: &mut DeliveryDelta,
    ) {
        let last = match &item {
            Item::Unit(unit) => unit.last,
            Item::Other(position) => *position,
        };
        if last >= cut {
            return;
        }
        cursor.position = last.after();
        let Item::Unit(unit) = item else { return };
        let route = Route {
            shared: &self.shared,
            system: &self.row.system,
            stream,
        };
        let concerned = route.concerned(&unit);
        if concerned.is_empty() {
            return;
        }
        let sequence = cursor.sequence;
        cursor.sequence += 1;
        for (unit_key, event_ids) in open_parts(stream, sequence, &unit, &concerned, ahead) {
            delta.done.push(self.closed(unit_key, event_ids, REASON));
        }
    }

    /// A filling subscription that reached the cut hands over to the system's own.
    pub(super) async fn finish_filling(&mut self) -> Result<(), StepError> {
        let Some((live, bulk)) = self.row.until else {
            return Ok(());
        };
        let reached = self.row.live.position >= live && self.row.bulk.position >= bulk;
        if self.row.closed || !reached {
            return Ok(());
        }
        let Some(own) = self.row.id.split('~').next().map(str::to_owned) else {
            return Ok(());
        };
        let rows = self
            .shared
            .store
            .subscriptions(&self.shared.municipality)
            .await?;
        let Some(target) = rows.iter().find(|row| row.id == own) else {
            return Ok(());
        };
        if target.live.position < live || target.bulk.position < bulk {
            return Ok(());
        }
        // What the old product left parked is closed before the new one's parked units move in.
        let left = self.shared.store.parked(&own, None, None, 1).await?;
        if !left.is_empty() {
            return Ok(());
        }
        self.shared.store.finish_filling(&self.row.id, &own).await?;
        self.row.closed = true;
        self.drop_session();
        if self.shared.filled.send(self.row.id.clone()).await.is_err() {
            tracing::debug!("the hub is shutting down");
        }
        Ok(())
    }
}

/// The parts of a unit without an outcome. How the old adapter took units (whole or by event)
/// shows in what is done already.
fn open_parts(
    stream: Stream,
    sequence: u64,
    unit: &ReadUnit,
    concerned: &[usize],
    ahead: &std::collections::HashSet<UnitKey>,
) -> Vec<(UnitKey, Vec<String>)> {
    let id = |index: &usize| unit.events.get(*index).map(|event| event.id.clone());
    let member = |index: &usize| key(stream, sequence, *index as u32 + 1);
    // Whole units leave only protection events, which go by themselves.
    let whole_done = ahead.contains(&key(stream, sequence, 0));
    let by_itself = |index: &usize| {
        unit.events
            .get(*index)
            .is_some_and(|event| is_protection(&event.r#type))
    };
    concerned
        .iter()
        .filter(|index| !whole_done || by_itself(index))
        .filter(|index| !ahead.contains(&member(index)))
        .filter_map(|index| Some((member(index), vec![id(index)?])))
        .collect()
}
