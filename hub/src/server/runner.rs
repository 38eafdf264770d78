//! The runner of one subscription: reads the log, drives the engine, commits, sends.
//! One task each, so that a slow or dead receiver delays only itself (P4).
//! Must never send a run before its composition is stored, nor move a cursor without its outcomes.
//! Read next: `server/runner/reader.rs`, `server/runner/session.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::now_ms;
use crate::event::{Municipality, Position, Pseudonyms, Stream, Subject};
use crate::limits::READS_PER_STEP;
use crate::log::EventLog;
use crate::schema::Schema;
use crate::store::{
    BindingState, DeliveryDelta, Done, Store, StoreError, SubscriptionRow, UnitKey,
};
use musubi_proto::hub::v1::{AttachResponse, Capabilities, Outcome, Receipt};

mod ahead;
mod closing;
mod commit;
mod due;
mod edit;
mod health;
mod missed;
mod parked;
mod payload;
mod reader;
mod repair;
mod replay;
mod session;
mod settings;
mod view;

pub use edit::{EditOrder, apply as apply_edit};
pub use health::Health;
pub use missed::{Ask as MissedAsk, Missed, missed};
pub use payload::{Payload, Replay};
pub use repair::{Repair, RepairAsk, RepairError, RepairReport};
pub use view::Overview;

use session::Session;

/// What a runner works with.
#[derive(Clone)]
pub struct Shared {
    /// Whose.
    pub municipality: Municipality,
    /// Log.
    pub log: Arc<dyn EventLog>,
    /// Store.
    pub store: Arc<dyn Store>,
    /// Shape of the standard.
    pub schema: Arc<Schema>,
    /// Grants by the positions from which they hold.
    pub grants: watch::Receiver<Arc<super::registry::GrantVersions>>,
    /// Protected subjects.
    pub protected: watch::Receiver<Arc<HashSet<Subject>>>,
    /// Pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Whether the disk has room.
    pub room: Arc<super::room::Room>,
    /// Until when this instance may send.
    pub lease: super::lease::Lease,
    /// What runs for the municipality.
    pub tasks: super::tasks::Tasks,
    /// Epoch of this owner.
    pub owner_epoch: u64,
    /// Told the id of a filling subscription that has ended.
    pub filled: mpsc::Sender<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("municipality", &self.municipality)
            .finish_non_exhaustive()
    }
}

/// An adapter that wants to attach.
#[derive(Debug)]
pub struct AttachAsk {
    /// Product.
    pub product: String,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// Its stream.
    pub out: mpsc::Sender<AttachResponse>,
    /// Cancelled when the stream is to end.
    pub end: CancellationToken,
}

/// What a runner is asked.
#[derive(Debug)]
pub enum Command {
    /// Attach an adapter; answers its session number.
    Attach(Box<AttachAsk>, oneshot::Sender<Option<u64>>),
    /// More credits.
    Credits(u64, u32),
    /// An answer.
    Receipt(u64, Box<Receipt>),
    /// The stream ended.
    Detach(u64),
    /// An act of an operator, or its dry run.
    Repair(
        Box<RepairAsk>,
        oneshot::Sender<Result<RepairReport, RepairError>>,
    ),
    /// A parked event gives way to its correction; answers whether it did.
    Edit(Box<EditOrder>, oneshot::Sender<Result<bool, StoreError>>),
    /// Bindings changed: read the row again, then answer. A session of a product that is bound no
    /// more has ended by then.
    Refresh(oneshot::Sender<()>),
    /// Replays were started or stopped: look again.
    Replays,
    /// Show the state, beside the ends of the log (live and bulk).
    Overview(
        Box<SubscriptionRow>,
        [Position; 2],
        oneshot::Sender<Overview>,
    ),
}

/// What came before a runner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Past {
    /// Nothing: the subscription has just begun.
    New,
    /// A process that ended, and may have sent what the store does not know of.
    Recovered,
}

/// Handle to a runner.
#[derive(Clone, Debug)]
pub struct Runner {
    /// Subscription.
    pub id: String,
    /// Its commands.
    pub commands: mpsc::Sender<Command>,
}

impl Runner {
    /// Has the runner read its bindings again, and waits until it did.
    pub async fn refresh(&self) {
        let (reply, done) = oneshot::channel();
        // A runner that ended at shutdown has nothing to refresh.
        if self.commands.send(Command::Refresh(reply)).await.is_ok() && done.await.is_err() {
            tracing::debug!("a runner ended while it was refreshed");
        }
    }

