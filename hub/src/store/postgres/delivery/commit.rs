//! Applies delivery deltas of different subscriptions inside an open transaction.
//! Called by `write.rs`. What every delivery writes takes two statements for all deltas together;
//! the rest is rare and takes one for each kind.
//! Must never leave a part of a delta out, nor take a statement for each event.
//! Read next: `store/delivery.rs`, `store/sqlite/delivery/commit.rs`.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use musubi_proto::hub::v1::Outcome;
use sqlx::postgres::PgArguments;
use sqlx::query::Query;
use sqlx::{Postgres, Row};

use super::column;
use crate::event::{Stream, Subject};
use crate::store::delivery::stored::town;
use crate::store::postgres::acts::put_act;
use crate::store::postgres::session::Session;
use crate::store::{Cursor, DeliveryDelta, ParkedRow, ParkedState, Pause, RunRow, UnitKey};

/// A statement with its arguments.
type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Lets deltas pass whose owner's epoch is the stored one, and moves the cursors of those that
/// were not applied before. The owners' rows are held until the commit.
const PASS: &str = "
WITH delta AS MATERIALIZED (
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[],
    $6::bigint[], $7::bigint[], $8::boolean[])
  d (id, epoch, digest, live_position, live_sequence, bulk_position, bulk_sequence, filled)
), passed AS MATERIALIZED (
  SELECT d.id, s.last_delta IS DISTINCT FROM d.digest AS new
  FROM delta d JOIN subscription s ON s.id = d.id
    JOIN owners o ON o.municipality = s.municipality AND o.epoch = d.epoch
  FOR SHARE OF o
), moved AS (
  UPDATE subscription s SET last_delta = d.digest, filled = s.filled OR d.filled,
    live_position = coalesce(d.live_position, s.live_position),
    live_sequence = coalesce(d.live_sequence, s.live_sequence),
    bulk_position = coalesce(d.bulk_position, s.bulk_position),
    bulk_sequence = coalesce(d.bulk_sequence, s.bulk_sequence)
  FROM delta d JOIN passed p ON p.id = d.id WHERE s.id = d.id AND p.new
)
SELECT id, new FROM passed";

/// Subscriptions whose delta the fence lets pass; true when it was not applied before.
pub(super) async fn pass(
    session: &mut Session<'_>,
    deltas: &[&DeliveryDelta],
) -> Result<HashMap<String, bool>, sqlx::Error> {
    let at = |stream, of: fn(&Cursor) -> u64| {
        column(deltas, |delta| {
            let mut cursors = delta.cursors.iter().rev();
            let moved = cursors.find(|(moved, _)| *moved == stream);
            moved.map(|(_, cursor)| of(cursor).cast_signed())
        })
    };
    let rows = session
        .query(PASS)
        .bind(column(deltas, |delta| delta.subscription.as_str()))
        .bind(column(deltas, |delta| delta.owner_epoch.cast_signed()))
        .bind(column(deltas, |delta| digest(delta)))
        .bind(at(Stream::Live, |cursor| cursor.position.0))
        .bind(at(Stream::Live, |cursor| cursor.sequence))
        .bind(at(Stream::Bulk, |cursor| cursor.position.0))
        .bind(at(Stream::Bulk, |cursor| cursor.sequence))
        .bind(column(deltas, |delta| delta.filled))
        .fetch_all(&mut **session)
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// Tells a delta from the one before it. Only the owner of this epoch, one process, compares it.
fn digest(delta: &DeliveryDelta) -> i64 {
    let mut hasher = DefaultHasher::new();
    delta.hash(&mut hasher);
    hasher.finish().cast_signed()
}

/// Applies deltas that passed and are new.
pub(super) async fn apply(
    session: &mut Session<'_>,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    if deltas.is_empty() {
        return Ok(());
    }
    note_steps(session, deltas).await?;
    for delta in deltas {
        if let Some(act) = &delta.act {
            put_act(session, town(&delta.subscription), act).await?;
        }
    }
    park(session, deltas).await?;
    unpark(session, deltas).await?;
    close_runs(session, deltas).await?;
    open_runs(session, deltas).await?;
    pause(session, deltas).await
}

