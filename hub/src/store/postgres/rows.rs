//! How rows of PostgreSQL become what the seam speaks of.
//! Shared by the roles.
//! Must never hide a row that cannot be read: the driver panics on a column of another type.
//! Read next: `store/postgres/schema.sql`.

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::event::seal::Sealed;
use crate::event::{Position, Stream, Subject};
use crate::store::{ParkedRow, ParkedState, UnitKey};

/// Columns of a parked unit `p` that `parked_of` reads.
macro_rules! parked_columns {
    () => {
        "p.*, ARRAY(SELECT s.subject FROM parked_subject s
           WHERE s.subscription = p.subscription AND s.stream = p.stream
             AND s.sequence = p.sequence AND s.member = p.member ORDER BY s.ordinal) AS subjects"
    };
}
pub(super) use parked_columns;

pub(super) fn number(row: &PgRow, column: &str) -> u64 {
    row.get::<i64, _>(column).cast_unsigned()
}

pub(super) fn position(number: i64) -> Position {
    Position(number.cast_unsigned())
}

pub(super) fn key_of(row: &PgRow) -> UnitKey {
    UnitKey {
        stream: Stream::from_number(row.get("stream")),
        sequence: number(row, "sequence"),
        member: row.get::<i64, _>("member") as u32,
    }
}

pub(super) fn parked_of(row: &PgRow) -> ParkedRow {
    let subjects: Vec<String> = row.get("subjects");
    ParkedRow {
        key: key_of(row),
        subjects: subjects.into_iter().map(Subject).collect(),
        state: ParkedState::from_number(row.get("state")),
        reason: row.get("reason"),
        field: row.get("field"),
        message: row.get("message"),
        attempts: row.get::<i64, _>("attempts") as u32,
        at_ms: row.get("at_ms"),
        due_ms: row.get("due_ms"),
        revision: number(row, "revision"),
        position: position(row.get("position")),
        event_ids: row.get("event_ids"),
        content: Sealed {
            key_id: row.get("key_id"),
            bytes: row.get("content"),
        },
    }
}
