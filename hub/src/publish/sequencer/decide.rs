//! What becomes of each entry of a batch, before anything is written.
//! Feeds the source rules and collects their verdicts.
//! Must never touch log or store.
//! Read next: `publish/sequencer/batch.rs`.

use prost::Message;

use super::{Answer, Broken, Entry};
use crate::clock::now_ms;
use crate::event::seal::Sealed;
use crate::event::{Stream, Subject};
use crate::publish::candidate::{BEHIND_HELD, Candidate, Refused};
use crate::publish::source_rules::{OpenHeld, Verdict, View};
use crate::store::{HeldKind, HeldState, Known, NewHeld};

/// How an entry of the batch will be answered once everything is committed.
pub(super) enum Pending {
    Ready(Answer),
    /// Index into the accepted units.
    Accepted(usize),
    /// The same unit stands earlier in this group commit.
    Repeated(usize),
    /// Index into the held units, with the rule.
    Held(usize, String),
}

/// What one group of batches of one source and stream leads to.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) accepted: Vec<(Stream, Candidate)>,
    pub(super) hold: Vec<NewHeld>,
    pub(super) corrected: Vec<(String, String)>,
    /// Subjects beside those of accepted units of which something may follow now.
    pub(super) freed: Vec<Subject>,
}

impl Plan {
    /// Notes corrected units; one that this very batch holds is stored as corrected at once.
    fn correct(&mut self, held: Vec<String>, by: &str) {
        for id in held {
            match Self::held_here(&id).and_then(|place| self.hold.get_mut(place)) {
                Some(held) => held.state = HeldState::Corrected,
                None => self.corrected.push((id, by.to_owned())),
            }
        }
    }

    /// Index of an accepted unit that has all its ids with the same content.
    fn repeated(&self, unit: &Candidate) -> Option<usize> {
        let stands_in = |accepted: &Candidate| {
            unit.events.iter().all(|event| {
                let mut claims = accepted.events.iter().map(|accepted| &accepted.claim);
                claims.any(|claim| claim.id == event.claim.id && claim.digest == event.claim.digest)
            })
        };
        let mut accepted = self.accepted.iter();
        accepted.position(|(_, accepted)| stands_in(accepted))
    }

    /// Index of a unit that this very batch holds.
    fn held_here(id: &str) -> Option<usize> {
        id.strip_prefix('#')?.parse().ok()
    }
}

pub(super) fn decide(
    view: &mut View,
    plan: &mut Plan,
    source: &str,
    stream: Stream,
    captured: bool,
    entry: Entry,
) -> Pending {
    match entry {
        Entry::Refused(refused) => {
            let held = held_rows(source, refused);
            hold(view, plan, held)
        }
        Entry::Invalid(unit, broken) => {
            let held = held_unit(source, unit, HeldState::Refused, broken);
            hold(view, plan, held)
        }
        Entry::Unit(unit) if plan.repeated(&unit).is_some() => {
            Pending::Repeated(plan.repeated(&unit).unwrap_or_default())
        }
        Entry::Unit(unit) => {
            let verdict = view.decide(&unit);
            conclude(view, plan, source, stream, captured, unit, verdict)
        }
    }
}