/// What every delivery writes: what is ahead of the cursors, counts, attempts, history. No two
/// parts write the same row, and each table is written by one statement's order of rows.
const STEPS: &str = "
WITH cursor AS (
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[]) c (subscription, stream, sequence)
), behind AS (
  DELETE FROM ahead a USING cursor c
  WHERE a.subscription = c.subscription AND a.stream = c.stream AND a.sequence < c.sequence
), before AS (
  INSERT INTO ahead (subscription, stream, sequence, member)
  SELECT u.* FROM unnest($4::text[], $5::bigint[], $6::bigint[], $7::bigint[])
      u (subscription, stream, sequence, member)
    JOIN subscription s ON s.id = u.subscription
  WHERE u.sequence >= CASE u.stream WHEN 2 THEN s.bulk_sequence ELSE s.live_sequence END
  ON CONFLICT DO NOTHING
), ended AS (
  DELETE FROM attempt a
  USING unnest($8::text[], $9::bigint[], $10::bigint[], $11::bigint[])
    u (subscription, stream, sequence, member)
  WHERE a.subscription = u.subscription AND a.stream = u.stream AND a.sequence = u.sequence
    AND a.member = u.member
), tried AS (
  INSERT INTO attempt (subscription, stream, sequence, member, attempts)
  SELECT * FROM unnest($12::text[], $13::bigint[], $14::bigint[], $15::bigint[], $16::bigint[])
  ON CONFLICT (subscription, stream, sequence, member)
    DO UPDATE SET attempts = excluded.attempts
), counted AS (
  INSERT INTO tally (subscription, outcome, events)
  SELECT * FROM unnest($17::text[], $18::bigint[], $19::bigint[])
  ON CONFLICT (subscription, outcome) DO UPDATE SET events = tally.events + excluded.events
)
INSERT INTO history (municipality, subscription, stream, sequence, member, event_id, product,
  attempt, outcome, reason, at_ms)
SELECT split_part(h.subscription, '/', 1), h.subscription, h.stream, h.sequence, h.member,
  h.event_id, coalesce(h.product, (SELECT b.product FROM binding b
    WHERE b.subscription = h.subscription AND b.state IN (1, 2) ORDER BY b.epoch DESC LIMIT 1), ''),
  h.attempt, h.outcome, h.reason, h.at_ms
FROM unnest($20::text[], $21::bigint[], $22::bigint[], $23::bigint[], $24::text[], $25::text[],
    $26::bigint[], $27::bigint[], $28::text[], $29::bigint[])
  h (subscription, stream, sequence, member, event_id, product, attempt, outcome, reason, at_ms)";

/// A unit with its subscription.
type UnitOf<'a> = (&'a str, UnitKey);

/// Binds the four columns of units.
fn bind_units<'q>(statement: Statement<'q>, units: &[UnitOf<'_>]) -> Statement<'q> {
    let names: Vec<String> = column(units, |(name, _)| (*name).to_owned());
    statement
        .bind(names)
        .bind(column(units, |(_, key)| key.stream.number()))
        .bind(column(units, |(_, key)| key.sequence.cast_signed()))
        .bind(column(units, |(_, key)| i64::from(key.member)))
}

/// A row of the history. A refusal names no product: it is that of the binding.
struct Step<'a> {
    of: UnitOf<'a>,
    event_id: &'a str,
    product: Option<&'a str>,
    attempt: u32,
    outcome: i32,
    reason: &'a str,
    at_ms: i64,
}

/// A step for each event and outcome, also of replayed units, then for each refusal: it ends
/// nothing, and stands there also after a later one.
fn steps<'a>(deltas: &[&'a DeliveryDelta]) -> Vec<Step<'a>> {
    let mut steps = Vec::new();
    for delta in deltas {
        let subscription = delta.subscription.as_str();
        for done in delta.done.iter().chain(&delta.replayed) {
            steps.extend(done.event_ids.iter().map(|event_id| Step {
                of: (subscription, done.key),
                event_id,
                product: Some(&done.product),
                attempt: done.attempt,
                outcome: done.outcome,
                reason: &done.reason,
                at_ms: done.at_ms,
            }));
        }
    }
    for delta in deltas {
        let refused =
            |row: &&ParkedRow| matches!(row.state, ParkedState::Rejected | ParkedState::Dead);
        for row in delta.park.iter().filter(refused) {
            steps.extend(row.event_ids.iter().map(|event_id| Step {
                of: (&delta.subscription, row.key),
                event_id,
                product: None,
                attempt: row.attempts,
                outcome: Outcome::Rejected as i32,
                reason: &row.reason,
                at_ms: row.at_ms,
            }));
        }
    }
    steps
}

/// Units of all deltas, each named once.
fn units<'a, I: Iterator<Item = UnitKey>>(
    deltas: &[&'a DeliveryDelta],
    of: impl Fn(&'a DeliveryDelta) -> I,
) -> Vec<UnitOf<'a>> {
    let all = deltas.iter().flat_map(|delta| {
        let units: HashSet<UnitKey> = of(delta).collect();
        units
            .into_iter()
            .map(|key| (delta.subscription.as_str(), key))
    });
    all.collect()
}

