//! What a hub over brokers and a database costs: beside bare programs, and as it grows.
//! Each figure has brokers and a database of its own, started and ended by it.
//! Must never count the brokers' or the database's CPU as the hub's: what they need is said apart.
//! Read next: `figures/cluster/ingest.rs`.

mod idle;
mod ingest;
mod instances;
mod takeover;

pub(super) use idle::idle;
pub(super) use ingest::{BROKERS, ingest};
pub(super) use instances::instances;
pub(super) use takeover::takeover;
