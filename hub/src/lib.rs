//! The Musubi hub: takes standard events, keeps them in order, and delivers to each system what
//! it is granted.
//! Modules in the order in which an event meets them.
//! Must never know a vendor's product or depend on an adapter.
//! Read next: `ARCHITECTURE.md`, which follows one event through these files.

pub mod clock;
pub mod event;
pub mod limits;
pub mod settings;

pub mod publish;
pub mod schema;

pub mod log;
pub mod retention;
pub mod sqlite;
pub mod store;

pub mod backup;
pub mod doctor;
pub mod folder;
pub mod migrate;

pub mod engine;
pub mod grants;
pub mod project;

pub mod alarms;
pub mod server;
mod telemetry;
