//! The publish side of the store: event index with claims, versions, held units, capture cursors.
//! Used by the sequencer before and after it appends to the log.
//! Must never say that an event is placed before the log has it.
//! Read next: `publish/sequencer.rs`.
//!
//! ```text
//!   claim (id, digest) ──▶ append to the log ──▶ commit: place the claims, raise versions,
//!        │                       │                 close held units, move the capture cursor
//!        └── crash: claim without place            └── crash: the next start reads the log's tail
//!            is taken again by the same id             behind the committed tail and commits it
//! ```

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;

use super::{Durability, StoreError};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream, Subject};

/// An event id with what it stands for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Event id.
    pub id: String,
    /// Digest of what the source gave.
    pub digest: Vec<u8>,
    /// Full type name.
    pub event_type: String,
    /// Whom it is about.
    pub subject: Subject,
    /// Version of the subject.
    pub version: u32,
    /// File it was captured from; empty for a direct publish.
    pub file: String,
    /// Record in that file.
    pub line: u64,
    /// When it was published, in milliseconds since 1970.
    pub published_ms: i64,
    /// W3C trace context of the creation; empty when there is none.
    pub traceparent: String,
}

/// What the index knows of an id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    /// Claimed or placed.
    Claimed {
        /// Digest of what the source gave.
        digest: Vec<u8>,
        /// Where it stands, once it does.
        at: Option<(Stream, Position)>,
    },
    /// Lies in a held unit.
    Held {
        /// The held unit.
        held_id: String,
        /// Digest of what the source gave.
        digest: Vec<u8>,
    },
}

/// A claim whose event stands in the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Source.
    pub source: String,
    /// The claim.
    pub claim: Claim,
    /// Stream.
    pub stream: Stream,
    /// Position.
    pub position: Position,
}

/// Last accepted version of one subject of one source.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VersionOf {
    /// Source.
    pub source: String,
    /// Subject.
    pub subject: Subject,
    /// Version.
    pub version: u32,
}

/// What a held unit holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldKind {
    /// Rows as handed out (an encoded `RefusedUnit`): they never became events.
    Rows,
    /// Events (an encoded `Unit`).
    Events,
}

/// What a held unit waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldState {
    /// For a correction.
    Refused,
    /// For the units before it.
    Waiting,
    /// It was corrected.
    Corrected,
    /// It followed.
    Released,
}

/// A unit to hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewHeld {
    /// Source.
    pub source: String,
    /// The source's key of the group or row; with file and line it names the unit.
    pub key: String,
    /// State: refused or waiting.
    pub state: HeldState,
    /// Rule.
    pub rule: String,
    /// File.
    pub file: String,
    /// Record in the file.
    pub line: u64,
    /// Item or field.
    pub item: String,
    /// Text for the clerk.
    pub message: String,
    /// Rows or events.
    pub rows: u32,
    /// When, in milliseconds since 1970.
    pub held_ms: i64,
    /// Kind of content.
    pub kind: HeldKind,
    /// Content.
    pub content: Sealed,
    /// Subjects with their versions (0 when unreadable), in order.
    pub subjects: Vec<(Subject, u32)>,
    /// Ids and digests of its events, when it has any.
    pub events: Vec<(String, Vec<u8>)>,
}

/// A held unit as stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HeldRow {
    /// Identifier; ordered by age.
    pub id: String,
    /// What was held.
    pub held: NewHeld,
    /// Event that corrected it; empty otherwise.
    pub corrected_by: String,
}

/// Which held units a list shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeldFilter {
    /// Refused and waiting.
    Open,
    /// One state.
    State(HeldState),
}

/// Where a source's capture stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CaptureState {
    /// Epoch of the capture binding; 0 when nothing was bound.
    pub epoch: u64,
    /// Product that captures.
    pub product: String,
    /// Cursor; `None` before the first page.
    pub cursor: Option<String>,
}

/// A source's snapshot in the bulk stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotMark {
    /// Source.
    pub source: String,
    /// Identifier of the run.
    pub snapshot_id: String,
    /// Position of its header.
    pub bulk_start: Position,
    /// Position of its trailer, once it is there.
    pub bulk_end: Option<Position>,
    /// Next live position when the header was appended: changes after it belong to this state.
    pub live_mark: Position,
}

/// State of one support measure (支援措置) of one subject.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtectionMark {
    /// Subject.
    pub subject: Subject,
    /// 支援措置番号.
    pub measure: String,
    /// 支援措置の版; 0 when it was only seen on a record.
    pub version: u32,
    /// False once it was ended.
    pub active: bool,
}

