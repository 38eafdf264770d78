//! Set-aside units come back when they are due.
//! Looked at in each round of a runner; the times stand in the store, so a restart keeps them.
//! Must never hold more of them in memory than the time of the next.
//! Read next: `server/runner/parked.rs`.

use super::State;
use crate::clock::now_ms;
use crate::event::Stream;
use crate::limits::SET_ASIDE_STEP;
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
        let mut taken = 0;
        for (at, key) in self.shared.store.due(&self.row.id, SET_ASIDE_STEP).await? {
            if at > now {
                break;
            }
            taken += self.take_back(key).await?;
        }
        // What is in the lanes now is due no more; the rest is looked at when these have ended.
        self.next_due = None;
        Ok(taken > 0)
    }
}
