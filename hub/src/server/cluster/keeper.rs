//! Takes, keeps and gives back the municipalities that membership gives to this instance.
//! One task each; one task prolongs all leases.
//! Must never tell that one is given back while something of it still runs here.
//! Read next: `server/cluster/membership.rs`, `server/town.rs`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::join_all;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;

use super::{Cluster, trusted};
use crate::event::Municipality;
use crate::limits::{OPEN_AGAIN_BASE, OPEN_AGAIN_MAX, OWNER_LOOK, OWNER_RENEW, TOWNS_OPENING};
use crate::server::hub::Hub;
use crate::server::opening::OpenTownError;
use crate::server::status::Failure;
use crate::server::town::Town;
use crate::store::StoreError;

/// What membership says.
#[derive(Debug)]
pub enum Turn {
    /// These should be owned here.
    Given(Vec<Municipality>),
    /// These should be owned elsewhere; told when nothing of them runs here any more.
    Taken(Vec<Municipality>, oneshot::Sender<()>),
}

/// A municipality that should be owned here.
struct Kept {
    give_back: CancellationToken,
    task: JoinHandle<()>,
}

/// Keeps what membership gives until it says no more; then gives everything back.
pub async fn keep(hub: Arc<Hub>, cluster: Arc<Cluster>, mut turns: mpsc::Receiver<Turn>) {
    let leases = Arc::new(Leases::new(hub.clone(), cluster.clone()));
    let renewing = tokio::spawn(renew(leases.clone()));
    let opening = Arc::new(Semaphore::new(TOWNS_OPENING));
    let mut kept: HashMap<Municipality, Kept> = HashMap::new();
    while let Some(turn) = turns.recv().await {
        match turn {
            Turn::Given(towns) => {
                for m in towns
                    .into_iter()
                    .filter(|m| !kept.contains_key(m))
                    .collect::<Vec<_>>()
                {
                    let give_back = CancellationToken::new();
                    let one = One {
                        hub: hub.clone(),
                        cluster: cluster.clone(),
                        leases: leases.clone(),
                        opening: opening.clone(),
                        m: m.clone(),
                        give_back: give_back.clone(),
                    };
                    let task = tokio::spawn(one.keep());
                    kept.insert(m, Kept { give_back, task });
                }
            }
            Turn::Taken(towns, done) => {
                give_back(towns.iter().filter_map(|m| kept.remove(m)).collect()).await;
                if done.send(()).is_err() {
                    tracing::warn!("giving municipalities back took longer than membership waits");
                }
            }
        }
    }
    give_back(kept.into_values().collect()).await;
    renewing.abort();
}

async fn give_back(kept: Vec<Kept>) {
    for one in &kept {
        one.give_back.cancel();
    }
    for ended in join_all(kept.into_iter().map(|one| one.task)).await {
        if let Err(error) = ended {
            tracing::error!(%error, "a municipality was not closed in order; its lease ends it");
        }
    }
}

/// Prolongs the leases; what another instance took over is closed here.
async fn renew(leases: Arc<Leases>) {
    let mut ticks = tokio::time::interval(OWNER_RENEW);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        ticks.tick().await;
        match leases.prolong().await {
            Ok(()) => told = false,
            Err(error) if told => tracing::debug!(error, "leases were not prolonged"),
            Err(error) => {
                told = true;
                tracing::warn!(
                    error,
                    "leases were not prolonged; nothing is sent when they end"
                );
            }
        }
    }
}

/// Prolongs all leases of this instance, once for all who ask meanwhile.
struct Leases {
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
    /// Prolongations that were begun.
    begun: AtomicU64,
    /// One at a time; what the last one came to.
    last: tokio::sync::Mutex<Result<(), String>>,
}

impl Leases {
    fn new(hub: Arc<Hub>, cluster: Arc<Cluster>) -> Self {
        Self {
            hub,
            cluster,
            begun: AtomicU64::new(0),
            last: tokio::sync::Mutex::new(Ok(())),
        }
    }

    /// Returns when a prolongation has ended that was begun after this was asked for.
    async fn prolong(&self) -> Result<(), String> {
        let before = self.begun.load(Ordering::Acquire);
        let mut last = self.last.lock().await;
        if self.begun.load(Ordering::Acquire) == before {
            self.begun.fetch_add(1, Ordering::AcqRel);
            // Whoever comes after one that is dropped half-way must not take an older answer.
            *last = Err("the prolongation was broken off".to_owned());
            *last = self.prolong_now().await;
        }
        last.clone()
    }

