//! What goes into the engine and what it decides.
//! Spoken between the runner and the machine.
//! Must never hold more than names: what a unit carries is the runner's, as `P`.
//! Read next: `engine/state.rs`.

use std::collections::{HashMap, HashSet};

use crate::event::{Position, Stream, Subject};
use crate::store::{Cursor, PausedBy, RunRow, UnitKey};

/// What a later state says about an earlier one.
pub trait AfterImage {
    /// True when this one, once applied, leaves nothing of the earlier one to be applied.
    fn covers(&self, earlier: &Self) -> bool;
}

/// What to do with a delivery whose outcome is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OnUnknown {
    /// Send it again: the product gives each key one effect, or can be asked for it.
    Again,
    /// Park it for a human: sending it again could repeat its effect.
    Park,
}

/// What the attached adapter takes, and how much of it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Settings {
    /// Takes several units of one subject as one run.
    pub runs: bool,
    /// Most units of one delivery; more than 1: units of different subjects ride together.
    pub batch_units: usize,
    /// Most deliveries that wait for a receipt.
    pub concurrency: u32,
    /// Most deliveries a second; `None`: as many as there are credits for.
    pub per_second: Option<u32>,
    /// Milliseconds after which a delivery without a receipt counts as unknown.
    pub answer_within_ms: i64,
    /// What to do with an unknown outcome.
    pub on_unknown: OnUnknown,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            runs: false,
            batch_units: 1,
            concurrency: crate::limits::CREDITS_MAX,
            per_second: None,
            answer_within_ms: crate::limits::ANSWER_WITHIN.as_millis() as i64,
            on_unknown: OnUnknown::Again,
        }
    }
}

/// Where a deliverable came from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Read from the log: the cursor waits for it.
    Log,
    /// Lay parked, and still lies in the store until it has an outcome.
    Parked,
    /// Is delivered once more on an operator's word; it moves no cursor.
    Replay,
}

/// One deliverable: a unit, or one member of it.
#[derive(Clone, Debug)]
pub struct Work<P> {
    /// Name.
    pub key: UnitKey,
    /// Subjects, without repeats.
    pub subjects: Vec<Subject>,
    /// Protection state (支援措置): overtakes everything but its own kind.
    pub protection: bool,
    /// What the runner needs to send and to park it.
    pub payload: P,
}

/// A unit as the log has it.
#[derive(Clone, Debug)]
pub struct UnitIn<P> {
    /// Stream.
    pub stream: Stream,
    /// Its sequence.
    pub sequence: u64,
    /// Position of its first event: the cursor stays here until it is done.
    pub first: Position,
    /// Position behind its last event.
    pub after: Position,
    /// Its deliverables in order; empty when nothing of it is for this receiver.
    pub works: Vec<Work<P>>,
}

/// Why a unit was refused.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Refusal {
    /// Stable reason.
    pub reason: String,
    /// Field.
    pub field: String,
    /// Text.
    pub message: String,
}

/// What an adapter answered for one unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answered {
    /// It ended, with the wire's outcome and a reason.
    Final(i32, String),
    /// The subject must be parked.
    Rejected(Refusal),
    /// Again, at the earliest after so many milliseconds (0: by the schedule).
    Retry {
        /// Milliseconds.
        after_ms: u64,
        /// Why not now.
        refusal: Refusal,
    },
    /// It was sent, and whether it was applied is not known.
    Unknown(Refusal),
    /// The binding must stop.
    Pause(String),
}

/// What happens to the engine.
#[derive(Debug)]
pub enum Input<P> {
    /// A unit was read. Units of a stream come in order.
    Unit(UnitIn<P>),
    /// Protection units that stand behind what was read so far: they wait for nothing.
    Ahead(Vec<Work<P>>),
    /// Everything before a position was read and is not for this receiver.
    Frontier(Stream, Cursor),
    /// Parked units are to be delivered again, in order. Wants those of a subject from the first
    /// on, and `may_return`.
    Parked {
        /// The units.
        works: Vec<Work<P>>,
        /// Of their subjects, those that have more parked units, each with the first of these: what
        /// is read behind it waits with it.
        left: HashMap<Subject, UnitKey>,
    },
    /// Nothing of these subjects is parked any more: an operator skipped it.
    Unparked(Vec<Subject>),
    /// Units that were delivered before are delivered once more, in order, through the same lanes.
    Replay(Vec<Work<P>>),
    /// The binding is stopped, or goes on.
    Stopped(bool),
    /// The receiver is closed for the night, or opens.
    Closed(bool),
    /// Other settings of the binding.
    Settings(Settings),
    /// More credits.
    Credits(u32),
    /// An answer to a delivery: one entry a unit; a run may leave later units without one.
    Receipt {
        /// Delivery.
        delivery: u64,
        /// Answers by unit.
        answers: Vec<(UnitKey, Answered)>,
    },
    /// Time passed.
    Tick,
}

/// A delivery to send.
#[derive(Clone, Debug)]
pub struct Delivery<P> {
    /// Number, unique within this engine.
    pub number: u64,
    /// Attempt of its first unit, from 1.
    pub attempt: u32,
    /// Units in order.
    pub works: Vec<Work<P>>,
    /// Run to store before it is sent; `None` for a single unit or a stored run.
    pub new_run: Option<RunRow>,
    /// An earlier attempt of one of its units may have reached the product.
    pub outcome_unknown: bool,
}

/// Why a unit is parked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Parking {
    /// Refused: a human has to act.
    Refused(Refusal),
    /// Stands behind another.
    Waiting,
    /// To be tried again after so many milliseconds: too long to be kept in the lanes.
    Due(i64, Refusal),
    /// Tried until the schedule ended: a dead letter.
    Dead(Refusal),
}

/// What the runner shall do. Everything but `Deliver` goes into one delta.
#[derive(Debug)]
pub enum Decision<P> {
    /// Send it.
    Deliver(Delivery<P>),
    /// A unit ended.
    Done {
        /// The unit.
        work: Work<P>,
        /// Attempts.
        attempt: u32,
        /// The wire's outcome.
        outcome: i32,
        /// Reason.
        reason: String,
        /// Where the unit came from.
        origin: Origin,
    },
    /// A unit is parked.
    Park {
        /// The unit.
        work: Work<P>,
        /// Attempts.
        attempt: u32,
        /// Why.
        parking: Parking,
    },
    /// The next attempt of a unit has this number.
    Attempts(UnitKey, u32),
    /// A run was answered.
    RunClosed(String),
    /// The binding stops until a human acts; on the adapter's word, or on the engine's own.
    Paused(PausedBy, String),
}

/// What a former engine of the same subscription left in the store.
#[derive(Debug, Default)]
pub struct Resume {
    /// Cursor in live.
    pub live: Option<Cursor>,
    /// Cursor in bulk.
    pub bulk: Option<Cursor>,
    /// Units that are done or parked ahead of the cursors.
    pub ahead: HashSet<UnitKey>,
    /// Parked subjects, each with the first of its parked units: what stands before that one is
    /// open and goes on.
    pub parked: HashMap<Subject, UnitKey>,
    /// Attempts so far.
    pub attempts: Vec<(UnitKey, u32)>,
    /// Open runs.
    pub runs: Vec<RunRow>,
    /// The binding is stopped.
    pub stopped: bool,
    /// A process that died may have sent units before these sequences (live, bulk).
    pub maybe_sent: [u64; 2],
    /// Units of which a former engine did not know whether they arrived.
    pub doubted: HashSet<UnitKey>,
}
