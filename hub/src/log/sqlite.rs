//! The log in SQLite: the embedded default, one file in the hub's data folder.
//! Implements the log seam with WAL and `synchronous=FULL`: a commit is an fdatasync.
//! Must never share its writing connection, nor pass over a record that is damaged or gone.
//! Read next: `log/sqlite/row.rs`, `log/contract.rs`.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use musubi_proto::crash;
use sqlx::sqlite::{SqliteConnection, SqlitePool};
use sqlx::{Connection, QueryBuilder, Sqlite};
use tokio::sync::{Mutex, watch};

use super::{
    AppendError, Bounds, Capabilities, EventLog, Kept, LogError, NewRecord, ReadLimit, Record,
    Tails,
};
use crate::clock::now_ms;
use crate::event::{Municipality, Position, Stream};
use crate::sqlite::{self, OpenError, trouble};

mod row;
#[cfg(test)]
mod tests;

/// Version of the file's shape; a file of a newer version is refused.
pub(crate) const SCHEMA_VERSION: i64 = 4;

const SCHEMA: &str = "
CREATE TABLE record (
  municipality TEXT NOT NULL,
  stream INTEGER NOT NULL,
  position INTEGER NOT NULL,
  kind INTEGER NOT NULL,
  key TEXT NOT NULL,
  key_id TEXT NOT NULL,
  bytes BLOB NOT NULL,
  digest BLOB NOT NULL,
  -- When it was appended, and the bytes of all records before it: what retention asks for.
  at_s INTEGER NOT NULL,
  before INTEGER NOT NULL,
  PRIMARY KEY (municipality, stream, position)
) WITHOUT ROWID;
CREATE TABLE incarnation (number INTEGER NOT NULL);
INSERT INTO incarnation (number) VALUES (1);
CREATE TABLE trimmed (
  municipality TEXT NOT NULL,
  stream INTEGER NOT NULL,
  first INTEGER NOT NULL,
  PRIMARY KEY (municipality, stream)
);
";

/// Log in one SQLite file.
#[derive(Debug)]
pub struct SqliteLog {
    path: PathBuf,
    writer: Mutex<SqliteConnection>,
    readers: SqlitePool,
    tails: Tails,
}

impl SqliteLog {
    /// Opens or creates the file.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        sqlite::check_wal(path)?;
        let writer = sqlite::open_writer(path, SCHEMA_VERSION, SCHEMA, &sqlite::IN_ORDER).await?;
        Self::over(path, writer).await
    }

    /// Opens a file that is only read, and stays as it was found.
    pub(crate) async fn open_as_it_is(path: &Path) -> Result<Self, OpenError> {
        sqlite::check_wal(path)?;
        let writer = sqlite::open_as_it_is(path, SCHEMA_VERSION).await?;
        Self::over(path, writer).await
    }

    async fn over(path: &Path, writer: SqliteConnection) -> Result<Self, OpenError> {
        let readers = sqlite::open_readers(path).await?;
        Ok(Self {
            path: path.to_owned(),
            writer: Mutex::new(writer),
            readers,
            tails: Tails::default(),
        })
    }

    /// Which life of the log this is: a log that was restored from a backup has another history
    /// than the one that went on, and another number.
    pub async fn incarnation(&self) -> Result<u64, LogError> {
        let number: Result<i64, _> = sqlx::query_scalar("SELECT number FROM incarnation")
            .fetch_one(&self.readers)
            .await;
        number
            .map(i64::cast_unsigned)
            .map_err(LogError::Incarnation)
    }

    /// Begins another life, as a restore does.
    pub(crate) async fn begin_incarnation(&self, number: u64) -> Result<(), LogError> {
        let mut writer = self.writer.lock().await;
        let begun = sqlx::query("UPDATE incarnation SET number = $1")
            .bind(number.cast_signed())
            .execute(&mut *writer)
            .await;
        begun.map(|_| ()).map_err(LogError::Incarnation)
    }

    /// When each record between two positions was appended, in seconds since 1970.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub async fn recorded_s(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
        to: Position,
    ) -> Result<Vec<i64>, LogError> {
        let times = sqlx::query_scalar(
            "SELECT at_s FROM record WHERE municipality = $1 AND stream = $2
               AND position BETWEEN $3 AND $4 ORDER BY position",
        )
        .bind(m.as_str())
        .bind(stream.number())
        .bind(from.0 as i64)
        .bind(to.0 as i64)
        .fetch_all(&self.readers)
        .await;
        times.map_err(|source| error("reading", m, source))
    }

    /// Brings everything into the file itself, at a stop in order.
    pub async fn settle(&self) {
        let mut writer = self.writer.lock().await;
        let settled = sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)");
        if let Err(error) = settled.execute(&mut *writer).await {
            tracing::warn!(%error, "settling the log file failed");
        }
    }

    /// Closes the file; without it the last pages may be written a moment later.
    pub async fn close(self) {
        self.readers.close().await;
        if let Err(error) = self.writer.into_inner().close().await {
            tracing::warn!(%error, "closing the log file failed");
        }
    }
}

