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
    /// Takes a unit back that is due, with all that hangs together with it. Returns how many
    /// units; 0 while the log before them is read again.
    pub(super) async fn take_back(&mut self, key: UnitKey) -> Result<u64, StoreError> {
        let unit = self.shared.store.parked_unit(&self.row.id, key).await?;
        let (mut seen, mut rows) = (HashSet::new(), Vec::new());
        for subject in unit.map(|row| row.subjects).unwrap_or_default() {
            rows.extend(self.connected(subject, &mut seen).await?);
        }
        let may_return = self.session.as_ref().is_some_and(|session| {
            let keys = rows.iter().map(|row| row.key);
            session.engine.may_return(keys)
        });
        if !may_return {
            return Ok(0);
        }
        let rows = rows.into_iter().map(|row| (turn(row.key), row)).collect();
        Ok(self.offer_parked(&rows))
    }

    /// Puts units into the lanes that nothing refused holds any more; later, when no adapter is
    /// attached or the log before them is not read again yet.
    pub(super) fn bring_back(&mut self, rows: Vec<ParkedRow>) {
        let may_return = self.session.as_ref().is_some_and(|session| {
            let keys = rows.iter().map(|row| row.key);
            session.engine.may_return(keys)
        });
        if may_return {
            let rows = rows.into_iter().map(|row| (turn(row.key), row)).collect();
            self.offer_parked(&rows);
        } else {
            self.resume_parked = true;
        }
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
    pub(super) async fn connected(
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

/// Order of delivery.
pub(super) type Turn = (bool, u64, u32);

/// Snapshot records stand before the changes: they create the person that a change is about, and
/// a product that has a later version leaves them alone.
pub(super) fn turn(key: UnitKey) -> Turn {
    (key.stream == Stream::Live, key.sequence, key.member)
}

/// Parts units into those that hang together by the subjects that they share.
pub(super) fn groups(rows: Vec<ParkedRow>) -> Vec<Vec<ParkedRow>> {
    let mut groups: Vec<(HashSet<Subject>, Vec<ParkedRow>)> = Vec::new();
    for row in rows {
        let mut subjects: HashSet<Subject> = row.subjects.iter().cloned().collect();
        let mut joined = vec![row];
        let (touched, apart) = groups
            .into_iter()
            .partition(|(of, _)| !of.is_disjoint(&subjects));
        groups = apart;
        let touched: Vec<(HashSet<Subject>, Vec<ParkedRow>)> = touched;
        for (of, rows) in touched {
            subjects.extend(of);
            joined.extend(rows);
        }
        joined.sort_by_key(|row| turn(row.key));
        groups.push((subjects, joined));
    }
    groups.into_iter().map(|(_, rows)| rows).collect()
}
