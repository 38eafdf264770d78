//! The engine's state and its step.
//! See `engine.rs` for where it stands.
//! Must never deliver two units of one subject at once, except as one run.
//! Read next: `engine/state/lanes.rs`, `engine/state/runs.rs`, `engine/state/receipts.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::event::{Position, Stream, Subject};
use crate::limits::{AHEAD_UNITS_MAX, WINDOW_UNITS};
use crate::store::{Cursor, RunRow, UnitKey};

use super::words::{
    AfterImage, Answered, Decision, Delivery, Input, OnUnknown, Origin, Parking, Refusal, Resume,
    Settings, UnitIn, Work,
};

mod lanes;
mod pace;
mod receipts;
mod runs;

use pace::Pace;

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
    origin: Origin,
    /// An attempt may have reached the product.
    unknown: bool,
    /// The receiver does not want it before this time.
    not_before: i64,
}

#[derive(Debug)]
struct Lease {
    ids: Vec<u64>,
    run: Option<String>,
    /// Without a receipt by then, its outcome is unknown.
    until: i64,
    bulk: bool,
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
    /// Deliverables of this stream in the lanes.
    items: usize,
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
    stopped: bool,
    pace: Pace,
    /// Time of the last step.
    stepped_ms: i64,
    next_item: u64,
    next_delivery: u64,
    items: HashMap<u64, Item<P>>,
    by_key: HashMap<UnitKey, u64>,
    lanes: HashMap<LaneKey, VecDeque<u64>>,
    ready: BTreeSet<Turn>,
    due: BTreeSet<(i64, u64)>,
    leased: HashMap<u64, Lease>,
    expiries: BTreeSet<(i64, u64)>,
    bulk_leased: u32,
    live: Track,
    bulk: Track,
    ahead: HashSet<UnitKey>,
    parked: HashMap<Subject, UnitKey>,
    attempts: HashMap<UnitKey, u32>,
    /// Open runs by id, and the run of each of their units.
    runs: HashMap<String, RunRow>,
    in_run: HashMap<UnitKey, String>,
    /// Runs of a former engine whose units are not all read again.
    resumed: HashSet<String>,
    /// Units before these sequences (live, bulk) may have been sent by a process that died.
    maybe_sent: [u64; 2],
    /// Units of which a former engine did not know whether they arrived.
    doubted: HashSet<UnitKey>,
}

impl<P: Clone + AfterImage> Engine<P> {
    /// Starts from what the store has.
    pub fn new(settings: Settings, resume: Resume) -> Self {
        let start = Cursor {
            position: Position(1),
            sequence: 1,
        };
        let track = |cursor: Option<Cursor>| Track {
            frontier: cursor.unwrap_or(start),
            open: BTreeMap::new(),
            items: 0,
        };
        let in_run = resume.runs.iter().flat_map(|run| {
            let keys = run.keys.iter().copied();
            keys.map(|key| (key, run.id.clone()))
        });
        let in_run = in_run.collect();
        let resumed = resume.runs.iter().map(|run| run.id.clone()).collect();
        let runs = resume.runs.into_iter().map(|run| (run.id.clone(), run));
        Self {
            settings,
            credits: 0,
            stopped: resume.stopped,
            pace: Pace::new(settings.per_second),
            stepped_ms: i64::MIN,
            next_item: 0,
            next_delivery: 1,
            items: HashMap::new(),
            by_key: HashMap::new(),
            lanes: HashMap::new(),
            ready: BTreeSet::new(),
            due: BTreeSet::new(),
            leased: HashMap::new(),
            expiries: BTreeSet::new(),
            bulk_leased: 0,
            live: track(resume.live),
            bulk: track(resume.bulk),
            ahead: resume.ahead,
            parked: resume.parked,
            attempts: resume.attempts.into_iter().collect(),
            runs: runs.collect(),
            in_run,
            resumed,
            maybe_sent: resume.maybe_sent,
            doubted: resume.doubted,
        }
    }

