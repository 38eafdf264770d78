//! A recorded history and its judge, written apart from the engine that made it.
//! Rows fill it from what they saw: acknowledgements, the log, the receivers' own journals.
//! Must never use code of the hub, nor believe what the hub says of itself about effects.
//! Read next: `history/tests.rs`, the planted violations.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

#[cfg(test)]
mod tests;

/// What a source knows of an event it sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// The hub said that it is durable.
    Acknowledged,
    /// The hub refused it.
    Refused,
    /// There was no answer, and it was not sent again.
    Unknown,
}

/// An event that was sent.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Id.
    pub id: String,
    /// Subject.
    pub subject: String,
    /// Its version; what comes later has a higher one.
    pub version: u32,
    /// Events of one group are accepted or refused together; empty for an event alone.
    pub group: String,
    /// Answer.
    pub known: Known,
}

/// One delivery as the receiver saw it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Event.
    pub id: String,
    /// Epoch of the binding that sent it.
    pub epoch: u64,
}

/// One effect in a receiver's own journal.
#[derive(Debug, Clone)]
pub struct Effect {
    /// Event.
    pub id: String,
    /// Subject.
    pub subject: String,
    /// Version that it made.
    pub version: u32,
}

/// A unit that waits for a human.
#[derive(Debug, Clone)]
pub struct Parked {
    /// Its events.
    pub ids: Vec<String>,
    /// Subjects that wait.
    pub subjects: Vec<String>,
}

/// Everything of one receiver.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    /// Name.
    pub name: String,
    /// Deliveries in order.
    pub attempts: Vec<Attempt>,
    /// Effects in order.
    pub applied: Vec<Effect>,
    /// What is parked in the end.
    pub parked: Vec<Parked>,
    /// Ids that ended without effect, and with a reason that somebody can see.
    pub closed: BTreeSet<String>,
    /// Version of each subject in the end; `None` where the receiver has no state to read.
    pub state: Option<BTreeMap<String, u32>>,
}

/// A quantity that has a limit.
#[derive(Debug, Clone)]
pub struct Bound {
    /// What.
    pub what: String,
    /// How much of it there was.
    pub found: u64,
    /// How much there may be.
    pub max: u64,
}

/// All of a run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// What the sources sent.
    pub sent: Vec<Sent>,
    /// Ids in the order of the log.
    pub log: Vec<String>,
    /// Receivers, each entitled to everything.
    pub receivers: Vec<Receiver>,
    /// Quantities.
    pub bounds: Vec<Bound>,
}

/// Every violation, each beginning with its rule.
pub fn judge(history: &History) -> Vec<String> {
    let mut wrong = Vec::new();
    let places = judge_log(history, &mut wrong);
    judge_refusals(history, &places, &mut wrong);
    for receiver in &history.receivers {
        judge_effects(receiver, &places, &mut wrong);
        judge_parked(receiver, history, &mut wrong);
        judge_epochs(receiver, &mut wrong);
        judge_ends(history, receiver, &places, &mut wrong);
        judge_state(history, receiver, &places, &mut wrong);
    }
    for bound in history
        .bounds
        .iter()
        .filter(|bound| bound.found > bound.max)
    {
        let Bound { what, found, max } = bound;
        wrong.push(format!("I8: {what} is {found}, at most {max} are allowed"));
    }
    wrong
}

type Places<'a> = HashMap<&'a str, usize>;

/// I1 and I2 in the log: what was acknowledged stands there, and nothing stands there twice.
fn judge_log<'a>(history: &'a History, wrong: &mut Vec<String>) -> Places<'a> {
    let mut places = Places::new();
    for (place, id) in history.log.iter().enumerate() {
        if places.insert(id, place).is_some() {
            wrong.push(format!("I2: {id} stands twice in the log"));
        }
    }
    for sent in &history.sent {
        if sent.known == Known::Acknowledged && !places.contains_key(sent.id.as_str()) {
            wrong.push(format!(
                "I1: {} was acknowledged and is not in the log",
                sent.id
            ));
        }
    }
    places
}

/// I6: what was refused is nowhere, and of a group all is there or nothing.
fn judge_refusals(history: &History, places: &Places<'_>, wrong: &mut Vec<String>) {
    let mut groups: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for sent in &history.sent {
        let logged = places.contains_key(sent.id.as_str());
        if sent.known == Known::Refused && logged {
            wrong.push(format!("I6: {} was refused and is in the log", sent.id));
        }
        if !sent.group.is_empty() {
            let group = groups.entry(&sent.group).or_default();
            group.0 += 1;
            group.1 += usize::from(logged);
        }
    }
    for (group, (size, logged)) in groups {
        if logged != 0 && logged != size {
            wrong.push(format!(
                "I6: {logged} of {size} events of {group} are in the log"
            ));
        }
    }
    for receiver in &history.receivers {
        for effect in &receiver.applied {
            if !places.contains_key(effect.id.as_str()) {
                let (id, name) = (&effect.id, &receiver.name);
                wrong.push(format!(
                    "I6: {id} is not in the log and took effect at {name}"
                ));
            }
        }
    }
}

