//! What the end-to-end tests share: processes that can be killed, a PostgreSQL of their own.
//! Beside the product: tests in `tests/` and programs in `src/bin/` are built from it.
//! Must never reach into a crate of the product; it sees processes, files and the network only.
//! Read next: `process.rs`, `postgres.rs`, `wait.rs`.

pub mod postgres;
pub mod process;
pub mod wait;

pub use crate::postgres::Postgres;
pub use crate::process::Process;
pub use crate::wait::{wait_until, wait_until_blocking};
