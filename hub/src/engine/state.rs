//! The engine's state and its step.
//! See `engine.rs` for where it stands.
//! Must never deliver two units of one subject at once, except as one run.
//! Read next: `engine/tests.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::event::{Position, Stream, Subject};
use crate::limits::{
    AHEAD_UNITS_MAX, RETRY_AFTER_MAX, RETRY_BASE, RETRY_MAX, RUN_UNITS_MAX, WINDOW_UNITS,
};
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// In its lanes.
    Queued,
    /// Sent.
    Leased,
    /// To be tried again at this time.
    Due(i64),
}

#[derive(Debug)]
struct Item<P> {
    work: Work<P>,
    phase: Phase,
    attempt: u32,
    from_parked: bool,
}

#[derive(Debug)]
struct OpenUnit {
    first: Position,
    left: usize,
}

#[derive(Debug)]
struct Track {
    /// Next unit to be read.
    frontier: Cursor,
    open: BTreeMap<u64, OpenUnit>,
}

/// A lane: one subject, protection apart.
type LaneKey = (Subject, bool);
/// Order in which ready items start: protection, then live, then bulk; then by age.
type Turn = (u8, u64);

/// The state of one subscription while an adapter is attached.
#[derive(Debug)]
pub struct Engine<P> {
    settings: Settings,
    credits: u32,
    paused: bool,
    next_item: u64,
    next_delivery: u64,
    items: HashMap<u64, Item<P>>,
    lanes: HashMap<LaneKey, VecDeque<u64>>,
    ready: BTreeSet<Turn>,
    due: BTreeSet<(i64, u64)>,
    leased: HashMap<u64, (Vec<u64>, Option<String>)>,
    live: Track,
    bulk: Track,
    ahead: HashSet<UnitKey>,
    parked: HashMap<Subject, UnitKey>,
    attempts: HashMap<UnitKey, u32>,
    runs: HashMap<UnitKey, RunRow>,
}

impl<P: Clone> Engine<P> {
    /// Starts from what the store has.
    pub fn new(settings: Settings, resume: Resume) -> Self {
        let start = Cursor {
            position: Position(1),
            sequence: 1,
        };
        let track = |cursor: Option<Cursor>| Track {
            frontier: cursor.unwrap_or(start),
            open: BTreeMap::new(),
        };
        let runs = resume
            .runs
            .into_iter()
            .filter_map(|run| Some((*run.keys.first()?, run)));
        Self {
            settings,
            credits: 0,
            paused: false,
            next_item: 0,
            next_delivery: 1,
            items: HashMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            leased: HashMap::new(),
            live: track(resume.live),
            bulk: track(resume.bulk),
            ahead: resume.ahead,
            parked: resume.parked,
            attempts: resume.attempts.into_iter().collect(),
            runs: runs.collect(),
        }
    }

    /// One step. `now_ms` is the runner's monotonic time, `jitter` a number in 0..1.
    pub fn step(&mut self, input: Input<P>, now_ms: i64, jitter: f64) -> Vec<Decision<P>> {
        let mut decisions = Vec::new();
        match input {
            Input::Unit(unit) => self.offer(unit, &mut decisions),
            Input::Frontier(stream, cursor) => self.track(stream).frontier = cursor,
            Input::Parked(works) => self.offer_parked(works),
            Input::Credits(add) => {
                self.credits = self
                    .credits
                    .saturating_add(add)
                    .min(crate::limits::CREDITS_MAX);
            }
            Input::Receipt { delivery, answers } => {
                self.answered(delivery, answers, now_ms, jitter, &mut decisions);
            }
            Input::Tick => {}
        }
        self.wake(now_ms);
        self.start(&mut decisions);
        decisions
    }

    /// The low watermark of a stream: everything before it is done or parked.
    pub fn cursor(&self, stream: Stream) -> Cursor {
        let track = match stream {
            Stream::Live => &self.live,
            Stream::Bulk => &self.bulk,
        };
        track
            .open
            .first_key_value()
            .map_or(track.frontier, |(sequence, unit)| Cursor {
                position: unit.first,
                sequence: *sequence,
            })
    }

