//! Source rules: what becomes of a unit, by what the hub knows of its source. Pure.
//! Between validation and claim; the sequencer feeds it with what the store knows.
//! Must never read a clock, a store or a log.
//! Read next: `publish/sequencer.rs`.
//!
//! | the unit's subject | and | verdict |
//! |---|---|---|
//! | id known, same digest | stands in the log | duplicate |
//! | id known, other digest | | refused: the same id means the same content (P2) |
//! | has an open held unit | the unit corrects it | accepted; what waited follows |
//! | has an open held unit | otherwise | waits behind it |
//! | version = last + 1, or first of a subject | | accepted |
//! | version > last + 1 | | waits for the missing one |
//! | version ≤ last | | refused |

use std::collections::{HashMap, HashSet};

use super::candidate::{BEHIND_HELD, Candidate};
use crate::event::{Position, Stream, Subject};
use crate::store::{HeldState, Known};

/// What the rules know of one open held unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OpenHeld {
    /// Identifier; `#` and its place for one that this batch holds.
    pub id: String,
    /// Refused or waiting.
    pub state: HeldState,
    /// Subjects with versions.
    pub subjects: Vec<(Subject, u32)>,
}

/// What the hub knows of a source, for the units at hand.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// Known ids.
    pub known: HashMap<String, Known>,
    /// Last accepted versions.
    pub versions: HashMap<Subject, u32>,
    /// Open held units, oldest first.
    pub held: Vec<OpenHeld>,
    /// The source handed out a complete snapshot: a subject that is not known is new.
    pub snapshot_complete: bool,
}

/// What becomes of a unit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Append it. Names the held units that it corrects.
    Accept {
        /// Held units that it corrects.
        corrects: Vec<String>,
    },
    /// It stands in the log already.
    Duplicate {
        /// Where its last event stands.
        at: (Stream, Position),
    },
    /// It is held already.
    AlreadyHeld {
        /// Where.
        held_id: String,
    },
    /// Keep it as waiting.
    Wait {
        /// Rule.
        rule: &'static str,
    },
    /// It broke a rule.
    Refuse {
        /// Rule.
        rule: &'static str,
        /// Envelope field.
        field: &'static str,
        /// Text.
        message: &'static str,
    },
}

impl View {
    /// Decides about one unit.
    pub fn decide(&self, unit: &Candidate) -> Verdict {
        if let Some(verdict) = self.known_verdict(unit) {
            return verdict;
        }
        let corrects = match self.held_verdict(unit) {
            Ok(corrects) => corrects,
            Err(verdict) => return verdict,
        };
        match self.version_verdict(unit) {
            None => Verdict::Accept { corrects },
            Some(verdict) => verdict,
        }
    }

    /// True when a waiting unit may follow now: nothing refused stands before it, and its versions
    /// come next.
    pub fn may_follow(&self, waiting: &OpenHeld) -> bool {
        let subjects: HashSet<&Subject> = waiting.subjects.iter().map(|pair| &pair.0).collect();
        // Among waiting units of a subject whose version is known, versions say which comes next.
        let stands_before = |held: &OpenHeld| {
            let mut shared = held.subjects.iter().map(|pair| &pair.0);
            shared.any(|subject| {
                let undecided =
                    held.state == HeldState::Refused || !self.versions.contains_key(subject);
                undecided && subjects.contains(subject)
            })
        };
        let blocked = self
            .held
            .iter()
            .take_while(|held| held.id != waiting.id)
            .any(stands_before);
        let mut versions = self.versions.clone();
        !blocked
            && waiting.subjects.iter().all(|(subject, version)| {
                // As for a unit that comes in: before the first snapshot a subject may begin
                // with any version.
                let comes_next = versions
                    .get(subject)
                    .map_or(*version == 1 || !self.snapshot_complete, |last| {
                        *version == last + 1
                    });
                versions.insert(subject.clone(), *version);
                comes_next
            })
    }

    /// Notes that a unit was accepted.
    pub fn accepted(&mut self, unit: &Candidate) {
        for event in &unit.events {
            let version = self
                .versions
                .entry(event.claim.subject.clone())
                .or_default();
            *version = (*version).max(event.claim.version);
            // Its place is not known before the append; whoever repeats the whole unit is
            // answered with it.
            self.known.insert(
                event.claim.id.clone(),
                Known::Claimed {
                    digest: event.claim.digest.clone(),
                    at: Some((Stream::Live, Position::default())),
                },
            );
        }
    }

    /// Subjects of open held units.
    pub fn subjects_of(&self, ids: &[String]) -> Vec<Subject> {
        let named = self.held.iter().filter(|held| ids.contains(&held.id));
        named
            .flat_map(|held| held.subjects.iter().map(|pair| pair.0.clone()))
            .collect()
    }

    /// Notes that held units were closed.
    pub fn closed(&mut self, ids: &[String]) {
        self.held.retain(|held| !ids.contains(&held.id));
    }

