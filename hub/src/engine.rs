//! The delivery engine: a pure state machine per subscription.
//! Between routing and the adapter's stream; the runner performs its decisions.
//! Must never read a clock, do I/O, wait or draw a random number.
//! Read next: `engine/words.rs`, `engine/state.rs`, then `server/runner.rs`, which drives it.
//!
//! ```text
//!  Unit ─▶ lanes (one per subject, in log order)        Receipt
//!            │ head of all its lanes, credit free          │
//!            ▼                                             ▼
//!         Deliver ──────────── leased ──────────▶ Done · Park · retry later · Pause
//!                                                          │
//!                                           next head of the lane becomes ready
//! ```

mod words;

mod state;
#[cfg(test)]
mod tests;

pub use state::Engine;
pub use words::{
    AfterImage, Answered, Decision, Delivery, Input, OnUnknown, Origin, Parking, Refusal, Resume,
    Settings, UnitIn, Work,
};
