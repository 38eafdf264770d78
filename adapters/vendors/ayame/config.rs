//! Settings of the adapter.
//! The host reads them from the product's TOML.
//! They must never hold a secret: the product has none.
//! Read next: `deliver.rs`.

use std::time::Duration;

use serde::Deserialize;

use crate::connectors::http::HttpLimits;

/// Largest answer of the product: one line for each line of the largest request.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Settings of the adapter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Address of the product, such as `http://127.0.0.1:8026`.
    pub address: String,
    /// Longest time to open a connection, in milliseconds.
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// Longest time from a request to the end of its answer, in milliseconds.
    #[serde(default = "default_request_timeout_ms")]
    pub request_timeout_ms: u64,
    /// Deliveries that may be under way at the same time.
    #[serde(default = "default_in_flight_max")]
    pub in_flight_max: u32,
    /// Most changes of one bulk request; 1 sends each change by itself.
    #[serde(default = "default_batch_units")]
    pub batch_units: u32,
}

impl Config {
    /// The default settings for a product at `address`.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            connect_timeout_ms: default_connect_timeout_ms(),
            request_timeout_ms: default_request_timeout_ms(),
            in_flight_max: default_in_flight_max(),
            batch_units: default_batch_units(),
        }
    }

    /// Limits of the HTTP client.
    pub(super) fn limits(&self) -> HttpLimits {
        HttpLimits {
            connect: Duration::from_millis(self.connect_timeout_ms.max(1)),
            request: Duration::from_millis(self.request_timeout_ms.max(1)),
            answer_bytes_max: ANSWER_BYTES_MAX,
        }
    }
}

fn default_connect_timeout_ms() -> u64 {
    2_000
}

fn default_request_timeout_ms() -> u64 {
    30_000
}

fn default_in_flight_max() -> u32 {
    256
}

fn default_batch_units() -> u32 {
    500
}
