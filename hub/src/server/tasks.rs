//! What runs for one municipality, and how it ends: in its own time, or at once.
//! Owned by the town; every task of it is started here.
//! Must never let anything of a municipality run on when it was given back.
//! Read next: `server/town.rs`.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Tasks that end together.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    running: TaskTracker,
    at_once: CancellationToken,
}

impl Tasks {
    /// Starts one. It has to end by itself when it is told to; after the time for that it is
    /// dropped where it waits, as if the process had died there.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let at_once = self.at_once.clone();
        self.running.spawn(async move {
            tokio::select! {
                () = task => {}
                () = at_once.cancelled() => {}
            }
        });
    }

    /// Waits until all have ended; drops what has not within a time. False when it had to.
    pub async fn end(&self, within: Duration) -> bool {
        self.running.close();
        let ended = tokio::time::timeout(within, self.running.wait()).await;
        if ended.is_err() {
            self.at_once.cancel();
            self.running.wait().await;
        }
        ended.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_does_not_end_in_time_is_dropped_and_gone_when_the_end_is_told() {
        let tasks = Tasks::default();
        let (held, released) = tokio::sync::oneshot::channel::<()>();
        tasks.spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        tasks.spawn(async {});
        assert!(!tasks.end(Duration::ZERO).await);
        assert!(released.await.is_err(), "its holder is gone");
        let tasks = Tasks::default();
        tasks.spawn(async {});
        assert!(tasks.end(Duration::from_secs(60)).await);
    }
}
