//! The sequencer: one task per municipality that gives units their place in the log.
//! Claims, appends and commits in batches (group commit); answers after the commit.
//! Must never append what the source rules did not accept, nor commit what the log does not have.
//! Read next: `publish/sequencer/batch.rs`, `publish/sequencer/recovery.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use musubi_proto::crash;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::AbortHandle;

use super::candidate::{Candidate, Refused};
use super::control::{Change, Control};
use crate::event::{Municipality, Position, Pseudonyms, Stream, Subject};
use crate::limits::{PUBLISH_BATCH_UNITS, PUBLISH_QUEUE_REQUESTS};
use crate::log::{AppendError, EventLog, LogError};
use crate::store::{Store, StoreError};

mod batch;
mod decide;
mod protection;
mod recovery;
#[cfg(test)]
mod tests;

/// One unit of a request, after validation.
#[derive(Debug)]
pub enum Entry {
    /// Events.
    Unit(Candidate),
    /// A 届出 with refused rows.
    Refused(Refused),
    /// Events of a captured unit that the hub itself found wrong: it is held like refused rows.
    Invalid(Candidate, Broken),
}

/// The rule that a captured unit broke.
#[derive(Clone, Debug)]
pub struct Broken {
    /// Rule.
    pub rule: String,
    /// Field.
    pub field: String,
    /// Text.
    pub message: String,
}

/// A publish request, after validation.
#[derive(Debug)]
pub struct Batch {
    /// Source.
    pub source: String,
    /// Stream.
    pub stream: Stream,
    /// Units in order.
    pub entries: Vec<Entry>,
    /// Cursor after them.
    pub cursor: Option<String>,
    /// The request comes from a capture: what is refused is held.
    pub captured: bool,
    /// Epoch of the capture binding, when the request claims one.
    pub capture_epoch: Option<u64>,
}

/// Answer to one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Durable.
    Accepted {
        /// Position of its last event.
        position: Position,
        /// It had been accepted before.
        duplicate: bool,
    },
    /// Waits in the hub.
    Held {
        /// Identifier.
        id: String,
        /// Rule.
        rule: String,
    },
    /// Refused; nothing was kept.
    Refused {
        /// Rule.
        rule: &'static str,
        /// Field.
        field: &'static str,
        /// Text.
        message: &'static str,
    },
}

/// A request failed as a whole; the publisher may send it again.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The queue is full.
    #[error("`{0}` has too many publishes waiting; send again after a moment")]
    Overloaded(Municipality),
    /// Another capture took over the source.
    #[error("`{source_name}` is captured under epoch {current} now, not {given}")]
    Fenced {
        /// Source.
        source_name: String,
        /// Epoch in force.
        current: u64,
        /// Epoch of the request.
        given: u64,
    },
    /// The log failed.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The log could not be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no room on the disk.
    #[error("there is no room on the hub's disk for `{0}`")]
    DiskFull(Municipality),
    /// The sequencer ended.
    #[error("the hub is shutting down")]
    Stopped,
}

impl PublishError {
    /// True when there was no room on the disk.
    pub fn is_full(&self) -> bool {
        matches!(
            self,
            Self::DiskFull(_)
                | Self::Append(AppendError::Full(..))
                | Self::Store(StoreError::Full { .. })
        )
    }

    /// What the others are told whose publish was not tried because this one failed.
    fn for_others(&self, m: &Municipality) -> Self {
        if self.is_full() {
            Self::DiskFull(m.clone())
        } else {
            Self::Stopped
        }
    }
}

/// Where a control record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ControlPlace {
    /// In live.
    pub live: Position,
    /// Next position of bulk at that moment.
    pub bulk: Position,
    /// How long publishing waited for it, in microseconds.
    pub pause_us: u64,
}

/// Makes the change once the record's place is known; called again after a crash.
pub type Apply = dyn Fn(&Municipality, Control, Position) -> ApplyFuture + Send + Sync;
/// What `Apply` returns.
pub type ApplyFuture =
    std::pin::Pin<Box<dyn Future<Output = Result<(), StoreError>> + Send + 'static>>;

enum Command {
    Publish(Batch, oneshot::Sender<Result<Vec<Answer>, PublishError>>),
    Control(Box<ControlRequest>),
    /// Takes nothing more, does what waits already, answers and ends.
    Close(oneshot::Sender<()>),
}

struct ControlRequest {
    operator: String,
    reason: String,
    change: Change,
    reply: oneshot::Sender<Result<ControlPlace, PublishError>>,
}

/// Handle to a municipality's sequencer.
#[derive(Clone, Debug)]
pub struct Sequencer {
    municipality: Municipality,
    commands: mpsc::Sender<Command>,
    task: AbortHandle,
}

/// What a sequencer works with.
#[derive(Clone)]
pub struct Parts {
    /// Whose.
    pub municipality: Municipality,
    /// Log.
    pub log: Arc<dyn EventLog>,
    /// Store.
    pub store: Arc<dyn Store>,
    /// Pseudonyms.
    pub pseudonyms: Pseudonyms,
    /// Applies control records.
    pub apply: Arc<Apply>,
    /// Protected subjects, as the runners see them.
    pub protected: watch::Sender<Arc<HashSet<Subject>>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts")
            .field("municipality", &self.municipality)
            .finish_non_exhaustive()
    }
}

