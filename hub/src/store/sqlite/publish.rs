//! The publish role in SQLite.
//! Implements `PublishStore`.
//! Must never place an event without closing what was held for it, in the same transaction.
//! Read next: `store/sqlite/delivery.rs`.

mod commit;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use self::commit::{apply, put_events};
use super::{SqliteStore, failed, json_list};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::publish::claim_durability;
use crate::store::{
    CaptureState, Claim, Durability, HeldFilter, HeldKind, HeldRow, HeldState, IndexedEvent, Known,
    NewHeld, PublishDelta, PublishStore, SnapshotMark, StoreError,
};

const HELD_COLUMNS: &str = "number, source, key, state, rule, file, line, item, message, rows, \
     held_ms, kind, key_id, content, corrected_by";

pub(super) fn state_number(state: HeldState) -> i64 {
    match state {
        HeldState::Refused => 1,
        HeldState::Waiting => 2,
        HeldState::Corrected => 3,
        HeldState::Released => 4,
    }
}

fn state_of(number: i64) -> HeldState {
    match number {
        1 => HeldState::Refused,
        3 => HeldState::Corrected,
        4 => HeldState::Released,
        _ => HeldState::Waiting,
    }
}

fn held_id(number: i64) -> String {
    format!("held-{number:012}")
}

