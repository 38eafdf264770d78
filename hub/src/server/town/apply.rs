//! Makes control records true: grants, subscriptions, bindings, settings and edits.
//! Called by the sequencer once a record's place is known, and again after a crash.
//! Must never depend on how often a record is applied.
//! Read next: `publish/control.rs`, `server/town/acts.rs`.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};

use super::acts::{act_of, edit_order};
use super::{Commons, Runners, filling_id, load_grants, lock, start_runner, subscription_id};
use crate::event::{Municipality, Position, Stream};
use crate::publish::control::{Change, Control};
use crate::server::registry::GrantVersions;
use crate::server::runner::{Command, Past, Shared, apply_edit};
use crate::settings::BindingSettings;
use crate::store::{
    BindingRow, BindingState, Cursor, NewAct, OutcomeTally, StoreError, SubscriptionRow,
};

/// Makes control records true.
#[derive(Clone)]
pub(super) struct Applier {
    pub(super) commons: Commons,
    pub(super) shared: Shared,
    pub(super) runners: Runners,
    pub(super) grants: Arc<watch::Sender<Arc<GrantVersions>>>,
}

impl Applier {
    pub(super) async fn apply(
        &self,
        m: &Municipality,
        control: Control,
        live: Position,
    ) -> Result<(), StoreError> {
        let act = act_of(m, &control, live);
        if let Change::Edit { .. } = control.change {
            return self.edit(control.change, act, live).await;
        }
        self.change(m, control, live).await?;
        self.commons.store.record_act(m, act).await
    }

    /// Has the runner replace a parked event; before the runners are there, the store alone.
    async fn edit(&self, change: Change, act: NewAct, at: Position) -> Result<(), StoreError> {
        let Some(order) = edit_order(change, act, at) else {
            tracing::error!(position = at.0, "a correction in the log cannot be read");
            return Ok(());
        };
        let runner = lock(&self.runners).get(&order.subscription).cloned();
        let applied = match runner {
            None => apply_edit(&self.shared, &order).await?,
            Some(runner) => {
                let (reply, answer) = oneshot::channel();
                let command = Command::Edit(Box::new(order), reply);
                if runner.commands.send(command).await.is_err() {
                    // At shutdown: the next start reads the record again.
                    return Err(StoreError::Fenced(runner.id));
                }
                let stopped = |_| StoreError::Fenced(runner.id.clone());
                answer.await.map_err(stopped)??
            }
        };
        if !applied {
            tracing::info!(
                position = at.0,
                "a correction came too late and changes nothing"
            );
        }
        Ok(())
    }

    async fn change(
        &self,
        m: &Municipality,
        control: Control,
        live: Position,
    ) -> Result<(), StoreError> {
        let bulk = Position(control.bulk_position);
        match control.change {
            Change::Grants { text } => {
                self.commons
                    .store
                    .put_grants(m, (live, bulk), &text)
                    .await?;
                let versions = load_grants(&self.commons, m).await?;
                self.grants.send_replace(Arc::new(versions));
                Ok(())
            }
            Change::Subscribe {
                system,
                product,
                live_start,
                bulk_start,
            } => {
                let binding = first_binding(product, 1, BindingState::Serving);
                let id = subscription_id(m, &system);
                let start = self.kept(m, (live_start, bulk_start)).await?;
                self.put(new_row(id, m, system, start, binding)).await
            }
            Change::Fill {
                system,
                product,
                epoch,
                live_start,
                bulk_start,
            } => {
                let binding = first_binding(product, epoch, BindingState::Filling);
                let id = filling_id(m, &system, epoch);
                let start = self.kept(m, (live_start, bulk_start)).await?;
                self.put(new_row(id, m, system, start, binding)).await
            }
            Change::Abandon { system, epoch } => self.abandon(m, &system, epoch).await,
            Change::Settings {
                system,
                product,
                settings,
            } => self.set(m, &system, &product, settings).await,
            Change::Edit { .. } => Ok(()),
            Change::Cut {
                system,
                product,
                epoch,
            } => {
                self.cut(m, &system, &product, epoch, (live.after(), bulk))
                    .await
            }
        }
    }

