//! The rules of the delivery engine, one test each, and a simulation of all together.
//! Beside the pure machine: no clock, no store, no stream.
//! Must never share code with the machine beyond its inputs and decisions.
//! Read next: `engine/tests/simulation.rs`.

use std::collections::HashMap;

use super::*;
use crate::event::{Position, Stream, Subject};
use crate::store::{Cursor, RunRow, UnitKey};
use musubi_proto::hub::v1::Outcome;

mod cursors;
mod order;
mod pace;
mod parking;
mod questions;
mod retries;
mod runs;
mod simulation;

const APPLIED: i32 = Outcome::Applied as i32;

fn live(sequence: u64) -> UnitKey {
    key(Stream::Live, sequence, 1)
}

fn bulk(sequence: u64) -> UnitKey {
    key(Stream::Bulk, sequence, 1)
}

fn key(stream: Stream, sequence: u64, member: u32) -> UnitKey {
    UnitKey {
        stream,
        sequence,
        member,
    }
}

fn subject(name: &str) -> Subject {
    Subject(name.to_owned())
}

impl AfterImage for () {
    fn covers(&self, (): &Self) -> bool {
        true
    }
}

fn work(key: UnitKey, subjects: &[&str]) -> Work<()> {
    Work {
        key,
        subjects: subjects.iter().map(|name| subject(name)).collect(),
        protection: false,
        payload: (),
    }
}

fn protection(key: UnitKey, name: &str) -> Work<()> {
    Work {
        protection: true,
        ..work(key, &[name])
    }
}

fn refusal(reason: &str) -> Answered {
    Answered::Rejected(Refusal {
        reason: reason.to_owned(),
        ..Refusal::default()
    })
}

fn applied() -> Answered {
    Answered::Final(APPLIED, String::new())
}

fn again() -> Answered {
    after(0)
}

/// Parked units come back, all of their subjects.
fn back(works: Vec<Work<()>>) -> Input<()> {
    Input::Parked {
        works,
        left: HashMap::new(),
    }
}

fn after(after_ms: u64) -> Answered {
    Answered::Retry {
        after_ms,
        refusal: Refusal::default(),
    }
}

fn unknown() -> Answered {
    Answered::Unknown(Refusal::default())
}

/// The engine with a clock, and a note of what was delivered and not yet answered.
struct Bench {
    engine: Engine<()>,
    now: i64,
    jitter: f64,
    in_flight: HashMap<u64, Vec<UnitKey>>,
    next: [u64; 2],
}

/// What a step decided, without the noise.
#[derive(Debug, Default, PartialEq)]
struct Seen {
    /// Keys of each delivery.
    delivered: Vec<Vec<UnitKey>>,
    done: Vec<UnitKey>,
    rejected: Vec<UnitKey>,
    waiting: Vec<UnitKey>,
    attempts: Vec<(UnitKey, u32)>,
    opened: Vec<RunRow>,
    closed: Vec<String>,
    paused: Vec<String>,
    /// Set aside, with the milliseconds until each is due.
    due: Vec<(UnitKey, i64)>,
    dead: Vec<UnitKey>,
    /// Deliveries whose former outcome is unknown.
    asked: Vec<UnitKey>,
    /// Attempt of each delivery.
    attempt: Vec<u32>,
    /// Reasons of what ended or is parked, where there is one.
    said: Vec<String>,
}

impl Bench {
    fn new() -> Self {
        Self::with(false, Resume::default())
    }

    fn runs() -> Self {
        Self::with(true, Resume::default())
    }

    fn with(runs: bool, resume: Resume) -> Self {
        let settings = Settings {
            runs,
            ..Settings::default()
        };
        Self::set(settings, resume)
    }

    fn set(settings: Settings, resume: Resume) -> Self {
        let next = [resume.live, resume.bulk].map(|cursor| cursor.map_or(1, |at| at.sequence));
        let mut bench = Self {
            engine: Engine::new(settings, resume),
            now: 0,
            jitter: 0.0,
            in_flight: HashMap::new(),
            next,
        };
        bench.step(Input::Credits(100));
        bench
    }

