//! The publish role in SQLite.
//! Implements `PublishStore`.
//! Must never place an event without closing what was held for it, in the same transaction.
//! Read next: `store/sqlite/delivery.rs`.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use super::{SqliteStore, failed, json_list};
use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::{
    CaptureState, Claim, HeldFilter, HeldKind, HeldRow, HeldState, IndexedEvent, Known, NewHeld,
    Placed, PublishDelta, PublishStore, SnapshotMark, StoreError,
};

const HELD_COLUMNS: &str = "number, source, key, state, rule, file, line, item, message, rows, \
     held_ms, kind, key_id, content, corrected_by";

fn state_number(state: HeldState) -> i64 {
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

/// A list of claims for `json_each`; stream and position are null while they are not placed.
fn claims_json<'a>(
    claims: impl Iterator<Item = (&'a str, &'a Claim, Option<(Stream, Position)>)>,
) -> String {
    let rows: Vec<_> = claims
        .map(|(source, claim, at)| {
            let digest: String = claim
                .digest
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            serde_json::json!([
                claim.id,
                source,
                digest,
                claim.event_type,
                claim.subject.0,
                claim.version,
                claim.file,
                claim.line,
                claim.published_ms,
                claim.traceparent,
                at.map(|(stream, _)| stream.number()),
                at.map(|(_, position)| position.0),
            ])
        })
        .collect();
    json_list(&rows)
}

/// Writes claims, placed or not, with one statement.
async fn put_events(
    connection: &mut SqliteConnection,
    m: &Municipality,
    rows: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO event (municipality, id, source, digest, type, subject, version, file, line,
           published_ms, traceparent, stream, position)
         SELECT $1, c.value->>0, c.value->>1, unhex(c.value->>2), c.value->>3, c.value->>4,
           c.value->>5, c.value->>6, c.value->>7, c.value->>8, c.value->>9, c.value->>10,
           c.value->>11
         FROM json_each($2) c WHERE true ORDER BY c.key
         ON CONFLICT (municipality, id) DO UPDATE
           SET stream = excluded.stream, position = excluded.position WHERE position IS NULL",
    )
    .bind(m.as_str())
    .bind(rows)
    .execute(connection)
    .await?;
    Ok(())
}

/// Places events, and releases the waiting units that hold them. A recovered event may lack its
/// claim when the store is older than the log.
async fn place(
    connection: &mut SqliteConnection,
    m: &Municipality,
    placed: &[Placed],
) -> Result<(), sqlx::Error> {
    if placed.is_empty() {
        return Ok(());
    }
    let rows = claims_json(placed.iter().map(|one| {
        (
            one.source.as_str(),
            &one.claim,
            Some((one.stream, one.position)),
        )
    }));
    put_events(connection, m, &rows).await?;
    let ids: Vec<&str> = placed.iter().map(|one| one.claim.id.as_str()).collect();
    let released: Vec<i64> = sqlx::query_scalar(
        "SELECT DISTINCT e.number FROM held_event e JOIN held h ON h.number = e.number
         WHERE e.municipality = $1 AND h.state = 2 AND e.id IN (SELECT value FROM json_each($2))",
    )
    .bind(m.as_str())
    .bind(json_list(&ids))
    .fetch_all(&mut *connection)
    .await?;
    for number in released {
        close(connection, m, number, HeldState::Released, "").await?;
    }
    Ok(())
}

/// Closes refused units whose every readable (subject, version) stands in the log now.
async fn close_corrected(
    connection: &mut SqliteConnection,
    m: &Municipality,
    placed: &[Placed],
) -> Result<(), sqlx::Error> {
    let triples: Vec<_> = placed
        .iter()
        .map(|one| (&one.source, &one.claim.subject.0, one.claim.version))
        .collect();
    let candidates = sqlx::query(
        "SELECT s.number, min(p.key) FROM json_each($2) p JOIN held_subject s
           ON s.municipality = $1 AND s.source = p.value->>0 AND s.subject = p.value->>1
           AND s.version = p.value->>2 AND s.open = 1
         JOIN held h ON h.number = s.number AND h.state = 1 GROUP BY s.number",
    )
    .bind(m.as_str())
    .bind(json_list(&triples))
    .fetch_all(&mut *connection)
    .await?;
    for candidate in candidates {
        let number: i64 = candidate.get(0);
        let Some(by) = placed.get(candidate.get::<i64, _>(1) as usize) else {
            continue;
        };
        let pairs = sqlx::query(
            "SELECT subject, version FROM held_subject WHERE number = $1 AND version > 0",
        )
        .bind(number)
        .fetch_all(&mut *connection)
        .await?;
        let all_stand = pairs.iter().all(|pair| {
            placed.iter().any(|other| {
                other.source == by.source
                    && other.claim.subject.0 == pair.get::<String, _>(0)
                    && i64::from(other.claim.version) == pair.get::<i64, _>(1)
            })
        });
        if all_stand {
            close(connection, m, number, HeldState::Corrected, &by.claim.id).await?;
        }
    }
    Ok(())
}

