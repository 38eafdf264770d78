//! The engine's state and its step.
//! See `engine.rs` for where it stands.
//! Must never deliver two units of one subject at once, except as one run.
//! Read next: `engine/state/runs.rs`, `engine/state/receipts.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use crate::event::{Position, Stream, Subject};
use crate::limits::{AHEAD_UNITS_MAX, WINDOW_UNITS};
use crate::store::{Cursor, RunRow, UnitKey};

use super::words::{Answered, Decision, Delivery, Input, Refusal, Resume, Settings, UnitIn, Work};

mod receipts;
mod runs;

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
