//! Deltas that wait for the writing connection: whoever gets it commits all of them together.
//! Between the runners, each with one delta under way, and the file that they share.
//! Must never answer a delta before its transaction is committed, nor hold one back for others.
//! Read next: `store/sqlite/delivery/commit.rs`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::oneshot;

use super::commit::apply;
use crate::sqlite::trouble::must_not_be_io;
use crate::store::sqlite::writer::{Turn, Writing};
use crate::store::sqlite::{SqliteStore, failed, rows};
use crate::store::{DeliveryDelta, Durability, StoreError};

/// What is being done, for errors.
const ACTION: &str = "committing deliveries";

/// A delta with the one who waits for its answer.
#[derive(Debug)]
struct Waiting {
    delta: DeliveryDelta,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Waiting {
    fn answer(self, owned: bool) {
        let answer = match owned {
            true => Ok(()),
            false => Err(StoreError::Fenced(self.delta.subscription)),
        };
        // Whoever went away does not wait for it; what is committed stays committed.
        drop(self.reply.send(answer));
    }

    fn fail(self, error: sqlx::Error) {
        drop(self.reply.send(Err(failed(ACTION)(error))));
    }
}

/// Deltas that wait, in order.
#[derive(Debug, Default)]
pub(in crate::store::sqlite) struct Deltas(Mutex<Vec<Waiting>>);

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
}

impl SqliteStore {
    /// Commits a delta with all that wait by then.
    pub(super) async fn commit_delta(&self, delta: DeliveryDelta) -> Result<(), StoreError> {
        let mut answer = self.deltas.add(delta);
        let mut turn = self.writer.turn().await;
        loop {
            if let Ok(answer) = answer.try_recv() {
                return answer;
            }
            let group = self.deltas.take();
            if group.is_empty() {
                // Whoever had it under way was dropped.
                return Err(failed(ACTION)(sqlx::Error::WorkerCrashed));
            }
            turn = commit(turn, group).await.map_err(failed(ACTION))?;
        }
    }
}

/// Commits deltas of different subscriptions together; when that fails, each by itself, so that
/// none fails because of another.
async fn commit(mut turn: Turn<'_>, group: Vec<Waiting>) -> Result<Turn<'_>, sqlx::Error> {
    let mut groups = vec![group];
    while let Some(group) = groups.pop() {
        let now = |one: &Waiting| one.delta.durability() == Durability::Now;
        let durability = match group.iter().any(now) {
            true => Durability::Now,
            false => Durability::WithLog,
        };
        let mut writing = turn.keeping(durability).await?;
        let written = write(&mut writing, &group).await;
        turn = writing.end();
        match written {
            Ok(owned) => {
                for one in group {
                    let owned = owned.contains(&one.delta.subscription);
                    one.answer(owned);
                }
            }
            Err(error) => {
                // A second try could succeed and hide that the disk has lost what came before.
                must_not_be_io(ACTION, &error);
                match <[Waiting; 1]>::try_from(group) {
                    Ok([one]) => one.fail(error),
                    Err(group) => groups.extend(group.into_iter().rev().map(|one| vec![one])),
                }
            }
        }
    }
    Ok(turn)
}

/// Writes what the fence lets pass; says which subscriptions those are.
async fn write(
    writing: &mut Writing<'_>,
    group: &[Waiting],
) -> Result<HashSet<String>, sqlx::Error> {
    let mut transaction = writing.begin().await?;
    let epochs: Vec<(&str, i64)> = group
        .iter()
        .map(|one| {
            (
                one.delta.subscription.as_str(),
                one.delta.owner_epoch as i64,
            )
        })
        .collect();
    let owned: HashSet<String> = rows::select_scalars(
        &mut transaction,
        "SELECT s.id FROM",
        &epochs,
        |row, of| {
            row.push_bind(of.map(|(subscription, _)| *subscription))
                .push_bind(of.map(|(_, epoch)| *epoch));
        },
        "JOIN subscription s ON s.id = column1
         JOIN owner o ON o.municipality = s.municipality AND o.epoch = column2",
    )
    .await?;
    let deltas = group.iter().map(|one| &one.delta);
    let deltas: Vec<&DeliveryDelta> = deltas
        .filter(|delta| owned.contains(&delta.subscription))
        .collect();
    apply(&mut transaction, &deltas).await?;
    transaction.commit().await?;
    Ok(owned)
}
