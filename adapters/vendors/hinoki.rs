//! Hinoki (ひのき国民年金): delivers runs of residents as CP932 files to a nightly batch.
//! It stands between the standard events and a pension ledger that only exchanges files.
//! It must never write a character that nobody agreed to, nor give it the address of a protected
//! person: it cannot hold the flag. Read next: `hinoki/INTERFACE.md`, then `hinoki/translate.rs`.

mod answer;
mod batch;
mod config;
mod deliver;
mod folder;
mod row;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::Arc;

use musubi_adapter_sdk::Deliver;

pub use config::Config;

use crate::host::OpenError;

/// Name of the product.
pub const PRODUCT: &str = "hinoki";

/// 業務ID of the system that the product is.
pub const SYSTEM: &str = "026";

/// Opens the adapter and finds out what it had written before.
///
/// # Errors
/// When the settings make no sense, or the exchange folder or a table cannot be used.
pub async fn open(config: Config) -> Result<Arc<dyn Deliver>, OpenError> {
    Ok(Arc::new(deliver::Hinoki::open(&config)?))
}
