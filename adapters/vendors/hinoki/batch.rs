//! Collects records into request files and hands results to those who wait for them.
//! One task owns the state; `deliver.rs` submits runs, the exchange folder gives the results.
//! It must never write a key that already lies in a file, nor split a run over two files.
//! Read next: `batch/state.rs`.

mod state;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use super::answer::Outcome;
use super::folder::{FileName, Folder, Found, Written};
use super::row::Row;
use crate::connectors::clock::JapanTime;
use state::State;

/// Runs that may wait to be collected.
const QUEUE_MAX: usize = 1_024;

/// A run of one person's records with their keys, in order.
#[derive(Debug)]
pub(super) struct Run {
    /// Keys and records; not empty.
    pub(super) records: Vec<(String, Row)>,
    /// Gets the outcome of each record that was written, in order. It may be a part of the run:
    /// the rest was not written.
    pub(super) reply: oneshot::Sender<Vec<Outcome>>,
}

/// How files are closed and results looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long the first record of a file waits for others.
    pub(super) wait: Duration,
    /// Records after which a file is closed at once.
    pub(super) records_max: usize,
    /// How often to look for results.
    pub(super) poll: Duration,
}

/// The collector. Its task ends with it.
#[derive(Debug)]
pub(super) struct Batch {
    queue: mpsc::Sender<Run>,
}

impl Batch {
    /// Starts with what was found in the folder.
    pub(super) fn start(folder: Folder, found: Found, pace: Pace) -> Self {
        let (queue, runs) = mpsc::channel(QUEUE_MAX);
        let last = found.last;
        let keeper = Keeper {
            folder: Arc::new(folder),
            pace,
            last,
            state: State::new(found.open),
            first_at: None,
        };
        tokio::spawn(keeper.keep(runs));
        Self { queue }
    }

    /// Hands a run over and waits for the night. `None` when the adapter stops.
    pub(super) async fn submit(&self, records: Vec<(String, Row)>) -> Option<Vec<Outcome>> {
        let (reply, outcomes) = oneshot::channel();
        self.queue.send(Run { records, reply }).await.ok()?;
        outcomes.await.ok()
    }
}

struct Keeper {
    folder: Arc<Folder>,
    pace: Pace,
    last: FileName,
    state: State,
    /// When the first record of the file that is being collected came.
    first_at: Option<Instant>,
}

impl Keeper {
    async fn keep(mut self, mut runs: mpsc::Receiver<Run>) {
        let mut polls = interval(self.pace.poll);
        polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let close_at = self.first_at.map(|first| first + self.pace.wait);
            tokio::select! {
                run = runs.recv() => match run {
                    Some(run) => self.take(run).await,
                    None => return,
                },
                () = wait_until(close_at), if close_at.is_some() => self.close().await,
                _ = polls.tick() => self.look().await,
            }
        }
    }

    async fn take(&mut self, run: Run) {
        if self.state.collected() + run.records.len() > self.pace.records_max {
            self.close().await;
        }
        self.state.take(run);
        if self.state.collected() == 0 {
            self.first_at = None;
        } else if self.state.collected() >= self.pace.records_max {
            self.close().await;
        } else {
            self.first_at.get_or_insert_with(Instant::now);
        }
    }

    /// Writes the file that was being collected.
    async fn close(&mut self) {
        self.first_at = None;
        let records = self.state.close();
        if records.is_empty() {
            return;
        }
        let keys: Vec<String> = records.iter().map(|(key, _)| key.clone()).collect();
        let Some(name) = self.last.next(JapanTime::now().day_number()) else {
            tracing::error!("no more names for request files today");
            self.state.not_written(&keys);
            return;
        };
        // A name counts as used from here on, whatever becomes of the file.
        self.last = name;
        let folder = Arc::clone(&self.folder);
        match blocking(move || folder.write(name, &records))
            .await
            .and_then(|written| written)
        {
            Ok(()) => {
                tracing::debug!(%name, "request file written");
                self.state.written(Written { name, keys });
            }
            Err(error) => {
                tracing::warn!(%name, %error, "request file not written");
                self.state.not_written(&keys);
            }
        }
    }

    /// Takes all results that are there.
    async fn look(&mut self) {
        self.state.forget_ended();
        let folder = Arc::clone(&self.folder);
        match blocking(move || folder.finished())
            .await
            .and_then(|finished| finished)
        {
            Ok(names) => {
                for name in names {
                    self.collect(name).await;
                }
            }
            Err(error) => tracing::warn!(%error, "the folder of results cannot be read"),
        }
    }

    async fn collect(&mut self, name: FileName) {
        let folder = Arc::clone(&self.folder);
        match blocking(move || folder.result(name))
            .await
            .and_then(|result| result)
        {
            Ok(Some(records)) => self.state.results(name, records),
            Ok(None) => {
                tracing::error!(%name, "the result is not what its manifest says");
                self.state.unreadable(name);
            }
            Err(error) => {
                tracing::warn!(%name, %error, "the result cannot be read now");
                return;
            }
        }
        let folder = Arc::clone(&self.folder);
        if let Err(error) = blocking(move || folder.discard(name))
            .await
            .and_then(|done| done)
        {
            tracing::warn!(%name, %error, "the result that was read cannot be removed");
        }
    }
}

async fn wait_until(at: Option<Instant>) {
    if let Some(at) = at {
        sleep_until(at).await;
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)
}
