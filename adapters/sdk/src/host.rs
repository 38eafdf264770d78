//! What runs an adapter: connections, credits, leases, cursors and their retries.
//! It stands between the hub's front door and an implementation of `Deliver` or `Capture`.
//! It must never decide about content: it carries deliveries, receipts and pages, nothing more.
//! Read next: `host/deliver.rs` and `host/capture.rs`.

pub(crate) mod answer;
mod backoff;
mod capture;
mod connection;
mod deliver;
mod marks;
mod session;
#[cfg(test)]
mod tests;

pub use capture::run_capture;
pub use connection::HubAccess;
pub use deliver::run_deliver;