/// The end of a sequence.
struct End {
    /// Next position.
    next: i64,
    /// When its last record was appended; 0 without one.
    at_s: i64,
    /// Bytes of all its records, also of those that were trimmed while others stayed.
    bytes: i64,
}

async fn end(
    connection: &mut SqliteConnection,
    m: &Municipality,
    stream: Stream,
) -> Result<End, sqlx::Error> {
    let last: Option<(i64, i64, i64)> = sqlx::query_as(
        "SELECT position, at_s, before + length(bytes) FROM record
         WHERE municipality = $1 AND stream = $2 ORDER BY position DESC LIMIT 1",
    )
    .bind(m.as_str())
    .bind(stream.number())
    .fetch_optional(&mut *connection)
    .await?;
    let first = first_position(connection, m, stream).await?;
    let (next, at_s, bytes) = last.map_or((first, 0, 0), |(last, at_s, bytes)| {
        ((last + 1).max(first), at_s, bytes)
    });
    Ok(End { next, at_s, bytes })
}

async fn first_position(
    connection: &mut SqliteConnection,
    m: &Municipality,
    stream: Stream,
) -> Result<i64, sqlx::Error> {
    let first: Option<i64> =
        sqlx::query_scalar("SELECT first FROM trimmed WHERE municipality = $1 AND stream = $2")
            .bind(m.as_str())
            .bind(stream.number())
            .fetch_optional(connection)
            .await?;
    Ok(first.unwrap_or(1))
}

fn error(action: &'static str, m: &Municipality, source: sqlx::Error) -> LogError {
    trouble::must_not_be_io(&format!("{action} the log of `{m}`"), &source);
    LogError::Backend {
        action,
        municipality: m.clone(),
        source: Box::new(source),
    }
}

fn not_written(m: &Municipality, source: sqlx::Error) -> AppendError {
    if trouble::is_full(&source) {
        return AppendError::Full(m.clone(), source.into());
    }
    trouble::must_not_be_io(&format!("appending to the log of `{m}`"), &source);
    AppendError::NotWritten(m.clone(), source.into())
}

/// The slow way to read, when the fast one found nothing or something wrong: the bounds and the
/// rows in one view of the file, so that neither a trim nor an append stands between them.
async fn explain(
    connection: &mut SqliteConnection,
    m: &Municipality,
    stream: Stream,
    from: Position,
    limit: ReadLimit,
) -> Result<Vec<Record>, LogError> {
    let failed = |source| row::unread(m, stream, from, source);
    let mut view = connection.begin().await.map_err(failed)?;
    let first = first_position(&mut view, m, stream).await.map_err(failed)?;
    if (from.0 as i64) < first {
        return Err(LogError::Trimmed {
            municipality: m.clone(),
            stream,
            position: from,
            first: Position(first as u64),
        });
    }
    let rows = row::select(&mut view, m, stream, from, limit.records).await;
    let rows = rows.map_err(failed)?;
    let End { next, .. } = end(&mut view, m, stream).await.map_err(failed)?;
    if rows.is_empty() && (from.0 as i64) < next {
        return Err(row::gone(m, stream, from));
    }
    row::records(m, stream, from, rows, limit.bytes)
}

/// Rows of one INSERT statement.
const ROWS_PER_STATEMENT: usize = 64;

/// One statement for many rows: each statement costs a round trip to the connection's thread.
async fn insert(
    connection: &mut SqliteConnection,
    m: &Municipality,
    stream: Stream,
    at_s: i64,
    rows: Vec<(Position, i64, NewRecord)>,
) -> Result<(), sqlx::Error> {
    let mut statement = QueryBuilder::<Sqlite>::new(
        "INSERT INTO record (municipality, stream, position, kind, key, key_id, bytes, \
         digest, at_s, before) ",
    );
    statement.push_values(rows, |mut row, (position, before, record)| {
        let digest = row::digest(m, stream, position, &record);
        row.push_bind(m.as_str())
            .push_bind(stream.number())
            .push_bind(position.0 as i64)
            .push_bind(row::kind_number(record.kind))
            .push_bind(record.key)
            .push_bind(record.sealed.key_id)
            .push_bind(record.sealed.bytes)
            .push_bind(digest)
            .push_bind(at_s)
            .push_bind(before);
    });
    statement.build().execute(connection).await?;
    Ok(())
}

