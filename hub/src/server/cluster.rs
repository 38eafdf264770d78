//! Several instances over one log and one store: who owns which municipality.
//! Kafka says who should own one (`membership.rs`), the store who does (`store/owners.rs`).
//! Must never serve a municipality whose lease is not this instance's.
//! Read next: `server/cluster/keeper.rs`, `server/cluster/forward.rs`.
//!
//! ```text
//!  membership ──assigned──▶ keeper ──own──▶ store (epoch, lease) ──▶ the town opens
//!      │                      │◀── renew ──────┘
//!      └──────revoked────────▶└── close, release ──▶ the next owner opens it
//!  a request at any instance ──▶ forward ──▶ the town here, or the owner's address
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tonic::transport::{Channel, Endpoint};

use super::gate::Gate;
use super::status::Failure;
use crate::event::Municipality;
use crate::limits::{
    KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, NO_OWNER_RETRY, OWNER_SEEN, OWNER_WAITING,
    OWNERS_SEEN_MAX, PEER_CONNECT, PEERS_MAX,
};
use crate::store::{Owner, Owners, StoreError};

pub mod forward;
pub mod keeper;
pub mod membership;

/// Makes what a municipality needs before anybody can own it.
#[async_trait::async_trait]
pub trait Prepare: Send + Sync + std::fmt::Debug {
    /// Makes it, unless it is there.
    async fn prepare(&self, m: &Municipality) -> Result<(), Failure>;
}

/// What an instance knows of the others.
#[derive(Debug)]
pub struct Cluster {
    /// Address of this instance, as the others reach it.
    pub address: String,
    /// Leases.
    pub owners: Arc<dyn Owners>,
    /// Makes new municipalities.
    pub new_towns: Arc<dyn Prepare>,
    waiting: Gate,
    seen: Mutex<HashMap<Municipality, (Instant, Option<Owner>)>>,
    peers: Mutex<HashMap<String, Channel>>,
}

impl Cluster {
    /// An instance that is reached at `address` (`http://host:port`).
    pub fn new(address: String, owners: Arc<dyn Owners>, new_towns: Arc<dyn Prepare>) -> Self {
        Self {
            address,
            owners,
            new_towns,
            waiting: Gate::new(OWNER_WAITING, NO_OWNER_RETRY),
            seen: Mutex::default(),
            peers: Mutex::default(),
        }
    }

    /// Who owns a municipality, as it was within the last moment.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn owner_of(&self, m: &Municipality) -> Result<Option<Owner>, StoreError> {
        let seen = lock(&self.seen).get(m).cloned();
        if let Some((_, owner)) = seen.filter(|(at, _)| at.elapsed() < OWNER_SEEN) {
            return Ok(owner);
        }
        let owner = self.owners.owner_of(m).await?;
        self.note(m, owner.clone());
        Ok(owner)
    }

    /// Codes that nobody has can be asked for too: only so many are remembered, and not for long.
    fn note(&self, m: &Municipality, owner: Option<Owner>) {
        let mut seen = lock(&self.seen);
        if seen.len() >= OWNERS_SEEN_MAX {
            seen.retain(|_, (at, _)| at.elapsed() < OWNER_SEEN);
        }
        if seen.len() >= OWNERS_SEEN_MAX {
            seen.clear();
        }
        seen.insert(m.clone(), (Instant::now(), owner));
    }

    /// The address of another instance that owns a municipality now.
    pub async fn elsewhere(&self, m: &Municipality) -> Result<Option<String>, StoreError> {
        let owner = self.owner_of(m).await?;
        // A former start of this instance was reached at its address too: nobody is there any more.
        let serves = |owner: &Owner| owner.holds && !owner.is_self && owner.address != self.address;
        Ok(owner.filter(serves).map(|owner| owner.address))
    }

    /// A connection to another instance; made when it is used first.
    pub(crate) fn peer(&self, address: &str) -> Option<Channel> {
        let mut peers = lock(&self.peers);
        if let Some(channel) = peers.get(address) {
            return Some(channel.clone());
        }
        // Addresses of instances that are long gone must not pile up.
        if peers.len() >= PEERS_MAX {
            peers.clear();
        }
        let endpoint = Endpoint::from_shared(address.to_owned()).ok()?;
        let channel = endpoint
            .connect_timeout(PEER_CONNECT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect_lazy();
        peers.insert(address.to_owned(), channel.clone());
        Some(channel)
    }
}

fn lock<T>(shared: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long the hub trusts a lease that it asked for at a moment.
fn trusted() -> Duration {
    crate::limits::OWNER_LEASE.saturating_sub(crate::limits::OWNER_LEASE_MARGIN)
}
