//! The one list of all products that have an adapter.
//! The host opens adapters by it; nothing registers itself.
//! It must never hold knowledge about a product beyond its name, system and role.
//! Read next: `../vendors.rs`.

use musubi_adapter_sdk::HubAccess;
use serde::de::DeserializeOwned;

use super::{Adapter, OpenError};
use crate::vendors::{ayame, hinoki, kaede, momiji, tsubame};

/// What an adapter does for its product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Takes changes out of the product.
    Capture,
    /// Brings changes into the product.
    Deliver,
}

/// A product that has an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Product {
    /// Name, as in a binding.
    pub name: &'static str,
    /// 業務ID of the system that it serves.
    pub system: &'static str,
    /// What its adapter does.
    pub role: Role,
}

/// All products that have an adapter.
pub const PRODUCTS: &[Product] = &[
    Product {
        name: tsubame::PRODUCT,
        system: tsubame::SYSTEM,
        role: Role::Capture,
    },
    Product {
        name: kaede::PRODUCT,
        system: kaede::SYSTEM,
        role: Role::Deliver,
    },
    Product {
        name: hinoki::PRODUCT,
        system: hinoki::SYSTEM,
        role: Role::Deliver,
    },
    Product {
        name: ayame::PRODUCT,
        system: ayame::SYSTEM,
        role: Role::Deliver,
    },
    Product {
        name: momiji::PRODUCT,
        system: momiji::SYSTEM,
        role: Role::Deliver,
    },
];

/// Finds a product by its name.
pub fn product(name: &str) -> Option<&'static Product> {
    PRODUCTS.iter().find(|product| product.name == name)
}

/// Opens the adapter of a product.
pub(super) async fn open(
    product: &str,
    settings: &str,
    hub: &HubAccess,
) -> Result<Adapter, OpenError> {
    match product {
        tsubame::PRODUCT => {
            let config = parse(product, settings)?;
            Ok(Adapter::Capture(
                tsubame::open(config, &hub.municipality).await?,
            ))
        }
        kaede::PRODUCT => Ok(Adapter::Deliver(
            kaede::open(parse(product, settings)?).await?,
        )),
        hinoki::PRODUCT => Ok(Adapter::Deliver(
            hinoki::open(parse(product, settings)?).await?,
        )),
        ayame::PRODUCT => Ok(Adapter::Deliver(
            ayame::open(parse(product, settings)?).await?,
        )),
        momiji::PRODUCT => Ok(Adapter::Deliver(
            momiji::open(parse(product, settings)?).await?,
        )),
        _ => Err(OpenError::UnknownProduct {
            product: product.to_owned(),
            known: PRODUCTS
                .iter()
                .map(|product| product.name)
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

/// Reads the settings of a product; an unknown or missing key is refused in one line.
fn parse<C: DeserializeOwned>(product: &str, settings: &str) -> Result<C, OpenError> {
    toml::from_str(settings).map_err(|error| {
        let line = error
            .span()
            .and_then(|span| settings.get(..span.start))
            .map_or(1, |before| before.matches('\n').count() + 1);
        OpenError::config(
            product,
            format!("line {line}: {}", error.message().replace('\n', " ")),
        )
    })
}
