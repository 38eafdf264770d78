//! The role of acts in memory.
//! Used in tests and simulations.
//! Must never record an act twice.
//! Read next: `store/contract/acts.rs`.

use async_trait::async_trait;

use super::MemoryStore;
use crate::event::Municipality;
use crate::store::{
    ActRow, ActStore, DeliveryStore, NewAct, ParkedFilter, ParkedRow, StoreError, UnitKey,
};

/// Acts of all municipalities, oldest first.
#[derive(Debug, Default)]
pub(super) struct Acted {
    acts: Vec<(Municipality, NewAct)>,
}

impl Acted {
    pub(super) fn record(&mut self, m: &Municipality, act: NewAct) {
        let known = |(of, known): &(Municipality, NewAct)| of == m && known.id == act.id;
        if !self.acts.iter().any(known) {
            self.acts.push((m.clone(), act));
        }
    }

    fn rows(&self) -> impl DoubleEndedIterator<Item = (&Municipality, &NewAct, ActRow)> {
        self.acts.iter().enumerate().map(|(index, (m, act))| {
            let row = ActRow {
                number: index as u64 + 1,
                units: act.units.len() as u64,
                act: NewAct {
                    units: Vec::new(),
                    ..act.clone()
                },
            };
            (m, act, row)
        })
    }
}

#[async_trait]
impl ActStore for MemoryStore {
    async fn record_act(&self, m: &Municipality, act: NewAct) -> Result<(), StoreError> {
        let mut state = self.lock();
        state.delivered.raise(&act);
        state.acted.record(m, act);
        Ok(())
    }

    async fn acts(
        &self,
        m: &Municipality,
        below: u64,
        limit: usize,
    ) -> Result<Vec<ActRow>, StoreError> {
        let state = self.lock();
        let of_town = state.acted.rows().rev().filter(|(of, _, _)| *of == m);
        let rows = of_town.map(|(_, _, row)| row);
        Ok(rows
            .filter(|row| below == 0 || row.number < below)
            .take(limit)
            .collect())
    }

    async fn acts_on(&self, subscription: &str, key: UnitKey) -> Result<Vec<ActRow>, StoreError> {
        let state = self.lock();
        let on = |act: &NewAct| act.subscription == subscription && act.units.contains(&key);
        let rows = state.acted.rows().filter(|(_, act, _)| on(act));
        Ok(rows.map(|(_, _, row)| row).collect())
    }

    async fn find_parked(
        &self,
        subscription: &str,
        filter: &ParkedFilter,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let rows = self.parked(subscription, None, after, usize::MAX).await?;
        let found = rows.into_iter().filter(|row| filter.finds(row));
        Ok(found.take(limit).collect())
    }
}