async fn close(
    connection: &mut SqliteConnection,
    m: &Municipality,
    number: i64,
    state: HeldState,
    corrected_by: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE held SET state = $2, corrected_by = $3
         WHERE number = $1 AND municipality = $4 AND state < 3",
    )
    .bind(number)
    .bind(state_number(state))
    .bind(corrected_by)
    .bind(m.as_str())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE held_subject SET open = 0 WHERE number = $1 AND municipality = $2")
        .bind(number)
        .bind(m.as_str())
        .execute(&mut *connection)
        .await?;
    Ok(())
}

async fn hold(
    connection: &mut SqliteConnection,
    m: &Municipality,
    held: &NewHeld,
) -> Result<i64, sqlx::Error> {
    let number: Option<i64> = sqlx::query_scalar(
        "INSERT INTO held (municipality, source, key, state, rule, file, line, item, message, rows,
           held_ms, kind, key_id, content)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
         ON CONFLICT DO NOTHING RETURNING number",
    )
    .bind(m.as_str())
    .bind(&held.source)
    .bind(&held.key)
    .bind(state_number(held.state))
    .bind(&held.rule)
    .bind(&held.file)
    .bind(held.line as i64)
    .bind(&held.item)
    .bind(&held.message)
    .bind(i64::from(held.rows))
    .bind(held.held_ms)
    .bind(i64::from(held.kind == HeldKind::Rows))
    .bind(&held.content.key_id)
    .bind(&held.content.bytes)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(number) = number else {
        return sqlx::query_scalar(
            "SELECT number FROM held
             WHERE municipality = $1 AND source = $2 AND key = $3 AND file = $4 AND line = $5",
        )
        .bind(m.as_str())
        .bind(&held.source)
        .bind(&held.key)
        .bind(&held.file)
        .bind(held.line as i64)
        .fetch_one(connection)
        .await;
    };
    for (ordinal, (subject, version)) in held.subjects.iter().enumerate() {
        sqlx::query(
            "INSERT INTO held_subject (number, ordinal, municipality, source, subject, version, open)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(number)
        .bind(ordinal as i64)
        .bind(m.as_str())
        .bind(&held.source)
        .bind(&subject.0)
        .bind(i64::from(*version))
        .bind(i64::from(matches!(held.state, HeldState::Refused | HeldState::Waiting)))
        .execute(&mut *connection)
        .await?;
    }
    for (ordinal, (id, digest)) in held.events.iter().enumerate() {
        sqlx::query(
            "INSERT INTO held_event (municipality, id, number, ordinal, digest)
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
        )
        .bind(m.as_str())
        .bind(id)
        .bind(number)
        .bind(ordinal as i64)
        .bind(digest)
        .execute(&mut *connection)
        .await?;
    }
    Ok(number)
}

async fn mark_snapshot(
    connection: &mut SqliteConnection,
    m: &Municipality,
    mark: &SnapshotMark,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO snapshot (municipality, source, snapshot_id, bulk_start, bulk_end, live_mark)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (municipality, source, snapshot_id) DO UPDATE
           SET bulk_end = coalesce(bulk_end, excluded.bulk_end)",
    )
    .bind(m.as_str())
    .bind(&mark.source)
    .bind(&mark.snapshot_id)
    .bind(mark.bulk_start.0 as i64)
    .bind(mark.bulk_end.map(|position| position.0 as i64))
    .bind(mark.live_mark.0 as i64)
    .execute(connection)
    .await?;
    Ok(())
}