    /// Where reading of a stream goes on.
    pub fn frontier(&self, stream: Stream) -> Cursor {
        match stream {
            Stream::Live => self.live.frontier,
            Stream::Bulk => self.bulk.frontier,
        }
    }

    /// True while another unit of this stream may be read.
    pub fn has_room(&self, stream: Stream) -> bool {
        let behind = self.cursor(stream).sequence;
        let ahead = self.frontier(stream).sequence.saturating_sub(behind);
        self.items.len() < WINDOW_UNITS && ahead < AHEAD_UNITS_MAX as u64
    }

    /// True when these parked units may be offered: all that stands before them was read (again,
    /// by an engine that has just started), so that they pass nothing.
    pub fn may_return(&self, keys: impl IntoIterator<Item = UnitKey>) -> bool {
        let mut keys = keys.into_iter();
        keys.all(|key| key.sequence < self.frontier(key.stream).sequence)
    }

    /// When a retry is due next.
    pub fn wake_at(&self) -> Option<i64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Deliverables in memory.
    pub fn open(&self) -> usize {
        self.items.len()
    }

    /// Deliveries that wait for a receipt.
    pub fn leased(&self) -> usize {
        self.leased.len()
    }

    /// Attempts of the units that wait for a receipt: the next owner of the subscription counts on.
    pub fn leased_attempts(&self) -> Vec<(UnitKey, u32)> {
        let ids = self.leased.values().flat_map(|(ids, _)| ids);
        ids.filter_map(|id| self.items.get(id))
            .map(|item| (item.work.key, item.attempt))
            .collect()
    }

    fn track(&mut self, stream: Stream) -> &mut Track {
        match stream {
            Stream::Live => &mut self.live,
            Stream::Bulk => &mut self.bulk,
        }
    }

    fn offer(&mut self, unit: UnitIn<P>, decisions: &mut Vec<Decision<P>>) {
        let UnitIn {
            stream,
            sequence,
            first,
            after,
            works,
        } = unit;
        self.track(stream).frontier = Cursor {
            position: after,
            sequence: sequence + 1,
        };
        let open: Vec<Work<P>> = works
            .into_iter()
            .filter(|work| !self.ahead.remove(&work.key))
            .collect();
        if open.is_empty() {
            return;
        }
        self.track(stream).open.insert(
            sequence,
            OpenUnit {
                first,
                left: open.len(),
            },
        );
        for work in open {
            if self.stands_behind_parked(&work) {
                self.set_parked(&work);
                self.settle(work.key);
                // After a restart: what went as a run before is parked one by one.
                self.close_run(work.key, decisions);
                let attempt = self.attempts.remove(&work.key).unwrap_or(0);
                decisions.push(Decision::Park {
                    work,
                    attempt,
                    refusal: None,
                });
            } else {
                self.enqueue(work, false);
            }
        }
    }

    fn offer_parked(&mut self, works: Vec<Work<P>>) {
        for work in &works {
            for subject in &work.subjects {
                self.parked.remove(subject);
            }
        }
        // Asked for twice, it is delivered once.
        let open: HashSet<UnitKey> = self.items.values().map(|item| item.work.key).collect();
        for work in works.into_iter().filter(|work| !open.contains(&work.key)) {
            self.enqueue(work, true);
        }
    }

    /// Only units before the first parked one of a stream go on: they were open when the former
    /// engine ended.
    fn stands_behind_parked(&self, work: &Work<P>) -> bool {
        let behind = |first: &UnitKey| first.stream != work.key.stream || *first < work.key;
        !work.protection
            && work
                .subjects
                .iter()
                .any(|subject| self.parked.get(subject).is_some_and(behind))
    }

    fn set_parked(&mut self, work: &Work<P>) {
        for subject in &work.subjects {
            let first = self.parked.entry(subject.clone()).or_insert(work.key);
            *first = work.key.min(*first);
        }
    }