    /// Starts that the log still has: a record that is applied long after it was written may name
    /// some that are trimmed by now.
    async fn kept(&self, m: &Municipality, start: (u64, u64)) -> Result<(u64, u64), StoreError> {
        let log = &self.commons.log;
        let failed = |error| StoreError::Backend {
            action: "looking where the log begins",
            source: Box::new(error),
        };
        let live = log.bounds(m, Stream::Live).await.map_err(failed)?.first.0;
        let bulk = log.bounds(m, Stream::Bulk).await.map_err(failed)?.first.0;
        Ok((start.0.max(live), start.1.max(bulk)))
    }

    async fn put(&self, row: SubscriptionRow) -> Result<(), StoreError> {
        self.commons.store.put_subscription(row.clone()).await?;
        start_runner(&self.commons, &self.shared, &self.runners, row, Past::New);
        Ok(())
    }

    async fn abandon(&self, m: &Municipality, system: &str, epoch: u64) -> Result<(), StoreError> {
        let id = filling_id(m, system, epoch);
        let rows = self.commons.store.subscriptions(m).await?;
        let Some(mut row) = rows.into_iter().find(|row| row.id == id) else {
            return Ok(());
        };
        row.closed = true;
        self.commons.store.put_subscription(row).await?;
        let runner = lock(&self.runners).remove(&id);
        if let Some(runner) = runner {
            runner.refresh().await;
        }
        Ok(())
    }

    /// Gives a binding its settings and tells its runner.
    async fn set(
        &self,
        m: &Municipality,
        system: &str,
        product: &str,
        settings: BindingSettings,
    ) -> Result<(), StoreError> {
        for mut row in self.commons.store.subscriptions(m).await? {
            if row.closed || row.system != system {
                continue;
            }
            let binding = row.binding_mut().filter(|known| known.product == product);
            let Some(binding) = binding else { continue };
            binding.settings = settings.clone();
            let id = row.id.clone();
            self.commons.store.put_subscription(row).await?;
            let runner = lock(&self.runners).get(&id).cloned();
            if let Some(runner) = runner {
                runner.refresh().await;
            }
        }
        Ok(())
    }

    async fn cut(
        &self,
        m: &Municipality,
        system: &str,
        product: &str,
        epoch: u64,
        at: (Position, Position),
    ) -> Result<(), StoreError> {
        let rows = self.commons.store.subscriptions(m).await?;
        let own = subscription_id(m, system);
        let filling = filling_id(m, system, epoch);
        let filled = rows.iter().find(|row| row.id == filling);
        let settings = filled.and_then(|row| row.binding()).cloned();
        let settings = settings.map(|binding| binding.settings).unwrap_or_default();
        for mut row in rows {
            if row.id == own && row.bindings.iter().all(|binding| binding.epoch < epoch) {
                for binding in &mut row.bindings {
                    binding.state = BindingState::Replaced;
                }
                let mut binding = first_binding(product.to_owned(), epoch, BindingState::Serving);
                binding.cut = Some(at);
                binding.settings = settings.clone();
                row.bindings.push(binding);
            } else if row.id == filling {
                row.until = Some(at);
            } else {
                continue;
            }
            let id = row.id.clone();
            self.commons.store.put_subscription(row).await?;
            let runner = lock(&self.runners).get(&id).cloned();
            if let Some(runner) = runner {
                runner.refresh().await;
            }
        }
        Ok(())
    }
}

fn first_binding(product: String, epoch: u64, state: BindingState) -> BindingRow {
    BindingRow {
        product,
        epoch,
        state,
        cut: None,
        paused: None,
        settings: BindingSettings::default(),
    }
}

fn new_row(
    id: String,
    m: &Municipality,
    system: String,
    start: (u64, u64),
    binding: BindingRow,
) -> SubscriptionRow {
    let cursor = |position| Cursor {
        position: Position(position),
        sequence: 1,
    };
    SubscriptionRow {
        id,
        municipality: m.clone(),
        system,
        live: cursor(start.0),
        bulk: cursor(start.1),
        filled: false,
        until: None,
        closed: false,
        bindings: vec![binding],
        tally: OutcomeTally::default(),
    }
}
