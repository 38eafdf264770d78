//! What an answer leads to: done, parked with all behind it, tried again, or paused.
//! Between a receipt and the next start.
//! Must never park what stands before a refused unit, nor what is on its way to the product.
//! Read next: `engine/tests/parking.rs`.

use std::collections::HashMap;

use super::{Answered, Decision, Engine, Item, Phase, Refusal};
use crate::event::Subject;
use crate::limits::{RETRY_AFTER_MAX, RETRY_BASE, RETRY_MAX};
use crate::store::{RunRow, UnitKey};

impl<P: Clone> Engine<P> {
    pub(super) fn answered(
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