/// Turns a verdict into what is appended, held or answered.
fn conclude(
    view: &mut View,
    plan: &mut Plan,
    source: &str,
    stream: Stream,
    captured: bool,
    unit: Candidate,
    verdict: Verdict,
) -> Pending {
    match verdict {
        Verdict::Accept { corrects } => {
            view.accepted(&unit);
            plan.freed.extend(view.subjects_of(&corrects));
            view.closed(&corrects);
            plan.correct(corrects, &first_id(&unit));
            plan.accepted.push((stream, unit));
            Pending::Accepted(plan.accepted.len() - 1)
        }
        Verdict::Duplicate { at } => {
            // The correction may have been appended by a hub that died before the commit.
            if view.is_refused(&unit.corrects) {
                let corrects = [unit.corrects.clone()];
                plan.freed.extend(view.subjects_of(&corrects));
                view.closed(&corrects);
                plan.correct(corrects.into(), &first_id(&unit));
            }
            Pending::Ready(Answer::Accepted {
                position: at.1,
                duplicate: true,
            })
        }
        Verdict::AlreadyHeld { held_id } => match Plan::held_here(&held_id) {
            Some(place) => Pending::Held(place, BEHIND_HELD.to_owned()),
            None => Pending::Ready(Answer::Held {
                id: held_id,
                rule: BEHIND_HELD.to_owned(),
            }),
        },
        Verdict::Wait { rule } => {
            let message = "this unit is right and waits for an earlier version of its subject; \
                           correct the unit before it";
            let broken = broken(rule, "subject_version", message);
            let held = held_unit(source, unit, HeldState::Waiting, broken);
            hold(view, plan, held)
        }
        Verdict::Refuse {
            rule,
            field,
            message,
        } if captured => {
            let held = held_unit(
                source,
                unit,
                HeldState::Refused,
                broken(rule, field, message),
            );
            hold(view, plan, held)
        }
        Verdict::Refuse {
            rule,
            field,
            message,
        } => Pending::Ready(Answer::Refused {
            rule,
            field,
            message,
        }),
    }
}

fn broken(rule: &str, field: &str, message: &str) -> Broken {
    Broken {
        rule: rule.to_owned(),
        field: field.to_owned(),
        message: message.to_owned(),
    }
}

fn first_id(unit: &Candidate) -> String {
    let first = unit.events.first();
    first
        .map(|event| event.claim.id.clone())
        .unwrap_or_default()
}

fn hold(view: &mut View, plan: &mut Plan, held: NewHeld) -> Pending {
    let id = format!("#{}", plan.hold.len());
    for (event, digest) in &held.events {
        let known = Known::Held {
            held_id: id.clone(),
            digest: digest.clone(),
        };
        view.known.entry(event.clone()).or_insert(known);
    }
    if held.state == HeldState::Waiting {
        // What it waits for may be closed already, when a page is published once more.
        let subjects = held.subjects.iter().map(|pair| pair.0.clone());
        plan.freed.extend(subjects);
    }
    view.held.push(OpenHeld {
        id,
        state: held.state,
        subjects: held.subjects.clone(),
    });
    let rule = held.rule.clone();
    plan.hold.push(held);
    Pending::Held(plan.hold.len() - 1, rule)
}

fn held_unit(source: &str, unit: Candidate, state: HeldState, broken: Broken) -> NewHeld {
    NewHeld {
        source: source.to_owned(),
        key: unit.key.clone(),
        state,
        rule: broken.rule,
        file: unit.file.clone(),
        line: unit.line,
        item: broken.field,
        message: broken.message,
        rows: unit.events.len() as u32,
        held_ms: now_ms(),
        kind: HeldKind::Events,
        content: unit.sealed(),
        subjects: unit.subjects(),
        events: unit
            .events
            .iter()
            .map(|event| (event.claim.id.clone(), event.claim.digest.clone()))
            .collect(),
    }
}

fn held_rows(source: &str, refused: Refused) -> NewHeld {
    let rows = &refused.unit.rows;
    let first = rows
        .iter()
        .find(|row| !row.rule.is_empty())
        .or(rows.first());
    let origin = first.and_then(|row| row.origin.clone()).unwrap_or_default();
    NewHeld {
        source: source.to_owned(),
        key: refused.unit.key.clone(),
        state: HeldState::Refused,
        rule: first.map(|row| row.rule.clone()).unwrap_or_default(),
        file: origin.file,
        line: origin.line,
        item: first.map(|row| row.item.clone()).unwrap_or_default(),
        message: first.map(|row| row.message.clone()).unwrap_or_default(),
        rows: rows.len() as u32,
        held_ms: now_ms(),
        kind: HeldKind::Rows,
        content: Sealed::seal(refused.unit.encode_to_vec()),
        subjects: refused.subjects,
        events: Vec::new(),
    }
}
