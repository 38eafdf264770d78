//! One module a product: config, translate, deliver or capture, tests; more as the product needs.
//! Each stands between the standard events and one vendor's interface.
//! A vendor's name must never appear outside its own module and the registry.
//! Read next: `host/registry.rs`, then the `INTERFACE.md` of a product.

pub mod ayame;
pub mod hinoki;
pub mod kaede;
pub mod momiji;
pub mod tsubame;
