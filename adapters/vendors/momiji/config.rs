//! Settings of the adapter.
//! The host reads them from the product's TOML.
//! They are never printed: the database's address may hold a password.
//! Read next: `tables.rs`.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

use super::PRODUCT;
use crate::host::OpenError;

/// Settings of the adapter.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Database with the interface tables: `sqlite://FILE` or `postgres://…`.
    pub database: String,
    /// How often to look for results while some are waited for, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
    /// Deliveries that may be under way at the same time.
    #[serde(default = "default_in_flight_max")]
    pub in_flight_max: u32,
    /// Most units that are written in one transaction.
    #[serde(default = "default_batch_units")]
    pub batch_units: u32,
    /// Connections to a PostgreSQL database.
    #[serde(default = "default_connections_max")]
    pub connections_max: u32,
}

impl Config {
    /// The default settings for a database.
    pub fn new(database: impl Into<String>) -> Self {
        Self {
            database: database.into(),
            poll_ms: default_poll_ms(),
            in_flight_max: default_in_flight_max(),
            batch_units: default_batch_units(),
            connections_max: default_connections_max(),
        }
    }

    /// Refuses an address of a database that the interface does not know.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let known = ["sqlite:", "postgres:", "postgresql:"];
        if known.iter().any(|scheme| self.database.starts_with(scheme)) {
            return Ok(());
        }
        Err(OpenError::config(
            PRODUCT,
            "`database` is no address of SQLite or PostgreSQL",
        ))
    }

    /// How often to look for results.
    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(1))
    }

    /// True for a database file, which has one writer at a time.
    pub(super) fn is_file(&self) -> bool {
        self.database.starts_with("sqlite:")
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("poll_ms", &self.poll_ms)
            .field("in_flight_max", &self.in_flight_max)
            .field("batch_units", &self.batch_units)
            .field("connections_max", &self.connections_max)
            .finish_non_exhaustive()
    }
}

fn default_poll_ms() -> u64 {
    25
}

fn default_in_flight_max() -> u32 {
    128
}

fn default_batch_units() -> u32 {
    100
}

fn default_connections_max() -> u32 {
    4
}
