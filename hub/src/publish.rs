//! Publish: from a request to a durable place in the log.
//! The first half of the event path: validate → source rules → claim → append → commit.
//! Must never acknowledge what a power cut could take away (P1).
//! Read next: `publish/validate.rs`, `publish/source_rules.rs`, `publish/sequencer.rs`.

pub mod candidate;
pub mod control;
pub mod sequencer;
pub mod source_rules;
pub mod validate;
