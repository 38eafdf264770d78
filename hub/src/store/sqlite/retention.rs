//! The role of retention in SQLite.
//! Implements `RetentionStore`; what is to go is looked for on a reading connection.
//! Must never hold the writing connection for longer than one batch.
//! Read next: `store/contract/retention.rs`.

use async_trait::async_trait;
use sqlx::Row;

use super::publish::state_number;
use super::{SqliteStore, failed, json_list};
use crate::event::{Municipality, Position, Stream};
use crate::limits::RETENTION_BATCH;
use crate::store::retention::{Forgotten, RetentionStore};
use crate::store::{Durability, HeldState, StoreError};

/// A page of the history in the order of its rows, with what keeps a row from going.
const PAGE: &str = "
SELECT h.number, h.at_ms,
  CASE WHEN h.at_ms < $2 AND e.position < k.first THEN EXISTS (
    SELECT 1 FROM subscription s JOIN parked_subject p ON p.subscription = s.id
    WHERE s.municipality = e.municipality AND p.subject = e.subject)
  ELSE 1 END AS stays
FROM (SELECT number, municipality, event_id, at_ms FROM history
      WHERE number > $1 ORDER BY number LIMIT $3) h
LEFT JOIN event e ON e.municipality = h.municipality AND e.id = h.event_id
LEFT JOIN kept k ON k.municipality = e.municipality AND k.stream = e.stream
ORDER BY h.number";

/// Closed held units with their content, held and closed before a time.
const CLOSED: &str = "
SELECT number FROM held WHERE held_ms < $1 AND content <> x''
  AND state IN (SELECT value FROM json_each($2))
  AND NOT EXISTS (SELECT 1 FROM event e
    WHERE e.municipality = held.municipality AND e.published_ms >= $1
      AND (e.id = held.corrected_by
        OR e.id IN (SELECT id FROM held_event WHERE number = held.number)))
ORDER BY number LIMIT $3";

impl SqliteStore {
    /// Rows of a page that may go, and where the next page begins.
    async fn page(
        &self,
        before_ms: i64,
        after: u64,
    ) -> Result<(Vec<i64>, Option<u64>), sqlx::Error> {
        let rows = sqlx::query(PAGE)
            .bind(after as i64)
            .bind(before_ms)
            .bind(RETENTION_BATCH as i64)
            .fetch_all(&self.readers)
            .await?;
        let old = rows.iter().filter(|row| row.get::<i64, _>("stays") == 0);
        let old = old.map(|row| row.get("number")).collect();
        // Rows stand in the order of time: behind a page of young ones nothing is old.
        let young = rows
            .iter()
            .all(|row| row.get::<i64, _>("at_ms") >= before_ms);
        let last = rows.last().filter(|_| !young);
        Ok((old, last.map(|row| row.get::<i64, _>("number") as u64)))
    }
}

#[async_trait]
impl RetentionStore for SqliteStore {
    async fn keep_from(
        &self,
        m: &Municipality,
        stream: Stream,
        first: Position,
    ) -> Result<(), StoreError> {
        let failed = failed("noting where the log begins");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO kept (municipality, stream, first) VALUES ($1, $2, $3)
             ON CONFLICT (municipality, stream) DO UPDATE SET first = max(first, excluded.first)",
        )
        .bind(m.as_str())
        .bind(stream.number())
        .bind(first.0 as i64)
        .execute(&mut *writer)
        .await
        .map_err(failed)?;
        Ok(())
    }

    async fn kept_from(&self, m: &Municipality, stream: Stream) -> Result<Position, StoreError> {
        let first: Option<i64> =
            sqlx::query_scalar("SELECT first FROM kept WHERE municipality = $1 AND stream = $2")
                .bind(m.as_str())
                .bind(stream.number())
                .fetch_optional(&self.readers)
                .await
                .map_err(failed("reading where the log begins"))?;
        Ok(Position(first.map_or(1, i64::cast_unsigned)))
    }

    async fn forget_history(&self, before_ms: i64, after: u64) -> Result<Forgotten, StoreError> {
        let failed = failed("forgetting old outcomes");
        let (old, next) = self.page(before_ms, after).await.map_err(&failed)?;
        if old.is_empty() {
            return Ok(Forgotten { outcomes: 0, next });
        }
        // A power cut may take it back: the next pass forgets it again.
        let mut writer = self
            .writer
            .lock(Durability::WithLog)
            .await
            .map_err(&failed)?;
        let outcomes =
            sqlx::query("DELETE FROM history WHERE number IN (SELECT value FROM json_each($1))")
                .bind(json_list(&old))
                .execute(&mut *writer)
                .await
                .map_err(&failed)?
                .rows_affected();
        Ok(Forgotten { outcomes, next })
    }

    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError> {
        let failed = failed("forgetting closed held units");
        let closed = [HeldState::Corrected, HeldState::Released].map(state_number);
        let numbers: Vec<i64> = sqlx::query_scalar(CLOSED)
            .bind(before_ms)
            .bind(json_list(&closed))
            .bind(RETENTION_BATCH as i64)
            .fetch_all(&self.readers)
            .await
            .map_err(&failed)?;
        if numbers.is_empty() {
            return Ok(0);
        }
        let mut writer = self
            .writer
            .lock(Durability::WithLog)
            .await
            .map_err(&failed)?;
        sqlx::query(
            "UPDATE held SET content = x'' WHERE number IN (SELECT value FROM json_each($1))",
        )
        .bind(json_list(&numbers))
        .execute(&mut *writer)
        .await
        .map_err(&failed)?;
        Ok(numbers.len() as u64)
    }
}
