//! Parked units on their way back into the lanes.
//! Started by an operator; the units keep their place in the store until they have an outcome.
//! Must never let a subject's later unit pass an earlier one.
//! Read next: `engine/state.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use prost::Message;

use super::State;
use super::payload::Payload;
use super::reader::Route;
use crate::engine::{Input, Work};
use crate::event::{Stream, Subject, Unit, is_protection};
use crate::limits::{PAGE_MAX, RETRY_UNITS_MAX};
use crate::store::{ParkedRow, ParkedState, StoreError, UnitKey};

impl State {
    /// Takes a unit back that is due, with what follows it and waits for nothing else: no word of a
    /// human, and no later time. False while the log before it is read again.
    pub(super) async fn take_back(
        &mut self,
        key: UnitKey,
        now_ms: i64,
    ) -> Result<bool, StoreError> {
        let unit = self.shared.store.parked_unit(&self.row.id, key).await?;
        let (mut seen, mut rows) = (HashSet::new(), Vec::new());
        for subject in unit.map(|row| row.subjects).unwrap_or_default() {
            rows.extend(self.connected(subject, &mut seen).await?);
        }
        rows.sort_by_key(|row| turn(row.key));
        let (free, left) = free_at(rows, now_ms);
        let may_return = self.session.as_ref().is_some_and(|session| {
            let keys = free.iter().map(|row| row.key);
            session.engine.may_return(keys)
        });
        if may_return {
            self.offer_parked(&free, left);
        }
        Ok(may_return)
    }

    /// Puts units into the lanes that nothing refused holds any more; later, when no adapter is
    /// attached or the log before them is not read again yet.
    pub(super) fn bring_back(&mut self, rows: Vec<ParkedRow>) {
        let may_return = self.session.as_ref().is_some_and(|session| {
            let keys = rows.iter().map(|row| row.key);
            session.engine.may_return(keys)
        });
        if may_return {
            let mut rows = rows;
            rows.sort_by_key(|row| turn(row.key));
            self.offer_parked(&rows, HashMap::new());
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
        let (mut seen, mut rows) = (HashSet::new(), Vec::new());
        let parked = self.shared.store.parked_subjects(&self.row.id).await?;
        for (subject, first) in parked {
            if session.engine.holds(first) {
                continue;
            }
            let connected = self.connected(subject, &mut seen).await?;
            let mut all = connected.iter();
            if !all.all(|row| row.state == ParkedState::Waiting) {
                continue;
            }
            rows.extend(connected);
            if rows.len() >= RETRY_UNITS_MAX {
                // The rest follows when these are in the lanes.
                self.resume_parked = true;
                break;
            }
        }
        rows.sort_by_key(|row| turn(row.key));
        if !session.engine.may_return(rows.iter().map(|row| row.key)) {
            // Not all before them is read again.
            self.resume_parked = true;
            return Ok(false);
        }
        Ok(self.offer_parked(&rows, HashMap::new()) > 0)
    }

    /// Offers units in order. One whose copy cannot be read stays where it is, and what stands
    /// behind it with it.
    fn offer_parked(&mut self, rows: &[ParkedRow], mut left: HashMap<Subject, UnitKey>) -> usize {
        let mut unreadable: HashMap<Subject, UnitKey> = HashMap::new();
        let mut works = Vec::with_capacity(rows.len());
        for row in rows {
            let mut subjects = row.subjects.iter();
            let behind = subjects.any(|subject| unreadable.contains_key(subject));
            match self.parked_work(row).filter(|_| !behind) {
                Some(work) => works.push(work),
                None => {
                    tracing::error!(
                        subscription = self.row.id,
                        sequence = row.key.sequence,
                        behind,
                        "a parked unit's copy cannot be read, or stands behind one; it stays parked"
                    );
                    let subjects = row.subjects.iter().cloned();
                    subjects.for_each(|subject| {
                        unreadable.entry(subject).or_insert(row.key);
                    });
                }
            }
        }
        left.extend(unreadable);
        let count = works.len();
        let now = self.now();
        if let Some(session) = self.session.as_mut() {
            session.step(Input::Parked { works, left }, now);
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
        // A retry can come weeks later: what was taken away meanwhile must not go out with it.
        let grants = self.shared.grants.borrow().latest().cloned()?;
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

/// Of units in order, those that may go now; and for each subject of the others the first that may
/// not, because it, or one before it, waits for a human or for a later time.
fn free_at(rows: Vec<ParkedRow>, now_ms: i64) -> (Vec<ParkedRow>, HashMap<Subject, UnitKey>) {
    let mut left: HashMap<Subject, UnitKey> = HashMap::new();
    let mut free = Vec::new();
    for row in rows {
        let for_human = matches!(row.state, ParkedState::Rejected | ParkedState::Dead);
        let later = row.due_ms.is_some_and(|at| at > now_ms);
        let behind = row
            .subjects
            .iter()
            .any(|subject| left.contains_key(subject));
        if for_human || later || behind {
            for subject in &row.subjects {
                left.entry(subject.clone()).or_insert(row.key);
            }
        } else {
            free.push(row);
        }
    }
    (free, left)
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
