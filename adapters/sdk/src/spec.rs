//! What an adapter says about itself and its product.
//! The host sends it to the hub in `Hello`; the hub decides by it what is delivered and how.
//! It must never promise what the product cannot do: a promise of the hub rests on it.
//! Read next: `deliver.rs`.

use crate::hub::Capabilities;

/// Names an adapter, its product and what both can do.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Name of the product: the name that an operator binds.
    pub product: String,
    /// 業務ID of the receiving system, three digits.
    pub system: String,
    /// Version of the adapter.
    pub adapter_version: String,
    /// What the adapter and its product can do.
    pub capabilities: Capabilities,
    /// Deliveries that may be under way at the same time.
    pub in_flight_max: u32,
}
