//! Real servers of a test's or a demo's own, as processes: started on free ports in temporary
//! folders, killed, frozen, started again, gone afterwards.
//! Beside the product: the tests of the hub and of whole towns are built on it.
//! Must never touch a server of the machine, nor leave one behind.
//! Read next: `process.rs`, `postgres.rs`, `kafka.rs`, `wait.rs`.

pub mod guard;
pub mod kafka;
pub mod pgbouncer;
pub mod postgres;
pub mod process;
pub mod tools;
pub mod wait;

pub use crate::kafka::Kafka;
pub use crate::pgbouncer::PgBouncer;
pub use crate::postgres::Postgres;
pub use crate::process::Process;
pub use crate::wait::{wait_until, wait_until_blocking};
