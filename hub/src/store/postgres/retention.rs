//! The role of retention in PostgreSQL.
//! Implements `RetentionStore`; a month of the history that became empty goes with its table.
//! Must never lock more than one batch, nor wait for long where everybody writes.
//! Read next: `store/contract/retention.rs`, `store/postgres/delivery/history.rs`.

use async_trait::async_trait;
use sqlx::Row;

use super::PgStore;
use super::session::{Session, Trouble, retried};
use crate::event::{Municipality, Position, Stream};
use crate::limits::RETENTION_BATCH;
use crate::store::StoreError;
use crate::store::retention::{Forgotten, RetentionStore};

/// A page of what is old in the history: forgets what nothing keeps; tells how much that was, how
/// long the page was, and its end.
const FORGET: &str = "
WITH page AS MATERIALIZED (
  SELECT number, municipality, event_id, at_ms FROM history
  WHERE number > $1 AND at_ms < $2 ORDER BY number LIMIT $3
), old AS (
  SELECT h.number, h.at_ms FROM page h
    JOIN event e ON e.municipality = h.municipality AND e.id = h.event_id
    JOIN kept k ON k.municipality = e.municipality AND k.stream = e.stream
  WHERE e.position < k.first AND NOT EXISTS (
    SELECT 1 FROM subscription s JOIN parked_subject p ON p.subscription = s.id
    WHERE s.municipality = e.municipality AND p.subject = e.subject)
), gone AS (
  DELETE FROM history h USING old o WHERE h.number = o.number AND h.at_ms = o.at_ms
  RETURNING h.number
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM page), (SELECT max(number) FROM page)";

/// Closed held units (corrected or released) with their content, held and closed before a time: the
/// content goes.
const FORGET_HELD: &str = "
UPDATE held SET content = '' WHERE (municipality, number) IN (
  SELECT h.municipality, h.number FROM held h
  WHERE h.held_ms < $1 AND h.content <> '' AND h.state IN (3, 4)
    AND NOT EXISTS (SELECT 1 FROM event e
      WHERE e.municipality = h.municipality AND e.published_ms >= $1 AND e.id = h.corrected_by)
    AND NOT EXISTS (SELECT 1 FROM held_event t
        JOIN event e ON e.municipality = t.municipality AND e.id = t.id
      WHERE t.municipality = h.municipality AND t.number = h.number AND e.published_ms >= $1)
  ORDER BY h.municipality, h.number LIMIT $2)";

#[async_trait]
impl RetentionStore for PgStore {
    async fn keep_from(
        &self,
        m: &Municipality,
        stream: Stream,
        first: Position,
    ) -> Result<(), StoreError> {
        retried!(self, "noting where the log begins", async {
            let mut session = self.write(m).await?;
            session
                .query(
                    "INSERT INTO kept (municipality, stream, first) VALUES ($1, $2, $3)
                     ON CONFLICT (municipality, stream)
                       DO UPDATE SET first = greatest(kept.first, excluded.first)",
                )
                .bind(m.as_str())
                .bind(stream.number())
                .bind(first.0.cast_signed())
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }

    async fn kept_from(&self, m: &Municipality, stream: Stream) -> Result<Position, StoreError> {
        retried!(self, "reading where the log begins", async {
            let mut session = self.read().await?;
            let first: Option<i64> = session
                .scalar("SELECT first FROM kept WHERE municipality = $1 AND stream = $2")
                .bind(m.as_str())
                .bind(stream.number())
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(Position(first.map_or(1, i64::cast_unsigned)))
        })
    }

    async fn forget_history(&self, before_ms: i64, after: u64) -> Result<Forgotten, StoreError> {
        let forgotten = retried!(self, "forgetting old outcomes", async {
            // A power cut may take it back: the next pass forgets it again.
            let mut session = self.begin().await?;
            if !alone(&mut session).await? {
                session.end().await?;
                return Ok(Forgotten::default());
            }
            let row = session
                .query(FORGET)
                .bind(after.cast_signed())
                .bind(before_ms)
                .bind(RETENTION_BATCH as i64)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            let whole = row.get::<i64, _>(1) == RETENTION_BATCH as i64;
            let last = row.get::<Option<i64>, _>(2).filter(|_| whole);
            Ok::<_, Trouble>(Forgotten {
                outcomes: row.get::<i64, _>(0).cast_unsigned(),
                next: last.map(i64::cast_unsigned),
            })
        })?;
        if forgotten.next.is_none() {
            self.drop_empty_months(before_ms).await?;
        }
        Ok(forgotten)
    }

    async fn forget_held(&self, before_ms: i64) -> Result<u64, StoreError> {
        retried!(self, "forgetting closed held units", async {
            let mut session = self.begin().await?;
            if !alone(&mut session).await? {
                session.end().await?;
                return Ok(0);
            }
            let forgotten = session
                .query(FORGET_HELD)
                .bind(before_ms)
                .bind(RETENTION_BATCH as i64)
                .execute(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(forgotten.rows_affected())
        })
    }
}

/// Every instance sweeps; one at a time is enough. True for the one that may, until its commit.
async fn alone(session: &mut Session<'_>) -> Result<bool, sqlx::Error> {
    let turn: Option<i32> = session
        .scalar("SELECT 1 FROM meta FOR UPDATE SKIP LOCKED")
        .fetch_optional(&mut **session)
        .await?;
    Ok(turn.is_some())
}

impl PgStore {
    /// Drops the months that ended before a time and hold nothing any more.
    async fn drop_empty_months(&self, before_ms: i64) -> Result<(), StoreError> {
        retried!(self, "dropping empty months of the history", async {
            let mut session = self.begin().await?;
            let dropped: i64 = session
                .scalar("SELECT history_drop_empty($1)")
                .bind(before_ms)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            if dropped > 0 {
                self.forget_months();
            }
            Ok::<_, Trouble>(())
        })
    }
}
