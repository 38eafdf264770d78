//! The hub in this process, spoken to over gRPC as by any client.
//! Through the front door only: `server::run` with a data folder of its own for each test.
//! Must never look into log or store: what a client cannot see is not promised.
//! Read next: `stage.rs`, then one story after the other.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod acts;
mod alarms;
mod auth;
mod bad_input;
mod bad_start;
mod cloudevents;
mod deliver;
mod groups;
mod held;
mod missed;
mod open;
mod parked;
mod protect;
mod publish;
mod refusals;
mod repair;
mod replay;
mod retention;
mod settings;
mod stage;
mod swap;