    fn enqueue(&mut self, work: Work<P>, from_parked: bool) {
        let id = self.next_item;
        self.next_item += 1;
        for subject in &work.subjects {
            self.lanes
                .entry((subject.clone(), work.protection))
                .or_default()
                .push_back(id);
        }
        let attempt = self.attempts.remove(&work.key).unwrap_or(0);
        self.items.insert(
            id,
            Item {
                work,
                phase: Phase::Queued,
                attempt,
                from_parked,
            },
        );
        self.consider(id);
    }

    /// Makes an item ready when it stands at the head of all its lanes.
    fn consider(&mut self, id: u64) {
        let Some(item) = self.items.get(&id) else {
            return;
        };
        let at_head = item.work.subjects.iter().all(|subject| {
            let lane = self.lanes.get(&(subject.clone(), item.work.protection));
            lane.and_then(VecDeque::front) == Some(&id)
        });
        if at_head && item.phase == Phase::Queued {
            self.ready.insert(turn(item, id));
        }
    }

    fn wake(&mut self, now_ms: i64) {
        while let Some(&(at, id)) = self.due.first() {
            if at > now_ms {
                return;
            }
            self.due.pop_first();
            if let Some(item) = self.items.get_mut(&id) {
                item.phase = Phase::Queued;
            }
            self.consider(id);
        }
    }

    fn start(&mut self, decisions: &mut Vec<Decision<P>>) {
        let mut postponed = Vec::new();
        while self.credits > 0 && !self.paused {
            let Some(turn) = self.ready.pop_first() else {
                break;
            };
            match self.compose(turn.1, decisions) {
                Some(delivery) => {
                    self.credits -= 1;
                    decisions.push(Decision::Deliver(delivery));
                }
                None => postponed.push(turn),
            }
        }
        self.ready.extend(postponed);
    }

    /// Makes a delivery of a ready item: alone, or with those behind it as one run. `None` while
    /// a stored run is not wholly read again.
    fn compose(&mut self, id: u64, decisions: &mut Vec<Decision<P>>) -> Option<Delivery<P>> {
        let key = self.items.get(&id)?.work.key;
        let (ids, stored) = match self.runs.get(&key) {
            None => (self.new_run(id), None),
            Some(run) => match self.stored_run(id, &run.keys) {
                Some(ids) => (ids, Some(run.id.clone())),
                // Its units were taken differently since: it can never be whole again.
                None if self.may_return(run.keys.iter().copied()) => {
                    self.close_run(key, decisions);
                    (self.new_run(id), None)
                }
                None => return None,
            },
        };
        let number = self.next_delivery;
        self.next_delivery += 1;
        let mut works = Vec::with_capacity(ids.len());
        let mut attempt = 0;
        for id in &ids {
            let item = self.items.get_mut(id)?;
            if let Phase::Due(at) = item.phase {
                self.due.remove(&(at, *id));
            }
            item.phase = Phase::Leased;
            item.attempt += 1;
            attempt = attempt.max(item.attempt);
            works.push(item.work.clone());
        }
        let new_run = (ids.len() > 1 && stored.is_none()).then(|| RunRow {
            id: run_id(key),
            keys: works.iter().map(|work| work.key).collect(),
        });
        if let Some(run) = &new_run {
            self.runs.insert(key, run.clone());
        }
        let run_id = stored.or_else(|| new_run.as_ref().map(|run| run.id.clone()));
        self.leased.insert(number, (ids, run_id));
        Some(Delivery {
            number,
            attempt,
            works,
            new_run,
        })
    }

    /// Units of one stream only: after a restart the streams can be read in another order.
    fn new_run(&self, id: u64) -> Vec<u64> {
        let Some(item) = self.items.get(&id) else {
            return Vec::new();
        };
        let alone = !self.settings.runs || item.work.protection || item.from_parked;
        let (false, [subject]) = (alone, item.work.subjects.as_slice()) else {
            return vec![id];
        };
        let Some(lane) = self.lanes.get(&(subject.clone(), false)) else {
            return vec![id];
        };
        // What lies parked keeps its own copy, so it never becomes part of a run.
        let joins = |other: &Item<P>| {
            other.phase == Phase::Queued
                && other.work.subjects.len() == 1
                && other.work.key.stream == item.work.key.stream
                && !other.from_parked
        };
        lane.iter()
            .copied()
            .take(RUN_UNITS_MAX)
            .take_while(|id| self.items.get(id).is_some_and(joins))
            .collect()
    }

