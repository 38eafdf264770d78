//! Runs the adapter of a product by name, with the settings of its table.
//! `musubi adapter run` calls it; it opens the adapter and hands it to the SDK's runners.
//! It must never start with settings that it does not understand completely.
//! Read next: `host/registry.rs`.

mod registry;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use musubi_adapter_sdk::{
    CancellationToken, Capture, Deliver, HubAccess, run_capture, run_deliver,
};

pub use registry::{PRODUCTS, Product, Role, product};

/// An adapter that is ready to run.
pub enum Adapter {
    /// Receives deliveries.
    Deliver(Arc<dyn Deliver>),
    /// Publishes what it captures.
    Capture(Box<dyn Capture>),
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Deliver(adapter) => f.debug_tuple("Deliver").field(adapter.spec()).finish(),
            Self::Capture(adapter) => f.debug_tuple("Capture").field(&adapter.source()).finish(),
        }
    }
}

/// Why an adapter cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The settings hold something that the adapter does not understand.
    #[error("the settings of `{product}` are not usable: {problem}")]
    Config {
        /// Product.
        product: String,
        /// What is wrong, in one line.
        problem: String,
    },
    /// There is no adapter for the product.
    #[error("no adapter for the product `{product}`; there are {known}")]
    UnknownProduct {
        /// Product that was asked for.
        product: String,
        /// Products that there are.
        known: String,
    },
    /// Something that the adapter needs cannot be used.
    #[error("the adapter of `{product}` cannot use {what}")]
    Resource {
        /// Product.
        product: String,
        /// What it needs, such as a folder or an address.
        what: String,
        /// Cause.
        #[source]
        cause: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl OpenError {
    /// Settings that make no sense together.
    pub fn config(product: &str, problem: impl Into<String>) -> Self {
        Self::Config {
            product: product.to_owned(),
            problem: problem.into(),
        }
    }

    /// Something that cannot be used.
    pub fn resource(
        product: &str,
        what: impl Into<String>,
        cause: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::Resource {
            product: product.to_owned(),
            what: what.into(),
            cause: cause.into(),
        }
    }
}

/// Opens the adapter of `product` with `settings` (TOML text) and runs it until `shutdown`.
///
/// # Errors
/// When the product is unknown, or its settings or what they name cannot be used. Once it runs, a
/// hub or a product that is away is waited for and ends nothing.
pub async fn run(
    product: &str,
    settings: &str,
    hub: HubAccess,
    shutdown: CancellationToken,
) -> Result<(), OpenError> {
    match open(product, settings, &hub).await? {
        Adapter::Deliver(adapter) => run_deliver(hub, adapter, shutdown).await,
        Adapter::Capture(capture) => run_capture(hub, capture, shutdown).await,
    }
    Ok(())
}

/// Opens the adapter of `product` with `settings` (TOML text).
///
/// # Errors
/// As [`run`].
pub async fn open(product: &str, settings: &str, hub: &HubAccess) -> Result<Adapter, OpenError> {
    registry::open(product, settings, hub).await
}
