//! One municipality in the running hub: its sequencer, its grants, its runners.
//! Made on first use; owns what belongs to one tenant and nothing of another.
//! Must never route by anything but control records of the log.
//! Read next: `publish/sequencer.rs`, `server/runner.rs`.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::lease::Lease;
use super::opening::{OpenTownError, check_ends};
use super::registry::GrantVersions;
use super::room::Room;
use super::runner::{Command, Overview, Past, Runner, Shared};
use super::status::{Failure, not_found};
use super::tasks::Tasks;
use crate::alarms::Limits;
use crate::event::{Municipality, Position, Pseudonyms, Stream};
use crate::grants::GrantTable;
use crate::limits::TOWN_CLOSE_MAX;
use crate::log::{Concerned, EventLog};
use crate::publish::control::Change;
use crate::publish::sequencer::{Parts, PublishError, Sequencer};
use crate::schema::Schema;
use crate::settings::BindingSettings;
use crate::store::{BindingState, OutcomeTally, Store, StoreError, SubscriptionRow};

pub(crate) use acts::act_name;
pub(crate) use alarms::{place as alarm_place, watch as watch_alarms};
use apply::Applier;

mod acts;
mod alarms;
mod apply;

/// What all municipalities share.
#[derive(Clone)]
pub struct Commons {
    /// Incarnation of the log.
    pub incarnation: u64,
    /// Log.
    pub log: Arc<dyn EventLog>,
    /// What others can do to it; `None` when nobody can.
    pub concerned: Option<Arc<dyn Concerned>>,
    /// Store.
    pub store: Arc<dyn Store>,
    /// Shape of the standard.
    pub schema: Arc<Schema>,
    /// Grants as configured now.
    pub grants: Arc<GrantTable>,
    /// Pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// What is kept, and how it is looked after.
    pub rules: Arc<super::retention::Rules>,
    /// Whether the disk has room.
    pub room: Arc<Room>,
    /// From which age on things alarm.
    pub alarm_limits: Limits,
    /// Until when this instance may send.
    pub lease: Lease,
    /// Ends everything; a municipality has a child of it.
    pub stop: CancellationToken,
    /// What runs until then; a municipality has its own.
    pub tasks: Tasks,
}

impl Commons {
    /// The same for one municipality, which can end alone.
    fn of_one_town(self) -> Self {
        Self {
            stop: self.stop.child_token(),
            tasks: Tasks::default(),
            ..self
        }
    }
}

impl std::fmt::Debug for Commons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Commons").finish_non_exhaustive()
    }
}

/// Runners by subscription.
type Runners = Arc<Mutex<HashMap<String, Runner>>>;

/// A municipality.
#[derive(Debug)]
pub struct Town {
    /// Which.
    pub municipality: Municipality,
    /// Sequencer.
    pub sequencer: Sequencer,
    commons: Commons,
    shared: Shared,
    runners: Runners,
    /// One change of bindings at a time, and none while the log is trimmed.
    changing: Arc<tokio::sync::Mutex<()>>,
    looks: alarms::Looks,
}

/// What a cut did.
#[derive(Clone, Copy, Debug, Default)]
pub struct CutReport {
    /// Position of the control record in live.
    pub position: u64,
    /// Epoch of the new binding.
    pub epoch: u64,
    /// Events that were open at the old product.
    pub closed_open: u64,
    /// Of these, parked ones.
    pub closed_parked: u64,
    /// How long publishing waited, in microseconds.
    pub publish_pause_us: u64,
}

/// Identifier of a system's subscription.
pub fn subscription_id(m: &Municipality, system: &str) -> String {
    format!("{m}/{system}")
}

fn filling_id(m: &Municipality, system: &str, epoch: u64) -> String {
    format!("{m}/{system}~fill-{epoch}")
}