    /// The units of a stored run in its order; units of the other stream may stand between them.
    fn stored_run(&self, id: u64, keys: &[UnitKey]) -> Option<Vec<u64>> {
        if !self.settings.runs {
            return None;
        }
        let subject = self.items.get(&id)?.work.subjects.first()?;
        let lane = self.lanes.get(&(subject.clone(), false))?;
        let of_key = |key: &UnitKey| {
            let mut ids = lane.iter().copied();
            ids.find(|id| self.items.get(id).is_some_and(|item| item.work.key == *key))
        };
        keys.iter().map(of_key).collect()
    }

    /// Forgets the stored run that a unit belongs to.
    fn close_run(&mut self, key: UnitKey, decisions: &mut Vec<Decision<P>>) {
        let found = self.runs.values().find(|run| run.keys.contains(&key));
        let Some(id) = found.map(|run| run.id.clone()) else {
            return;
        };
        self.runs.retain(|_, run| run.id != id);
        decisions.push(Decision::RunClosed(id));
    }

    fn answered(
        &mut self,
        delivery: u64,
        answers: Vec<(UnitKey, Answered)>,
        now_ms: i64,
        jitter: f64,
        decisions: &mut Vec<Decision<P>>,
    ) {
        // A second receipt for the same delivery finds nothing and changes nothing.
        let Some((ids, run)) = self.leased.remove(&delivery) else {
            return;
        };
        let mut answers: HashMap<UnitKey, Answered> = answers.into_iter().collect();
        let retried = answers
            .values()
            .all(|answer| matches!(answer, Answered::Retry { .. } | Answered::Pause(_)));
        for id in ids {
            let Some(item) = self.items.get(&id) else {
                continue;
            };
            let answer = answers.remove(&item.work.key);
            self.conclude(id, answer, now_ms, jitter, decisions);
        }
        // A run that is tried again as a whole keeps its composition.
        let kept = |stored: &RunRow| Some(&stored.id) == run.as_ref();
        if !retried
            && let Some(first) = self.runs.values().find(|run| kept(run))
            && let Some(key) = first.keys.first().copied()
        {
            self.close_run(key, decisions);
        }
    }

    fn conclude(
        &mut self,
        id: u64,
        answer: Option<Answered>,
        now_ms: i64,
        jitter: f64,
        decisions: &mut Vec<Decision<P>>,
    ) {
        match answer {
            Some(Answered::Final(outcome, reason)) => {
                if let Some(item) = self.remove(id) {
                    decisions.push(Decision::Done {
                        attempt: item.attempt,
                        was_parked: item.from_parked,
                        work: item.work,
                        outcome,
                        reason,
                    });
                }
            }
            Some(Answered::Rejected(refusal)) => self.park(id, refusal, decisions),
            Some(Answered::Pause(reason)) => {
                self.paused = true;
                self.requeue(id, Phase::Queued);
                decisions.push(Decision::Paused(reason));
            }
            Some(Answered::Retry { after_ms }) => {
                let Some(item) = self.items.get(&id) else {
                    return;
                };
                let (key, attempt) = (item.work.key, item.attempt);
                let at = now_ms + retry_delay_ms(attempt, after_ms, jitter);
                self.requeue(id, Phase::Due(at));
                decisions.push(Decision::Attempts(key, attempt));
            }
            // Behind a refused unit of its run: parked with it already. Otherwise the adapter
            // said nothing about it, and it goes again.
            None => {
                if self.items.contains_key(&id) {
                    self.requeue(id, Phase::Due(now_ms + retry_delay_ms(1, 0, jitter)));
                }
            }
        }
    }

    fn requeue(&mut self, id: u64, phase: Phase) {
        let Some(item) = self.items.get_mut(&id) else {
            return;
        };
        item.phase = phase;
        match phase {
            Phase::Due(at) => {
                self.due.insert((at, id));
            }
            Phase::Queued | Phase::Leased => self.consider(id),
        }
    }

