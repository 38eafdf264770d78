//! How fast deliveries may start: a rate, opening hours, and the care for a receiver that is down.
//! Asked by `start` before each delivery.
//! Must never hold back a receiver because of one subject: only many in a row mean that it is down.
//! Read next: `engine/tests/pace.rs`.
//!
//! ```text
//!   many subjects in a row put off            the probe ended
//!  up ───────────────────────────▶ down, one probe at a time ─────▶ up
//!                                    └─ put off: wait longer, 4 s at most ─┘
//! ```

use std::collections::HashSet;

use super::super::words::Refusal;
use crate::event::Subject;
use crate::limits::{DOWN_SUBJECTS, PROBE_MAX, RETRY_BASE, SAME_REFUSAL_SUBJECTS};

/// What limits the start of deliveries beyond credits.
#[derive(Debug)]
pub(super) struct Pace {
    /// The receiver's office is closed.
    pub(super) closed: bool,
    per_second: Option<u32>,
    tokens: f64,
    refilled_ms: i64,
    put_off: HashSet<Subject>,
    down: Option<Down>,
    refused: Option<(Refusal, HashSet<Subject>)>,
}

#[derive(Debug)]
struct Down {
    next_probe: i64,
    failures: u32,
    probe: Option<u64>,
}

impl Pace {
    pub(super) fn new(per_second: Option<u32>) -> Self {
        Self {
            closed: false,
            per_second,
            tokens: 1.0,
            refilled_ms: 0,
            put_off: HashSet::new(),
            down: None,
            refused: None,
        }
    }

    pub(super) fn set_rate(&mut self, per_second: Option<u32>) {
        self.per_second = per_second;
        self.tokens = self.tokens.min(1.0);
    }

    /// Forgets what the receiver did before a human acted.
    pub(super) fn forget(&mut self) {
        self.put_off.clear();
        self.refused = None;
        self.down = None;
    }

    pub(super) fn refill(&mut self, now_ms: i64) {
        let Some(rate) = self.per_second else { return };
        let passed = now_ms.saturating_sub(self.refilled_ms).max(0) as f64 / 1_000.0;
        self.refilled_ms = now_ms;
        // At most one second's worth in one burst.
        let full = f64::from(rate).max(1.0);
        self.tokens = (self.tokens + passed * f64::from(rate)).min(full);
    }

    pub(super) fn may_start(&self, now_ms: i64) -> bool {
        let paced = self.per_second.is_none() || self.tokens >= 1.0;
        let up = match &self.down {
            None => true,
            Some(down) => down.probe.is_none() && down.next_probe <= now_ms,
        };
        !self.closed && paced && up
    }

    pub(super) fn started(&mut self, delivery: u64) {
        if self.per_second.is_some() {
            self.tokens -= 1.0;
        }
        if let Some(down) = &mut self.down {
            down.probe = Some(delivery);
        }
    }

    pub(super) fn wants_probe(&self, now_ms: i64) -> bool {
        self.down.is_some() && self.may_start(now_ms)
    }

    /// Nothing may be sent before this time; `None`: until something else is read.
    pub(super) fn probe_at(&mut self, soonest: Option<i64>) {
        if let (Some(down), Some(soonest)) = (&mut self.down, soonest) {
            down.next_probe = down.next_probe.max(soonest);
        }
    }

    /// When a delivery may start, or could have; `None` when an answer or an opening decides.
    pub(super) fn wake_at(&self) -> Option<i64> {
        if self.closed {
            return None;
        }
        if let Some(down) = &self.down {
            return down.probe.is_none().then_some(down.next_probe);
        }
        let rate = self.per_second?;
        let missing = (1.0 - self.tokens).max(0.0);
        Some(self.refilled_ms + (missing * 1_000.0 / f64::from(rate)).ceil() as i64)
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// A delivery ended, whatever the outcome: the receiver is there. True when it was down.
    pub(super) fn ended(&mut self) -> bool {
        self.put_off.clear();
        self.down.take().is_some()
    }

    /// A unit was put off or not answered.
    pub(super) fn put_off(
        &mut self,
        delivery: u64,
        subjects: &[Subject],
        after_ms: i64,
        now_ms: i64,
        jitter: f64,
    ) {
        if let Some(down) = &mut self.down {
            if down.probe == Some(delivery) {
                down.probe = None;
                down.failures += 1;
                down.next_probe = now_ms + probe_delay_ms(down.failures, jitter).max(after_ms);
            }
            return;
        }
        self.put_off.extend(subjects.first().cloned());
        if self.put_off.len() >= DOWN_SUBJECTS {
            let next_probe = now_ms + probe_delay_ms(1, jitter).max(after_ms);
            self.down = Some(Down {
                next_probe,
                failures: 1,
                probe: None,
            });
        }
    }

    /// A unit got a permanent refusal; true when so many subjects in a row got the same that the
    /// product, not the persons, must be wrong.
    pub(super) fn refused(&mut self, refusal: &Refusal, subjects: &[Subject]) -> bool {
        let same = |(known, _): &(Refusal, _)| {
            known.reason == refusal.reason && known.field == refusal.field
        };
        if !self.refused.as_ref().is_some_and(same) {
            self.refused = Some((refusal.clone(), HashSet::new()));
        }
        let Some((_, seen)) = &mut self.refused else {
            return false;
        };
        seen.extend(subjects.first().cloned());
        seen.len() >= SAME_REFUSAL_SUBJECTS
    }

    /// A unit was taken: the product does not refuse everything.
    pub(super) fn taken(&mut self) {
        self.refused = None;
    }
}

/// Exponential with jitter, 4 s at most: one probe costs nothing, and the receiver that is back
/// gets its first delivery within five seconds.
fn probe_delay_ms(failures: u32, jitter: f64) -> i64 {
    let base = RETRY_BASE.as_millis() as u64;
    let max = PROBE_MAX.as_millis() as u64;
    let scheduled = base
        .saturating_mul(1 << failures.saturating_sub(1).min(20))
        .min(max);
    (scheduled as f64 * (1.0 + jitter.clamp(0.0, 1.0) / 4.0)) as i64
}
