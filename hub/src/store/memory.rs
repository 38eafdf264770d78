//! The store in memory: for tests and simulations.
//! Implements both store roles over plain maps under one lock; nothing survives the process.
//! Must never be offered by `musubi serve`.
//! Read next: `store/memory/publish.rs`, `store/memory/delivery.rs`, then `store/contract.rs`.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::event::{Municipality, Position, Stream};

mod acts;
mod alarms;
mod delivery;
mod publish;
mod replay;
mod retention;

/// Store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    published: HashMap<Municipality, publish::Published>,
    delivered: delivery::Delivered,
    acted: acts::Acted,
    replays: Vec<crate::store::ReplayRow>,
    kept: HashMap<(Municipality, Stream), Position>,
    alarmed: alarms::Alarmed,
}

impl MemoryStore {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
