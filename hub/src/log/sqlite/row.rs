//! A record as a row, with a digest that says whether it is still what was written.
//! Between the seam's records and the file; checked at every read.
//! Must never give out a record whose digest or place is wrong, nor one behind a gap.
//! Read next: `log/contract.rs`.

use sha2::{Digest, Sha256};
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::super::{Attributes, LogError, NewRecord, Record, RecordKind};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream};
use crate::sqlite::trouble::is_damage;

/// Bytes of the SHA-256 that are kept: against accidents of the disk, not against people.
const DIGEST_BYTES: usize = 8;

/// Digest over all that a record is, and where it stands.
pub(super) fn digest(
    m: &Municipality,
    stream: Stream,
    position: Position,
    record: &NewRecord,
) -> Vec<u8> {
    let mut hasher = Sha256::new();
    // Each part with its length, so that no two records have the same bytes.
    for part in [m.as_str(), &record.key, &record.sealed.key_id] {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    hasher.update(stream.number().to_le_bytes());
    hasher.update(position.0.to_le_bytes());
    hasher.update(kind_number(record.kind).to_le_bytes());
    hasher.update(&record.sealed.bytes);
    let mut digest = hasher.finalize().to_vec();
    digest.truncate(DIGEST_BYTES);
    digest
}

pub(super) fn kind_number(kind: RecordKind) -> i64 {
    i64::from(kind == RecordKind::Control)
}

pub(super) async fn select(
    connection: &mut SqliteConnection,
    m: &Municipality,
    stream: Stream,
    from: Position,
    records: usize,
) -> Result<Vec<SqliteRow>, sqlx::Error> {
    sqlx::query(
        "SELECT position, kind, key, key_id, bytes, digest FROM record
         WHERE municipality = $1 AND stream = $2 AND position >= $3
         ORDER BY position LIMIT $4",
    )
    .bind(m.as_str())
    .bind(stream.number())
    .bind(from.0 as i64)
    .bind(records as i64)
    .fetch_all(connection)
    .await
}

/// The rows as records, as many as the bytes allow; each must follow the one before it.
pub(super) fn records(
    m: &Municipality,
    stream: Stream,
    from: Position,
    rows: Vec<SqliteRow>,
    bytes_max: usize,
) -> Result<Vec<Record>, LogError> {
    let mut bytes = 0;
    let mut records = Vec::with_capacity(rows.len());
    for (row, position) in rows.into_iter().zip((from.0..).map(Position)) {
        let record = read(m, stream, position, &row)?;
        bytes += record.sealed.bytes.len();
        if bytes > bytes_max && !records.is_empty() {
            break;
        }
        records.push(record);
    }
    Ok(records)
}

fn read(
    m: &Municipality,
    stream: Stream,
    position: Position,
    row: &SqliteRow,
) -> Result<Record, LogError> {
    let unreadable = |_| damaged(m, stream, position, "its row cannot be read");
    let found: i64 = row.try_get(0).map_err(unreadable)?;
    if found != position.0 as i64 {
        return Err(gone(m, stream, position));
    }
    let kind = match row.try_get::<i64, _>(1).map_err(unreadable)? {
        0 => RecordKind::Event,
        1 => RecordKind::Control,
        _ => return Err(damaged(m, stream, position, "its kind is unknown")),
    };
    let record = NewRecord {
        kind,
        key: row.try_get(2).map_err(unreadable)?,
        sealed: Sealed {
            key_id: row.try_get(3).map_err(unreadable)?,
            bytes: row.try_get(4).map_err(unreadable)?,
        },
        attributes: Attributes::default(),
    };
    let kept: Vec<u8> = row.try_get(5).map_err(unreadable)?;
    if digest(m, stream, position, &record) != kept {
        let what = "its content is not what was written";
        return Err(damaged(m, stream, position, what));
    }
    let NewRecord {
        kind, key, sealed, ..
    } = record;
    Ok(Record {
        position,
        kind,
        key,
        sealed,
    })
}

/// A read that SQLite refused.
pub(super) fn unread(
    m: &Municipality,
    stream: Stream,
    from: Position,
    source: sqlx::Error,
) -> LogError {
    if is_damage(&source) {
        let what = "from there on the file cannot be read";
        return damaged(m, stream, from, what);
    }
    super::error("reading", m, source)
}

/// A record that was given a position is not there.
pub(super) fn gone(m: &Municipality, stream: Stream, position: Position) -> LogError {
    damaged(m, stream, position, "the record is gone")
}

fn damaged(m: &Municipality, stream: Stream, position: Position, what: &'static str) -> LogError {
    LogError::Damaged {
        municipality: m.clone(),
        stream,
        position,
        what,
    }
}