    /// One step. `now_ms` is the runner's monotonic time, `jitter` a number in 0..1.
    pub fn step(&mut self, input: Input<P>, now_ms: i64, jitter: f64) -> Vec<Decision<P>> {
        let mut decisions = Vec::new();
        self.stepped_ms = now_ms;
        match input {
            Input::Unit(unit) => self.offer(unit, &mut decisions),
            Input::Ahead(works) => self.offer_ahead(works),
            Input::Frontier(stream, cursor) => self.track(stream).frontier = cursor,
            Input::Parked { works, left } => self.offer_parked(works, left, &mut decisions),
            Input::Unparked(subjects) => {
                self.parked.retain(|subject, _| !subjects.contains(subject));
            }
            Input::Replay(works) => self.offer_again(works, Origin::Replay, &mut decisions),
            Input::Stopped(stopped) => {
                self.stopped = stopped;
                self.pace.forget();
            }
            Input::Closed(closed) => self.pace.closed = closed,
            Input::Settings(settings) => {
                self.settings = settings;
                self.pace.set_rate(settings.per_second);
            }
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
        self.expire(now_ms, jitter, &mut decisions);
        self.wake(now_ms);
        self.start(now_ms, &mut decisions);
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
        ahead < AHEAD_UNITS_MAX as u64 && self.room(stream) > 0
    }

    /// Free places of a stream's window. A run of a former engine that is not wholly read holds
    /// everything back, so reading goes on to its last unit however full the window is.
    pub fn room(&self, stream: Stream) -> usize {
        let frontier = self.frontier(stream).sequence;
        let unread = |key: &UnitKey| key.stream == stream && key.sequence >= frontier;
        let mut resumed = self.resumed.iter().filter_map(|id| self.runs.get(id));
        if resumed.any(|run| run.keys.iter().any(unread)) {
            return WINDOW_UNITS;
        }
        WINDOW_UNITS.saturating_sub(self.open_in(stream))
    }

    /// Deliverables of a stream in memory. Each stream has a window of its own, so that a bulk run
    /// at a slow receiver does not keep a change from being read.
    pub fn open_in(&self, stream: Stream) -> usize {
        match stream {
            Stream::Live => self.live.items,
            Stream::Bulk => self.bulk.items,
        }
    }

    /// True when these parked units may be offered: all that stands before them was read (again,
    /// by an engine that has just started), so that they pass nothing.
    pub fn may_return(&self, keys: impl IntoIterator<Item = UnitKey>) -> bool {
        let mut keys = keys.into_iter();
        keys.all(|key| key.sequence < self.frontier(key.stream).sequence)
    }

    /// True while this unit is in the lanes or at the product.
    pub fn holds(&self, key: UnitKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// True while anything of a subject is in the lanes.
    pub fn is_busy(&self, subject: &Subject) -> bool {
        let lane = |protection| (subject.clone(), protection);
        [false, true]
            .into_iter()
            .any(|protection| self.lanes.contains_key(&lane(protection)))
    }

    /// True while a unit of a subject lies parked.
    pub fn has_parked(&self, subject: &Subject) -> bool {
        self.parked.contains_key(subject)
    }

    /// When something is to be done next although nothing happens.
    pub fn wake_at(&self) -> Option<i64> {
        let due = self.due.first().map(|(at, _)| *at);
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let waits = !self.ready.is_empty() || !self.due.is_empty();
        // What the last step could not start although its time had come waits for an input.
        let pace = self
            .pace
            .wake_at()
            .filter(|at| waits && self.credits > 0 && !self.stopped && *at > self.stepped_ms);
        [due, expiry, pace].into_iter().flatten().min()
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
        let ids = self.leased.values().flat_map(|lease| &lease.ids);
        ids.filter_map(|id| self.items.get(id))
            .map(|item| (item.work.key, item.attempt))
            .collect()
    }

    /// Units whose outcome is not known, with those that wait for a receipt: the next engine asks.
    pub fn doubted(&self) -> HashSet<UnitKey> {
        let items = self.items.values();
        let doubted = items.filter(|item| item.unknown || item.phase == Phase::Leased);
        doubted
            .map(|item| item.work.key)
            .chain(self.doubted.iter().copied())
            .collect()
    }

    /// True while a delivery waits for its receipt.
    pub fn is_leased(&self, delivery: u64) -> bool {
        self.leased.contains_key(&delivery)
    }

    fn track(&mut self, stream: Stream) -> &mut Track {
        match stream {
            Stream::Live => &mut self.live,
            Stream::Bulk => &mut self.bulk,
        }
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

    fn start(&mut self, now_ms: i64, decisions: &mut Vec<Decision<P>>) {
        if self.awaits_runs() || self.stopped {
            return;
        }
        self.pace.refill(now_ms);
        self.offer_probe(now_ms);
        let mut postponed = Vec::new();
        while self.may_start(now_ms) {
            let Some(turn) = self.ready.pop_first() else {
                break;
            };
            if turn.0 == BULK && !self.bulk_may_start() {
                postponed.push(turn);
                break;
            }
            match self.compose(turn.1, now_ms, decisions) {
                Some(delivery) => {
                    self.credits -= 1;
                    self.pace.started(delivery.number);
                    decisions.push(Decision::Deliver(delivery));
                }
                None => postponed.push(turn),
            }
        }
        self.ready.extend(postponed);
    }

    /// Nothing new starts before the runs of a former engine are read again: they go first, with
    /// the same units.
    fn awaits_runs(&mut self) -> bool {
        let mut resumed = std::mem::take(&mut self.resumed);
        resumed.retain(|id| {
            let keys = self.runs.get(id).map(|run| &run.keys);
            keys.is_some_and(|keys| {
                let read = keys.iter().all(|key| self.by_key.contains_key(key));
                !read && !self.may_return(keys.iter().copied())
            })
        });
        self.resumed = resumed;
        !self.resumed.is_empty()
    }

    fn may_start(&self, now_ms: i64) -> bool {
        let leased = u32::try_from(self.leased.len()).unwrap_or(u32::MAX);
        self.credits > 0 && leased < self.settings.concurrency && self.pace.may_start(now_ms)
    }

    /// Bulk leaves a part of the slots to changes.
    fn bulk_may_start(&self) -> bool {
        let leased = u32::try_from(self.leased.len()).unwrap_or(u32::MAX);
        let slots = self.credits.saturating_add(leased);
        let slots = u64::from(slots.min(self.settings.concurrency));
        let share = slots * u64::from(crate::limits::BULK_SHARE_PERCENT) / 100;
        u64::from(self.bulk_leased) < share.max(1)
    }

    /// While the receiver is down, everything can be put off until later; the oldest is the probe.
    fn offer_probe(&mut self, now_ms: i64) {
        if !self.pace.wants_probe(now_ms) || !self.ready.is_empty() {
            return;
        }
        let not_before = |id: &u64| self.items.get(id).map_or(now_ms, |item| item.not_before);
        let mut due = self.due.iter().copied();
        match due.find(|(_, id)| not_before(id) <= now_ms) {
            Some((at, id)) => {
                self.due.remove(&(at, id));
                self.requeue(id, Phase::Queued);
            }
            None => {
                let soonest = self.due.iter().map(|(_, id)| not_before(id)).min();
                self.pace.probe_at(soonest);
            }
        }
    }

    fn remove(&mut self, id: u64) -> Option<Item<P>> {
        let item = self.items.remove(&id)?;
        self.by_key.remove(&item.work.key);
        let track = self.track(item.work.key.stream);
        track.items = track.items.saturating_sub(1);
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
        if item.origin == Origin::Log {
            self.settle(item.work.key);
        }
        Some(item)
    }

    /// One deliverable of a unit is done or parked: the cursor may move.
    fn settle(&mut self, key: UnitKey) {
        let track = self.track(key.stream);
        if key.sequence >= track.frontier.sequence {
            // Its unit is not read yet, and must not bring it again.
            self.ahead.insert(key);
            return;
        }
        if let Some(unit) = track.open.get_mut(&key.sequence) {
            unit.left -= 1;
            if unit.left == 0 {
                track.open.remove(&key.sequence);
            }
        }
    }
}
/// Rank of bulk work among what is ready.
const BULK: u8 = 2;

fn turn<P>(item: &Item<P>, id: u64) -> Turn {
    let rank = match (item.work.protection, item.work.key.stream, item.origin) {
        (true, _, _) => 0,
        (false, Stream::Live, Origin::Log | Origin::Parked) => 1,
        (false, _, _) => BULK,
    };
    (rank, id)
}
