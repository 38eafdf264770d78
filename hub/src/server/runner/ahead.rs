//! Looks ahead of a full window for protection state (支援措置): it overtakes everything.
//! Runs only while the live stream cannot be read on, because the receiver is slower than the town.
//! Must never give a unit another sequence than the reader will give it.
//! Read next: `server/runner/reader.rs`.
//!
//! ```text
//!   cursor        read so far (window full)        looked at         tail
//!  ───┴─────────────────┴───────────────────────────────┴─────────────┴──▶ live
//!                          only protection events are taken out here
//! ```

use std::sync::Arc;

use super::payload::key;
use super::reader::{Item, ReadUnit, Route, assemble};
use super::{State, StepError};
use crate::engine::{Input, Work};
use crate::event::{Stream, is_protection};
use crate::limits::{AHEAD_UNITS_MAX, READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::ReadLimit;
use crate::server::runner::Payload;
use crate::store::Cursor;

impl State {
    /// Takes protection events out of what the full window keeps from being read. True when
    /// something was looked at.
    pub(super) async fn look_ahead(&mut self) -> Result<bool, StepError> {
        let Some(from) = self.next_ahead() else {
            return Ok(false);
        };
        let limit = ReadLimit {
            records: READ_RECORDS_MAX,
            bytes: READ_BYTES_MAX,
        };
        let m = &self.shared.municipality;
        let records = self
            .shared
            .log
            .read(m, Stream::Live, from.position, limit)
            .await?;
        let mut items = assemble(Stream::Live, records)?;
        if items.is_empty() && !self.at_tail(Stream::Live, from.position).await? {
            // One unit alone is larger than a read.
            items = self.read_large(Stream::Live, from.position).await?;
        }
        let end = self.end_of(Stream::Live).await?;
        let (mut at, mut found) = (from, Vec::new());
        for item in items {
            let last = match &item {
                Item::Unit(unit) => unit.last,
                Item::Other(position) => *position,
            };
            if end.is_some_and(|end| last >= end) {
                break;
            }
            at.position = last.after();
            if let Item::Unit(unit) = item {
                self.take_protection(unit, &mut at, &mut found);
            }
        }
        let now = self.now();
        let Some(session) = self.session.as_mut() else {
            return Ok(false);
        };
        session.looked = Some(at);
        if !found.is_empty() {
            session.step(Input::Ahead(found), now);
        }
        Ok(at.position > from.position)
    }

    /// Where looking ahead goes on; `None` while the reader itself can read, or at the tail.
    fn next_ahead(&self) -> Option<Cursor> {
        let session = self.session.as_ref()?;
        let engine = &session.engine;
        if !session.is_full(Stream::Live) {
            return None;
        }
        let frontier = engine.frontier(Stream::Live);
        let looked = session.looked.filter(|at| at.position >= frontier.position);
        let from = looked.unwrap_or(frontier);
        let done = engine.cursor(Stream::Live).sequence;
        let near = from.sequence.saturating_sub(done) < AHEAD_UNITS_MAX as u64;
        let tail = *self.tail(Stream::Live).borrow();
        (near && from.position < tail).then_some(from)
    }

    fn take_protection(
        &self,
        unit: ReadUnit,
        at: &mut Cursor,
        found: &mut Vec<Work<Arc<Payload>>>,
    ) {
        let route = Route {
            shared: &self.shared,
            system: &self.row.system,
            stream: Stream::Live,
        };
        let concerned = route.concerned(&unit);
        if concerned.is_empty() {
            return;
        }
        let sequence = at.sequence;
        at.sequence += 1;
        let Some(grants) = route.grants(unit.last) else {
            return;
        };
        let (last, group_size) = (unit.last, unit.events.len() as u32);
        for (index, event) in unit.events.into_iter().enumerate() {
            if concerned.contains(&index) && is_protection(&event.r#type) {
                let key = key(Stream::Live, sequence, index as u32 + 1);
                found.push(route.work(key, vec![event], last, group_size, &grants, true));
            }
        }
    }
}
