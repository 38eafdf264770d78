//! Until when this instance may send what it owns.
//! Asked right before each delivery leaves; prolonged by the keeper of the cluster.
//! Must never hold longer than the store says, whatever the wall clock does.
//! Read next: `server/cluster.rs`, `store/owners.rs`.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The lease of an instance, on its monotonic clock.
#[derive(Clone, Debug)]
pub struct Lease(Option<Arc<Mutex<Option<Instant>>>>);

impl Lease {
    /// Of a hub that shares its store with nobody.
    pub fn forever() -> Self {
        Self(None)
    }

    /// One that has to be prolonged before anything is sent.
    pub fn not_yet() -> Self {
        Self(Some(Arc::default()))
    }

    /// Prolongs it; it never gets shorter.
    pub fn prolong(&self, until: Instant) {
        let Some(shared) = &self.0 else { return };
        let mut stored = shared.lock().unwrap_or_else(PoisonError::into_inner);
        *stored = (*stored).max(Some(until));
    }

    /// True when it held and does not any more: the store has not answered for longer than a lease.
    pub fn is_lost(&self) -> bool {
        self.lost_for().is_some()
    }

    /// For how long it has been lost; `None` while it holds, or never held.
    pub fn lost_for(&self) -> Option<Duration> {
        let shared = self.0.as_ref()?;
        let until = *shared.lock().unwrap_or_else(PoisonError::into_inner);
        Instant::now().checked_duration_since(until?)
    }

    /// True while it holds.
    pub fn holds(&self) -> bool {
        let Some(shared) = &self.0 else { return true };
        let until = *shared.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_holds_only_until_its_time_and_never_gets_shorter() {
        let now = Instant::now();
        let lease = Lease::not_yet();
        assert!(!lease.holds() && !lease.is_lost(), "it never held");
        lease.prolong(now);
        assert!(!lease.holds() && lease.is_lost(), "its time has come");
        lease.prolong(now + Duration::from_secs(600));
        lease.prolong(now);
        assert!(lease.holds() && !lease.is_lost());
        assert!(Lease::forever().holds() && !Lease::forever().is_lost());
    }
}
