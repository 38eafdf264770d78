//! The log seam: one ordered, durable sequence per municipality and stream.
//! Stands between publish (append) and route (read).
//! Must never interpret what it stores.
//! Read next: `log/sqlite.rs`, `log/kafka.rs`, and `log/contract.rs` for the rules each backend keeps.
//!
//! ```text
//!   first                     next
//!     │  (trimmed) │ records …  │  (not yet written)
//!   ──┴────────────┴────────────┴──▶ positions: ordered, opaque, gaps are legal
//! ```

use async_trait::async_trait;
use thiserror::Error;
use tokio::sync::watch;

use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream};

#[cfg(test)]
mod contract;
pub mod fences;
pub mod kafka;
pub mod memory;
pub mod sqlite;

/// What a record is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordKind {
    /// An encoded event.
    Event,
    /// An encoded control record: subscriptions, grants, bindings.
    Control,
}

/// A record to append.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRecord {
    /// What it is.
    pub kind: RecordKind,
    /// Event id, or the control record's own id.
    pub key: String,
    /// Content.
    pub sealed: Sealed,
    /// What is said of it in clear, where others read the log too.
    pub attributes: Attributes,
}

/// What is said of an event in clear, as CloudEvents do: never a name, address or number. Empty
/// for a control record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Attributes {
    /// Who published it.
    pub source: String,
    /// Full name of its payload.
    pub event_type: String,
    /// Pseudonym of its subject.
    pub subject: String,
    /// When it happened (RFC 3339).
    pub time: String,
}

/// A record at its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Where it stands.
    pub position: Position,
    /// What it is.
    pub kind: RecordKind,
    /// Event id, or the control record's own id.
    pub key: String,
    /// Content.
    pub sealed: Sealed,
}

/// What a backend can promise beyond the contract.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capabilities {
    /// The same record may stand twice, because an append whose outcome was unknown was sent
    /// again: then only the record at the position claimed in the event index counts.
    pub repeats_possible: bool,
    /// Survives the end of the process.
    pub durable: bool,
}

/// First record that is still there and the next position to be given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Smallest position that may still hold a record.
    pub first: Position,
    /// Position behind the last record.
    pub next: Position,
}

/// What the log keeps from a record on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Kept {
    /// When that record was appended, in seconds since 1970; never falls along the log.
    pub since_s: i64,
    /// Bytes of content of that record and all behind it.
    pub bytes: u64,
}

/// How much one read returns.
#[derive(Clone, Copy, Debug)]
pub struct ReadLimit {
    /// Records.
    pub records: usize,
    /// Bytes; the first record is returned whatever its size.
    pub bytes: usize,
}

/// An append failed.
#[derive(Debug, Error)]
pub enum AppendError {
    /// Nothing was written.
    #[error("append to the log of `{0}` failed and wrote nothing")]
    NotWritten(
        Municipality,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
    /// Nothing was written: there is no room.
    #[error("append to the log of `{0}` found no room on the disk and wrote nothing")]
    Full(
        Municipality,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
    /// It may or may not have been written: read the tail before the next append.
    #[error("append to the log of `{0}` failed with an unknown outcome")]
    OutcomeUnknown(
        Municipality,
        #[source] Box<dyn std::error::Error + Send + Sync>,
    ),
}

/// A read, bounds or trim failed.
#[derive(Debug, Error)]
pub enum LogError {
    /// The backend failed.
    #[error("{action} the log of `{municipality}` failed")]
    Backend {
        /// What was tried.
        action: &'static str,
        /// Whose log.
        municipality: Municipality,
        /// Cause.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The number of the log's life cannot be read or set.
    #[error("the incarnation of the log cannot be read or set: {0}")]
    Incarnation(#[source] sqlx::Error),
    /// This instance does not own the municipality.
    #[error("the log of `{0}` is not owned by this instance")]
    NotOwned(Municipality),
    /// Another owner has taken over: what this one appends counts no more.
    #[error("the log of `{municipality}` was taken over: epoch {epoch} is over, {by} writes now")]
    TakenOver {
        /// Whose log.
        municipality: Municipality,
        /// Epoch of this owner.
        epoch: u64,
        /// Epoch of the owner that took over.
        by: u64,
    },
    /// A topic promises less than the log does.
    #[error("{0}; or allow weak topics explicitly")]
    WeakTopic(Box<kafka::Weakness>),
    /// A topic is not the one that was written: it was deleted, or made again.
    #[error(
        "the topic `{topic}` is not the one that the hub wrote: it holds no fence at position {}; \
         it was deleted or made again, and the events of `{municipality}` in it are lost; restore \
         the topic, or a backup", .position.0
    )]
    ReplacedTopic {
        /// Whose log.
        municipality: Municipality,
        /// Topic.
        topic: String,
        /// Where its last fence should stand.
        position: Position,
    },
    /// The record at a position is not what was written, or is gone.
    #[error(
        "the log of `{municipality}` is damaged at {} position {}: {what}; restore a backup with \
         `musubi restore`", .stream.name(), .position.0
    )]
    Damaged {
        /// Whose log.
        municipality: Municipality,
        /// Stream.
        stream: Stream,
        /// Position.
        position: Position,
        /// What is wrong.
        what: &'static str,
    },
    /// The records from a position on were trimmed: they are gone on purpose.
    #[error(
        "{} position {} of the log of `{municipality}` was trimmed; the first one kept is {}",
        .stream.name(), .position.0, .first.0
    )]
    Trimmed {
        /// Whose log.
        municipality: Municipality,
        /// Stream.
        stream: Stream,
        /// Position asked for.
        position: Position,
        /// First position that is kept.
        first: Position,
    },
}