    fn step(&mut self, input: Input<()>) -> Seen {
        let mut seen = Seen::default();
        for decision in self.engine.step(input, self.now, self.jitter) {
            match decision {
                Decision::Deliver(delivery) => {
                    let keys: Vec<_> = delivery.works.iter().map(|work| work.key).collect();
                    self.in_flight.insert(delivery.number, keys.clone());
                    seen.delivered.push(keys.clone());
                    seen.attempt.push(delivery.attempt);
                    if delivery.outcome_unknown {
                        seen.asked.extend(keys);
                    }
                    seen.opened.extend(delivery.new_run);
                }
                Decision::Done { work, reason, .. } => {
                    seen.done.push(work.key);
                    seen.said
                        .extend(Some(reason).filter(|reason| !reason.is_empty()));
                }
                Decision::Park { work, parking, .. } => match parking {
                    Parking::Refused(refusal) => {
                        seen.rejected.push(work.key);
                        seen.said.push(refusal.reason);
                    }
                    Parking::Waiting => seen.waiting.push(work.key),
                    Parking::Due(after, _) => seen.due.push((work.key, after)),
                    Parking::Dead(refusal) => {
                        seen.dead.push(work.key);
                        seen.said.extend([refusal.reason, refusal.message]);
                    }
                },
                Decision::Attempts(key, count) => seen.attempts.push((key, count)),
                Decision::RunClosed(run) => seen.closed.push(run),
                Decision::Paused(_, reason) => seen.paused.push(reason),
            }
        }
        seen
    }

    /// Offers the next unit of a stream; positions go in steps of ten.
    fn unit(&mut self, stream: Stream, works: Vec<Work<()>>) -> Seen {
        let next = &mut self.next[usize::from(stream == Stream::Bulk)];
        let sequence = *next;
        *next += 1;
        self.step(Input::Unit(UnitIn {
            stream,
            sequence,
            first: Position(sequence * 10),
            after: Position(sequence * 10 + 3),
            works,
        }))
    }

    /// Offers one event of the live stream about these subjects.
    fn live(&mut self, subjects: &[&str]) -> Seen {
        let work = work(live(self.next[0]), subjects);
        self.unit(Stream::Live, vec![work])
    }

    fn bulk(&mut self, subjects: &[&str]) -> Seen {
        let work = work(bulk(self.next[1]), subjects);
        self.unit(Stream::Bulk, vec![work])
    }

    fn protection(&mut self, name: &str) -> Seen {
        let work = protection(live(self.next[0]), name);
        self.unit(Stream::Live, vec![work])
    }

    /// Number of the delivery in flight that holds a unit.
    #[track_caller]
    fn number(&self, key: UnitKey) -> u64 {
        let mut found = self
            .in_flight
            .iter()
            .filter(|(_, keys)| keys.contains(&key));
        let (number, _) = found.next().expect("the unit is in flight");
        assert!(found.next().is_none(), "{key:?} is in flight twice");
        *number
    }

    /// Answers the delivery that starts with a unit, every unit the same.
    #[track_caller]
    fn answer(&mut self, first: UnitKey, answer: &Answered) -> Seen {
        let delivery = self.number(first);
        let keys = self.in_flight.remove(&delivery).unwrap_or_default();
        let answers = keys.into_iter().map(|key| (key, answer.clone())).collect();
        self.step(Input::Receipt { delivery, answers })
    }

    /// Answers some units of a run.
    #[track_caller]
    fn answer_each(&mut self, answers: Vec<(UnitKey, Answered)>) -> Seen {
        let delivery = self.number(answers[0].0);
        self.in_flight.remove(&delivery);
        self.step(Input::Receipt { delivery, answers })
    }

    fn at(&mut self, now: i64) -> Seen {
        self.now = now;
        self.step(Input::Tick)
    }
}

fn cursor(position: u64, sequence: u64) -> Cursor {
    Cursor {
        position: Position(position),
        sequence,
    }
}
