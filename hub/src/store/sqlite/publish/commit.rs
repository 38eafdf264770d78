//! Applies one publish delta inside an open transaction.
//! Called by `commit_publish`; claims are written by the same statement.
//! Must never place an event without closing what was held for it.
//! Read next: `store/publish.rs`.

use sqlx::Row;
use sqlx::sqlite::SqliteConnection;

use super::{held_id, held_number, state_number};
use crate::event::{Municipality, Position, Stream};
use crate::store::sqlite::alarms::follow;
use crate::store::sqlite::{json_list, rows};
use crate::store::{
    Claim, HeldKind, HeldState, NewHeld, Placed, ProtectionMark, PublishDelta, SnapshotMark,
};

/// A claim on its way into the index, with its source, and with its place once it has one.
pub(super) type EventRow<'a> = (&'a str, &'a Claim, Option<(Stream, Position)>);

/// Writes claims, placed or not, many with one statement.
pub(super) async fn put_events(
    connection: &mut SqliteConnection,
    m: &Municipality,
    events: &[EventRow<'_>],
) -> Result<(), sqlx::Error> {
    rows::execute(
        connection,
        "INSERT INTO event (municipality, id, source, digest, type, subject, version, file,
           line, published_ms, traceparent, stream, position)
         SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9,
           column10, column11, column12, column13 FROM",
        events,
        |row, of| {
            let claim = of.map(|(_, claim, _)| claim);
            let at = of.and_then(|(.., at)| *at);
            row.push_bind(of.map(|_| m.as_str()))
                .push_bind(claim.map(|claim| &claim.id))
                .push_bind(of.map(|(source, ..)| *source))
                .push_bind(claim.map(|claim| &claim.digest))
                .push_bind(claim.map(|claim| &claim.event_type))
                .push_bind(claim.map(|claim| &claim.subject.0))
                .push_bind(claim.map(|claim| i64::from(claim.version)))
                .push_bind(claim.map(|claim| &claim.file))
                .push_bind(claim.map(|claim| claim.line as i64))
                .push_bind(claim.map(|claim| claim.published_ms))
                .push_bind(claim.map(|claim| &claim.traceparent))
                .push_bind(at.map(|(stream, _)| stream.number()))
                .push_bind(at.map(|(_, position)| position.0 as i64));
        },
        "WHERE column1 IS NOT NULL ON CONFLICT (municipality, id) DO UPDATE
           SET stream = excluded.stream, position = excluded.position WHERE position IS NULL",
    )
    .await
}

/// Places events, and closes what was held for them. A recovered event may lack its claim when the
/// store is older than the log.
async fn place(
    connection: &mut SqliteConnection,
    m: &Municipality,
    placed: &[Placed],
) -> Result<(), sqlx::Error> {
    if placed.is_empty() {
        return Ok(());
    }
    let rows: Vec<EventRow<'_>> = placed
        .iter()
        .map(|one| {
            let place = (one.stream, one.position);
            (one.source.as_str(), &one.claim, Some(place))
        })
        .collect();
    put_events(connection, m, &rows).await?;
    if !anything_held(connection, m).await? {
        return Ok(());
    }
    release(connection, m, placed).await?;
    close_corrected(connection, m, placed).await
}

async fn anything_held(
    connection: &mut SqliteConnection,
    m: &Municipality,
) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM held WHERE municipality = $1 AND state < 3)")
        .bind(m.as_str())
        .fetch_one(connection)
        .await
}

/// Releases the waiting units that hold placed events.
async fn release(
    connection: &mut SqliteConnection,
    m: &Municipality,
    placed: &[Placed],
) -> Result<(), sqlx::Error> {
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

async fn put_protection(
    connection: &mut SqliteConnection,
    m: &Municipality,
    marks: &[ProtectionMark],
) -> Result<(), sqlx::Error> {
    for mark in marks {
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
    Ok(())
}

pub(super) async fn apply(
    connection: &mut SqliteConnection,
    m: &Municipality,
    delta: &PublishDelta,
) -> Result<Vec<String>, sqlx::Error> {
    place(connection, m, &delta.placed).await?;
    for (held, by) in &delta.corrected {
        close(connection, m, held_number(held), HeldState::Corrected, by).await?;
    }
    rows::execute(
        connection,
        "INSERT INTO version (municipality, source, subject, version)
         SELECT column1, column2, column3, column4 FROM",
        &delta.versions,
        |row, of| {
            row.push_bind(of.map(|_| m.as_str()))
                .push_bind(of.map(|of| &of.source))
                .push_bind(of.map(|of| &of.subject.0))
                .push_bind(of.map(|of| i64::from(of.version)));
        },
        "WHERE column1 IS NOT NULL ON CONFLICT (municipality, source, subject) DO UPDATE
           SET version = max(version, excluded.version)",
    )
    .await?;
    let mut held_ids = Vec::with_capacity(delta.hold.len());
    for held in &delta.hold {
        held_ids.push(held_id(hold(connection, m, held).await?));
    }
    put_protection(connection, m, &delta.protection).await?;
    follow(connection, m, &delta.follow).await?;
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
