//! Tsubame (つばめ住民記録): captures the resident registry from its numbered CSV files.
//! The registry drops files into a folder; full and differential files become standard events.
//! It must never publish part of a 届出, nor pass over a file, a row or a number.
//! Read next: `tsubame/INTERFACE.md`, then `tsubame/capture.rs`.

mod capture;
mod check;
mod columns;
mod config;
mod folder;
mod group;
mod ids;
mod index;
mod limits;
mod records;
mod row;
#[cfg(test)]
mod tests;
mod translate;

use musubi_adapter_sdk::Capture;

pub use config::Config;

use crate::host::OpenError;

/// Name of the product.
pub const PRODUCT: &str = "tsubame";

/// 業務ID of the system that the product is.
pub const SYSTEM: &str = "001";

/// Opens the capture of a registry for a municipality.
///
/// # Errors
/// When the settings make no sense or a folder that they name cannot be used.
pub async fn open(config: Config, municipality: &str) -> Result<Box<dyn Capture>, OpenError> {
    config.check(municipality)?;
    Ok(Box::new(capture::Tsubame::new(config, municipality)))
}