    fn known_verdict(&self, unit: &Candidate) -> Option<Verdict> {
        let mut last = None;
        let mut new = 0;
        for event in &unit.events {
            let digest = &event.claim.digest;
            match self.known.get(&event.claim.id) {
                Some(Known::Claimed { digest: known, .. } | Known::Held { digest: known, .. })
                    if known != digest =>
                {
                    return Some(ID_REUSED);
                }
                Some(Known::Held { held_id, .. }) => {
                    return Some(Verdict::AlreadyHeld {
                        held_id: held_id.clone(),
                    });
                }
                Some(Known::Claimed { at: Some(at), .. }) => last = last.max(Some(*at)),
                // Claimed, and the append never got through: it is sent again.
                Some(Known::Claimed { at: None, .. }) | None => new += 1,
            }
        }
        match last {
            Some(at) if new == 0 => Some(Verdict::Duplicate { at }),
            Some(_) => Some(ID_REUSED),
            None => None,
        }
    }

    /// True for an open refused unit of this source: the only kind that can be corrected by name.
    pub fn is_refused(&self, held_id: &str) -> bool {
        let mut held = self.held.iter();
        held.any(|held| held.id == held_id && held.state == HeldState::Refused)
    }

    /// The held units that this one corrects, or why it has to wait.
    fn held_verdict(&self, unit: &Candidate) -> Result<Vec<String>, Verdict> {
        let pairs = unit.subjects();
        let concerns = |held: &OpenHeld| {
            held.subjects
                .iter()
                .any(|(s, _)| pairs.iter().any(|p| p.0 == *s))
        };
        let named = unit.corrects.as_str();
        let mut corrects: Vec<String> = Vec::new();
        if !named.is_empty() {
            if !self.is_refused(named) {
                return Err(NOT_HELD);
            }
            corrects.push(named.to_owned());
        }
        let mut seen: HashSet<&Subject> = HashSet::new();
        for held in self.held.iter().filter(|held| concerns(held)) {
            // Only the oldest held unit of a subject can be corrected; the rest waits for it.
            if held
                .subjects
                .iter()
                .any(|(subject, _)| seen.contains(subject))
            {
                continue;
            }
            seen.extend(held.subjects.iter().map(|(subject, _)| subject));
            let same = corrected_by(held, &pairs);
            let is_named = !named.is_empty() && held.id == named;
            if held.state == HeldState::Refused && (same || is_named) {
                if !is_named {
                    corrects.push(held.id.clone());
                }
            } else if held.state == HeldState::Refused {
                return Err(Verdict::Wait { rule: BEHIND_HELD });
            }
            // A waiting unit is no obstacle by itself: versions decide (it may wait for this one).
        }
        Ok(corrects)
    }

    fn version_verdict(&self, unit: &Candidate) -> Option<Verdict> {
        let mut versions: HashMap<&Subject, u32> = HashMap::new();
        for event in &unit.events {
            let (subject, version) = (&event.claim.subject, event.claim.version);
            let last = versions
                .get(subject)
                .or_else(|| self.versions.get(subject))
                .copied();
            versions.insert(subject, version.max(last.unwrap_or(0)));
            if event.snapshot {
                continue;
            }
            match last {
                Some(last) if version == last => return Some(VERSION_REUSED),
                Some(last) if version < last => return Some(VERSION_GOES_BACK),
                Some(last) if version > last + 1 => return Some(Verdict::Wait { rule: GAP }),
                None if version > 1 && self.snapshot_complete => {
                    return Some(Verdict::Wait { rule: GAP });
                }
                _ => {}
            }
        }
        None
    }
}

/// True when a unit brings every subject of a held one, each in the held version.
fn corrected_by(held: &OpenHeld, pairs: &[(Subject, u32)]) -> bool {
    let brought = |(subject, version): &(Subject, u32)| {
        *version > 0
            && pairs
                .iter()
                .any(|pair| pair.0 == *subject && pair.1 == *version)
    };
    !held.subjects.is_empty() && held.subjects.iter().all(brought)
}

/// Rule name of a version that is not the next one.
pub const GAP: &str = "VERSION_GAP";

const ID_REUSED: Verdict = Verdict::Refuse {
    rule: "ID_REUSED",
    field: "id",
    message: "this id was published before with other content; give the new content a new id",
};
const NOT_HELD: Verdict = Verdict::Refuse {
    rule: "NOT_HELD",
    field: "corrects_held_id",
    message: "this source has no refused unit of that name; see `musubi held list`",
};
const VERSION_REUSED: Verdict = Verdict::Refuse {
    rule: "VERSION_REUSED",
    field: "subject_version",
    message: "this version of the subject was published before with other content; send the \
              change with the next version",
};
const VERSION_GOES_BACK: Verdict = Verdict::Refuse {
    rule: "VERSION_GOES_BACK",
    field: "subject_version",
    message: "the subject has a later version already; send the change with the next version",
};

#[cfg(test)]
mod tests;
