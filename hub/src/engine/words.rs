//! What goes into the engine and what it decides.
//! Spoken between the runner and the machine.
//! Must never hold more than names: what a unit carries is the runner's, as `P`.
//! Read next: `engine/state.rs`.

use std::collections::{HashMap, HashSet};

use crate::event::{Position, Stream, Subject};
use crate::store::{Cursor, RunRow, UnitKey};

/// What the attached adapter takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Takes several units of one subject as one run.
    pub runs: bool,
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
    },
    /// The binding must stop.
    Pause(String),
}

/// What happens to the engine.
#[derive(Debug)]
pub enum Input<P> {
    /// A unit was read. Units of a stream come in order.
    Unit(UnitIn<P>),
    /// Everything before a position was read and is not for this receiver.
    Frontier(Stream, Cursor),
    /// Parked units are to be delivered again, in order; their subjects are parked no more. Wants
    /// all parked units of these subjects, and `may_return`.
    Parked(Vec<Work<P>>),
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
        /// It was a parked unit.
        was_parked: bool,
    },
    /// A unit is parked.
    Park {
        /// The unit.
        work: Work<P>,
        /// Attempts.
        attempt: u32,
        /// Why; `None` when it waits behind another.
        refusal: Option<Refusal>,
    },
    /// The next attempt of a unit has this number.
    Attempts(UnitKey, u32),
    /// A run was answered.
    RunClosed(String),
    /// The binding stops until a human acts.
    Paused(String),
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
}
