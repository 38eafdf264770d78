//! Momiji (もみじ国民健康保険): delivers whole 届出 through its interface tables (連携テーブル).
//! It stands between the standard events and a health insurance ledger kept by household.
//! It must never write a part of a unit, nor read another result than the one of its own key.
//! Read next: `momiji/INTERFACE.md`, then `momiji/translate.rs`.

mod answer;
mod config;
mod deliver;
mod results;
mod tables;
#[cfg(test)]
mod tests;
mod translate;

use std::sync::Arc;

use musubi_adapter_sdk::Deliver;

pub use config::Config;

use crate::host::OpenError;

/// Name of the product.
pub const PRODUCT: &str = "momiji";

/// 業務ID of the system that the product is.
pub const SYSTEM: &str = "024";

/// Opens the adapter. The product's database need not be there yet.
///
/// # Errors
/// When the settings make no sense.
pub async fn open(config: Config) -> Result<Arc<dyn Deliver>, OpenError> {
    Ok(Arc::new(deliver::Momiji::new(&config)?))
}
