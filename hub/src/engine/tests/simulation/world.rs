//! The town of a simulation: its log, what the store has, the product, and what happens to them.
//! Acts at random; every decision of the machine passes the judge before it counts.

use std::collections::{BTreeMap, HashSet};

use super::vendor::Vendor;
use super::*;
use crate::event::Municipality;
use crate::event::seal::Sealed;
use crate::store::memory::MemoryStore;
use crate::store::{
    DeliveryDelta, DeliveryStore, Done, OutcomeTally, ParkedRow, ParkedState, StoreError,
    SubscriptionRow,
};

/// A unit of the log; no works when it is not for this receiver.
#[derive(Clone, Debug)]
pub(super) struct Logged {
    pub(super) first: u64,
    pub(super) after: u64,
    /// Gap-free among the units that are for this receiver.
    pub(super) sequence: u64,
    pub(super) works: Vec<Work<()>>,
}

/// What the store has committed.
#[derive(Clone, Debug, Default)]
pub(super) struct Stored {
    pub(super) cursors: HashMap<Stream, Cursor>,
    pub(super) ahead: HashSet<UnitKey>,
    /// Parked units, and whether each was refused or waits.
    pub(super) parked: BTreeMap<UnitKey, bool>,
    pub(super) done: HashSet<UnitKey>,
    pub(super) attempts: BTreeMap<UnitKey, u32>,
    pub(super) runs: Vec<RunRow>,
}

const SUBSCRIPTION: &str = "142042/026";

fn town() -> Municipality {
    Municipality::parse("142042").expect("a municipality")
}

/// The memory store answers at once.
fn ready<T>(call: impl Future<Output = Result<T, StoreError>>) -> T {
    let answer = futures::FutureExt::now_or_never(call);
    answer.expect("nothing waits").expect("nothing fails")
}

fn opened() -> MemoryStore {
    let store = MemoryStore::default();
    assert_eq!(ready(store.own(&town())), 1);
    let start = cursor(1, 1);
    ready(store.put_subscription(SubscriptionRow {
        id: SUBSCRIPTION.to_owned(),
        municipality: town(),
        system: "026".to_owned(),
        live: start,
        bulk: start,
        filled: true,
        until: None,
        closed: false,
        bindings: Vec::new(),
        tally: OutcomeTally::default(),
    }));
    store
}

fn done(key: UnitKey, outcome: i32) -> Done {
    Done {
        key,
        event_ids: Vec::new(),
        attempt: 1,
        outcome,
        reason: String::new(),
        at_ms: 0,
        product: String::new(),
    }
}

fn parked(work: &Work<()>, parking: &Parking, now: i64) -> ParkedRow {
    let (state, due_ms) = match parking {
        Parking::Refused(_) => (ParkedState::Rejected, None),
        Parking::Waiting => (ParkedState::Waiting, None),
        Parking::Due(after, _) => (ParkedState::Due, Some(now + after)),
        Parking::Dead(_) => (ParkedState::Dead, None),
    };
    ParkedRow {
        key: work.key,
        subjects: work.subjects.clone(),
        state,
        reason: String::new(),
        field: String::new(),
        message: String::new(),
        attempts: 1,
        at_ms: now,
        due_ms,
        revision: 1,
        position: Position(1),
        event_ids: Vec::new(),
        content: Sealed::seal(Vec::new()),
    }
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) dice: Dice,
    pub(super) log: HashMap<Stream, Vec<Logged>>,
    pub(super) works: BTreeMap<UnitKey, Work<()>>,
    pub(super) by_subject: HashMap<Subject, Vec<UnitKey>>,
    pub(super) stored: Stored,
    pub(super) engine: Engine<()>,
    /// What the store itself has, through the deltas of a runner.
    store: MemoryStore,
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
    now: i64,
    pub(super) settings: Settings,
    /// What came back before the last restart is still to be offered again.
    resume: bool,
    /// The product refuses and delays nothing any more.
    kind: bool,
}

