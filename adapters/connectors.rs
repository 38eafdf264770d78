//! Ways to reach a product that several vendors share: HTTP, exchange folders, CP932, dates.
//! A vendor's `deliver.rs` sends through them; a vendor's `translate.rs` takes its checks from them.
//! They must never know a vendor, nor repeat a request: the hub owns every retry.
//! Read next: `connectors/http.rs`, then `vendors.rs`.

pub(crate) mod checks;
pub(crate) mod clock;
pub(crate) mod cp932;
pub(crate) mod dates;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod json;
pub(crate) mod names;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod units;
