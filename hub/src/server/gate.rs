//! A gate: what may be under way at once, counted in bytes or in streams.
//! Stands at the edges, before anything of a request is kept.
//! Must never let a caller wait: a full gate refuses, and says when to come again.
//! Read next: `limits.rs`, which names each gate's size.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Code;

use super::status::Failure;

/// A gate with a number of places.
#[derive(Clone, Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    retry: Duration,
}

impl Gate {
    /// A gate that asks whom it refuses to come again after `retry`.
    pub fn new(places: usize, retry: Duration) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            retry,
        }
    }

    /// Takes places until the pass is dropped.
    ///
    /// # Errors
    /// `OVERLOADED` with a hint when to try again.
    pub fn enter(&self, places: usize) -> Result<OwnedSemaphorePermit, Failure> {
        let places = u32::try_from(places).unwrap_or(u32::MAX);
        let entered = self.places.clone().try_acquire_many_owned(places);
        entered.map_err(|_| overloaded("the hub has too much under way", self.retry))
    }
}

/// Too much waits already; nothing was kept.
pub fn overloaded(what: &str, retry: Duration) -> Failure {
    let message = format!("{what}; send it again after a moment");
    Failure {
        retry_ms: u64::try_from(retry.as_millis()).unwrap_or(u64::MAX),
        ..Failure::new(Code::ResourceExhausted, "OVERLOADED", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_gate_refuses_with_a_hint_and_a_place_given_back_is_free_again() {
        let gate = Gate::new(3, Duration::from_millis(200));
        let two = gate.enter(2).unwrap();
        let refused = gate.enter(2).unwrap_err();
        assert_eq!(
            (refused.code, refused.reason.as_str(), refused.retry_ms),
            (Code::ResourceExhausted, "OVERLOADED", 200)
        );
        drop(two);
        assert!(gate.enter(3).is_ok());
    }
}