impl SqliteLog {
    async fn write(
        &self,
        m: &Municipality,
        stream: Stream,
        batch: Vec<NewRecord>,
    ) -> Result<Vec<Position>, AppendError> {
        let not_written = |source| not_written(m, source);
        let mut writer = self.writer.lock().await;
        let renewed = sqlite::renew(&mut writer, &self.path, &sqlite::IN_ORDER).await;
        renewed.map_err(not_written)?;
        let mut transaction = writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(not_written)?;
        let tail = end(&mut transaction, m, stream)
            .await
            .map_err(not_written)?;
        let at_s = tail.at_s.max(now_ms() / 1_000);
        let mut before = tail.bytes;
        let mut positions = Vec::with_capacity(batch.len());
        let mut rows = Vec::with_capacity(batch.len());
        for (record, position) in batch.into_iter().zip((tail.next as u64..).map(Position)) {
            let bytes = record.sealed.bytes.len() as i64;
            positions.push(position);
            rows.push((position, before, record));
            before += bytes;
        }
        while !rows.is_empty() {
            let rest = rows.split_off(rows.len().min(ROWS_PER_STATEMENT));
            let rows = std::mem::replace(&mut rows, rest);
            insert(&mut transaction, m, stream, at_s, rows)
                .await
                .map_err(not_written)?;
        }
        crash::point("publish.written");
        transaction.commit().await.map_err(|source| {
            if trouble::is_full(&source) {
                return not_written(source);
            }
            trouble::must_not_be_io(&format!("appending to the log of `{m}`"), &source);
            // A commit that fails may still have reached the disk.
            AppendError::OutcomeUnknown(m.clone(), source.into())
        })?;
        let next = Position(tail.next as u64 + positions.len() as u64);
        self.tails.moved(m, stream, next);
        Ok(positions)
    }
}

#[async_trait]
impl EventLog for SqliteLog {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            repeats_possible: false,
            durable: true,
        }
    }

    async fn own(&self, _: &Municipality, _: u64) -> Result<(), LogError> {
        Ok(())
    }

    async fn append(
        &self,
        m: &Municipality,
        stream: Stream,
        batch: Vec<NewRecord>,
    ) -> Result<Vec<Position>, AppendError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.write(m, stream, batch).await
    }

    async fn read(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
        limit: ReadLimit,
    ) -> Result<Vec<Record>, LogError> {
        let from = from.max(Position(1));
        let failed = |source| row::unread(m, stream, from, source);
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        let rows = row::select(&mut reader, m, stream, from, limit.records).await;
        let rows = rows.map_err(failed)?;
        let at_tail = rows.is_empty() && *self.tails.watch(m, stream).borrow() == from;
        match row::records(m, stream, from, rows, limit.bytes) {
            Ok(records) if at_tail || !records.is_empty() => Ok(records),
            _ => explain(&mut reader, m, stream, from, limit).await,
        }
    }

    async fn bounds(&self, m: &Municipality, stream: Stream) -> Result<Bounds, LogError> {
        let mut reader = self
            .readers
            .acquire()
            .await
            .map_err(|e| error("bounding", m, e))?;
        let first = first_position(&mut reader, m, stream)
            .await
            .map_err(|e| error("bounding", m, e))?;
        let End { next, .. } = end(&mut reader, m, stream)
            .await
            .map_err(|e| error("bounding", m, e))?;
        Ok(Bounds {
            first: Position(first as u64),
            next: Position(next as u64),
        })
    }

    async fn kept_from(
        &self,
        m: &Municipality,
        stream: Stream,
        from: Position,
    ) -> Result<Option<Kept>, LogError> {
        let failed = |source| error("measuring", m, source);
        let mut reader = self.readers.acquire().await.map_err(failed)?;
        // One view of the file: neither a trim nor an append stands between the two.
        let mut view = reader.begin().await.map_err(failed)?;
        let first: Option<(i64, i64)> = sqlx::query_as(
            "SELECT at_s, before FROM record
             WHERE municipality = $1 AND stream = $2 AND position >= $3
             ORDER BY position LIMIT 1",
        )
        .bind(m.as_str())
        .bind(stream.number())
        .bind(from.0 as i64)
        .fetch_optional(&mut *view)
        .await
        .map_err(failed)?;
        let Some((since_s, before)) = first else {
            return Ok(None);
        };
        let end = end(&mut view, m, stream).await.map_err(failed)?;
        let bytes = (end.bytes - before).max(0).cast_unsigned();
        Ok(Some(Kept { since_s, bytes }))
    }

    fn watch_tail(&self, m: &Municipality, stream: Stream) -> watch::Receiver<Position> {
        self.tails.watch(m, stream)
    }

    async fn trim(
        &self,
        m: &Municipality,
        stream: Stream,
        up_to: Position,
    ) -> Result<(), LogError> {
        let failed = |source| error("trimming", m, source);
        let mut writer = self.writer.lock().await;
        let renewed = sqlite::renew(&mut writer, &self.path, &sqlite::IN_ORDER).await;
        renewed.map_err(failed)?;
        let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
        let End { next, .. } = end(&mut transaction, m, stream).await.map_err(failed)?;
        let first = next.min(up_to.0 as i64);
        sqlx::query("DELETE FROM record WHERE municipality = $1 AND stream = $2 AND position < $3")
            .bind(m.as_str())
            .bind(stream.number())
            .bind(first)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::query(
            "INSERT INTO trimmed (municipality, stream, first) VALUES ($1, $2, $3)
             ON CONFLICT (municipality, stream) DO UPDATE SET first = max(first, excluded.first)",
        )
        .bind(m.as_str())
        .bind(stream.number())
        .bind(first)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
        crash::point("trim.deleted");
        transaction.commit().await.map_err(failed)
    }
}