impl Town {
    /// Takes ownership of a municipality, recovers it and starts its runners.
    ///
    /// # Errors
    /// When log or store cannot be read, or are not of one time.
    pub async fn open(commons: Commons, municipality: Municipality) -> Result<Self, OpenTownError> {
        let commons = commons.of_one_town();
        // What was started ends again when the rest fails.
        let started = commons.stop.clone().drop_guard();
        let owner_epoch = commons.store.own(&municipality).await?;
        commons.log.own(&municipality, owner_epoch).await?;
        check_ends(&commons, &municipality).await?;
        let versions = load_grants(&commons, &municipality).await?;
        let (grants, grants_seen) = watch::channel(Arc::new(versions));
        let (protected, protected_seen) = watch::channel(Arc::new(HashSet::new()));
        let runners: Runners = Arc::default();
        let (filled, filled_queue) = mpsc::channel(16);
        let shared = Shared {
            municipality: municipality.clone(),
            log: commons.log.clone(),
            store: commons.store.clone(),
            schema: commons.schema.clone(),
            grants: grants_seen,
            protected: protected_seen,
            pseudonyms: commons.pseudonyms.clone(),
            room: commons.room.clone(),
            lease: commons.lease.clone(),
            tasks: commons.tasks.clone(),
            owner_epoch,
            filled,
        };
        let applier = Applier {
            commons: commons.clone(),
            shared: shared.clone(),
            runners: runners.clone(),
            grants: Arc::new(grants),
        };
        let parts = Parts {
            municipality: municipality.clone(),
            log: commons.log.clone(),
            store: commons.store.clone(),
            pseudonyms: commons.pseudonyms.clone(),
            apply: Arc::new(move |m, control, position| {
                let (applier, m) = (applier.clone(), m.clone());
                Box::pin(async move { applier.apply(&m, control, position).await })
            }),
            protected,
        };
        let sequencer = Sequencer::start(parts).await?;
        for row in commons.store.subscriptions(&municipality).await? {
            start_runner(&commons, &shared, &runners, row, Past::Recovered);
        }
        crate::telemetry::watch(&commons, &municipality);
        let passing = pass_on_filled(runners.clone(), filled_queue);
        let stopped = commons.stop.clone().cancelled_owned();
        commons.tasks.spawn(async move {
            tokio::select! {
                () = passing => {}
                () = stopped => {}
            }
        });
        let changing: Arc<tokio::sync::Mutex<()>> = Arc::default();
        super::retention::start(&commons, &municipality, changing.clone());
        let town = Self {
            municipality,
            sequencer,
            commons,
            shared,
            runners,
            changing,
            looks: alarms::Looks::default(),
        };
        town.renew_grants().await?;
        started.disarm();
        Ok(town)
    }

    /// Appends the configured grants when they differ from those that hold.
    async fn renew_grants(&self) -> Result<(), PublishError> {
        let text = self.commons.grants.to_text();
        let versions = self.commons.store.grants(&self.municipality).await?;
        if versions.last().is_some_and(|(_, stored)| *stored == text) {
            return Ok(());
        }
        let reason = format!(
            "grants {} from the hub's start",
            self.commons.grants.digest()
        );
        self.sequencer
            .control("musubi".to_owned(), reason, Change::Grants { text })
            .await?;
        Ok(())
    }

    /// Ends when the municipality is closed.
    pub fn stop(&self) -> &CancellationToken {
        &self.commons.stop
    }

    /// Gives everything back: takes no publish any more, finishes those that wait, lets adapters
    /// answer what is under way, and ends. Nothing of it writes afterwards.
    pub async fn close(&self) {
        self.commons.stop.cancel();
        let (answered, ended) = tokio::join!(
            self.sequencer.close(TOWN_CLOSE_MAX),
            self.commons.tasks.end(TOWN_CLOSE_MAX),
        );
        if !answered || !ended {
            let municipality = self.municipality.as_str();
            tracing::warn!(municipality, "what did not end in time was dropped");
        }
    }

    /// Keeps the log from being trimmed, and bindings from changing, as long as it is held.
    pub async fn hold_still(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.changing.lock().await
    }

