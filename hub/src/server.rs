//! The running hub: edges, municipalities, runners.
//! Performs what the pure parts decide, and serves the gRPC API.
//! Must never decide about order, grants or outcomes itself.
//! Read next: `server/serve.rs`, `server/town.rs`, `server/runner.rs`.

pub mod admin_service;
pub mod auth;
pub mod backend;
mod cloudevents;
pub mod cluster;
pub mod config;
pub mod delivery_service;
pub mod event_service;
pub mod gate;
mod health;
pub mod hub;
pub mod lease;
pub mod opening;
pub mod registry;
mod retention;
pub mod room;
pub mod runner;
pub mod secret;
pub mod serve;
pub mod status;
pub mod tasks;
pub mod town;
pub mod whole;

pub use config::Config;
pub use serve::{ServeError, run};
