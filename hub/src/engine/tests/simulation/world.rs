//! The town of a simulation: what happens to its log, its store and its product.
//! Acts at random; every decision of the machine passes the judge before it counts.

use std::collections::{BTreeMap, HashSet};

use super::books::{Logged, Stored, opened, written};
use super::vendor::Vendor;
use super::*;
use crate::store::memory::MemoryStore;

#[derive(Debug)]
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) log: HashMap<Stream, Vec<Logged>>,
    pub(super) works: BTreeMap<UnitKey, Work<()>>,
    pub(super) by_subject: HashMap<Subject, Vec<UnitKey>>,
    pub(super) stored: Stored,
    pub(super) engine: Engine<()>,
    /// What the store itself has, through the deltas of a runner.
    pub(super) store: MemoryStore,
    vendor: Vendor,
    /// Next unit of the log to be read, by its place.
    next: HashMap<Stream, usize>,
    pub(super) in_flight: BTreeMap<u64, Vec<Work<()>>>,
    /// When each delivery's outcome counts as unknown.
    until: HashMap<u64, i64>,
    answered: Vec<u64>,
    /// Units before these places of the log have all ended.
    pub(super) ended: HashMap<Stream, usize>,
    pub(super) credits: u64,
    pub(super) paused: bool,
    pub(super) now: i64,
    pub(super) settings: Settings,
    /// What came back before the last restart is still to be offered again.
    resume: bool,
    /// The product refuses and delays nothing any more.
    kind: bool,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let log: HashMap<Stream, Vec<Logged>> = Stream::ALL
            .map(|stream| (stream, written(&mut dice, stream)))
            .into();
        let works = log.values().flatten().flat_map(|unit| unit.works.clone());
        let works: BTreeMap<_, _> = works.map(|work| (work.key, work)).collect();
        let mut by_subject: HashMap<Subject, Vec<UnitKey>> = HashMap::new();
        for (key, work) in &works {
            for name in &work.subjects {
                by_subject.entry(name.clone()).or_default().push(*key);
            }
        }
        let settings = Settings {
            runs: dice.chance(60),
            batch_units: if dice.chance(40) {
                1 + dice.below(6) as usize
            } else {
                1
            },
            concurrency: 1 + dice.below(20) as u32,
            per_second: dice.chance(20).then(|| 1 + dice.below(50) as u32),
            answer_within_ms: if dice.chance(30) { 3_000 } else { 900_000 },
            on_unknown: OnUnknown::Again,
        };
        Self {
            works,
            by_subject,
            log,
            stored: Stored::default(),
            engine: Engine::new(settings, Resume::default()),
            store: opened(),
            vendor: Vendor::default(),
            next: HashMap::new(),
            in_flight: BTreeMap::new(),
            until: HashMap::new(),
            answered: Vec::new(),
            ended: HashMap::new(),
            credits: 0,
            paused: false,
            now: 0,
            settings,
            resume: false,
            kind: false,
            dice,
        }
    }

    pub(super) fn act(&mut self) {
        if self.resume {
            self.resume_parked();
        }
        match self.dice.below(100) {
            0..40 => self.read(),
            40..50 => self.more_credits(),
            50..84 => self.answer(),
            84..92 => {
                self.now += self.dice.below(2_000) as i64;
                self.step(Input::Tick);
            }
            92..95 => self.restart(),
            95..97 => self.retry_parked(),
            97 => {
                let stored = &self.stored;
                let open = |work: &Work<()>| !stored.done.contains(&work.key);
                self.vendor.wander(&mut self.dice, &open);
            }
            _ => self.answer_again(),
        }
    }

    fn more_credits(&mut self) {
        let add = self.dice.below(6);
        self.credits += add;
        self.step(Input::Credits(add as u32));
    }

    fn read(&mut self) {
        let stream = if self.dice.chance(70) {
            Stream::Live
        } else {
            Stream::Bulk
        };
        self.read_from(stream);
    }

    fn read_from(&mut self, stream: Stream) -> bool {
        let place = self.next.get(&stream).copied().unwrap_or(0);
        let Some(unit) = self.log[&stream].get(place).cloned() else {
            return false;
        };
        assert!(self.engine.has_room(stream), "a small log always has room");
        self.next.insert(stream, place + 1);
        if unit.works.is_empty() {
            self.step(Input::Frontier(stream, cursor(unit.after, unit.sequence)));
        } else {
            self.step(Input::Unit(UnitIn {
                stream,
                sequence: unit.sequence,
                first: Position(unit.first),
                after: Position(unit.after),
                works: unit.works,
            }));
        }
        true
    }

    fn answer(&mut self) {
        let open: Vec<u64> = self.in_flight.keys().copied().collect();
        let Some(delivery) = self.dice.pick(&open) else {
            return;
        };
        let works = self.in_flight.get(&delivery).cloned().unwrap_or_default();
        let answers = match self.kind {
            true => Some(self.vendor.take(&works)),
            false => self.vendor.says(&mut self.dice, &works),
        };
        // Without an answer it is in flight until its time is over.
        let Some(answers) = answers else { return };
        self.in_flight.remove(&delivery);
        self.answered.push(delivery);
        self.step(Input::Receipt { delivery, answers });
    }

    /// A receipt that was sent before, or for nothing at all.
    fn answer_again(&mut self) {
        let Some(delivery) = self.dice.pick(&self.answered) else {
            return;
        };
        let keys: Vec<UnitKey> = self.works.keys().copied().collect();
        let Some(key) = self.dice.pick(&keys) else {
            return;
        };
        let answer = if self.dice.chance(50) {
            applied()
        } else {
            refusal("LATE")
        };
        let answers = vec![(key, answer)];
        let ended = |world: &Self| (world.stored.done.len(), world.stored.parked.len());
        let before = ended(self);
        self.step(Input::Receipt { delivery, answers });
        assert_eq!(ended(self), before, "a second receipt ended something");
    }

    /// Parked units that hang together by subjects, or all.
    fn retry_parked(&mut self) {
        let parked: Vec<UnitKey> = self.stored.parked.keys().copied().collect();
        let Some(start) = self.dice.pick(&parked) else {
            return;
        };
        let mut chosen = parked;
        if self.dice.chance(70) {
            let groups = self.parked_groups().into_iter();
            let group = groups.filter(|group| group.contains(&start));
            chosen = group.flatten().collect();
        }
        self.offer_parked(&chosen);
    }

    /// A runner offers parked units only once all before them is read again.
    fn offer_parked(&mut self, keys: &[UnitKey]) {
        if self.engine.may_return(keys.iter().copied()) && !keys.is_empty() {
            self.step(back(self.works_of(keys)));
        }
    }

    fn works_of(&self, keys: &[UnitKey]) -> Vec<Work<()>> {
        keys.iter().map(|key| self.works[key].clone()).collect()
    }

    /// Parked units by what hangs together by subjects, each group in order.
    pub(super) fn parked_groups(&self) -> Vec<Vec<UnitKey>> {
        let mut groups: Vec<(HashSet<&Subject>, Vec<UnitKey>)> = Vec::new();
        for key in self.stored.parked.keys() {
            let mut names: HashSet<&Subject> = self.works[key].subjects.iter().collect();
            let mut keys = vec![*key];
            let (joined, apart): (Vec<_>, Vec<_>) = groups
                .into_iter()
                .partition(|group| !group.0.is_disjoint(&names));
            groups = apart;
            for (more, members) in joined {
                names.extend(more);
                keys.extend(members);
            }
            groups.push((names, keys));
        }
        let mut groups: Vec<Vec<UnitKey>> = groups.into_iter().map(|group| group.1).collect();
        groups.iter_mut().for_each(|keys| keys.sort());
        groups
    }

    /// What came back from parking and was not through when the process ended: nothing that was
    /// refused holds it.
    fn resume_parked(&mut self) {
        if !self.engine.may_return(self.stored.parked.keys().copied()) {
            return;
        }
        self.resume = false;
        let free = |group: &Vec<UnitKey>| !group.iter().any(|key| self.stored.parked[key]);
        let groups = self.parked_groups().into_iter();
        let free: Vec<UnitKey> = groups.filter(free).flatten().collect();
        self.offer_parked(&free);
    }

    /// The process ends, and a new one starts from what the store has. What is in flight may
    /// have been applied; its receipt is lost.
    fn restart(&mut self) {
        let resume = self.stored_resume();
        let stored = &self.stored;
        for stream in Stream::ALL {
            let at = stored.cursors.get(&stream).map_or(0, |at| at.position.0);
            let units = &self.log[&stream];
            let place = units.iter().position(|unit| unit.after > at);
            self.next.insert(stream, place.unwrap_or(units.len()));
        }
        self.engine = Engine::new(self.settings, resume);
        self.in_flight.clear();
        self.answered.clear();
        self.credits = 0;
        self.paused = false;
        self.resume = true;
        self.more_credits();
    }

    /// No effect is missing, and none happened twice or out of order.
    pub(super) fn judge_product(&self) {
        self.vendor.judge(&self.works);
    }

    /// One step. Sometimes the process dies before the commit, or between commit and sending.
    pub(super) fn step(&mut self, input: Input<()>) {
        let jitter = self.dice.below(100) as f64 / 100.0;
        let decisions = self.engine.step(input, self.now, jitter);
        self.expire();
        if !self.kind && self.dice.chance(1) {
            self.restart();
            return;
        }
        let before = self.stored.cursors.clone();
        let deliveries = self.commit(decisions);
        self.judge_cursors(&before);
        if !self.kind && self.dice.chance(1) {
            self.restart();
            return;
        }
        for delivery in deliveries {
            self.judge_delivery(&delivery);
            let until = self.now + self.settings.answer_within_ms;
            self.until.insert(delivery.number, until);
            self.in_flight.insert(delivery.number, delivery.works);
        }
    }

    /// A delivery without a receipt in time may come again; its receipt is late then.
    fn expire(&mut self) {
        let late = |number: &u64| self.until.get(number).is_some_and(|at| *at <= self.now);
        let late: Vec<u64> = self.in_flight.keys().copied().filter(late).collect();
        for number in late {
            self.in_flight.remove(&number);
            self.answered.push(number);
            self.credits += 1;
        }
    }

    /// Lets everything come to its end: the log is read, all is answered, time passes.
    pub(super) fn settle(&mut self) {
        self.kind = true;
        if self.paused {
            self.restart();
        }
        loop {
            self.credits += 10;
            self.step(Input::Credits(10));
            let mut moved = self.read_from(Stream::Live) | self.read_from(Stream::Bulk);
            if self.resume {
                self.resume_parked();
                moved = true;
            }
            while !self.in_flight.is_empty() {
                self.answer();
                moved = true;
            }
            if let Some(at) = self.engine.wake_at() {
                self.now = self.now.max(at);
                self.step(Input::Tick);
                moved = true;
            }
            if !moved && self.in_flight.is_empty() {
                return;
            }
        }
    }

    pub(super) fn retry_until_done(&mut self) {
        while !self.stored.parked.is_empty() {
            let before = self.stored.parked.len();
            self.retry_parked();
            self.settle();
            assert!(
                self.stored.parked.len() < before,
                "a retry brings nothing on"
            );
        }
        self.judge_all_ended();
        assert_eq!(self.stored.done.len(), self.works.len());
    }
}
