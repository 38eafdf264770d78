//! Who owns a municipality: the lease of an instance, beside the epoch that fences its writes.
//! Used by a hub of several instances; an embedded one owns everything for ever.
//! Must never give a municipality to another instance while the lease of the former one holds.
//! Read next: `server/cluster.rs`.
//!
//! ```text
//!   own ──▶ renew ──▶ renew ──▶ release ──▶ (free at once)
//!                        └── the instance dies: free when the lease is over by the store's clock
//! ```

use async_trait::async_trait;

use super::StoreError;
use crate::event::Municipality;

/// An owner as the store has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Address at which other instances and adapters reach it.
    pub address: String,
    /// Epoch.
    pub epoch: u64,
    /// Its lease holds by the store's clock.
    pub holds: bool,
    /// It is whoever asks: this opening of the store, not one before it at the same address.
    pub is_self: bool,
}

/// Leases of municipalities. `DeliveryStore::own` takes one.
#[async_trait]
pub trait Owners: Send + Sync + std::fmt::Debug {
    /// Prolongs the leases of all that this handle owns, in one step. Returns those that another
    /// one has taken over: this handle owns them no more.
    async fn renew(&self) -> Result<Vec<Municipality>, StoreError>;
    /// Gives one back: another instance may own it at once. One that is owned no more stays as it
    /// is.
    async fn release(&self, m: &Municipality) -> Result<(), StoreError>;
    /// Addresses of all other instances whose lease holds, in order.
    async fn others(&self) -> Result<Vec<String>, StoreError>;
    /// Who owns one; `None` when nobody ever did, or it was given back.
    async fn owner_of(&self, m: &Municipality) -> Result<Option<Owner>, StoreError>;
}
