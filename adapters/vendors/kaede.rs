//! Kaede (かえで個人住民税): delivers residents to its REST interface, one event at a time.
//! It stands between the standard events and the ledger of taxpayers (納税者).
//! It must never repeat a request or take an answer for more than the interface promises.
//! Read next: `kaede/INTERFACE.md`, then `kaede/translate.rs`.

mod config;
mod deliver;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::Arc;

use musubi_adapter_sdk::Deliver;

pub use config::Config;

use crate::host::OpenError;

/// Name of the product.
pub const PRODUCT: &str = "kaede";

/// 業務ID of the system that the product is.
pub const SYSTEM: &str = "010";

/// Opens the adapter. The product need not be there yet.
///
/// # Errors
/// When the settings make no sense.
pub async fn open(config: Config) -> Result<Arc<dyn Deliver>, OpenError> {
    Ok(Arc::new(deliver::Kaede::new(&config)?))
}