    /// What its runners work with.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The runner of a subscription.
    pub fn runner(&self, subscription: &str) -> Option<Runner> {
        lock(&self.runners).get(subscription).cloned()
    }

    /// Rows of all subscriptions, as the store has them.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn rows(&self) -> Result<Vec<SubscriptionRow>, StoreError> {
        self.commons.store.subscriptions(&self.municipality).await
    }

    /// All subscriptions that are served, by id. The runners are asked all at once: one that is
    /// busy delays the answer by its own step and not by those of all the others.
    pub async fn overviews(&self) -> Vec<Overview> {
        let rows = self.rows().await.unwrap_or_default();
        let ends = self.ends().await;
        let asked = rows.into_iter().map(|row| self.overview(row, ends));
        let answered = futures::future::join_all(asked).await;
        let mut overviews: Vec<Overview> = answered.into_iter().flatten().collect();
        overviews.sort_by(|a, b| a.row.id.cmp(&b.row.id));
        overviews
    }

    /// Where the streams of the log end.
    async fn ends(&self) -> [Position; 2] {
        let mut ends = [Position::default(); 2];
        for (stream, end) in Stream::ALL.into_iter().zip(&mut ends) {
            let bounds = self.commons.log.bounds(&self.municipality, stream).await;
            *end = bounds.map(|bounds| bounds.next).unwrap_or_default();
        }
        ends
    }

    /// What the runner adds to a row; `None` when none serves it.
    async fn overview(&self, row: SubscriptionRow, ends: [Position; 2]) -> Option<Overview> {
        let runner = self.runner(&row.id)?;
        let (reply, answer) = oneshot::channel();
        let ask = Command::Overview(Box::new(row), ends, reply);
        runner.commands.send(ask).await.ok()?;
        answer.await.ok()
    }

    /// Binds a product; see `AdminService.BindProduct`. Returns the subscription's id.
    ///
    /// # Errors
    /// When the system has no grants, or another product is being filled.
    pub async fn bind(
        &self,
        system: &str,
        product: &str,
        operator: &str,
        reason: &str,
    ) -> Result<String, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        if !self.commons.grants.systems().contains(&system) {
            return Err(Failure::new(
                Code::FailedPrecondition,
                "NOTHING_GRANTED",
                format!("system `{system}` is granted nothing; add its grants first"),
            )
            .field("system"));
        }
        let rows = self.commons.store.subscriptions(&self.municipality).await?;
        let own = subscription_id(&self.municipality, system);
        let change = match rows.iter().find(|row| row.id == own) {
            None => {
                let (live_start, bulk_start) = self.start_of_filling().await?;
                Change::Subscribe {
                    system: system.to_owned(),
                    product: product.to_owned(),
                    live_start,
                    bulk_start,
                }
            }
            Some(row) if row.binding().is_some_and(|b| b.product == product) => return Ok(own),
            Some(row) => {
                let filling = rows
                    .iter()
                    .find(|r| r.system == system && r.is_filling() && !r.closed);
                if let Some(filling) = filling {
                    if filling.binding().is_some_and(|b| b.product == product) {
                        return Ok(filling.id.clone());
                    }
                    self.abandon(filling, operator, reason).await?;
                }
                let of_system = rows.iter().filter(|r| r.system == system);
                let epochs = of_system.flat_map(|r| r.bindings.iter().map(|b| b.epoch));
                let epoch = epochs.max().unwrap_or(0).max(row.bindings.len() as u64) + 1;
                let (live_start, bulk_start) = self.start_of_filling().await?;
                Change::Fill {
                    system: system.to_owned(),
                    product: product.to_owned(),
                    epoch,
                    live_start,
                    bulk_start,
                }
            }
        };
        let id = match &change {
            Change::Fill { epoch, .. } => filling_id(&self.municipality, system, *epoch),
            _ => own,
        };
        self.sequencer
            .control(operator.to_owned(), reason.to_owned(), change)
            .await?;
        Ok(id)
    }

    /// Sets how a binding is served; see `AdminService.SetDeliverySettings`. Returns its product and
    /// what was set before; with `try_only` nothing changes.
    ///
    /// # Errors
    /// When no such product is bound to the system.
    pub async fn set(
        &self,
        (system, product): (&str, &str),
        settings: BindingSettings,
        (operator, reason): (&str, &str),
        try_only: bool,
    ) -> Result<(String, BindingSettings), Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let rows = self.commons.store.subscriptions(&self.municipality).await?;
        let mut of_system = rows
            .iter()
            .filter(|row| row.system == system && !row.closed)
            .filter_map(SubscriptionRow::binding);
        let found = of_system.find(|binding| match product {
            "" => binding.state == BindingState::Serving,
            product => binding.product == product,
        });
        let Some(binding) = found.cloned() else {
            let message = match product {
                "" => format!("no product serves system `{system}`; bind one first"),
                product => format!("`{product}` is not bound to system `{system}`; bind it first"),
            };
            let failure = Failure::new(Code::FailedPrecondition, "NOT_BOUND", message);
            return Err(failure.field("product"));
        };
        if !try_only && binding.settings != settings {
            let change = Change::Settings {
                system: system.to_owned(),
                product: binding.product.clone(),
                settings,
            };
            self.sequencer
                .control(operator.to_owned(), reason.to_owned(), change)
                .await?;
        }
        Ok((binding.product, binding.settings))
    }

    /// Gives up a product that is being filled, when nothing serves it: a mistyped name must not
    /// block the system. One whose adapter is attached, or that was cut over to, stays.
    async fn abandon(
        &self,
        filling: &SubscriptionRow,
        operator: &str,
        reason: &str,
    ) -> Result<(), Failure> {
        let binding = filling.binding();
        if filling.until.is_some() || !self.attached(&filling.id).await.is_empty() {
            let name = binding.map_or("?", |binding| binding.product.as_str());
            let message = format!(
                "`{name}` is being filled already; stop its adapter to give it up, or cut over to it"
            );
            let failure = Failure::new(Code::FailedPrecondition, "ALREADY_FILLING", message);
            return Err(failure.field("product"));
        }
        let epoch = binding.map_or(0, |binding| binding.epoch);
        let change = Change::Abandon {
            system: filling.system.clone(),
            epoch,
        };
        self.sequencer
            .control(operator.to_owned(), reason.to_owned(), change)
            .await?;
        Ok(())
    }

    /// Product whose adapter is attached to a subscription now; empty when none is.
    async fn attached(&self, subscription: &str) -> String {
        let overviews = self.overviews().await;
        let found = overviews
            .into_iter()
            .find(|overview| overview.row.id == subscription);
        found.map(|overview| overview.attached).unwrap_or_default()
    }

    /// Where a new product begins: with the last complete snapshot, else with all that the log
    /// has.
    async fn start_of_filling(&self) -> Result<(u64, u64), Failure> {
        let snapshots = self.commons.store.snapshots(&self.municipality).await?;
        let complete = snapshots.iter().rev().find(|mark| mark.bulk_end.is_some());
        if let Some(mark) = complete {
            return Ok((mark.live_mark.0, mark.bulk_start.0));
        }
        let log = &self.commons.log;
        let live = log.bounds(&self.municipality, Stream::Live).await?;
        let bulk = log.bounds(&self.municipality, Stream::Bulk).await?;
        Ok((live.first.0, bulk.first.0))
    }

    /// Cuts over to a product that is being filled; see `AdminService.CutOver`.
    ///
    /// # Errors
    /// When the product is not being filled.
    pub async fn cut(
        &self,
        system: &str,
        product: &str,
        operator: &str,
        reason: &str,
    ) -> Result<CutReport, Failure> {
        let _one_at_a_time = self.changing.lock().await;
        let rows = self.commons.store.subscriptions(&self.municipality).await?;
        let filling = rows
            .iter()
            .find(|row| row.system == system && row.is_filling() && !row.closed)
            .filter(|row| row.until.is_none())
            .filter(|row| {
                row.binding()
                    .is_some_and(|binding| binding.product == product)
            });
        let Some(filling) = filling else {
            return Err(Failure::new(
                Code::FailedPrecondition,
                "NOT_FILLING",
                format!("`{product}` is not being filled for system `{system}`; bind it first"),
            )
            .field("product"));
        };
        if self.attached(&filling.id).await != product {
            let message = format!(
                "no adapter of `{product}` is attached, so nothing would serve `{system}`; start it first"
            );
            let failure = Failure::new(Code::FailedPrecondition, "NOT_ATTACHED", message);
            return Err(failure.field("product"));
        }
        let epoch = filling.binding().map_or(0, |binding| binding.epoch);
        let own = subscription_id(&self.municipality, system);
        let before = rows.iter().find(|row| row.id == own).map(|row| row.tally);
        let change = Change::Cut {
            system: system.to_owned(),
            product: product.to_owned(),
            epoch,
        };
        let place = self
            .sequencer
            .control(operator.to_owned(), reason.to_owned(), change)
            .await?;
        let after = self.wait_closed_out(&own, place.live.after()).await?;
        let before = before.unwrap_or_default();
        Ok(CutReport {
            position: place.live.0,
            epoch,
            closed_open: after.superseded.saturating_sub(before.superseded),
            closed_parked: before.rejected + before.waiting,
            publish_pause_us: place.pause_us,
        })
    }

    /// Waits until everything before the cut is closed at the old product.
    async fn wait_closed_out(&self, own: &str, cut: Position) -> Result<OutcomeTally, Failure> {
        loop {
            let row = self.rows().await?.into_iter().find(|row| row.id == own);
            let row = row.ok_or_else(|| not_found("subscription", own))?;
            if row.live.position >= cut {
                return Ok(row.tally);
            }
            if self.commons.stop.is_cancelled() {
                return Err(PublishError::Stopped.into());
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn lock(runners: &Runners) -> std::sync::MutexGuard<'_, HashMap<String, Runner>> {
    runners.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start_runner(
    commons: &Commons,
    shared: &Shared,
    runners: &Runners,
    row: SubscriptionRow,
    past: Past,
) {
    let mut runners = lock(runners);
    let id = row.id.clone();
    if !row.closed && !runners.contains_key(&id) {
        runners.insert(
            id,
            Runner::start(shared.clone(), row, past, commons.stop.child_token()),
        );
    }
}

/// Tells a system's runner that its new product is filled; the filling one is no more.
async fn pass_on_filled(runners: Runners, mut queue: mpsc::Receiver<String>) {
    while let Some(filling) = queue.recv().await {
        let own = filling.split('~').next().unwrap_or_default().to_owned();
        let runner = {
            let mut runners = lock(&runners);
            runners.remove(&filling);
            runners.get(&own).cloned()
        };
        if let Some(runner) = runner {
            runner.refresh().await;
        }
    }
}

async fn load_grants(commons: &Commons, m: &Municipality) -> Result<GrantVersions, StoreError> {
    let mut versions = Vec::new();
    let configured = commons.grants.to_text();
    for (from, text) in commons.store.grants(m).await? {
        // One table for all municipalities that have the configured grants.
        if text == configured {
            versions.push((from, commons.grants.clone()));
            continue;
        }
        match GrantTable::from_text(&commons.schema, &text) {
            Ok(table) => versions.push((from, Arc::new(table))),
            // Without a version nothing is granted from its position on.
            Err(error) => {
                tracing::error!(%error, "a stored version of the grants is not valid");
                versions.push((from, Arc::new(GrantTable::default())));
            }
        }
    }
    Ok(GrantVersions::new(versions))
}