async fn apply(
    connection: &mut SqliteConnection,
    m: &Municipality,
    delta: &PublishDelta,
) -> Result<Vec<String>, sqlx::Error> {
    place(connection, m, &delta.placed).await?;
    close_corrected(connection, m, &delta.placed).await?;
    for (held, by) in &delta.corrected {
        close(connection, m, held_number(held), HeldState::Corrected, by).await?;
    }
    let versions: Vec<_> = delta
        .versions
        .iter()
        .map(|of| (&of.source, &of.subject.0, of.version))
        .collect();
    if !versions.is_empty() {
        sqlx::query(
            "INSERT INTO version (municipality, source, subject, version)
             SELECT $1, v.value->>0, v.value->>1, v.value->>2 FROM json_each($2) v WHERE true
             ON CONFLICT (municipality, source, subject) DO UPDATE
               SET version = max(version, excluded.version)",
        )
        .bind(m.as_str())
        .bind(json_list(&versions))
        .execute(&mut *connection)
        .await?;
    }
    let mut held_ids = Vec::with_capacity(delta.hold.len());
    for held in &delta.hold {
        held_ids.push(held_id(hold(connection, m, held).await?));
    }
    for mark in &delta.protection {
        sqlx::query(
            "INSERT INTO protection (municipality, subject, measure, version, active)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (municipality, subject, measure) DO UPDATE
               SET version = excluded.version, active = excluded.active
               WHERE excluded.version > version",
        )
        .bind(m.as_str())
        .bind(&mark.subject.0)
        .bind(&mark.measure)
        .bind(i64::from(mark.version))
        .bind(i64::from(mark.active))
        .execute(&mut *connection)
        .await?;
    }
    for mark in &delta.snapshots {
        mark_snapshot(connection, m, mark).await?;
    }
    if let Some((source, cursor)) = &delta.cursor {
        sqlx::query(
            "INSERT INTO capture (municipality, source, epoch, product, cursor)
             VALUES ($1, $2, 0, '', $3)
             ON CONFLICT (municipality, source) DO UPDATE SET cursor = excluded.cursor",
        )
        .bind(m.as_str())
        .bind(source)
        .bind(cursor)
        .execute(&mut *connection)
        .await?;
    }
    for (stream, position) in &delta.tail {
        sqlx::query(
            "INSERT INTO tail (municipality, stream, position) VALUES ($1, $2, $3)
             ON CONFLICT (municipality, stream) DO UPDATE
               SET position = max(position, excluded.position)",
        )
        .bind(m.as_str())
        .bind(stream.number())
        .bind(position.0 as i64)
        .execute(&mut *connection)
        .await?;
    }
    Ok(held_ids)
}

#[async_trait]
impl PublishStore for SqliteStore {
    async fn known(
        &self,
        m: &Municipality,
        _source: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Known>, StoreError> {
        let failed = failed("looking up event ids");
        let ids = json_list(ids);
        let mut known = HashMap::new();
        let claimed = sqlx::query(
            "SELECT id, digest, stream, position FROM event
             WHERE municipality = $1 AND id IN (SELECT value FROM json_each($2))",
        )
        .bind(m.as_str())
        .bind(&ids)
        .fetch_all(&self.readers)
        .await
        .map_err(&failed)?;
        for row in claimed {
            let at = place_of(row.get(2), row.get(3));
            known.insert(
                row.get(0),
                Known::Claimed {
                    digest: row.get(1),
                    at,
                },
            );
        }
        // A claim for the release of a held unit does not end its waiting.
        let held = sqlx::query(
            "SELECT e.id, e.digest, e.number FROM held_event e JOIN held h ON h.number = e.number
             WHERE e.municipality = $1 AND h.state < 3
               AND e.id IN (SELECT value FROM json_each($2))",
        )
        .bind(m.as_str())
        .bind(&ids)
        .fetch_all(&self.readers)
        .await
        .map_err(&failed)?;
        for row in held {
            let held_id = held_id(row.get(2));
            known.insert(
                row.get(0),
                Known::Held {
                    held_id,
                    digest: row.get(1),
                },
            );
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
        let mut writer = self.writer.lock().await;
        let mut transaction = writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(&failed)?;
        let rows = claims_json(claims.iter().map(|claim| (source, claim, None)));
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
        let mut writer = self.writer.lock().await;
        let mut transaction = writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(&failed)?;
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
        let mut writer = self.writer.lock().await;
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
        .map_err(failed("binding a source"))?;
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
