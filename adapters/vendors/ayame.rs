//! Ayame (国民年金 v2): delivers residents to its REST interface, many in one bulk request.
//! It stands between the standard events and a pension ledger with address histories.
//! It must never repeat a request or take an answer for more than the interface promises.
//! Read next: `ayame/INTERFACE.md`, then `ayame/translate.rs`.

mod answer;
mod bulk;
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
pub const PRODUCT: &str = "ayame";

/// 業務ID of the system that the product is.
pub const SYSTEM: &str = "026";

/// Opens the adapter. The product need not be there yet.
///
/// # Errors
/// When the settings make no sense.
pub async fn open(config: Config) -> Result<Arc<dyn Deliver>, OpenError> {
    Ok(Arc::new(deliver::Ayame::new(&config)?))
}
