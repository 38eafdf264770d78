//! Deltas that wait for their turn: whoever gets it commits all of them in one transaction.
//! Between the runners, each with one delta under way, and the writer that they share.
//! Must never answer a delta before its transaction is committed, nor hold one back for others.
//! Read next: `store/sqlite/delivery/commit.rs`, `store/postgres/delivery/commit.rs`.

use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::oneshot;

use super::DeliveryDelta;
use crate::store::{Durability, StoreError};

/// What is being done, for errors.
pub(in crate::store) const ACTION: &str = "committing deliveries";

/// Why deltas were not written.
#[derive(Debug)]
pub(in crate::store) enum Unwritten {
    /// One of them may be at fault: each is tried by itself.
    Together(StoreError),
    /// Nothing can be written now, whatever it is.
    Anything(StoreError),
}

/// The writer of a backend, in the hands of the one whose turn it is.
#[async_trait]
pub(in crate::store) trait WriteDeltas: Send {
    /// Writes deltas of different subscriptions in one transaction; says which of these the fence
    /// let pass.
    async fn write(
        &mut self,
        deltas: &[&DeliveryDelta],
        durability: Durability,
    ) -> Result<HashSet<String>, Unwritten>;
}

/// A delta with the one who waits for its answer.
#[derive(Debug)]
struct Waiting {
    delta: DeliveryDelta,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Waiting {
    /// Whoever went away does not wait for the answer; what is committed stays committed.
    fn answer(self, answer: Result<(), StoreError>) {
        drop(self.reply.send(answer));
    }
}

/// Deltas that wait, in order.
#[derive(Debug, Default)]
pub(in crate::store) struct Deltas(Mutex<Vec<Waiting>>);

impl Deltas {
    fn add(&self, delta: DeliveryDelta) -> oneshot::Receiver<Result<(), StoreError>> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(Waiting { delta, reply });
        answer
    }

    /// Takes the first delta of each subscription: deltas of one go one after the other.
    fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = HashSet::new();
        let first = |one: &mut Waiting| names.insert(one.delta.subscription.clone());
        waiting.extract_if(.., first).collect()
    }

    /// Commits a delta, once it is its turn, with all that wait by then.
    pub(in crate::store) async fn commit(
        &self,
        delta: DeliveryDelta,
        turn: impl Future<Output = impl WriteDeltas> + Send,
    ) -> Result<(), StoreError> {
        let mut answer = self.add(delta);
        let mut writer = turn.await;
        loop {
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
            let group = self.take();
            if group.is_empty() {
                let gone = io::Error::other("whoever had it under way went away");
                return Err(failed(gone));
            }
            commit_group(&mut writer, group).await;
        }
    }
}

fn failed(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Backend {
        action: ACTION,
        source: cause.into(),
    }
}

/// Commits deltas of different subscriptions together; when that fails, each by itself, so that
/// none fails because of another.
async fn commit_group(writer: &mut impl WriteDeltas, group: Vec<Waiting>) {
    let mut groups = vec![group];
    while let Some(group) = groups.pop() {
        let deltas: Vec<&DeliveryDelta> = group.iter().map(|one| &one.delta).collect();
        let now = |delta: &&DeliveryDelta| delta.durability() == Durability::Now;
        let durability = match deltas.iter().any(now) {
            true => Durability::Now,
            false => Durability::WithLog,
        };
        match writer.write(&deltas, durability).await {
            Ok(owned) => {
                for one in group {
                    let answer = match owned.contains(&one.delta.subscription) {
                        true => Ok(()),
                        false => Err(StoreError::Fenced(one.delta.subscription.clone())),
                    };
                    one.answer(answer);
                }
            }
            Err(Unwritten::Together(error)) => match <[Waiting; 1]>::try_from(group) {
                Ok([one]) => one.answer(Err(error)),
                Err(group) => groups.extend(group.into_iter().rev().map(|one| vec![one])),
            },
            Err(Unwritten::Anything(error)) => {
                let error = Arc::new(error);
                for one in group {
                    one.answer(Err(failed(Arc::clone(&error))));
                }
            }
        }
    }
}
