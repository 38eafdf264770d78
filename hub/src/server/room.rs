//! Whether the disk has room: noted where a write was refused, asked by the look for alarms.
//! Shared by all municipalities, which share the disk.
//! Must never say that there is room before a write went through again.
//! Read next: `server/town/alarms.rs`.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the disk said.
#[derive(Debug, Default)]
pub struct Room(Mutex<Option<Refused>>);

#[derive(Clone, Copy, Debug)]
struct Refused {
    first_ms: i64,
    last_ms: i64,
}

impl Room {
    /// A write found no room.
    pub fn refused(&self, now_ms: i64) {
        let mut refused = self.lock();
        match refused.as_mut() {
            Some(refused) => refused.last_ms = now_ms,
            None => {
                let (first_ms, last_ms) = (now_ms, now_ms);
                *refused = Some(Refused { first_ms, last_ms });
            }
        }
    }

    /// A small write went through. It says that there is room only when no larger one was refused
    /// since that time.
    pub fn written(&self, since_ms: i64) {
        let mut refused = self.lock();
        if refused.is_some_and(|refused| refused.last_ms < since_ms) {
            *refused = None;
        }
    }

    /// Since when writes are refused.
    pub fn refused_since_ms(&self) -> Option<i64> {
        self.lock().map(|refused| refused.first_ms)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Refused>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_stands_until_a_write_goes_through_that_no_refusal_followed() {
        let room = Room::default();
        assert_eq!(room.refused_since_ms(), None);
        room.refused(10);
        room.refused(50);
        room.written(50);
        assert_eq!(room.refused_since_ms(), Some(10));
        room.written(51);
        assert_eq!(room.refused_since_ms(), None);
    }
}
