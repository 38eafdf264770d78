//! Parked units on their way back into the lanes.
//! Started by an operator; the units keep their place in the store until they have an outcome.
//! Must never let a subject's later unit pass an earlier one.
//! Read next: `engine/state.rs`.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use prost::Message;

use super::State;
use super::payload::{Payload, is_protection};
use super::reader::Route;
use crate::engine::{Input, Work};
use crate::event::{Stream, Subject, Unit};
use crate::limits::{PAGE_MAX, RETRY_UNITS_MAX};
use crate::store::{ParkedRow, ParkedState, StoreError, UnitKey};

impl State {
    /// Delivers a parked unit's subjects again, with all that waits behind them; with no key,
    /// the parked subjects one after the other, as many as `RETRY_UNITS_MAX` allows. Returns how
    /// many units; 0 when no adapter is attached, or while the log before them is read again.
    pub(super) async fn retry_parked(&mut self, key: Option<UnitKey>) -> Result<u64, StoreError> {
        let Some(session) = &self.session else {
            return Ok(0);
        };
        let first = match key {
            None => self
                .shared
                .store
                .parked_subjects(&self.row.id)
                .await?
                .into_keys()
                .collect(),
            Some(key) => {
                let unit = self.shared.store.parked_unit(&self.row.id, key).await?;
                unit.map(|row| row.subjects).unwrap_or_default()
            }
        };
        let mut seen = HashSet::new();
        let mut rows = BTreeMap::new();
        for subject in first {
            let connected = self.connected(subject, &mut seen).await?;
            if session
                .engine
                .may_return(connected.iter().map(|row| row.key))
            {
                rows.extend(connected.into_iter().map(|row| (turn(row.key), row)));
            }
            if rows.len() >= RETRY_UNITS_MAX {
                break;
            }
        }
        Ok(self.offer_parked(&rows))
    }

    /// Offers once more what was on its way back when the former stream ended: parked units that
    /// nothing refused holds any more. True when there are some.
    pub(super) async fn resume_parked(&mut self) -> Result<bool, StoreError> {
        let Some(session) = self.session.as_ref().filter(|_| self.resume_parked) else {
            return Ok(false);
        };
        if !Stream::ALL.iter().all(|s| session.engine.has_room(*s)) {
            return Ok(false);
        }
        self.resume_parked = false;
        let mut seen = HashSet::new();
        let mut rows = BTreeMap::new();
        for subject in self
            .shared
            .store
            .parked_subjects(&self.row.id)
            .await?
            .into_keys()
        {
            let connected = self.connected(subject, &mut seen).await?;
            let waiting = connected
                .iter()
                .all(|row| row.state == ParkedState::Waiting);
            if waiting && rows.len() < RETRY_UNITS_MAX {
                rows.extend(connected.into_iter().map(|row| (turn(row.key), row)));
            }
        }
        if !session.engine.may_return(rows.values().map(|row| row.key)) {
            // Not all before them is read again.
            self.resume_parked = true;
            return Ok(false);
        }
        Ok(self.offer_parked(&rows) > 0)
    }

    fn offer_parked(&mut self, rows: &BTreeMap<Turn, ParkedRow>) -> u64 {
        let works = rows.values().filter_map(|row| self.parked_work(row));
        let works: Vec<_> = works.collect();
        let count = works.len() as u64;
        let now = self.now();
        if let Some(session) = self.session.as_mut() {
            session.step(Input::Parked(works), now);
        }
        count
    }

    /// All parked units that hang together with a subject, by the subjects that they share.
    async fn connected(
        &self,
        subject: Subject,
        seen: &mut HashSet<Subject>,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let mut open = vec![subject];
        let mut rows = BTreeMap::new();
        while let Some(subject) = open.pop() {
            if !seen.insert(subject.clone()) {
                continue;
            }
            let mut after = None;
            loop {
                let page = self
                    .shared
                    .store
                    .parked(&self.row.id, Some(&subject), after, PAGE_MAX)
                    .await?;
                let Some(last) = page.last() else { break };
                after = Some(last.key);
                for row in page {
                    open.extend(row.subjects.iter().cloned());
                    rows.insert(row.key, row);
                }
            }
        }
        Ok(rows.into_values().collect())
    }

    fn parked_work(&self, row: &ParkedRow) -> Option<Work<Arc<Payload>>> {
        let bytes = row.content.clone().open().ok()?;
        let unit = Unit::decode(&bytes[..]).ok()?;
        let grants = self
            .shared
            .grants
            .borrow()
            .at(row.key.stream, row.position)
            .cloned()?;
        let first = unit.events.first()?;
        let group_size = first.group.as_ref().map_or(1, |group| group.size);
        let protection = unit.events.iter().all(|event| is_protection(&event.r#type));
        let route = Route {
            shared: &self.shared,
            system: &self.row.system,
            stream: row.key.stream,
        };
        Some(route.work(
            row.key,
            unit.events,
            row.position,
            group_size,
            &grants,
            protection,
        ))
    }
}

type Turn = (bool, u64, u32);

/// Snapshot records stand before the changes: they create the person that a change is about, and
/// a product that has a later version leaves them alone.
fn turn(key: UnitKey) -> Turn {
    (key.stream == Stream::Live, key.sequence, key.member)
}
