//! Applies delivery deltas of different subscriptions inside an open transaction.
//! Called by `write.rs` once their fences hold. What every delivery writes has one statement a
//! table for all deltas together; the rest is rare.
//! Must never leave a part of a delta out. Read next: `store/delivery.rs`.

use std::collections::BTreeMap;

use musubi_proto::hub::v1::Outcome;
use sqlx::Sqlite;
use sqlx::query_builder::Separated;
use sqlx::sqlite::SqliteConnection;

use crate::event::Stream;
use crate::store::delivery::stored::town;
use crate::store::sqlite::acts::put_act;
use crate::store::sqlite::{json_list, rows};
use crate::store::{Cursor, DeliveryDelta, Done, ParkedRow, ParkedState, UnitKey};

/// A row on its way into a statement.
type Row<'a> = Separated<'a, Sqlite, &'static str>;

/// A cursor that moves, with its subscription.
type Moved<'a> = (&'a str, Stream, Cursor);

/// Moves cursors; what was done ahead of them and is behind them now is known by them.
async fn move_cursors(
    connection: &mut SqliteConnection,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let moved: Vec<Moved<'_>> = deltas
        .iter()
        .flat_map(|delta| {
            let cursors = delta.cursors.iter();
            cursors.map(|(stream, cursor)| (delta.subscription.as_str(), *stream, *cursor))
        })
        .collect();
    let bind = |row: &mut Row<'_>, moved: Option<&Moved<'_>>| {
        row.push_bind(moved.map(|(subscription, ..)| *subscription))
            .push_bind(moved.map(|(_, stream, _)| stream.number()))
            .push_bind(moved.map(|(.., cursor)| cursor.position.0 as i64))
            .push_bind(moved.map(|(.., cursor)| cursor.sequence as i64));
    };
    for (stream, update) in [
        (
            Stream::Live,
            "UPDATE subscription SET live_position = column3, live_sequence = column4 FROM",
        ),
        (
            Stream::Bulk,
            "UPDATE subscription SET bulk_position = column3, bulk_sequence = column4 FROM",
        ),
    ] {
        let of_stream = moved.iter().filter(|(_, of, _)| *of == stream).copied();
        let of_stream: Vec<Moved<'_>> = of_stream.collect();
        rows::execute(connection, update, &of_stream, bind, "WHERE id = column1").await?;
    }
    rows::execute(
        connection,
        "DELETE FROM ahead WHERE (subscription, stream, sequence, member) IN
           (SELECT a.subscription, a.stream, a.sequence, a.member FROM",
        &moved,
        bind,
        "v CROSS JOIN ahead a ON a.subscription = v.column1 AND a.stream = v.column2
           AND a.sequence < v.column4)",
    )
    .await
}

/// A unit with its subscription.
type UnitOf<'a> = (&'a str, UnitKey);

fn bind_unit(row: &mut Row<'_>, of: Option<&UnitOf<'_>>) {
    row.push_bind(of.map(|(subscription, _)| *subscription))
        .push_bind(of.map(|(_, key)| key.stream.number()))
        .push_bind(of.map(|(_, key)| key.sequence as i64))
        .push_bind(of.map(|(_, key)| i64::from(key.member)));
}

/// Notes that units are done or parked although the cursor has not passed them yet.
async fn put_ahead(
    connection: &mut SqliteConnection,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let units = deltas.iter().flat_map(|delta| {
        let ahead = delta.ahead();
        ahead.map(|key| (delta.subscription.as_str(), key))
    });
    let units: Vec<UnitOf<'_>> = units.collect();
    rows::execute(
        connection,
        "INSERT INTO ahead (subscription, stream, sequence, member)
         SELECT column1, column2, column3, column4 FROM",
        &units,
        bind_unit,
        "JOIN subscription ON id = column1 WHERE column3 >=
           CASE column2 WHEN 2 THEN bulk_sequence ELSE live_sequence END
         ON CONFLICT DO NOTHING",
    )
    .await
}

/// Counts outcomes by their events.
async fn count(
    connection: &mut SqliteConnection,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for delta in deltas {
        for done in &delta.done {
            let count = counts.entry((&delta.subscription, done.outcome));
            *count.or_default() += done.event_ids.len();
        }
    }
    let counts: Vec<_> = counts.into_iter().collect();
    rows::execute(
        connection,
        "INSERT INTO tally (subscription, outcome, events) SELECT column1, column2, column3 FROM",
        &counts,
        |row, of| {
            row.push_bind(of.map(|((subscription, _), _)| *subscription))
                .push_bind(of.map(|((_, outcome), _)| *outcome))
                .push_bind(of.map(|(_, events)| *events as i64));
        },
        "WHERE column1 IS NOT NULL ON CONFLICT (subscription, outcome)
           DO UPDATE SET events = events + excluded.events",
    )
    .await
}

