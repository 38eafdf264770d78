//! The delay before the next attempt to reach the hub.
//! Used by both runners; the hub itself owns the retries of deliveries.
//! It must never grow beyond its cap or give up.
//! Read next: `deliver.rs` of this folder.

use std::time::Duration;

use crate::limits::{RECONNECT_DELAY_MAX, RECONNECT_DELAY_MIN};

/// Doubles from the least to the longest delay, with jitter in the upper half.
#[derive(Debug)]
pub(crate) struct Backoff {
    step: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            step: RECONNECT_DELAY_MIN,
        }
    }

    /// Starts over after something worked.
    pub(crate) fn reset(&mut self) {
        self.step = RECONNECT_DELAY_MIN;
    }

    /// Delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let delay = jittered(self.step, rand::random_range(0.5..=1.0));
        self.step = (self.step * 2).min(RECONNECT_DELAY_MAX);
        delay
    }
}

fn jittered(step: Duration, part: f64) -> Duration {
    step.mul_f64(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delay_doubles_up_to_its_cap_and_starts_over() {
        let mut backoff = Backoff::new();
        let first = backoff.next_delay();
        assert!(first >= RECONNECT_DELAY_MIN / 2 && first <= RECONNECT_DELAY_MIN);
        for _ in 0..50 {
            assert!(backoff.next_delay() <= RECONNECT_DELAY_MAX);
        }
        assert!(backoff.next_delay() >= RECONNECT_DELAY_MAX / 2);
        backoff.reset();
        assert!(backoff.next_delay() <= RECONNECT_DELAY_MIN);
    }
}