/// I2 and I3: each event once, and those of a subject in the order of the log.
fn judge_effects(receiver: &Receiver, places: &Places<'_>, wrong: &mut Vec<String>) {
    let name = &receiver.name;
    let mut seen = HashSet::new();
    let mut last: HashMap<&str, (u32, usize)> = HashMap::new();
    for effect in &receiver.applied {
        if !seen.insert(effect.id.as_str()) {
            wrong.push(format!("I2: {} took effect twice at {name}", effect.id));
            continue;
        }
        let place = places.get(effect.id.as_str()).copied().unwrap_or_default();
        let before = last.insert(&effect.subject, (effect.version, place));
        if let Some(before) = before.filter(|before| *before >= (effect.version, place)) {
            let version = effect.version;
            wrong.push(format!(
                "I3: {name} took version {version} after {}",
                before.0
            ));
        }
    }
}

/// I3 for what waits: nothing of a parked subject takes effect past what is parked.
fn judge_parked(receiver: &Receiver, history: &History, wrong: &mut Vec<String>) {
    let versions: HashMap<&str, (&str, u32)> = history
        .sent
        .iter()
        .map(|sent| (sent.id.as_str(), (sent.subject.as_str(), sent.version)))
        .collect();
    let mut first: HashMap<&str, u32> = HashMap::new();
    for (subject, version) in receiver
        .parked
        .iter()
        .flat_map(|parked| &parked.ids)
        .filter_map(|id| versions.get(id.as_str()))
    {
        let lowest = first.entry(subject).or_insert(*version);
        *lowest = (*lowest).min(*version);
    }
    for effect in &receiver.applied {
        let passed = first
            .get(effect.subject.as_str())
            .is_some_and(|version| effect.version > *version);
        if passed {
            let (name, version) = (&receiver.name, effect.version);
            wrong.push(format!(
                "I3: version {version} passed what is parked at {name}"
            ));
        }
    }
}

/// I2 for fences: who was replaced sends nothing more.
fn judge_epochs(receiver: &Receiver, wrong: &mut Vec<String>) {
    let mut newest = 0;
    for attempt in &receiver.attempts {
        if attempt.epoch < newest {
            let (id, epoch, name) = (&attempt.id, attempt.epoch, &receiver.name);
            wrong.push(format!(
                "I2: {name} got {id} under epoch {epoch} after {newest}"
            ));
        }
        newest = newest.max(attempt.epoch);
    }
}

/// I1 at the receiver: what is in the log took effect, waits for a human, or ended with a reason.
fn judge_ends(
    history: &History,
    receiver: &Receiver,
    places: &Places<'_>,
    wrong: &mut Vec<String>,
) {
    let applied: HashSet<&str> = receiver.applied.iter().map(|one| one.id.as_str()).collect();
    let parked: HashSet<&str> = receiver
        .parked
        .iter()
        .flat_map(|parked| parked.ids.iter().map(String::as_str))
        .collect();
    for id in history.sent.iter().map(|sent| sent.id.as_str()) {
        let ended = applied.contains(id) || parked.contains(id) || receiver.closed.contains(id);
        if places.contains_key(id) && !ended {
            wrong.push(format!(
                "I1: {id} is in the log and has no end at {}",
                receiver.name
            ));
        }
    }
}

/// I4: after healing the receiver's state is the source's, but for what waits for a human.
fn judge_state(
    history: &History,
    receiver: &Receiver,
    places: &Places<'_>,
    wrong: &mut Vec<String>,
) {
    let Some(state) = &receiver.state else { return };
    let waiting: HashSet<&str> = receiver
        .parked
        .iter()
        .flat_map(|parked| parked.subjects.iter().map(String::as_str))
        .collect();
    let mut expected: BTreeMap<&str, u32> = BTreeMap::new();
    for sent in &history.sent {
        let counts = places.contains_key(sent.id.as_str()) && !receiver.closed.contains(&sent.id);
        if counts && !waiting.contains(sent.subject.as_str()) {
            let version = expected.entry(&sent.subject).or_default();
            *version = (*version).max(sent.version);
        }
    }
    for (subject, version) in expected {
        let found = state.get(subject).copied().unwrap_or_default();
        if found != version {
            let name = &receiver.name;
            wrong.push(format!(
                "I4: {name} has version {found} of a subject at {version}"
            ));
        }
    }
}