    /// Parks an item and, in order, everything that stands behind it. What stands before it in
    /// the lanes of its other subjects goes on.
    fn park(&mut self, id: u64, refusal: Refusal, decisions: &mut Vec<Decision<P>>) {
        let mut refusal = Some(refusal);
        let mut last: HashMap<Subject, u64> = HashMap::new();
        let mut next = Some(id);
        while let Some(id) = next {
            let Some(item) = self.remove(id) else { return };
            self.set_parked(&item.work);
            self.close_run(item.work.key, decisions);
            for subject in &item.work.subjects {
                last.insert(subject.clone(), id);
            }
            // A unit that came out of the parked ones and waits again still lies there.
            if refusal.is_some() || !item.from_parked {
                decisions.push(Decision::Park {
                    attempt: item.attempt,
                    work: item.work,
                    refusal: refusal.take(),
                });
            }
            next = self.first_behind(&last);
        }
    }

    /// The oldest item behind what was parked that is not on its way to the product. Items of a
    /// lane stand in the order of their ids.
    fn first_behind(&self, parked: &HashMap<Subject, u64>) -> Option<u64> {
        let behind = |(subject, last): (&Subject, &u64)| {
            let lane = self.lanes.get(&(subject.clone(), false))?;
            let mut ids = lane.iter().copied();
            ids.find(|id| id > last && !self.in_flight(*id))
        };
        parked.iter().filter_map(behind).min()
    }

    /// Units behind a refused one of the same run are leased and not in flight: their run was
    /// answered.
    fn in_flight(&self, id: u64) -> bool {
        let leased = |item: &Item<P>| item.phase == Phase::Leased;
        self.items.get(&id).is_some_and(leased)
            && self.leased.values().any(|(ids, _)| ids.contains(&id))
    }

    fn remove(&mut self, id: u64) -> Option<Item<P>> {
        let item = self.items.remove(&id)?;
        self.ready.remove(&turn(&item, id));
        if let Phase::Due(at) = item.phase {
            self.due.remove(&(at, id));
        }
        for subject in &item.work.subjects {
            let lane_key = (subject.clone(), item.work.protection);
            let Some(lane) = self.lanes.get_mut(&lane_key) else {
                continue;
            };
            lane.retain(|other| *other != id);
            match lane.front().copied() {
                Some(next) => self.consider(next),
                None => {
                    self.lanes.remove(&lane_key);
                }
            }
        }
        if !item.from_parked {
            self.settle(item.work.key);
        }
        Some(item)
    }

    /// One deliverable of a unit is done or parked: the cursor may move.
    fn settle(&mut self, key: UnitKey) {
        let open = &mut self.track(key.stream).open;
        if let Some(unit) = open.get_mut(&key.sequence) {
            unit.left -= 1;
            if unit.left == 0 {
                open.remove(&key.sequence);
            }
        }
    }
}

fn turn<P>(item: &Item<P>, id: u64) -> Turn {
    let rank = match (item.work.protection, item.work.key.stream) {
        (true, _) => 0,
        (false, Stream::Live) => 1,
        (false, Stream::Bulk) => 2,
    };
    (rank, id)
}

fn run_id(first: UnitKey) -> String {
    format!(
        "{}-{}-{}",
        first.stream.name(),
        first.sequence,
        first.member
    )
}

/// Exponential schedule with jitter. A receiver's own wish is honoured within once and twice.
fn retry_delay_ms(attempt: u32, after_ms: u64, jitter: f64) -> i64 {
    let base = RETRY_BASE.as_millis() as u64;
    let max = RETRY_MAX.as_millis() as u64;
    let scheduled = base
        .saturating_mul(1 << attempt.saturating_sub(1).min(20))
        .min(max);
    let floor = scheduled.max(after_ms.min(RETRY_AFTER_MAX.as_millis() as u64));
    (floor as f64 * (1.0 + jitter.clamp(0.0, 1.0))) as i64
}
