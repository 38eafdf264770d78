//! One task that owns the writing connection of a product's ledger.
//! Requests wait in a bounded queue; those that wait together are committed together.
//! It must never answer before the commit: an answered request survives a kill.
//! Read next: `kaede.rs`, which sends it one change for each request.

use anyhow::Context;
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::ledger::{self, Change, Outcome};

/// Requests that may wait; more make the senders wait.
const QUEUE_MAX: usize = 256;
/// Requests that share one transaction at most.
const COMMIT_MAX: usize = 64;

struct Request {
    changes: Vec<Change>,
    answer: oneshot::Sender<Vec<Outcome>>,
}

/// The way to the writing task.
#[derive(Clone)]
pub(crate) struct Writer {
    queue: mpsc::Sender<Request>,
}

/// Starts the task; it ends with an error when the database fails.
pub(crate) fn start(conn: SqliteConnection) -> (Writer, JoinHandle<anyhow::Result<()>>) {
    let (queue, requests) = mpsc::channel(QUEUE_MAX);
    (Writer { queue }, tokio::spawn(run(conn, requests)))
}

impl Writer {
    /// Applies changes in order and returns one outcome for each, after they are stored.
    pub(crate) async fn apply(&self, changes: Vec<Change>) -> anyhow::Result<Vec<Outcome>> {
        let (answer, outcome) = oneshot::channel();
        let request = Request { changes, answer };
        self.queue
            .send(request)
            .await
            .ok()
            .context("the ledger is closed")?;
        outcome.await.context("the ledger did not answer")
    }

    /// Applies one change.
    pub(crate) async fn apply_one(&self, change: Change) -> anyhow::Result<Outcome> {
        self.apply(vec![change])
            .await?
            .pop()
            .context("the ledger gave no outcome")
    }
}

async fn run(
    mut conn: SqliteConnection,
    mut requests: mpsc::Receiver<Request>,
) -> anyhow::Result<()> {
    let mut batch = Vec::with_capacity(COMMIT_MAX);
    while requests.recv_many(&mut batch, COMMIT_MAX).await > 0 {
        let mut answers = Vec::with_capacity(batch.len());
        let mut transaction = conn.begin().await.context("begin")?;
        for request in batch.drain(..) {
            let mut outcomes = Vec::with_capacity(request.changes.len());
            for change in request.changes {
                outcomes.push(
                    ledger::apply(&mut transaction, change)
                        .await
                        .context("apply")?,
                );
            }
            answers.push((request.answer, outcomes));
        }
        transaction.commit().await.context("commit")?;
        for (answer, outcomes) in answers {
            // A caller who went away asks again with the same key.
            drop(answer.send(outcomes));
        }
    }
    Ok(())
}