fn held_number(id: &str) -> i64 {
    id.strip_prefix("held-")
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

fn place_of(stream: Option<i64>, position: Option<i64>) -> Option<(Stream, Position)> {
    Some((Stream::from_number(stream?), Position(position? as u64)))
}

fn indexed(row: &SqliteRow) -> IndexedEvent {
    IndexedEvent {
        source: row.get("source"),
        claim: Claim {
            id: row.get("id"),
            digest: row.get("digest"),
            event_type: row.get("type"),
            subject: Subject(row.get("subject")),
            version: row.get::<i64, _>("version") as u32,
            file: row.get("file"),
            line: row.get::<i64, _>("line") as u64,
            published_ms: row.get("published_ms"),
            traceparent: row.get("traceparent"),
        },
        at: place_of(row.get("stream"), row.get("position")),
    }
}

async fn held_from(
    connection: &mut SqliteConnection,
    row: SqliteRow,
) -> Result<HeldRow, sqlx::Error> {
    let number: i64 = row.get("number");
    let subjects =
        sqlx::query("SELECT subject, version FROM held_subject WHERE number = $1 ORDER BY ordinal")
            .bind(number)
            .fetch_all(&mut *connection)
            .await?;
    let events =
        sqlx::query("SELECT id, digest FROM held_event WHERE number = $1 ORDER BY ordinal")
            .bind(number)
            .fetch_all(&mut *connection)
            .await?;
    let held = NewHeld {
        source: row.get("source"),
        key: row.get("key"),
        state: state_of(row.get("state")),
        rule: row.get("rule"),
        file: row.get("file"),
        line: row.get::<i64, _>("line") as u64,
        item: row.get("item"),
        message: row.get("message"),
        rows: row.get::<i64, _>("rows") as u32,
        held_ms: row.get("held_ms"),
        kind: if row.get::<i64, _>("kind") == 1 {
            HeldKind::Rows
        } else {
            HeldKind::Events
        },
        content: Sealed {
            key_id: row.get("key_id"),
            bytes: row.get("content"),
        },
        subjects: subjects
            .iter()
            .map(|row| (Subject(row.get(0)), row.get::<i64, _>(1) as u32))
            .collect(),
        events: events.iter().map(|row| (row.get(0), row.get(1))).collect(),
    };
    Ok(HeldRow {
        id: held_id(number),
        held,
        corrected_by: row.get("corrected_by"),
    })
}

#[async_trait]
impl PublishStore for SqliteStore {
    async fn known(
        &self,
        m: &Municipality,
        _source: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Known>, StoreError> {
        // A claim for the release of a held unit does not end its waiting: what is held comes last.
        let rows = sqlx::query(
            "SELECT id, digest, stream, position, NULL FROM event
             WHERE municipality = $1 AND id IN (SELECT value FROM json_each($2))
             UNION ALL
             SELECT e.id, e.digest, NULL, NULL, e.number
             FROM held_event e JOIN held h ON h.number = e.number
             WHERE e.municipality = $1 AND h.state < 3
               AND e.id IN (SELECT value FROM json_each($2))",
        )
        .bind(m.as_str())
        .bind(json_list(ids))
        .fetch_all(&self.readers)
        .await
        .map_err(failed("looking up event ids"))?;
        let mut known = HashMap::new();
        for row in rows {
            let digest = row.get(1);
            let what = match row.get::<Option<i64>, _>(4) {
                None => Known::Claimed {
                    digest,
                    at: place_of(row.get(2), row.get(3)),
                },
                Some(number) => Known::Held {
                    held_id: held_id(number),
                    digest,
                },
            };
            known.insert(row.get(0), what);
        }
        Ok(known)
    }

    async fn claim(
        &self,
        m: &Municipality,
        source: &str,
        claims: &[Claim],
    ) -> Result<(), StoreError> {
        let failed = failed("claiming event ids");
        let durability = claim_durability(claims);
        let mut writer = self.writer.lock(durability).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        let rows: Vec<_> = claims.iter().map(|claim| (source, claim, None)).collect();
        put_events(&mut transaction, m, &rows)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    async fn versions(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<HashMap<Subject, u32>, StoreError> {
        let names: Vec<&str> = subjects.iter().map(|subject| subject.0.as_str()).collect();
        let rows = sqlx::query(
            "SELECT subject, version FROM version WHERE municipality = $1 AND source = $2
               AND subject IN (SELECT value FROM json_each($3))",
        )
        .bind(m.as_str())
        .bind(source)
        .bind(json_list(&names))
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading versions"))?;
        Ok(rows
            .iter()
            .map(|row| (Subject(row.get(0)), row.get::<i64, _>(1) as u32))
            .collect())
    }

    async fn held_behind(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<Vec<HeldRow>, StoreError> {
        let failed = failed("reading held units");
        let names: Vec<&str> = subjects.iter().map(|subject| subject.0.as_str()).collect();
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {HELD_COLUMNS} FROM held WHERE number IN
               (SELECT number FROM held_subject WHERE municipality = $1 AND source = $2
                  AND open = 1 AND subject IN (SELECT value FROM json_each($3)))
             ORDER BY number"
        )))
        .bind(m.as_str())
        .bind(source)
        .bind(json_list(&names))
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            held.push(held_from(&mut reader, row).await.map_err(&failed)?);
        }
        Ok(held)
    }

    async fn commit_publish(
        &self,
        m: &Municipality,
        delta: PublishDelta,
    ) -> Result<Vec<String>, StoreError> {
        let failed = failed("committing a publish");
        let durability = delta.durability();
        let mut writer = self.writer.lock(durability).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        let held_ids = apply(&mut transaction, m, &delta).await.map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(held_ids)
    }

    async fn find_event(
        &self,
        m: &Municipality,
        id: &str,
    ) -> Result<Option<IndexedEvent>, StoreError> {
        let row = sqlx::query("SELECT * FROM event WHERE municipality = $1 AND id = $2")
            .bind(m.as_str())
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(failed("finding an event"))?;
        Ok(row.as_ref().map(indexed))
    }

    async fn events_of(
        &self,
        m: &Municipality,
        subject: &Subject,
        limit: usize,
    ) -> Result<Vec<IndexedEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM event WHERE municipality = $1 AND subject = $2
             ORDER BY published_ms, version LIMIT $3",
        )
        .bind(m.as_str())
        .bind(&subject.0)
        .bind(limit as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("finding a subject's events"))?;
        Ok(rows.iter().map(indexed).collect())
    }

    async fn committed_tail(&self, m: &Municipality, s: Stream) -> Result<Position, StoreError> {
        let position: Option<i64> =
            sqlx::query_scalar("SELECT position FROM tail WHERE municipality = $1 AND stream = $2")
                .bind(m.as_str())
                .bind(s.number())
                .fetch_optional(&self.readers)
                .await
                .map_err(failed("reading the committed tail"))?;
        Ok(Position(position.unwrap_or(1) as u64))
    }

    async fn snapshots(&self, m: &Municipality) -> Result<Vec<SnapshotMark>, StoreError> {
        let rows = sqlx::query(
            "SELECT source, snapshot_id, bulk_start, bulk_end, live_mark FROM snapshot
             WHERE municipality = $1 ORDER BY number",
        )
        .bind(m.as_str())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading snapshots"))?;
        Ok(rows
            .iter()
            .map(|row| SnapshotMark {
                source: row.get(0),
                snapshot_id: row.get(1),
                bulk_start: Position(row.get::<i64, _>(2) as u64),
                bulk_end: row.get::<Option<i64>, _>(3).map(|end| Position(end as u64)),
                live_mark: Position(row.get::<i64, _>(4) as u64),
            })
            .collect())
    }

    async fn protected(&self, m: &Municipality) -> Result<HashSet<Subject>, StoreError> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT DISTINCT subject FROM protection WHERE municipality = $1 AND active = 1",
        )
        .bind(m.as_str())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading protected subjects"))?;
        Ok(names.into_iter().map(Subject).collect())
    }

    async fn capture(&self, m: &Municipality, source: &str) -> Result<CaptureState, StoreError> {
        let row = sqlx::query(
            "SELECT epoch, product, cursor FROM capture WHERE municipality = $1 AND source = $2",
        )
        .bind(m.as_str())
        .bind(source)
        .fetch_optional(&self.readers)
        .await
        .map_err(failed("reading a capture cursor"))?;
        Ok(row.map_or_else(CaptureState::default, |row| CaptureState {
            epoch: row.get::<i64, _>(0) as u64,
            product: row.get(1),
            cursor: row.get(2),
        }))
    }

    async fn bind_capture(
        &self,
        m: &Municipality,
        source: &str,
        product: &str,
    ) -> Result<u64, StoreError> {
        let failed = failed("binding a source");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let epoch: i64 = sqlx::query_scalar(
            "INSERT INTO capture (municipality, source, epoch, product) VALUES ($1, $2, 1, $3)
             ON CONFLICT (municipality, source) DO UPDATE
               SET epoch = epoch + 1, product = excluded.product
             RETURNING epoch",
        )
        .bind(m.as_str())
        .bind(source)
        .bind(product)
        .fetch_one(&mut *writer)
        .await
        .map_err(failed)?;
        Ok(epoch as u64)
    }

    async fn list_held(
        &self,
        m: &Municipality,
        filter: HeldFilter,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<HeldRow>, u64), StoreError> {
        let failed = failed("listing held units");
        let (low, high) = match filter {
            HeldFilter::Open => (1, 2),
            HeldFilter::State(state) => (state_number(state), state_number(state)),
        };
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {HELD_COLUMNS} FROM held WHERE municipality = $1
               AND state BETWEEN $2 AND $3 AND number > $4 ORDER BY number LIMIT $5"
        )))
        .bind(m.as_str())
        .bind(low)
        .bind(high)
        .bind(held_number(after))
        .bind(limit as i64)
        .fetch_all(&mut *reader)
        .await
        .map_err(&failed)?;
        let mut held = Vec::with_capacity(rows.len());
        for row in rows {
            held.push(held_from(&mut reader, row).await.map_err(&failed)?);
        }
        let total: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM held WHERE municipality = $1 AND state BETWEEN $2 AND $3",
        )
        .bind(m.as_str())
        .bind(low)
        .bind(high)
        .fetch_one(&mut *reader)
        .await
        .map_err(&failed)?;
        Ok((held, total as u64))
    }

    async fn held(&self, m: &Municipality, id: &str) -> Result<Option<HeldRow>, StoreError> {
        let failed = failed("reading a held unit");
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let row = sqlx::query(sqlx::AssertSqlSafe(format!(
            "SELECT {HELD_COLUMNS} FROM held WHERE municipality = $1 AND number = $2"
        )))
        .bind(m.as_str())
        .bind(held_number(id))
        .fetch_optional(&mut *reader)
        .await
        .map_err(&failed)?;
        match row {
            Some(row) => Ok(Some(held_from(&mut reader, row).await.map_err(&failed)?)),
            None => Ok(None),
        }
    }
}