    /// Has the runner carry out an act; `None` when it ended at shutdown.
    pub async fn repair(&self, ask: RepairAsk) -> Option<Result<RepairReport, RepairError>> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Repair(Box::new(ask), reply);
        self.commands.send(command).await.ok()?;
        answer.await.ok()
    }

    /// Starts the task for a subscription.
    pub fn start(
        shared: Shared,
        row: SubscriptionRow,
        past: Past,
        stop: CancellationToken,
    ) -> Self {
        let (commands, queue) = mpsc::channel(crate::limits::RUNNER_QUEUE);
        let id = row.id.clone();
        let live_tail = shared.log.watch_tail(&shared.municipality, Stream::Live);
        let bulk_tail = shared.log.watch_tail(&shared.municipality, Stream::Bulk);
        let tasks = shared.tasks.clone();
        let state = State {
            shared,
            row,
            session: None,
            health: Health::default(),
            next_session: 1,
            past,
            filled_before_cut: false,
            closed_out: 0,
            resume_parked: false,
            draining: false,
            more: false,
            maybe_sent: [0; 2],
            doubted: HashSet::new(),
            next_due: None,
            replay: None,
            look_for_replay: true,
            live_tail,
            bulk_tail,
            started: Instant::now(),
        };
        tasks.spawn(run(state, queue, stop));
        Self { id, commands }
    }
}

/// State of a runner.
struct State {
    shared: Shared,
    row: SubscriptionRow,
    session: Option<Session>,
    /// How the receiver answered, over its sessions.
    health: Health,
    next_session: u64,
    past: Past,
    /// No filling subscription of the serving binding is open any more.
    filled_before_cut: bool,
    /// Epoch of the binding before whose cut everything is closed.
    closed_out: u64,
    /// An adapter has just attached: what was on its way back from parking goes on.
    resume_parked: bool,
    /// The hub is ending: nothing is sent any more.
    draining: bool,
    /// The last step ended before everything was read.
    more: bool,
    /// Sequences (live, bulk) before which a process that died may have sent units.
    maybe_sent: [u64; 2],
    /// Units of which a former session did not know whether they arrived.
    doubted: HashSet<UnitKey>,
    /// When the next set-aside unit is due, in milliseconds since 1970.
    next_due: Option<i64>,
    /// The replay that runs.
    replay: Option<replay::Job>,
    /// Replays were started or stopped, or the page under way is lost with its stream.
    look_for_replay: bool,
    live_tail: watch::Receiver<Position>,
    bulk_tail: watch::Receiver<Position>,
    started: Instant,
}

/// How long a runner sleeps at most when nothing tells it to wake.
const IDLE: Duration = Duration::from_secs(1);
/// Commands taken before the next commit.
const COMMANDS_PER_STEP: usize = 256;

async fn run(mut state: State, mut queue: mpsc::Receiver<Command>, stop: CancellationToken) {
    loop {
        let wait = state.wait();
        tokio::select! {
            () = stop.cancelled() => return state.drain(&mut queue).await,
            command = queue.recv() => match command {
                None => return,
                Some(command) => state.take(command, &mut queue).await,
            },
            _ = state.live_tail.changed() => {}
            _ = state.bulk_tail.changed() => {}
            () = tokio::time::sleep(wait) => {}
        }
        if let Err(error) = state.work().await {
            if let StepError::Store(StoreError::Full { .. }) = error {
                state.shared.room.refused(now_ms());
            }
            report(&state.row.id, &error);
            state.drop_session();
            tokio::time::sleep(crate::limits::RETRY_BASE).await;
        }
    }
}

fn report(subscription: &str, error: &StepError) {
    let error: &dyn std::error::Error = error;
    tracing::error!(
        error,
        subscription,
        "a delivery step failed; the adapter has to attach again"
    );
}

