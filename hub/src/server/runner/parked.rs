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
use crate::event::{Subject, Unit};
use crate::limits::PAGE_MAX;
use crate::store::{ParkedRow, StoreError, UnitKey};

impl State {
    /// Delivers a parked unit's subjects again, with all that waits behind them; with no key,
    /// every parked subject. Returns how many units; 0 when no adapter is attached.
    pub(super) async fn retry_parked(&mut self, key: Option<UnitKey>) -> Result<u64, StoreError> {
        if self.session.is_none() {
            return Ok(0);
        }
        let rows = match key {
            None => {
                self.shared
                    .store
                    .parked(&self.row.id, None, None, PAGE_MAX)
                    .await?
            }
            Some(key) => self.connected(key).await?,
        };
        let works: Vec<_> = rows
            .iter()
            .filter_map(|row| self.parked_work(row))
            .collect();
        let count = works.len() as u64;
        let now = self.now();
        if let Some(session) = self.session.as_mut() {
            session.step(Input::Parked(works), now);
        }
        Ok(count)
    }

    /// A parked unit and all that hangs together with it by subjects, in order.
    async fn connected(&self, key: UnitKey) -> Result<Vec<ParkedRow>, StoreError> {
        let store = &self.shared.store;
        let Some(first) = store.parked_unit(&self.row.id, key).await? else {
            return Ok(Vec::new());
        };
        let mut open: Vec<Subject> = first.subjects.clone();
        let mut seen: HashSet<Subject> = HashSet::new();
        let mut rows = BTreeMap::from([(first.key, first)]);
        while let Some(subject) = open.pop() {
            if !seen.insert(subject.clone()) {
                continue;
            }
            for row in store
                .parked(&self.row.id, Some(&subject), None, PAGE_MAX)
                .await?
            {
                open.extend(row.subjects.iter().cloned());
                rows.insert(row.key, row);
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
