//! Applies one delivery delta inside an open transaction.
//! Called by `commit` once the fence holds.
//! Must never leave a part of a delta out.
//! Read next: `store/delivery.rs`.

use musubi_proto::hub::v1::Outcome;
use sqlx::sqlite::SqliteConnection;

use super::{binding_number, paused_number};
use crate::event::Stream;
use crate::store::sqlite::acts::put_act;
use crate::store::sqlite::json_list;
use crate::store::{BindingState, Cursor, DeliveryDelta, Done, ParkedRow, ParkedState, UnitKey};

async fn move_cursor(
    connection: &mut SqliteConnection,
    subscription: &str,
    stream: Stream,
    cursor: Cursor,
) -> Result<(), sqlx::Error> {
    let statement = match stream {
        Stream::Live => {
            "UPDATE subscription SET live_position = $2, live_sequence = $3 WHERE id = $1"
        }
        Stream::Bulk => {
            "UPDATE subscription SET bulk_position = $2, bulk_sequence = $3 WHERE id = $1"
        }
    };
    sqlx::query(statement)
        .bind(subscription)
        .bind(cursor.position.0 as i64)
        .bind(cursor.sequence as i64)
        .execute(&mut *connection)
        .await?;
    sqlx::query("DELETE FROM ahead WHERE subscription = $1 AND stream = $2 AND sequence < $3")
        .bind(subscription)
        .bind(stream.number())
        .bind(cursor.sequence as i64)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that a unit is done or parked although the cursor has not passed it yet.
async fn put_ahead(
    connection: &mut SqliteConnection,
    subscription: &str,
    key: UnitKey,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO ahead (subscription, stream, sequence, member)
         SELECT $1, $2, $3, $4 FROM subscription WHERE id = $1 AND $3 >=
           CASE $2 WHEN 2 THEN bulk_sequence ELSE live_sequence END
         ON CONFLICT DO NOTHING",
    )
    .bind(subscription)
    .bind(key.stream.number())
    .bind(key.sequence as i64)
    .bind(i64::from(key.member))
    .execute(connection)
    .await?;
    Ok(())
}

/// What an outcome changes.
const DONE: [&str; 4] = [
    "INSERT INTO ahead (subscription, stream, sequence, member)
         SELECT $1, u.value->>0, u.value->>1, u.value->>2
         FROM json_each($2) u JOIN subscription s ON s.id = $1
         WHERE u.value->>1 >=
           CASE u.value->>0 WHEN 2 THEN s.bulk_sequence ELSE s.live_sequence END
         ON CONFLICT DO NOTHING",
    "INSERT INTO tally (subscription, outcome, events)
         SELECT $1, u.value->>3, sum(u.value->>4) FROM json_each($2) u WHERE true
         GROUP BY u.value->>3
         ON CONFLICT (subscription, outcome) DO UPDATE SET events = events + excluded.events",
    REPLAYED[0],
    REPLAYED[1],
];

/// What the outcome of a replayed unit changes: its first one counts and moved the cursor.
const REPLAYED: [&str; 2] = [
    "DELETE FROM attempt WHERE subscription = $1 AND (stream, sequence, member) IN
           (SELECT u.value->>0, u.value->>1, u.value->>2 FROM json_each($2) u)",
    "INSERT INTO history (municipality, event_id, subscription, product, stream, sequence,
           member, attempt, outcome, reason, at_ms)
         SELECT s.municipality, e.value, $1, u.value->>6, u.value->>0, u.value->>1, u.value->>2,
           u.value->>5, u.value->>3, u.value->>7, u.value->>8
         FROM json_each($2) u JOIN subscription s ON s.id = $1
           JOIN json_each(u.value, '$[9]') e
         ORDER BY u.key, e.key",
];

