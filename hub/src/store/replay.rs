//! What a subscription had, and the replays that deliver some of it once more.
//! Used by the runner of a replay and by receivers that miss something.
//! Must never name a unit that the subscription did not have, nor run two replays of one at once.
//! Read next: `server/runner/replay.rs`, `docs/specs/replay.md`.

use async_trait::async_trait;

use super::{NewAct, StoreError};
use crate::event::{Municipality, Position, Stream, Subject};

/// Which of the events that a subscription had: those that every given word names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selection {
    /// Stream; `None`: both.
    pub stream: Option<Stream>,
    /// First position.
    pub from_position: Option<Position>,
    /// Last position.
    pub to_position: Option<Position>,
    /// Published at this time or later, in milliseconds since 1970.
    pub from_ms: Option<i64>,
    /// Published before this time.
    pub to_ms: Option<i64>,
    /// Subjects; empty: all.
    pub subjects: Vec<Subject>,
    /// Event types; empty: all.
    pub types: Vec<String>,
}

impl Selection {
    /// True when an event is named.
    pub fn names(&self, event: &HadEvent) -> bool {
        self.stream.is_none_or(|stream| stream == event.stream)
            && self.from_position.is_none_or(|from| event.position >= from)
            && self.to_position.is_none_or(|to| event.position <= to)
            && self.from_ms.is_none_or(|from| event.published_ms >= from)
            && self.to_ms.is_none_or(|to| event.published_ms < to)
            && (self.subjects.is_empty() || self.subjects.contains(&event.subject))
            && (self.types.is_empty() || self.types.contains(&event.event_type))
    }
}

/// An event that a subscription had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HadEvent {
    /// Id.
    pub id: String,
    /// Type.
    pub event_type: String,
    /// Whom it is about.
    pub subject: Subject,
    /// When it was published, in milliseconds since 1970.
    pub published_ms: i64,
    /// Stream.
    pub stream: Stream,
    /// Position.
    pub position: Position,
    /// Sequence of its unit.
    pub sequence: u64,
    /// Member as it was delivered last; 0: with its whole unit.
    pub member: u32,
    /// Order of its last outcome among all outcomes.
    pub ended: u64,
    /// How it ended last, as on the wire.
    pub outcome: i32,
    /// Reason of that.
    pub reason: String,
}

/// What a selection comes to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Selected {
    /// Units.
    pub units: u64,
    /// Subjects.
    pub subjects: u64,
    /// First position of the live and of the bulk stream.
    pub first: [Option<Position>; 2],
}

/// How far a replay is: first the selected units, bulk before live, then the subjects touched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayAt {
    /// All selected units of a stream up to this sequence are through.
    Units(Stream, u64),
    /// The subjects up to this one have got their latest event.
    Subjects(Option<Subject>),
}

impl ReplayAt {
    /// In stored rows: stream (0 for subjects), sequence, subject.
    pub(super) fn columns(&self) -> (i64, i64, Option<&str>) {
        match self {
            ReplayAt::Units(stream, sequence) => (stream.number(), *sequence as i64, None),
            ReplayAt::Subjects(subject) => (0, 0, subject.as_ref().map(|of| of.0.as_str())),
        }
    }

    /// Reads its columns.
    pub(super) fn stored(stream: i64, sequence: i64, subject: Option<String>) -> Self {
        match stream {
            0 => ReplayAt::Subjects(subject.map(Subject)),
            stream => ReplayAt::Units(Stream::from_number(stream), sequence as u64),
        }
    }
}

/// Where a replay stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplayState {
    /// Under way.
    Running,
    /// Through.
    Done,
    /// Stopped before its end.
    Stopped,
}

impl ReplayState {
    /// Number in stored rows.
    pub(super) fn number(self) -> i64 {
        match self {
            ReplayState::Running => 1,
            ReplayState::Done => 2,
            ReplayState::Stopped => 3,
        }
    }

    /// Reads a stored number.
    pub(super) fn from_number(number: i64) -> Self {
        match number {
            1 => ReplayState::Running,
            2 => ReplayState::Done,
            _ => ReplayState::Stopped,
        }
    }
}

/// A replay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayRow {
    /// Identifier; rises with time.
    pub id: String,
    /// Subscription.
    pub subscription: String,
    /// Epoch of the binding that it is for.
    pub binding_epoch: u64,
    /// What it selects.
    pub selection: Selection,
    /// Under new idempotency keys, and only the latest event of each subject.
    pub repair: bool,
    /// Who started it.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since 1970.
    pub started_ms: i64,
    /// Units and subjects that were selected.
    pub selected: (u64, u64),
    /// Its progress.
    pub progress: ReplayProgress,
}

/// What changes of a replay while it runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplayProgress {
    /// State.
    pub state: ReplayState,
    /// Why it stopped.
    pub note: String,
    /// When it ended, in milliseconds since 1970.
    pub ended_ms: Option<i64>,
    /// What is wholly through.
    pub at: ReplayAt,
    /// Deliverables that got an outcome.
    pub delivered: u64,
    /// Of these, those that the product had already.
    pub known: u64,
    /// Deliverables that were parked.
    pub parked: u64,
}

impl ReplayProgress {
    /// At the start.
    pub fn start(repair: bool) -> Self {
        Self {
            state: ReplayState::Running,
            note: String::new(),
            ended_ms: None,
            at: if repair {
                ReplayAt::Subjects(None)
            } else {
                ReplayAt::Units(Stream::Bulk, 0)
            },
            delivered: 0,
            known: 0,
            parked: 0,
        }
    }
}

/// The role of replays.
#[async_trait]
pub trait ReplayStore: Send + Sync + std::fmt::Debug {
    /// Writes a replay with its act; false, and nothing is written, while another one of the same
    /// subscription runs.
    async fn start_replay(&self, row: ReplayRow, act: NewAct) -> Result<bool, StoreError>;
    /// Writes the progress of a running replay, with an act when an operator ends it; false, and
    /// nothing is written, when it does not run.
    async fn move_replay(
        &self,
        id: &str,
        progress: ReplayProgress,
        act: Option<NewAct>,
    ) -> Result<bool, StoreError>;
    /// The replay of a subscription that runs.
    async fn running_replay(&self, subscription: &str) -> Result<Option<ReplayRow>, StoreError>;
    /// Replays of a municipality, latest first.
    async fn replays(&self, m: &Municipality, limit: usize) -> Result<Vec<ReplayRow>, StoreError>;
    /// What a selection comes to. What an operator skipped is not counted.
    async fn selected(&self, subscription: &str, of: &Selection) -> Result<Selected, StoreError>;
    /// The first units of a stream behind a sequence of which an event is selected (`None`: any),
    /// each with all of its events that the subscription had, by sequence and position.
    async fn had(
        &self,
        subscription: &str,
        stream: Stream,
        after: u64,
        of: Option<&Selection>,
        limit: usize,
    ) -> Result<Vec<HadEvent>, StoreError>;
    /// All that a subscription had of a subject, bulk before live, by sequence and position.
    async fn had_of(
        &self,
        subscription: &str,
        subject: &Subject,
    ) -> Result<Vec<HadEvent>, StoreError>;
    /// Subjects with a selected event, or, where units go whole, with an event of a unit of which
    /// one is selected; in order, behind one.
    async fn touched(
        &self,
        subscription: &str,
        of: &Selection,
        whole: bool,
        after: Option<&Subject>,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError>;
}
