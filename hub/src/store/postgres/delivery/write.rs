//! Writes a group of deltas in one transaction, again when its connection went away.
//! Called by `store/delivery/group.rs`, which gathers them over all municipalities of the instance.
//! Must never apply a delta twice: each subscription keeps the digest of its last one.
//! Read next: `store/postgres/delivery/commit.rs`.

use std::collections::HashSet;

use async_trait::async_trait;
use tokio::sync::MutexGuard;

use super::commit::{apply, pass};
use super::history::lacks_month;
use crate::store::delivery::group::{ACTION, Unwritten, WriteDeltas};
use crate::store::postgres::PgStore;
use crate::store::postgres::session::{Tries, Trouble};
use crate::store::{DeliveryDelta, Durability};

/// One's turn to commit deltas: one transaction at a time takes all that wait.
#[derive(Debug)]
pub(in crate::store::postgres) struct Turn<'a> {
    store: &'a PgStore,
    _turn: MutexGuard<'a, ()>,
}

impl<'a> Turn<'a> {
    /// Waits for one's turn.
    pub(in crate::store::postgres) async fn of(store: &'a PgStore) -> Self {
        let _turn = store.committing.lock().await;
        Self { store, _turn }
    }
}

#[async_trait]
impl WriteDeltas for Turn<'_> {
    async fn write(
        &mut self,
        deltas: &[&DeliveryDelta],
        _: Durability,
    ) -> Result<HashSet<String>, Unwritten> {
        let mut tries = Tries::new(&self.store.pool, ACTION);
        let mut months_are_there = false;
        loop {
            let written = tries.one(self.store.write_deltas(deltas));
            let trouble = match written.await {
                Ok(owned) => return Ok(owned),
                Err(trouble) => trouble,
            };
            if !months_are_there && lacks_month(&trouble) {
                self.store.forget_months();
                months_are_there = true;
                continue;
            }
            let passes = trouble.passes();
            match (tries.again(trouble).await, passes) {
                (Ok(()), _) => {}
                (Err(error), true) => return Err(Unwritten::Anything(error)),
                (Err(error), false) => return Err(Unwritten::Together(error)),
            }
        }
    }
}

impl PgStore {
    /// Writes what the fence lets pass; says which subscriptions those are.
    async fn write_deltas(&self, deltas: &[&DeliveryDelta]) -> Result<HashSet<String>, Trouble> {
        self.make_months(deltas).await?;
        let mut session = self.begin_planned().await?;
        let passed = pass(&mut session, deltas).await?;
        let new = |delta: &&DeliveryDelta| passed.get(&delta.subscription) == Some(&true);
        let new: Vec<&DeliveryDelta> = deltas.iter().copied().filter(new).collect();
        apply(&mut session, &new).await?;
        session.end().await?;
        Ok(passed.into_keys().collect())
    }
}