fn written(dice: &mut Dice, stream: Stream) -> Vec<Logged> {
    let (mut position, mut sequence) = (1, 1);
    let people = 3 + dice.below(8);
    let count = 20 + dice.below(60);
    let mut units = Vec::new();
    for _ in 0..count {
        position += dice.below(3);
        let members = if dice.chance(10) {
            0
        } else {
            1 + dice.below(3)
        };
        let whole = members == 1 && dice.chance(30);
        let works = (1..=members).map(|member| {
            let mut subjects: Vec<Subject> = Vec::new();
            for _ in 0..if whole { 1 + dice.below(4) } else { 1 } {
                let name = subject(&format!("S{}", dice.below(people)));
                if !subjects.contains(&name) {
                    subjects.push(name);
                }
            }
            Work {
                key: key(stream, sequence, if whole { 0 } else { member as u32 }),
                protection: subjects.len() == 1 && dice.chance(8),
                subjects,
                payload: (),
            }
        });
        let works: Vec<_> = works.collect();
        let after = position + members.max(1);
        units.push(Logged {
            first: position,
            after,
            sequence,
            works: works.clone(),
        });
        position = after;
        sequence += u64::from(members > 0);
    }
    units
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

    /// What the store tells a new engine; it must be what the model of it says.
    fn stored_resume(&self) -> Resume {
        let row = ready(self.store.subscriptions(&town())).remove(0);
        let stored = &self.stored;
        let mut parked: HashMap<Subject, UnitKey> = HashMap::new();
        for key in stored.parked.keys() {
            for name in &self.works[key].subjects {
                parked.entry(name.clone()).or_insert(*key);
            }
        }
        let resume = Resume {
            live: Some(row.live),
            bulk: Some(row.bulk),
            ahead: ready(self.store.ahead(SUBSCRIPTION)),
            parked: ready(self.store.parked_subjects(SUBSCRIPTION)),
            attempts: ready(self.store.attempts(SUBSCRIPTION)),
            runs: ready(self.store.runs(SUBSCRIPTION)),
            stopped: false,
            maybe_sent: [u64::MAX; 2],
            doubted: HashSet::new(),
        };
        // Of what came back from parking, the store keeps nothing behind the cursor.
        let ahead = |key: &&UnitKey| key.sequence >= row.cursor(key.stream).sequence;
        let ahead: HashSet<UnitKey> = stored.ahead.iter().filter(ahead).copied().collect();
        assert_eq!(resume.ahead, ahead);
        assert_eq!(resume.parked, parked);
        let by_id = |runs: &[RunRow]| -> BTreeMap<String, RunRow> {
            runs.iter()
                .map(|run| (run.id.clone(), run.clone()))
                .collect()
        };
        assert_eq!(by_id(&resume.runs), by_id(&stored.runs));
        for (stream, cursor) in &stored.cursors {
            assert_eq!(row.cursor(*stream), *cursor);
        }
        resume
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

    fn commit(&mut self, decisions: Vec<Decision<()>>) -> Vec<Delivery<()>> {
        let mut deliveries = Vec::new();
        let mut closed = Vec::new();
        let mut delta = DeliveryDelta {
            subscription: SUBSCRIPTION.to_owned(),
            owner_epoch: 1,
            ..DeliveryDelta::default()
        };
        for decision in decisions {
            self.judge_decision(&decision);
            let stored = &mut self.stored;
            match decision {
                Decision::Deliver(delivery) => deliveries.push(delivery),
                Decision::Done { work, outcome, .. } => {
                    if stored.parked.contains_key(&work.key) {
                        delta.unpark.push(work.key);
                    }
                    delta.done.push(done(work.key, outcome));
                    stored.done.insert(work.key);
                    stored.ahead.insert(work.key);
                    stored.parked.remove(&work.key);
                    stored.attempts.remove(&work.key);
                }
                Decision::Park { work, parking, .. } => {
                    delta.park.push(parked(&work, &parking, self.now));
                    stored.parked.insert(work.key, parking != Parking::Waiting);
                    stored.ahead.insert(work.key);
                }
                Decision::Attempts(key, count) => {
                    delta.attempts.push((key, count));
                    stored.attempts.insert(key, count);
                }
                Decision::RunClosed(run) => closed.push(run),
                Decision::Paused(..) => self.paused = true,
            }
        }
        let stored = &mut self.stored;
        stored.runs.retain(|run| !closed.contains(&run.id));
        let opened = deliveries
            .iter()
            .filter_map(|d: &Delivery<()>| d.new_run.clone());
        let opened: Vec<RunRow> = opened.collect();
        stored.runs.extend(opened.clone());
        delta.runs_open = opened;
        delta.runs_close = closed;
        for stream in Stream::ALL {
            let cursor = self.engine.cursor(stream);
            if stored.cursors.insert(stream, cursor) != Some(cursor) {
                let passed = |key: &UnitKey| key.stream == stream && key.sequence < cursor.sequence;
                stored.ahead.retain(|key| !passed(key));
                delta.cursors.push((stream, cursor));
            }
        }
        ready(self.store.commit(delta));
        deliveries
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