/// Forgets the attempts of units that are done.
async fn forget_attempts(
    connection: &mut SqliteConnection,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let units = deltas.iter().flat_map(|delta| {
        let tried = delta.tried();
        tried.map(|key| (delta.subscription.as_str(), key))
    });
    let units: Vec<UnitOf<'_>> = units.collect();
    rows::execute(
        connection,
        "DELETE FROM attempt WHERE (subscription, stream, sequence, member) IN",
        &units,
        bind_unit,
        "",
    )
    .await
}

/// Writes a row for each event and outcome, also of replayed units.
async fn put_history(
    connection: &mut SqliteConnection,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let mut steps: Vec<(&str, &Done, &str)> = Vec::new();
    for delta in deltas {
        for done in delta.done.iter().chain(&delta.replayed) {
            let ids = done.event_ids.iter().map(String::as_str);
            steps.extend(ids.map(|id| (delta.subscription.as_str(), done, id)));
        }
    }
    rows::execute(
        connection,
        "INSERT INTO history (municipality, event_id, subscription, product, stream, sequence,
           member, attempt, outcome, reason, at_ms)
         SELECT column1, column2, column3, column4, column5, column6, column7, column8, column9,
           column10, column11 FROM",
        &steps,
        |row, of| {
            let done = of.map(|(_, done, _)| done);
            row.push_bind(of.map(|(subscription, ..)| town(subscription)))
                .push_bind(of.map(|(.., id)| *id))
                .push_bind(of.map(|(subscription, ..)| *subscription))
                .push_bind(done.map(|done| &done.product))
                .push_bind(done.map(|done| done.key.stream.number()))
                .push_bind(done.map(|done| done.key.sequence as i64))
                .push_bind(done.map(|done| i64::from(done.key.member)))
                .push_bind(done.map(|done| i64::from(done.attempt)))
                .push_bind(done.map(|done| done.outcome))
                .push_bind(done.map(|done| &done.reason))
                .push_bind(done.map(|done| done.at_ms));
        },
        "WHERE column1 IS NOT NULL",
    )
    .await
}

async fn put_parked(
    connection: &mut SqliteConnection,
    subscription: &str,
    row: &ParkedRow,
) -> Result<(), sqlx::Error> {
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

/// Applies deltas of subscriptions that differ.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    move_cursors(connection, deltas).await?;
    for delta in deltas {
        put_attempts(connection, delta).await?;
    }
    put_ahead(connection, deltas).await?;
    count(connection, deltas).await?;
    forget_attempts(connection, deltas).await?;
    put_history(connection, deltas).await?;
    for delta in deltas {
        put_rest(connection, delta).await?;
    }
    Ok(())
}

async fn put_attempts(
    connection: &mut SqliteConnection,
    delta: &DeliveryDelta,
) -> Result<(), sqlx::Error> {
    for (key, attempts) in &delta.attempts {
        sqlx::query(
            "INSERT INTO attempt (subscription, stream, sequence, member, attempts)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (subscription, stream, sequence, member)
               DO UPDATE SET attempts = excluded.attempts",
        )
        .bind(&delta.subscription)
        .bind(key.stream.number())
        .bind(key.sequence as i64)
        .bind(i64::from(key.member))
        .bind(i64::from(*attempts))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// What few deltas change.
async fn put_rest(
    connection: &mut SqliteConnection,
    delta: &DeliveryDelta,
) -> Result<(), sqlx::Error> {
    let subscription = &delta.subscription;
    if let Some(act) = &delta.act {
        put_act(connection, town(subscription), act).await?;
    }
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
        sqlx::query(
            "UPDATE binding SET paused_by = $2, paused = $4 WHERE subscription = $1 AND epoch =
               (SELECT max(epoch) FROM binding WHERE subscription = $1 AND state = $3)",
        )
        .bind(subscription)
        .bind(pause.as_ref().map(|pause| pause.by.number()))
        .bind(delta.binding_state().number())
        .bind(pause.as_ref().map(|pause| &pause.reason))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}