async fn note_steps(
    session: &mut Session<'_>,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let mut cursors: Vec<(&str, Stream, Cursor)> = Vec::new();
    let mut attempts: BTreeMap<UnitOf<'_>, u32> = BTreeMap::new();
    let mut counts: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for delta in deltas {
        let name = delta.subscription.as_str();
        cursors.extend(
            delta
                .cursors
                .iter()
                .map(|(stream, to)| (name, *stream, *to)),
        );
        attempts.extend(
            delta
                .attempts
                .iter()
                .map(|(key, tried)| ((name, *key), *tried)),
        );
        for done in &delta.done {
            *counts.entry((name, done.outcome)).or_default() += done.event_ids.len();
        }
    }
    let ahead = units(deltas, DeliveryDelta::ahead);
    let ended = units(deltas, DeliveryDelta::tried);
    // One that is tried and done in the same delta is done.
    for unit in &ended {
        attempts.remove(unit);
    }
    let (tried, attempts): (Vec<UnitOf<'_>>, Vec<i64>) = attempts
        .into_iter()
        .map(|(unit, tried)| (unit, i64::from(tried)))
        .unzip();
    let counts: Vec<_> = counts.into_iter().collect();
    let steps = steps(deltas);

    let statement = session
        .query(STEPS)
        .bind(column(&cursors, |(name, ..)| *name))
        .bind(column(&cursors, |(_, stream, _)| stream.number()))
        .bind(column(&cursors, |(.., to)| to.sequence.cast_signed()));
    let statement = bind_units(bind_units(statement, &ahead), &ended);
    let statement = bind_units(statement, &tried)
        .bind(attempts)
        .bind(column(&counts, |((name, _), _)| *name))
        .bind(column(&counts, |((_, outcome), _)| i64::from(*outcome)))
        .bind(column(&counts, |(_, events)| *events as i64));
    bind_units(statement, &column(&steps, |step| step.of))
        .bind(column(&steps, |step| step.event_id))
        .bind(column(&steps, |step| step.product))
        .bind(column(&steps, |step| i64::from(step.attempt)))
        .bind(column(&steps, |step| i64::from(step.outcome)))
        .bind(column(&steps, |step| step.reason))
        .bind(column(&steps, |step| step.at_ms))
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// Parks units. A list of ids comes as JSON: arrays of arrays would have to be of one length.
const PARK: &str = "
WITH subject AS (
  INSERT INTO parked_subject (subscription, stream, sequence, member, subject, ordinal)
  SELECT * FROM unnest($17::text[], $18::bigint[], $19::bigint[], $20::bigint[], $21::text[],
    $22::bigint[])
  ON CONFLICT DO NOTHING
)
INSERT INTO parked AS p (subscription, stream, sequence, member, state, reason, field, message,
  attempts, at_ms, due_ms, position, event_ids, events, key_id, content)
SELECT u.subscription, u.stream, u.sequence, u.member, u.state, u.reason, u.field, u.message,
  u.attempts, u.at_ms, u.due_ms, u.position,
  ARRAY(SELECT json_array_elements_text(u.event_ids::json)), u.events, u.key_id, u.content
FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[],
    $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[],
    $14::bigint[], $15::text[], $16::bytea[])
  u (subscription, stream, sequence, member, state, reason, field, message, attempts, at_ms,
    due_ms, position, event_ids, events, key_id, content)
ON CONFLICT (subscription, stream, sequence, member) DO UPDATE SET
  state = excluded.state, reason = excluded.reason, field = excluded.field,
  message = excluded.message, attempts = excluded.attempts, at_ms = excluded.at_ms,
  due_ms = excluded.due_ms, revision = p.revision + 1, event_ids = excluded.event_ids,
  events = excluded.events, key_id = excluded.key_id, content = excluded.content";

async fn park(session: &mut Session<'_>, deltas: &[&DeliveryDelta]) -> Result<(), sqlx::Error> {
    // The last word of a delta on a unit counts: a statement writes a row once.
    let mut parked: BTreeMap<UnitOf<'_>, &ParkedRow> = BTreeMap::new();
    let mut subjects: Vec<(UnitOf<'_>, &str, i64)> = Vec::new();
    for delta in deltas {
        for row in &delta.park {
            let unit = (delta.subscription.as_str(), row.key);
            parked.insert(unit, row);
            let names = row.subjects.iter().map(|Subject(name)| name.as_str());
            subjects.extend(names.zip(0..).map(|(name, ordinal)| (unit, name, ordinal)));
        }
    }
    if parked.is_empty() {
        return Ok(());
    }
    let (units, rows): (Vec<UnitOf<'_>>, Vec<&ParkedRow>) = parked.into_iter().unzip();
    let statement = bind_units(session.query(PARK), &units)
        .bind(column(&rows, |row| row.state.number()))
        .bind(column(&rows, |row| row.reason.as_str()))
        .bind(column(&rows, |row| row.field.as_str()))
        .bind(column(&rows, |row| row.message.as_str()))
        .bind(column(&rows, |row| i64::from(row.attempts)))
        .bind(column(&rows, |row| row.at_ms))
        .bind(column(&rows, |row| row.due_ms))
        .bind(column(&rows, |row| row.position.0.cast_signed()))
        .bind(column(&rows, |row| json_list(&row.event_ids)))
        .bind(column(&rows, |row| row.event_ids.len() as i64))
        .bind(column(&rows, |row| row.content.key_id.as_str()))
        .bind(column(&rows, |row| row.content.bytes.as_slice()));
    bind_units(statement, &column(&subjects, |(unit, ..)| *unit))
        .bind(column(&subjects, |(_, name, _)| *name))
        .bind(column(&subjects, |(.., ordinal)| *ordinal))
        .execute(&mut **session)
        .await?;
    Ok(())
}

fn json_list(values: &[String]) -> String {
    serde_json::to_string(values).unwrap_or_else(|_| "[]".to_owned())
}

const UNPARK: &str = "
WITH unit AS (
  SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
    u (subscription, stream, sequence, member)
), subject AS (
  DELETE FROM parked_subject s USING unit u WHERE s.subscription = u.subscription
    AND s.stream = u.stream AND s.sequence = u.sequence AND s.member = u.member
)
DELETE FROM parked p USING unit u WHERE p.subscription = u.subscription
  AND p.stream = u.stream AND p.sequence = u.sequence AND p.member = u.member";

async fn unpark(session: &mut Session<'_>, deltas: &[&DeliveryDelta]) -> Result<(), sqlx::Error> {
    let units = units(deltas, |delta| delta.unpark.iter().copied());
    if units.is_empty() {
        return Ok(());
    }
    let statement = bind_units(session.query(UNPARK), &units);
    statement.execute(&mut **session).await?;
    Ok(())
}

async fn close_runs(
    session: &mut Session<'_>,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let closed = deltas.iter().flat_map(|delta| {
        let runs = delta.runs_close.iter();
        runs.map(|id| (delta.subscription.as_str(), id.as_str()))
    });
    let (names, ids): (Vec<&str>, Vec<&str>) = closed.unzip();
    if ids.is_empty() {
        return Ok(());
    }
    session
        .query(
            "DELETE FROM run r USING unnest($1::text[], $2::text[]) c (subscription, id)
             WHERE r.subscription = c.subscription AND r.id = c.id",
        )
        .bind(names)
        .bind(ids)
        .execute(&mut **session)
        .await?;
    Ok(())
}

async fn open_runs(
    session: &mut Session<'_>,
    deltas: &[&DeliveryDelta],
) -> Result<(), sqlx::Error> {
    let of_run = |name, run: &RunRow| {
        let keys = run.keys.iter().zip(0..);
        let rows = keys.map(|(key, ordinal)| ((name, *key), run.id.clone(), ordinal));
        rows.collect::<Vec<(UnitOf<'_>, String, i64)>>()
    };
    let mut rows = Vec::new();
    for delta in deltas {
        let runs = delta.runs_open.iter();
        rows.extend(runs.flat_map(|run| of_run(delta.subscription.as_str(), run)));
    }
    if rows.is_empty() {
        return Ok(());
    }
    let statement = session.query(
        "INSERT INTO run (subscription, stream, sequence, member, id, ordinal)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::text[],
           $6::bigint[])
         ON CONFLICT DO NOTHING",
    );
    bind_units(statement, &column(&rows, |(unit, ..)| *unit))
        .bind(column(&rows, |(_, id, _)| id.as_str()))
        .bind(column(&rows, |(.., ordinal)| *ordinal))
        .execute(&mut **session)
        .await?;
    Ok(())
}

async fn pause(session: &mut Session<'_>, deltas: &[&DeliveryDelta]) -> Result<(), sqlx::Error> {
    let paused = deltas.iter().filter_map(|delta| {
        let pause = delta.paused.as_ref()?;
        Some((*delta, pause.as_ref()))
    });
    let paused: Vec<(&DeliveryDelta, Option<&Pause>)> = paused.collect();
    if paused.is_empty() {
        return Ok(());
    }
    session
        .query(
            "UPDATE binding b SET paused_by = p.by, paused = p.reason
             FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[])
               p (subscription, state, by, reason)
             WHERE b.subscription = p.subscription AND b.epoch =
               (SELECT max(o.epoch) FROM binding o
                WHERE o.subscription = p.subscription AND o.state = p.state)",
        )
        .bind(column(&paused, |(delta, _)| delta.subscription.as_str()))
        .bind(column(&paused, |(delta, _)| delta.binding_state().number()))
        .bind(column(&paused, |(_, pause)| pause.map(|of| of.by.number())))
        .bind(column(&paused, |(_, pause)| {
            pause.map(|of| of.reason.as_str())
        }))
        .execute(&mut **session)
        .await?;
    Ok(())
}
