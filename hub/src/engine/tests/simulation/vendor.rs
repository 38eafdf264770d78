//! The product of a simulation: idempotent by key, and unreliable in every other way.
//! It applies and forgets to answer, applies a part of a batch, is down for a while, refuses for ever.

use std::collections::{BTreeMap, HashSet};

use super::*;

#[derive(Debug, Default)]
pub(super) struct Vendor {
    /// Effects in the order in which they happened.
    effects: Vec<Work<()>>,
    known: HashSet<UnitKey>,
    /// Deliveries that it never answered and may still carry out.
    stray: Vec<Vec<Work<()>>>,
    /// Deliveries that it still puts off.
    down: u64,
}

impl Vendor {
    fn apply(&mut self, work: &Work<()>) -> Answered {
        let outcome = match self.known.insert(work.key) {
            true => {
                self.effects.push(work.clone());
                Outcome::Applied
            }
            false => Outcome::Duplicate,
        };
        Answered::Final(outcome as i32, String::new())
    }

    /// Carries out a delivery faithfully.
    pub(super) fn take(&mut self, works: &[Work<()>]) -> Vec<(UnitKey, Answered)> {
        let answers = works.iter().map(|work| (work.key, self.apply(work)));
        answers.collect()
    }

    /// Carries out a delivery, or a part of it, or nothing, and answers, or does not.
    pub(super) fn says(
        &mut self,
        dice: &mut Dice,
        works: &[Work<()>],
    ) -> Option<Vec<(UnitKey, Answered)>> {
        if self.down > 0 {
            self.down -= 1;
            return Some(all(works, &again()));
        }
        match dice.below(100) {
            0..55 => Some(self.take(works)),
            55..60 => {
                // Applied, and the answer is lost.
                self.take(works);
                Some(all(works, &unknown()))
            }
            60..64 => {
                // No answer, and nobody knows whether it will still be carried out.
                self.stray.push(works.to_vec());
                None
            }
            64..75 => {
                let long = dice.chance(10);
                let after_ms = dice.below(if long { 300_000 } else { 3_000 });
                Some(all(works, &after(after_ms)))
            }
            75..77 => {
                self.down = dice.below(40);
                Some(all(works, &again()))
            }
            _ => Some(self.in_part(dice, works)),
        }
    }

    fn in_part(&mut self, dice: &mut Dice, works: &[Work<()>]) -> Vec<(UnitKey, Answered)> {
        let good = dice.below(works.len() as u64) as usize;
        let (done, rest) = works.split_at(good);
        let mut answers = self.take(done);
        let bad = rest[0].key;
        match dice.below(10) {
            0 => {}
            1 => answers.push((bad, Answered::Pause("STOP".to_owned()))),
            2..5 => answers.push((bad, again())),
            _ => answers.push((bad, refusal("NO"))),
        }
        // In a batch each unit has its own fate; in a run nothing passes the one that failed.
        for work in rest.iter().skip(1) {
            let behind = work.subjects.iter().any(|name| {
                let failed = rest.iter().take_while(|other| other.key != work.key);
                failed
                    .flat_map(|other| &other.subjects)
                    .any(|of| of == name)
            });
            if !behind {
                answers.push((work.key, self.apply(work)));
            }
        }
        answers
    }

    /// Carries out something that it had left.
    pub(super) fn wander(&mut self, dice: &mut Dice, open: &dyn Fn(&Work<()>) -> bool) {
        let Some(works) = self.stray.pop() else {
            return;
        };
        if dice.chance(50) && works.iter().all(open) {
            self.take(&works);
        }
    }

    /// No effect twice; within a stream, each subject's in the order of the log; all of them.
    pub(super) fn judge(&self, works: &BTreeMap<UnitKey, Work<()>>) {
        let mut last: HashMap<(&Subject, bool, Stream), UnitKey> = HashMap::new();
        let mut seen = HashSet::new();
        for work in &self.effects {
            assert!(seen.insert(work.key), "{:?} has an effect twice", work.key);
            if work.protection {
                continue;
            }
            for name in &work.subjects {
                let lane = (name, work.protection, work.key.stream);
                if let Some(before) = last.insert(lane, work.key) {
                    assert!(before < work.key, "{before:?} before {:?}", work.key);
                }
            }
        }
        for key in works.keys() {
            assert!(seen.contains(key), "{key:?} has no effect");
        }
    }
}

fn all(works: &[Work<()>], answer: &Answered) -> Vec<(UnitKey, Answered)> {
    works
        .iter()
        .map(|work| (work.key, answer.clone()))
        .collect()
}
