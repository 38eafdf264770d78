//! A log that another backend wrote is moved here: its records with the times that they have.
//! Used by a migration before anybody serves the municipality.
//! Must never be used beside a running owner.
//! Read next: `migrate/records.rs`.

use super::super::{AppendError, LogError, NewRecord};
use super::KafkaLog;
use super::view::Place;
use crate::event::{Municipality, Position, Stream};

impl KafkaLog {
    /// Appends records that were recorded before, each with when (in seconds since 1970).
    ///
    /// # Errors
    /// As `append`.
    pub async fn append_moved(
        &self,
        m: &Municipality,
        stream: Stream,
        batch: Vec<(NewRecord, i64)>,
    ) -> Result<Vec<Position>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let (records, times): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let at_s = |index| times.get(index).copied().unwrap_or_default();
        self.write(&Place::new(m, stream), records, at_s).await
    }

    /// Lets a stream begin at a position, also one behind its last record: what stood before it in
    /// the log that is moved was trimmed. `None`: behind all that stands in the topic.
    ///
    /// # Errors
    /// As `trim`.
    pub async fn begin_at(
        &self,
        m: &Municipality,
        stream: Stream,
        first: Option<Position>,
    ) -> Result<(), LogError> {
        self.forget_before(&Place::new(m, stream), |view| {
            first.unwrap_or(view.expected)
        })
        .await
    }

    /// Lets the next reads ask the brokers and not what this process remembers.
    pub fn forget_recent(&self, m: &Municipality, stream: Stream) {
        self.recent.forget(&Place::new(m, stream));
    }
}
