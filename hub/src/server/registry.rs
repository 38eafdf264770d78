//! Grants by the position from which they hold.
//! Built from control records; read by routing and projection.
//! Must never answer with grants that a later control record brought.
//! Read next: `server/runner/reader.rs`.

use std::sync::Arc;

use crate::event::{Position, Stream};
use crate::grants::GrantTable;

/// All versions of a municipality's grants, oldest first.
#[derive(Debug, Default)]
pub struct GrantVersions {
    versions: Vec<((Position, Position), Arc<GrantTable>)>,
}

impl GrantVersions {
    /// Collects versions with their (live, bulk) positions.
    pub fn new(mut versions: Vec<((Position, Position), Arc<GrantTable>)>) -> Self {
        versions.sort_by_key(|version| version.0);
        Self { versions }
    }

    /// The grants that hold at a position; `None` before the first.
    pub fn at(&self, stream: Stream, position: Position) -> Option<&Arc<GrantTable>> {
        let from = |pair: &(Position, Position)| match stream {
            Stream::Live => pair.0,
            Stream::Bulk => pair.1,
        };
        let holds = self
            .versions
            .iter()
            .rev()
            .find(|(pair, _)| from(pair) <= position);
        holds.map(|(_, table)| table)
    }

    /// The newest grants.
    pub fn latest(&self) -> Option<&Arc<GrantTable>> {
        self.versions.last().map(|(_, table)| table)
    }

    /// Versions with their positions.
    pub fn all(&self) -> &[((Position, Position), Arc<GrantTable>)] {
        &self.versions
    }
}
