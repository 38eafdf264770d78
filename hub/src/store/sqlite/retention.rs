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
use crate::store::retention::{Before, Forgotten, RetentionStore};
use crate::store::{Durability, HeldState, StoreError};

/// A page of the event index in the order of publishing, with what keeps a row from going.
const PAGE: &str = "
SELECT e.number, e.municipality, e.id, e.published_ms,
  CASE WHEN e.published_ms < $2 AND e.position < k.first THEN EXISTS (
    SELECT 1 FROM subscription s JOIN parked_subject p ON p.subscription = s.id
    WHERE s.municipality = e.municipality AND p.subject = e.subject)
  ELSE 1 END AS stays
FROM (SELECT rowid AS number, * FROM event WHERE rowid > $1 ORDER BY rowid LIMIT $3) e
LEFT JOIN kept k ON k.municipality = e.municipality AND k.stream = e.stream
ORDER BY e.number";

/// Events as (municipality, id).
type Named = Vec<(String, String)>;

impl SqliteStore {
    /// What may go of a page, the part of it whose ids may go too, and where the next page begins.
    async fn page(
        &self,
        before: Before,
        after: u64,
    ) -> Result<(Named, Named, Option<u64>), sqlx::Error> {
        let rows = sqlx::query(PAGE)
            .bind(after as i64)
            .bind(before.history_ms)
            .bind(RETENTION_BATCH as i64)
            .fetch_all(&self.readers)
            .await?;
        let (mut old, mut nameless, mut young) = (Named::new(), Named::new(), true);
        for row in &rows {
            let published_ms: i64 = row.get("published_ms");
            young &= published_ms >= before.history_ms;
            if row.get::<i64, _>("stays") == 0 {
                let named = (row.get("municipality"), row.get("id"));
                if before
                    .index_ms
                    .is_some_and(|before_ms| published_ms < before_ms)
                {
                    nameless.push(named.clone());
                }
                old.push(named);
            }
        }
        // Rows stand in the order of publishing: behind a page of young ones nothing is old.
        let last = rows.last().filter(|_| !young);
        let next = last.map(|row| row.get::<i64, _>("number") as u64);
        Ok((old, nameless, next))
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

    async fn forget_history(&self, before: Before, after: u64) -> Result<Forgotten, StoreError> {
        let failed = failed("forgetting old outcomes");
        let (old, nameless, next) = self.page(before, after).await.map_err(&failed)?;
        let mut forgotten = Forgotten {
            next,
            ..Forgotten::default()
        };
        if old.is_empty() {
            return Ok(forgotten);
        }
        // A power cut may take it back: the next pass forgets it again.
        let mut writer = self
            .writer
            .lock(Durability::WithLog)
            .await
            .map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        let outcomes = sqlx::query(
            "DELETE FROM history WHERE at_ms < $2 AND (municipality, event_id) IN
               (SELECT u.value->>0, u.value->>1 FROM json_each($1) u)",
        )
        .bind(json_list(&old))
        .bind(before.history_ms)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        let events = sqlx::query(
            "DELETE FROM event WHERE (municipality, id) IN
               (SELECT u.value->>0, u.value->>1 FROM json_each($1) u)
             AND NOT EXISTS (SELECT 1 FROM history h
               WHERE h.municipality = event.municipality AND h.event_id = event.id)",
        )
        .bind(json_list(&nameless))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        forgotten.outcomes = outcomes.rows_affected();
        forgotten.events = events.rows_affected();
        Ok(forgotten)
    }

    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError> {
        let failed = failed("forgetting closed held units");
        let closed = [HeldState::Corrected, HeldState::Released].map(state_number);
        let numbers: Vec<i64> = sqlx::query_scalar(
            "SELECT number FROM held WHERE held_ms < $1
               AND state IN (SELECT value FROM json_each($2)) ORDER BY number LIMIT $3",
        )
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
        let mut transaction = writer.begin().await.map_err(&failed)?;
        for statement in [
            "DELETE FROM held_subject WHERE number IN (SELECT value FROM json_each($1))",
            "DELETE FROM held_event WHERE number IN (SELECT value FROM json_each($1))",
            "DELETE FROM held WHERE number IN (SELECT value FROM json_each($1))",
        ] {
            sqlx::query(statement)
                .bind(json_list(&numbers))
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(numbers.len() as u64)
    }
}
