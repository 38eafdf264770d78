//! What the end-to-end tests share: hubs, receivers, registries and towns of their own.
//! Beside the product: tests in `tests/` and programs in `src/bin/` are built from it.
//! Must never reach into a crate of the product: it sees processes, files and the network, and knows
//! the contract (`musubi-proto`) as any client does.
//! Read next: `hub.rs`, `receiver.rs`, `registry.rs`, then `tests/servers`.

pub mod cloudevents;
pub mod cluster;
pub mod collector;
pub mod demo;
pub mod event;
pub mod hub;
pub mod journals;
pub mod kills;
pub mod leaks;
pub mod migration;
pub mod receiver;
pub mod registry;
pub mod stage;
pub mod town;
pub mod trace;

pub use crate::hub::{Client, Hub};
pub use musubi_servers::{Postgres, Process, postgres, process, wait};
pub use musubi_servers::{wait_until, wait_until_blocking};
