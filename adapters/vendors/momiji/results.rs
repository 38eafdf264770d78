//! Waits for results: one task asks for all units that are waited for, in one statement.
//! `deliver.rs` watches a key once its unit is written; results stay, so that none is missed.
//! It must never ask once a unit, nor ask at all when nobody waits.
//! Read next: `tables.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

use super::answer::ResultRow;
use super::tables::{Tables, refusal};

/// The results cannot be read now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

type Found = Result<Vec<ResultRow>, Unreadable>;

#[derive(Debug, Default)]
struct Waiting {
    by_key: HashMap<String, (u64, oneshot::Sender<Found>)>,
    last: u64,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    wake: Notify,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keys(&self) -> Vec<String> {
        self.waiting().by_key.keys().cloned().collect()
    }

    fn resolve(&self, key: &str, found: Found) {
        let waiting = self.waiting().by_key.remove(key);
        if waiting.is_some_and(|(_, sender)| sender.send(found).is_err()) {
            tracing::debug!("a delivery ended before its result");
        }
    }
}

/// The one task that asks for results; it ends with this value.
#[derive(Debug)]
pub(super) struct Results {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Results {
    /// Starts asking.
    pub(super) fn start(tables: Tables, poll: Duration) -> Self {
        let shared = Arc::new(Shared::default());
        let task = tokio::spawn(ask(tables, poll, Arc::clone(&shared)));
        Self { shared, task }
    }

    /// Watches a key until the value is dropped.
    pub(super) fn watch(&self, key: &str) -> Watch {
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut waiting = self.shared.waiting();
            waiting.last += 1;
            let id = waiting.last;
            waiting.by_key.insert(key.to_owned(), (id, sender));
            id
        };
        self.shared.wake.notify_one();
        Watch {
            shared: Arc::clone(&self.shared),
            key: key.to_owned(),
            id,
            receiver,
        }
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A key that is waited for.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    key: String,
    id: u64,
    receiver: oneshot::Receiver<Found>,
}

impl Watch {
    /// Waits as long as the product needs.
    pub(super) async fn result(mut self) -> Found {
        (&mut self.receiver).await.unwrap_or(Err(Unreadable))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut waiting = self.shared.waiting();
        // The same key may be watched anew by a later delivery.
        if waiting
            .by_key
            .get(&self.key)
            .is_some_and(|(id, _)| *id == self.id)
        {
            waiting.by_key.remove(&self.key);
        }
    }
}

async fn ask(tables: Tables, poll: Duration, shared: Arc<Shared>) {
    loop {
        let keys = shared.keys();
        if keys.is_empty() {
            shared.wake.notified().await;
            continue;
        }
        match tables.results(&keys).await {
            Ok(results) => {
                for (key, rows) in results {
                    shared.resolve(&key, Ok(rows));
                }
            }
            Err(error) => {
                tracing::warn!(reason = refusal(&error).reason, "results cannot be read");
                for key in &keys {
                    shared.resolve(key, Err(Unreadable));
                }
            }
        }
        tokio::time::sleep(poll).await;
    }
}