impl Sequencer {
    /// Recovers what a crash left between log and store, then starts the task.
    pub async fn start(parts: Parts) -> Result<Self, PublishError> {
        recovery::recover(&parts).await?;
        let (commands, queue) = mpsc::channel(PUBLISH_QUEUE_REQUESTS);
        let municipality = parts.municipality.clone();
        let task = tokio::spawn(run(parts, queue)).abort_handle();
        Ok(Self {
            municipality,
            commands,
            task,
        })
    }

    /// Publishes a batch; answers in the order of its entries.
    pub async fn publish(&self, batch: Batch) -> Result<Vec<Answer>, PublishError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(Command::Publish(batch, reply))
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => {
                    PublishError::Overloaded(self.municipality.clone())
                }
                mpsc::error::TrySendError::Closed(_) => PublishError::Stopped,
            })?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }

    /// Takes nothing more, and returns when what waited is answered. What is not answered within a
    /// time is dropped where it stands, as if the process had died there; false when it had to.
    pub async fn close(&self, within: Duration) -> bool {
        let closing = async {
            let (reply, closed) = oneshot::channel();
            // One that has ended already has nothing that waits.
            if self.commands.send(Command::Close(reply)).await.is_ok() {
                drop(closed.await);
            }
        };
        let closed = tokio::time::timeout(within, closing).await.is_ok();
        self.task.abort();
        self.commands.closed().await;
        closed
    }

    /// Appends a control record between two publish batches and applies it.
    pub async fn control(
        &self,
        operator: String,
        reason: String,
        change: Change,
    ) -> Result<ControlPlace, PublishError> {
        let (reply, answer) = oneshot::channel();
        let request = ControlRequest {
            operator,
            reason,
            change,
            reply,
        };
        self.commands
            .send(Command::Control(Box::new(request)))
            .await
            .map_err(|_| PublishError::Stopped)?;
        answer.await.map_err(|_| PublishError::Stopped)?
    }
}

/// One publish that waits for its answer.
type Waiting = (Batch, oneshot::Sender<Result<Vec<Answer>, PublishError>>);

async fn run(parts: Parts, mut queue: mpsc::Receiver<Command>) {
    let mut sound = true;
    let mut next = None;
    // Answered by dropping them, when all that waits is done.
    let mut closed = Vec::new();
    loop {
        let Some(command) = (match next.take() {
            Some(command) => Some(command),
            None => queue.recv().await,
        }) else {
            return;
        };
        let ready = if sound {
            Ok(())
        } else {
            // An append of unknown outcome: what the log really has decides.
            recovery::recover(&parts).await.inspect_err(report)
        };
        sound = match command {
            Command::Close(reply) => {
                queue.close();
                closed.push(reply);
                ready.is_ok()
            }
            Command::Control(request) => control(&parts, *request, ready).await,
            Command::Publish(batch, reply) => {
                let mut waiting: Vec<Waiting> = vec![(batch, reply)];
                next = gather(&mut queue, &mut waiting);
                publish_all(&parts, waiting, ready).await
            }
        };
    }
}

/// Takes what waits already, up to one group commit; returns a command of another kind.
fn gather(queue: &mut mpsc::Receiver<Command>, waiting: &mut Vec<Waiting>) -> Option<Command> {
    let mut units: usize = waiting.iter().map(|(batch, _)| batch.entries.len()).sum();
    while units < PUBLISH_BATCH_UNITS {
        match queue.try_recv() {
            Ok(Command::Publish(batch, reply)) => {
                units += batch.entries.len();
                waiting.push((batch, reply));
            }
            Ok(other) => return Some(other),
            Err(_) => return None,
        }
    }
    None
}

async fn publish_all(
    parts: &Parts,
    waiting: Vec<Waiting>,
    ready: Result<(), PublishError>,
) -> bool {
    let (batches, replies): (Vec<Batch>, Vec<_>) = waiting.into_iter().unzip();
    if let Err(error) = ready {
        for reply in replies {
            respond(reply, Err(error.for_others(&parts.municipality)));
        }
        return false;
    }
    let outcomes = batch::publish(parts, batches).await;
    let sound = outcomes.iter().all(|outcome| match outcome {
        Ok(_) | Err(PublishError::Fenced { .. } | PublishError::Overloaded(_)) => true,
        Err(error) => {
            report(error);
            false
        }
    });
    for (reply, outcome) in replies.into_iter().zip(outcomes) {
        respond(reply, outcome);
        crash::point("publish.answered");
    }
    sound
}

async fn control(parts: &Parts, request: ControlRequest, ready: Result<(), PublishError>) -> bool {
    let ControlRequest {
        operator,
        reason,
        change,
        reply,
    } = request;
    if let Err(error) = ready {
        respond(reply, Err(error.for_others(&parts.municipality)));
        return false;
    }
    let outcome = batch::control(parts, operator, reason, change).await;
    let sound = outcome.as_ref().inspect_err(|error| report(error)).is_ok();
    respond(reply, outcome);
    sound
}

fn respond<T>(reply: oneshot::Sender<T>, outcome: T) {
    // The caller may have gone away; what was published stays published.
    drop(reply.send(outcome));
}

fn report(error: &PublishError) {
    let error: &dyn std::error::Error = error;
    tracing::error!(
        error,
        "publish failed; the log's tail is read again before the next one"
    );
}
