//! The adapters: one module a product, and the host that runs them by name.
//! They stand between the hub's front door and the products, on the SDK alone.
//! They must never depend on the hub's own code or on each other.
//! Read next: `host.rs`, then `vendors.rs`.

mod connectors;

pub mod host;
pub mod vendors;