/// Writes all outcomes of a delta with one statement a table, whatever their number.
async fn put_done(
    connection: &mut SqliteConnection,
    subscription: &str,
    statements: &[&'static str],
    all: &[Done],
) -> Result<(), sqlx::Error> {
    if all.is_empty() {
        return Ok(());
    }
    let units: Vec<_> = all
        .iter()
        .map(|done| {
            serde_json::json!([
                done.key.stream.number(),
                done.key.sequence,
                done.key.member,
                done.outcome,
                done.event_ids.len(),
                done.attempt,
                done.product,
                done.reason,
                done.at_ms,
                done.event_ids,
            ])
        })
        .collect();
    let units = json_list(&units);
    for statement in statements {
        sqlx::query(*statement)
            .bind(subscription)
            .bind(&units)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn put_parked(
    connection: &mut SqliteConnection,
    subscription: &str,
    row: &ParkedRow,
) -> Result<(), sqlx::Error> {
    put_ahead(connection, subscription, row.key).await?;
    sqlx::query(
        "INSERT INTO parked (subscription, stream, sequence, member, state, reason, field, message,
           attempts, at_ms, due_ms, position, event_ids, events, key_id, content)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
         ON CONFLICT (subscription, stream, sequence, member) DO UPDATE SET
           state = excluded.state, reason = excluded.reason, field = excluded.field,
           message = excluded.message, attempts = excluded.attempts, at_ms = excluded.at_ms,
           due_ms = excluded.due_ms, revision = revision + 1, event_ids = excluded.event_ids,
           key_id = excluded.key_id, content = excluded.content",
    )
    .bind(subscription)
    .bind(row.key.stream.number())
    .bind(row.key.sequence as i64)
    .bind(i64::from(row.key.member))
    .bind(row.state.number())
    .bind(&row.reason)
    .bind(&row.field)
    .bind(&row.message)
    .bind(i64::from(row.attempts))
    .bind(row.at_ms)
    .bind(row.due_ms)
    .bind(row.position.0 as i64)
    .bind(json_list(&row.event_ids))
    .bind(row.event_ids.len() as i64)
    .bind(&row.content.key_id)
    .bind(&row.content.bytes)
    .execute(&mut *connection)
    .await?;
    if matches!(row.state, ParkedState::Rejected | ParkedState::Dead) {
        put_refusal(connection, subscription, row).await?;
    }
    for (ordinal, subject) in row.subjects.iter().enumerate() {
        sqlx::query(
            "INSERT INTO parked_subject (subscription, subject, stream, sequence, member, ordinal)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(subscription)
        .bind(&subject.0)
        .bind(row.key.stream.number())
        .bind(row.key.sequence as i64)
        .bind(i64::from(row.key.member))
        .bind(ordinal as i64)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A refusal ends nothing; it stands in the history all the same, also after a later one.
async fn put_refusal(
    connection: &mut SqliteConnection,
    subscription: &str,
    row: &ParkedRow,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO history (municipality, event_id, subscription, product, stream, sequence,
           member, attempt, outcome, reason, at_ms)
         SELECT s.municipality, e.value, $1, coalesce((SELECT product FROM binding
             WHERE subscription = $1 AND state IN (1, 2) ORDER BY epoch DESC LIMIT 1), ''),
           $2, $3, $4, $5, $6, $7, $8
         FROM json_each($9) e JOIN subscription s ON s.id = $1 ORDER BY e.key",
    )
    .bind(subscription)
    .bind(row.key.stream.number())
    .bind(row.key.sequence as i64)
    .bind(i64::from(row.key.member))
    .bind(i64::from(row.attempts))
    .bind(Outcome::Rejected as i64)
    .bind(&row.reason)
    .bind(row.at_ms)
    .bind(json_list(&row.event_ids))
    .execute(connection)
    .await?;
    Ok(())
}

async fn delete_parked(
    connection: &mut SqliteConnection,
    subscription: &str,
    key: UnitKey,
) -> Result<(), sqlx::Error> {
    for statement in [
        "DELETE FROM parked
         WHERE subscription = $1 AND stream = $2 AND sequence = $3 AND member = $4",
        "DELETE FROM parked_subject
         WHERE subscription = $1 AND stream = $2 AND sequence = $3 AND member = $4",
    ] {
        sqlx::query(statement)
            .bind(subscription)
            .bind(key.stream.number())
            .bind(key.sequence as i64)
            .bind(i64::from(key.member))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

async fn put_runs(
    connection: &mut SqliteConnection,
    delta: &DeliveryDelta,
) -> Result<(), sqlx::Error> {
    for id in &delta.runs_close {
        sqlx::query("DELETE FROM run WHERE subscription = $1 AND id = $2")
            .bind(&delta.subscription)
            .bind(id)
            .execute(&mut *connection)
            .await?;
    }
    for run in &delta.runs_open {
        for (ordinal, key) in run.keys.iter().enumerate() {
            sqlx::query(
                "INSERT INTO run (subscription, id, ordinal, stream, sequence, member)
                 VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
            )
            .bind(&delta.subscription)
            .bind(&run.id)
            .bind(ordinal as i64)
            .bind(key.stream.number())
            .bind(key.sequence as i64)
            .bind(i64::from(key.member))
            .execute(&mut *connection)
            .await?;
        }
    }
    Ok(())
}

pub(super) async fn apply(
    connection: &mut SqliteConnection,
    delta: &DeliveryDelta,
) -> Result<(), sqlx::Error> {
    let subscription = &delta.subscription;
    if let Some(act) = &delta.act {
        let m = subscription.split('/').next().unwrap_or_default();
        put_act(connection, m, act).await?;
    }
    for (stream, cursor) in &delta.cursors {
        move_cursor(connection, subscription, *stream, *cursor).await?;
    }
    for (key, attempts) in &delta.attempts {
        sqlx::query(
            "INSERT INTO attempt (subscription, stream, sequence, member, attempts)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (subscription, stream, sequence, member)
               DO UPDATE SET attempts = excluded.attempts",
        )
        .bind(subscription)
        .bind(key.stream.number())
        .bind(key.sequence as i64)
        .bind(i64::from(key.member))
        .bind(i64::from(*attempts))
        .execute(&mut *connection)
        .await?;
    }
    put_done(connection, subscription, &DONE, &delta.done).await?;
    put_done(connection, subscription, &REPLAYED, &delta.replayed).await?;
    for row in &delta.park {
        put_parked(connection, subscription, row).await?;
    }
    for key in &delta.unpark {
        delete_parked(connection, subscription, *key).await?;
    }
    put_runs(connection, delta).await?;
    if delta.filled {
        sqlx::query("UPDATE subscription SET filled = 1 WHERE id = $1")
            .bind(subscription)
            .execute(&mut *connection)
            .await?;
    }
    if let Some(pause) = &delta.paused {
        let filling = subscription.contains('~');
        let now = if filling {
            BindingState::Filling
        } else {
            BindingState::Serving
        };
        sqlx::query(
            "UPDATE binding SET paused_by = $2, paused = $4 WHERE subscription = $1 AND epoch =
               (SELECT max(epoch) FROM binding WHERE subscription = $1 AND state = $3)",
        )
        .bind(subscription)
        .bind(pause.as_ref().map(|pause| paused_number(pause.by)))
        .bind(binding_number(now))
        .bind(pause.as_ref().map(|pause| &pause.reason))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
