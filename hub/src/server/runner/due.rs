//! Set-aside units come back when they are due.
//! Looked at in each round of a runner; the times stand in the store, so a restart keeps them.
//! Must never hold more of them in memory than the time of the next.
//! Read next: `server/runner/parked.rs`.

use super::State;
use crate::clock::now_ms;
use crate::event::Stream;
use crate::limits::{SET_ASIDE_LOOK, SET_ASIDE_STEP};
use crate::store::StoreError;

impl State {
    /// Notes when the next set-aside unit is due.
    pub(super) async fn look_when_due(&mut self) -> Result<(), StoreError> {
        let due = self.shared.store.due(&self.row.id, 1).await?;
        self.next_due = due.first().map(|(at, _)| *at);
        Ok(())
    }

    /// Takes back what is due, each with everything behind it. True when there was some.
    pub(super) async fn take_back_due(&mut self) -> Result<bool, StoreError> {
        if self.next_due.is_none_or(|at| at > now_ms()) {
            return Ok(false);
        }
        let Some(session) = &self.session else {
            return Ok(false);
        };
        if !Stream::ALL.iter().all(|s| session.engine.has_room(*s)) {
            return Ok(false);
        }
        let now = now_ms();
        let mut taken = false;
        let mut next = None;
        for (at, key) in self.shared.store.due(&self.row.id, SET_ASIDE_STEP).await? {
            let session = self.session.as_ref();
            // In the lanes already: it has no time of its own until it has an outcome.
            if session.is_some_and(|session| session.engine.holds(key)) {
                continue;
            }
            if at > now {
                next = Some(at);
                break;
            }
            match self.take_back(key, now).await? {
                true => taken = true,
                // The log before it is read again first.
                false => next = Some(now + SET_ASIDE_LOOK.as_millis() as i64),
            }
        }
        // What is in the lanes now is looked at again when it has ended.
        self.next_due = next;
        Ok(taken)
    }
}