    async fn prolong_now(&self) -> Result<(), String> {
        // Counted from before the question: the store counts from a later moment.
        let asked = Instant::now();
        let renewed = timeout(trusted(), self.cluster.owners.renew()).await;
        let lost = match renewed {
            Ok(Ok(lost)) => lost,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the store does not answer".to_owned()),
        };
        // Before the lease is prolonged: it does not hold for these.
        for m in lost {
            tracing::warn!(municipality = m.as_str(), "another instance took over");
            if let Some(town) = self.hub.open_town(&m).await {
                town.stop().cancel();
            }
        }
        self.hub.commons.lease.prolong(asked + trusted());
        Ok(())
    }
}

/// How long to wait after so many failed attempts in a row: what passes costs little, what stays
/// does not busy anybody.
fn open_again(failed: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failed.saturating_sub(1));
    OPEN_AGAIN_BASE.saturating_mul(doubled).min(OPEN_AGAIN_MAX)
}

/// One municipality, from being given to being given back.
struct One {
    hub: Arc<Hub>,
    cluster: Arc<Cluster>,
    leases: Arc<Leases>,
    opening: Arc<Semaphore>,
    m: Municipality,
    give_back: CancellationToken,
}

impl One {
    async fn keep(self) {
        let mut told = String::new();
        let mut failed = 0;
        while !self.give_back.is_cancelled() {
            let wait = match self.open().await {
                Ok(town) => {
                    told.clear();
                    failed = 0;
                    tracing::info!(
                        municipality = self.m.as_str(),
                        epoch = town.shared().owner_epoch,
                        "owner.began"
                    );
                    tokio::select! {
                        () = self.give_back.cancelled() => {}
                        () = town.stop().cancelled() => {}
                    }
                    self.close(&town).await;
                    OWNER_LOOK
                }
                Err(OpenTownError::Store(StoreError::Leased { .. })) => OWNER_LOOK,
                Err(error) => {
                    // Another instance may be able to.
                    self.release().await;
                    let failure = Failure::from(error);
                    if told != failure.message {
                        let (municipality, reason) = (self.m.as_str(), &failure.reason);
                        let error = &failure.message;
                        tracing::error!(
                            municipality,
                            reason,
                            error,
                            "it cannot be opened; tried again"
                        );
                        told = failure.message;
                    }
                    failed += 1;
                    open_again(failed)
                }
            };
            self.pause(wait).await;
        }
    }

    async fn pause(&self, wait: Duration) {
        tokio::select! {
            () = self.give_back.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }

    async fn open(&self) -> Result<Arc<Town>, OpenTownError> {
        let _place = tokio::select! {
            place = self.opening.acquire() => place.ok(),
            () = self.give_back.cancelled() => None,
        };
        if self.give_back.is_cancelled() {
            return Err(OpenTownError::Recovery(Failure::not_owner(&self.m, None)));
        }
        let town = self.hub.take(&self.m).await?;
        // Shown before it is confirmed: whoever loses it from here on finds it.
        self.hub.show(town.clone()).await;
        if let Err(error) = self.confirm(&town).await {
            self.close(&town).await;
            return Err(error);
        }
        Ok(town)
    }

    /// The lease holds, and nobody took the municipality over while it was being opened.
    async fn confirm(&self, town: &Town) -> Result<(), OpenTownError> {
        if let Err(error) = self.leases.prolong().await {
            let code = tonic::Code::Unavailable;
            let failure = Failure::new(code, "STORE_FAILED", error);
            return Err(OpenTownError::Recovery(failure));
        }
        let owner = self.cluster.owners.owner_of(&self.m).await?;
        let epoch = town.shared().owner_epoch;
        if owner.is_some_and(|owner| owner.holds && owner.epoch == epoch) {
            return Ok(());
        }
        Err(OpenTownError::Recovery(Failure::not_owner(&self.m, None)))
    }

    async fn close(&self, town: &Town) {
        self.hub.hide(&self.m).await;
        town.close().await;
        self.release().await;
        tracing::info!(municipality = self.m.as_str(), "owner.ended");
    }

    /// Gives the lease back; what fails here is given back with the next prolongation.
    async fn release(&self) {
        if let Err(error) = self.cluster.owners.release(&self.m).await {
            let error: &dyn std::error::Error = &error;
            let municipality = self.m.as_str();
            tracing::warn!(error, municipality, "the lease was not given back yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_opened_is_tried_again_soon_and_then_more_and_more_seldom() {
        let waits: Vec<u128> = (1..=6).map(|n| open_again(n).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 5_000]);
        assert_eq!(open_again(u32::MAX), OPEN_AGAIN_MAX);
    }
}
