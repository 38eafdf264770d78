//! Which records wait, lie in a file, or have a result that nobody has asked for yet.
//! Pure: `batch.rs` feeds it with runs, files and results, and writes what it gives out.
//! Memory is bounded: records by the deliveries under way, unclaimed results by a limit.
//! Read next: `../folder.rs`.

use std::collections::{HashMap, VecDeque};

use super::Run;
use crate::vendors::hinoki::answer::Outcome;
use crate::vendors::hinoki::folder::{FileName, ResultRecord, Written};
use crate::vendors::hinoki::row::Row;

/// Results that are kept for deliveries that may come again.
const UNCLAIMED_MAX: usize = 20_000;

/// A run that waits for the outcome of its records.
#[derive(Debug)]
struct Waiting {
    outcomes: Vec<Option<Outcome>>,
    reply: tokio::sync::oneshot::Sender<Vec<Outcome>>,
}

/// Everything that the adapter knows of its records.
#[derive(Debug, Default)]
pub(super) struct State {
    waiting: HashMap<u64, Waiting>,
    last_run: u64,
    /// Who waits for a key: run and place in it.
    waited: HashMap<String, (u64, usize)>,
    /// Records for the next file, with their run.
    collected: Vec<(u64, String, Row)>,
    /// Keys of files that have no result yet.
    files: HashMap<FileName, Vec<String>>,
    /// File of a key that has no result yet.
    in_file: HashMap<String, FileName>,
    unclaimed: HashMap<String, Outcome>,
    unclaimed_order: VecDeque<String>,
}

impl State {
    pub(super) fn new(open: Vec<Written>) -> Self {
        let mut state = Self::default();
        for written in open {
            state.written(written);
        }
        state
    }

    /// Number of records for the next file.
    pub(super) fn collected(&self) -> usize {
        self.collected.len()
    }

    /// Takes a run. Records that were written before are waited for, not written again; what
    /// follows them in the run is left for a later delivery, so that the order holds.
    pub(super) fn take(&mut self, run: Run) {
        self.forget_ended();
        let known = run
            .records
            .iter()
            .take_while(|(key, _)| self.is_known(key))
            .count();
        let is_new = known == 0;
        let mut records = run.records;
        let length = if is_new {
            records
                .iter()
                .take_while(|(key, _)| !self.is_known(key))
                .count()
        } else {
            known
        };
        records.truncate(length);
        self.last_run += 1;
        let id = self.last_run;
        self.waiting.insert(
            id,
            Waiting {
                outcomes: vec![None; records.len()],
                reply: run.reply,
            },
        );
        for (place, (key, row)) in records.into_iter().enumerate() {
            self.waited.insert(key.clone(), (id, place));
            if is_new {
                self.collected.push((id, key, row));
            } else if let Some(outcome) = self.unclaimed.remove(&key) {
                self.resolve(&key, outcome);
            }
        }
    }

    /// Gives out the records for the next file.
    pub(super) fn close(&mut self) -> Vec<(String, Row)> {
        self.forget_ended();
        std::mem::take(&mut self.collected)
            .into_iter()
            .map(|(_, key, row)| (key, row))
            .collect()
    }

    /// A file lies in the folder.
    pub(super) fn written(&mut self, written: Written) {
        for key in written.keys.iter().filter(|key| !key.is_empty()) {
            self.in_file.insert(key.clone(), written.name);
        }
        self.files.insert(written.name, written.keys);
    }

    /// A file could not be written.
    pub(super) fn not_written(&mut self, keys: &[String]) {
        for key in keys {
            self.resolve(key, Outcome::NotWritten);
        }
    }

    /// A file has its results.
    pub(super) fn results(&mut self, name: FileName, records: Vec<ResultRecord>) {
        let Some(keys) = self.close_file(name) else {
            // A result that was read before; Hinoki wrote it once more.
            return;
        };
        if let [whole] = records.as_slice()
            && whole.key.is_empty()
        {
            for key in keys {
                self.resolve(&key, whole.outcome.clone());
            }
            return;
        }
        let fits = records.len() == keys.len()
            && records
                .iter()
                .zip(&keys)
                .all(|(r, key)| r.key.is_empty() || r.key == *key);
        for (index, key) in keys.iter().enumerate() {
            let outcome = records
                .get(index)
                .filter(|_| fits)
                .map(|record| record.outcome.clone());
            self.resolve(key, outcome.unwrap_or(Outcome::Unreadable));
        }
    }

    /// A file has results that nobody can read.
    pub(super) fn unreadable(&mut self, name: FileName) {
        for key in self.close_file(name).unwrap_or_default() {
            self.resolve(&key, Outcome::Unreadable);
        }
    }

    /// Forgets runs whose delivery has ended; their records are not written any more.
    pub(super) fn forget_ended(&mut self) {
        let ended = self
            .waiting
            .values()
            .any(|waiting| waiting.reply.is_closed());
        if ended {
            self.waiting.retain(|_, waiting| !waiting.reply.is_closed());
            self.waited
                .retain(|_, (run, _)| self.waiting.contains_key(run));
            self.collected
                .retain(|(run, _, _)| self.waiting.contains_key(run));
        }
    }

    fn is_known(&self, key: &str) -> bool {
        self.in_file.contains_key(key) || self.unclaimed.contains_key(key)
    }

    fn close_file(&mut self, name: FileName) -> Option<Vec<String>> {
        let keys = self.files.remove(&name)?;
        for key in &keys {
            if self.in_file.get(key) == Some(&name) {
                self.in_file.remove(key);
            }
        }
        Some(keys)
    }

    fn resolve(&mut self, key: &str, outcome: Outcome) {
        let Some((run, place)) = self.waited.remove(key) else {
            self.keep_unclaimed(key, outcome);
            return;
        };
        let Some(waiting) = self.waiting.get_mut(&run) else {
            return;
        };
        if let Some(slot) = waiting.outcomes.get_mut(place) {
            *slot = Some(outcome);
        }
        if waiting.outcomes.iter().all(Option::is_some)
            && let Some(done) = self.waiting.remove(&run)
        {
            let outcomes = done.outcomes.into_iter().flatten().collect();
            if done.reply.send(outcomes).is_err() {
                tracing::debug!("a delivery ended before its result");
            }
        }
    }

    /// Keeps a result for a delivery that may come again. A damaged one helps nobody.
    fn keep_unclaimed(&mut self, key: &str, outcome: Outcome) {
        if key.is_empty() || !matches!(outcome, Outcome::Result { .. }) {
            return;
        }
        self.unclaimed.insert(key.to_owned(), outcome);
        self.unclaimed_order.push_back(key.to_owned());
        while self.unclaimed_order.len() > UNCLAIMED_MAX {
            if let Some(oldest) = self.unclaimed_order.pop_front() {
                self.unclaimed.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests;