/// All that one publish batch changes, applied at once or not at all.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PublishDelta {
    /// Events that stand in the log. Placing also closes held units: those that hold the event
    /// become released, refused ones with the same subject and version become corrected.
    pub placed: Vec<Placed>,
    /// Raised versions; a lower one than stored changes nothing.
    pub versions: Vec<VersionOf>,
    /// Units to hold; one that is held already (source, key, file, line) stays as it is.
    pub hold: Vec<NewHeld>,
    /// Held units that a named correction closes, with the correcting event.
    pub corrected: Vec<(String, String)>,
    /// Moves a capture cursor.
    pub cursor: Option<(String, String)>,
    /// Snapshots that began or ended.
    pub snapshots: Vec<SnapshotMark>,
    /// Support measures; a mark whose version is not above the stored one changes nothing.
    pub protection: Vec<ProtectionMark>,
    /// Placed events that each receiver has to apply within a limit.
    pub follow: Vec<super::Followed>,
    /// How far each stream of the log is committed: the next start reads on from there.
    pub tail: Vec<(Stream, Position)>,
}

impl PublishDelta {
    /// What its commit has to survive. The log brings back places, versions and support measures;
    /// a capture cursor that is taken back makes the source send again, which is answered as a
    /// duplicate. What no record of the log says must not be taken back: held units, with the
    /// cursor that passed them, their corrections, and where `live` stood at a snapshot's header.
    /// A tail that passes no event has passed a control record, which is applied only once.
    pub fn durability(&self) -> Durability {
        let rebuilt = self.hold.is_empty()
            && self.corrected.is_empty()
            && self.snapshots.is_empty()
            && (self.tail.is_empty() || !self.placed.is_empty());
        if rebuilt {
            Durability::WithLog
        } else {
            Durability::Now
        }
    }
}

/// What a claim has to survive: the log's record says all of it but the file and its line.
pub fn claim_durability(claims: &[Claim]) -> Durability {
    if claims.iter().all(|claim| claim.file.is_empty()) {
        Durability::WithLog
    } else {
        Durability::Now
    }
}

/// An event as the index shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexedEvent {
    /// Source.
    pub source: String,
    /// The claim.
    pub claim: Claim,
    /// Where it stands; `None` while its append is not confirmed.
    pub at: Option<(Stream, Position)>,
}

/// The publish role.
#[async_trait]
pub trait PublishStore: Send + Sync + std::fmt::Debug {
    /// What is known of ids of one source; unknown ids are missing in the answer.
    async fn known(
        &self,
        m: &Municipality,
        source: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Known>, StoreError>;
    /// Claims ids; an id that is claimed stays as it is.
    async fn claim(
        &self,
        m: &Municipality,
        source: &str,
        claims: &[Claim],
    ) -> Result<(), StoreError>;
    /// Last accepted versions; unknown subjects are missing in the answer.
    async fn versions(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<HashMap<Subject, u32>, StoreError>;
    /// Open held units that concern any of the subjects, oldest first.
    async fn held_behind(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<Vec<HeldRow>, StoreError>;
    /// Applies a delta and returns the ids of the units in `hold`, in order (also of those that
    /// were held already).
    async fn commit_publish(
        &self,
        m: &Municipality,
        delta: PublishDelta,
    ) -> Result<Vec<String>, StoreError>;
    /// Finds one event.
    async fn find_event(
        &self,
        m: &Municipality,
        id: &str,
    ) -> Result<Option<IndexedEvent>, StoreError>;
    /// Finds a subject's events, in the order in which they were published.
    async fn events_of(
        &self,
        m: &Municipality,
        subject: &Subject,
        limit: usize,
    ) -> Result<Vec<IndexedEvent>, StoreError>;
    /// How far each stream is committed.
    async fn committed_tail(&self, m: &Municipality, s: Stream) -> Result<Position, StoreError>;
    /// Snapshots, oldest first.
    async fn snapshots(&self, m: &Municipality) -> Result<Vec<SnapshotMark>, StoreError>;
    /// Subjects with a support measure that was not ended.
    async fn protected(&self, m: &Municipality) -> Result<HashSet<Subject>, StoreError>;
    /// Capture binding and cursor.
    async fn capture(&self, m: &Municipality, source: &str) -> Result<CaptureState, StoreError>;
    /// Raises a capture binding's epoch and returns it.
    async fn bind_capture(
        &self,
        m: &Municipality,
        source: &str,
        product: &str,
    ) -> Result<u64, StoreError>;
    /// A page of held units behind an id, oldest first, and their number in all.
    async fn list_held(
        &self,
        m: &Municipality,
        filter: HeldFilter,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<HeldRow>, u64), StoreError>;
    /// One held unit.
    async fn held(&self, m: &Municipality, id: &str) -> Result<Option<HeldRow>, StoreError>;
}