/// What is wrong with a municipality's part of a log and does not stop it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Concerns {
    /// Settings that promise less than the log does, and were allowed.
    pub weak: u64,
    /// Records of others that were set aside.
    pub set_aside: u64,
}

/// A log that others than the hub can reach and change.
#[async_trait]
pub trait Concerned: Send + Sync + std::fmt::Debug {
    /// What is wrong, as far as it is known now.
    async fn concerns(&self, m: &Municipality) -> Concerns;
}

/// The ordered log. `Ok` from `append` means durable; the order of positions is the order of
/// calls; a batch stands contiguously or not at all. Nobody but the caller retries.
#[async_trait]
pub trait EventLog: Send + Sync + std::fmt::Debug {
    /// What this backend can promise.
    fn capabilities(&self) -> Capabilities;
    /// From now on what an owner of a smaller epoch appends does not count, and this one may append
    /// and read. Nothing to do where one process owns the log for ever.
    async fn own(&self, municipality: &Municipality, owner_epoch: u64) -> Result<(), LogError>;
    /// Appends a batch and returns one position each. An empty batch writes nothing.
    async fn append(
        &self,
        municipality: &Municipality,
        stream: Stream,
        batch: Vec<NewRecord>,
    ) -> Result<Vec<Position>, AppendError>;
    /// Reads from a position on; never blocks for new records; empty at the tail. A position that
    /// was trimmed is an error, and so is a record that is not what was written.
    async fn read(
        &self,
        municipality: &Municipality,
        stream: Stream,
        from: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, LogError>;
    /// First and next position.
    async fn bounds(&self, municipality: &Municipality, stream: Stream)
    -> Result<Bounds, LogError>;
    /// What is kept from the first record at or behind a position on; `None` when there is none.
    /// Asks for no scan: the cost does not grow with the log.
    async fn kept_from(
        &self,
        municipality: &Municipality,
        stream: Stream,
        from: Position,
    ) -> Result<Option<Kept>, LogError>;
    /// A hint that the tail moved: level-triggered, never missed, may come early.
    fn watch_tail(&self, municipality: &Municipality, stream: Stream) -> watch::Receiver<Position>;
    /// Forgets records before a position. The caller has made sure that nobody needs them.
    async fn trim(
        &self,
        municipality: &Municipality,
        stream: Stream,
        up_to: Position,
    ) -> Result<(), LogError>;
}

/// Tail watches of a backend, by municipality and stream.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    senders: std::sync::Mutex<
        std::collections::HashMap<(Municipality, Stream), watch::Sender<Position>>,
    >,
}

impl Tails {
    pub(crate) fn watch(&self, m: &Municipality, stream: Stream) -> watch::Receiver<Position> {
        self.with(m, stream, |sender| sender.subscribe())
    }

    pub(crate) fn moved(&self, m: &Municipality, stream: Stream, next: Position) {
        self.with(m, stream, |sender| {
            sender.send_replace(next);
        });
    }

    fn with<T>(
        &self,
        m: &Municipality,
        stream: Stream,
        act: impl FnOnce(&watch::Sender<Position>) -> T,
    ) -> T {
        let mut senders = self
            .senders
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        act(senders
            .entry((m.clone(), stream))
            .or_insert_with(|| watch::channel(Position::default()).0))
    }
}
