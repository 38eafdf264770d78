//! The contracts of Musubi: the hub's API and the standard events, with the rules on values.
//! It is the one crate that the hub, the adapters and the tools all know.
//! It never does I/O and knows no product.
//! Read `proto/musubi/` for the contracts themselves, then [`rules`].

pub mod crash;
mod generated;
pub mod json;
pub mod rules;

use std::sync::OnceLock;

use prost_reflect::{DescriptorPool, FieldDescriptor};
use standard::common::v1::Item;

pub use generated::google;
pub use generated::musubi::{hub, standard};

/// Encoded `FileDescriptorSet` of all contracts with imports and custom options, without
/// comments. Serve it for reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/musubi.binpb"));

/// Returns the descriptors of all contracts, decoded once for the process.
///
/// # Panics
/// When the set built into this crate cannot be decoded, which the tests of this crate exclude.
pub fn descriptor_pool() -> DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| match DescriptorPool::decode(FILE_DESCRIPTOR_SET) {
        Ok(pool) => pool,
        Err(error) => panic!("the built-in descriptors are broken: {error}"),
    })
    .clone()
}

/// Returns the item that a field of a standard event carries: its Japanese name, length, kind of
/// data and whether it is required. `None` for a field that is not an item of the standard.
#[must_use]
pub fn item(field: &FieldDescriptor) -> Option<Item> {
    let extension = field.parent_pool().get_extension_by_name(ITEM_EXTENSION)?;
    let options = field.options();
    if !options.has_extension(&extension) {
        return None;
    }
    options
        .get_extension(&extension)
        .as_message()?
        .transcode_to()
        .ok()
}

const ITEM_EXTENSION: &str = "musubi.standard.common.v1.item";