impl State {
    fn now(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn wait(&self) -> Duration {
        if self.more {
            return Duration::ZERO;
        }
        let due = self
            .session
            .as_ref()
            .and_then(|session| session.engine.wake_at());
        let due = due.map_or(IDLE, |at| {
            let millis = u64::try_from(at.saturating_sub(self.now())).unwrap_or(0);
            Duration::from_millis(millis).min(IDLE)
        });
        due.min(self.until_hours_change())
    }

    /// Takes the answers to what is under way, sends nothing more, and lets the adapter go: what
    /// is answered now is not delivered again.
    async fn drain(&mut self, queue: &mut mpsc::Receiver<Command>) {
        self.draining = true;
        let end = tokio::time::Instant::now() + crate::limits::DRAIN_RECEIPTS;
        while self.session.as_ref().is_some_and(Session::awaits) {
            let Ok(Some(command)) = tokio::time::timeout_at(end, queue.recv()).await else {
                break;
            };
            self.take(command, queue).await;
            if let Err(error) = self.commit().await {
                report(&self.row.id, &error);
                break;
            }
        }
        self.keep_attempts().await;
        self.drop_session();
    }

    async fn take(&mut self, command: Command, queue: &mut mpsc::Receiver<Command>) {
        self.handle(command).await;
        for _ in 1..COMMANDS_PER_STEP {
            let Ok(command) = queue.try_recv() else {
                return;
            };
            self.handle(command).await;
        }
    }

    async fn handle(&mut self, command: Command) {
        match command {
            Command::Attach(ask, reply) => {
                let number = self.attach(*ask).await;
                self.resume_parked |= number.is_some();
                if reply.send(number).is_err() {
                    self.drop_session();
                }
            }
            Command::Credits(number, add) => {
                let now = self.now();
                if let Some(session) = self.session.as_mut().filter(|one| one.number == number) {
                    session.credits(add, now);
                }
            }
            Command::Receipt(number, receipt) => self.receipt(number, &receipt),
            Command::Detach(number) => {
                if self
                    .session
                    .as_ref()
                    .is_some_and(|session| session.number == number)
                {
                    self.keep_attempts().await;
                    self.drop_session();
                }
            }
            Command::Repair(ask, reply) => {
                // What was decided and is not stored yet may park more of the same subjects.
                if let Err(error) = self.commit().await {
                    report(&self.row.id, &error);
                    self.drop_session();
                }
                let outcome = self.repair(&ask).await;
                drop(reply.send(outcome));
            }
            Command::Edit(order, reply) => {
                if let Err(error) = self.commit().await {
                    report(&self.row.id, &error);
                    self.drop_session();
                }
                let outcome = self.edit(&order).await;
                drop(reply.send(outcome));
            }
            Command::Refresh(reply) => {
                if let Err(error) = self.refresh().await {
                    tracing::error!(%error, subscription = self.row.id, "refresh failed");
                    self.drop_session();
                }
                if reply.send(()).is_err() {
                    tracing::debug!("nobody waits for the refresh any more");
                }
            }
            Command::Replays => self.look_for_replay = true,
            Command::Overview(row, ends, reply) => {
                drop(reply.send(self.overview(*row, ends)));
            }
        }
    }

    fn receipt(&mut self, number: u64, receipt: &Receipt) {
        let now = self.now();
        if let Some(session) = self
            .session
            .as_mut()
            .filter(|session| session.number == number)
        {
            session.receipt(receipt, now, &mut self.health);
        }
    }

    /// Notes the attempts that are under way, so that the next session counts on.
    async fn keep_attempts(&mut self) {
        let Some(session) = &self.session else { return };
        let delta = DeliveryDelta {
            attempts: session.engine.leased_attempts(),
            ..self.delta()
        };
        if !delta.is_empty()
            && let Err(error) = self.shared.store.commit(delta).await
        {
            tracing::warn!(%error, subscription = self.row.id, "attempts were not noted");
        }
    }

    fn drop_session(&mut self) {
        self.replay = None;
        self.look_for_replay = true;
        if let Some(session) = self.session.take() {
            self.doubted = session.engine.doubted();
            session.end.cancel();
        }
    }

    /// Closes what a cut left open, reads, steps, commits and sends, until nothing moves.
    async fn work(&mut self) -> Result<(), StepError> {
        self.close_out().await?;
        self.keep_hours();
        self.more = false;
        // A receiver that is far behind is read for without end: in between, the runner listens.
        for _ in 0..READS_PER_STEP {
            let read = self.read().await?;
            self.commit().await?;
            if !read
                && !self.resume_parked().await?
                && !self.take_back_due().await?
                && !self.replay().await?
            {
                return self.finish_filling().await;
            }
        }
        self.more = true;
        Ok(())
    }

    /// An outcome that the hub gives by itself.
    fn closed(&self, key: UnitKey, event_ids: Vec<String>, reason: &str) -> Done {
        let mut bindings = self.row.bindings.iter().rev();
        let replaced = bindings.find(|binding| binding.state == BindingState::Replaced);
        let done = Done {
            key,
            event_ids,
            attempt: 0,
            outcome: Outcome::SupersededBySwap as i32,
            reason: reason.to_owned(),
            at_ms: now_ms(),
            product: replaced
                .map(|binding| binding.product.clone())
                .unwrap_or_default(),
        };
        crate::telemetry::closed(&self.row, &done);
        done
    }

    fn delta(&self) -> DeliveryDelta {
        DeliveryDelta {
            subscription: self.row.id.clone(),
            owner_epoch: self.shared.owner_epoch,
            ..DeliveryDelta::default()
        }
    }
}

/// A step of a runner failed; what the store has is unchanged.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The log.
    #[error(transparent)]
    Log(#[from] crate::log::LogError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The lease is over: another instance may own the municipality.
    #[error("the lease of this instance is over; nothing is sent until it is prolonged")]
    NoLease,
    /// A record.
    #[error("the record at {position} of the {stream} stream cannot be read: {what}")]
    Record {
        /// Stream.
        stream: &'static str,
        /// Position.
        position: u64,
        /// What is wrong.
        what: &'static str,
    },
}
