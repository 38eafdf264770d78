//! Held units in PostgreSQL: how they are read, held and closed.
//! Used by the publish role and by its commit; retention asks for the numbers of the states.
//! Must never open a unit that was closed.
//! Read next: `store/contract/held.rs`.

use std::collections::HashSet;

use sqlx::Row;
use sqlx::postgres::PgRow;

use crate::event::seal::Sealed;
use crate::event::{Municipality, Subject};
use crate::store::postgres::rows::number;
use crate::store::postgres::session::Session;
use crate::store::{HeldKind, HeldRow, HeldState, NewHeld, Placed};

/// Columns of a held unit `h` that `held_from` reads: one query for any number of units.
macro_rules! held_columns {
    () => {
        "h.*,
        ARRAY(SELECT s.subject FROM held_subject s WHERE s.municipality = h.municipality
          AND s.number = h.number ORDER BY s.ordinal) AS subjects,
        ARRAY(SELECT s.version FROM held_subject s WHERE s.municipality = h.municipality
          AND s.number = h.number ORDER BY s.ordinal) AS versions,
        ARRAY(SELECT e.id FROM held_event e WHERE e.municipality = h.municipality
          AND e.number = h.number ORDER BY e.ordinal) AS event_ids,
        ARRAY(SELECT e.digest FROM held_event e WHERE e.municipality = h.municipality
          AND e.number = h.number ORDER BY e.ordinal) AS digests"
    };
}
pub(super) use held_columns;

pub(in crate::store::postgres) fn state_number(state: HeldState) -> i64 {
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

pub(super) fn held_id(number: i64) -> String {
    format!("held-{number:012}")
}

pub(super) fn held_number(id: &str) -> i64 {
    id.strip_prefix("held-")
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

pub(super) fn held_from(row: &PgRow) -> HeldRow {
    let subjects: Vec<String> = row.get("subjects");
    let versions: Vec<i64> = row.get("versions");
    let ids: Vec<String> = row.get("event_ids");
    let digests: Vec<Vec<u8>> = row.get("digests");
    let held = NewHeld {
        source: row.get("source"),
        key: row.get("key"),
        state: state_of(row.get("state")),
        rule: row.get("rule"),
        file: row.get("file"),
        line: number(row, "line"),
        item: row.get("item"),
        message: row.get("message"),
        rows: row.get::<i64, _>("rows") as u32,
        held_ms: row.get("held_ms"),
        kind: match row.get::<i64, _>("kind") {
            1 => HeldKind::Rows,
            _ => HeldKind::Events,
        },
        content: Sealed {
            key_id: row.get("key_id"),
            bytes: row.get("content"),
        },
        subjects: subjects
            .into_iter()
            .map(Subject)
            .zip(versions.into_iter().map(|v| v as u32))
            .collect(),
        events: ids.into_iter().zip(digests).collect(),
    };
    HeldRow {
        id: held_id(row.get("number")),
        held,
        corrected_by: row.get("corrected_by"),
    }
}

/// Releases the waiting units that hold placed events.
const RELEASE: &str = "
WITH closed AS (
  UPDATE held h SET state = 4 FROM unnest($2::text[]) g (id)
  CROSS JOIN LATERAL (SELECT number FROM held_event
    WHERE municipality = $1 AND id = g.id OFFSET 0) e
  WHERE h.municipality = $1 AND h.number = e.number AND h.state = 2 RETURNING h.number
)
UPDATE held_subject s SET open = FALSE FROM closed c WHERE s.municipality = $1 AND s.number = c.number";

/// Closes refused units whose every readable (subject, version) stands in the log now.
const CORRECT: &str = "
WITH given AS (
  SELECT * FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])
    WITH ORDINALITY g (id, source, subject, version, ordinal)
), candidate AS (
  SELECT s.number, min(g.ordinal) AS ordinal
  FROM given g CROSS JOIN LATERAL (SELECT number, version FROM held_subject
    WHERE municipality = $1 AND source = g.source AND subject = g.subject AND open OFFSET 0) s
  WHERE s.version = g.version GROUP BY s.number
), closed AS (
  UPDATE held h SET state = 3, corrected_by = g.id
  FROM candidate c JOIN given g ON g.ordinal = c.ordinal
  WHERE h.municipality = $1 AND h.number = c.number AND h.state = 1
    AND NOT EXISTS (SELECT 1 FROM held_subject o
      WHERE o.municipality = $1 AND o.number = c.number AND o.version > 0
        AND NOT EXISTS (SELECT 1 FROM given a WHERE a.source = h.source
          AND a.subject = o.subject AND a.version = o.version))
  RETURNING h.number
)
UPDATE held_subject s SET open = FALSE FROM closed c WHERE s.municipality = $1 AND s.number = c.number";

/// Closes what was held for events that were placed.
pub(super) async fn close_for(
    session: &mut Session<'_>,
    m: &Municipality,
    placed: &[Placed],
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = placed.iter().map(|one| one.claim.id.as_str()).collect();
    let release = session.query(RELEASE).bind(m.as_str()).bind(&ids);
    release.execute(&mut **session).await?;
    let sources: Vec<&str> = placed.iter().map(|one| one.source.as_str()).collect();
    let subjects: Vec<&str> = placed
        .iter()
        .map(|one| one.claim.subject.0.as_str())
        .collect();
    let versions: Vec<i64> = placed
        .iter()
        .map(|one| i64::from(one.claim.version))
        .collect();
    session
        .query(CORRECT)
        .bind(m.as_str())
        .bind(&ids)
        .bind(sources)
        .bind(subjects)
        .bind(versions)
        .execute(&mut **session)
        .await?;
    Ok(())
}

const CLOSE: &str = "
WITH given AS (
  SELECT DISTINCT ON (number) * FROM unnest($2::bigint[], $3::text[])
    WITH ORDINALITY g (number, event, ordinal) ORDER BY number, ordinal
), closed AS (
  UPDATE held h SET state = 3, corrected_by = g.event FROM given g
  WHERE h.municipality = $1 AND h.number = g.number AND h.state < 3 RETURNING h.number
)
UPDATE held_subject s SET open = FALSE FROM closed c WHERE s.municipality = $1 AND s.number = c.number";

/// Closes units by name, each with the event that corrects it.
pub(super) async fn close_by_name(
    session: &mut Session<'_>,
    m: &Municipality,
    corrected: &[(String, String)],
) -> Result<(), sqlx::Error> {
    let numbers: Vec<i64> = corrected
        .iter()
        .map(|(held, _)| held_number(held))
        .collect();
    let events: Vec<&str> = corrected.iter().map(|(_, event)| event.as_str()).collect();
    session
        .query(CLOSE)
        .bind(m.as_str())
        .bind(numbers)
        .bind(events)
        .execute(&mut **session)
        .await?;
    Ok(())
}

const HOLD: &str = "
INSERT INTO held (municipality, source, key, state, rule, file, line, item, message, rows, held_ms,
  kind, key_id, content)
SELECT $1, source, key, state, rule, file, line, item, message, rows, held_ms, kind, key_id, content
FROM unnest($2::text[], $3::text[], $4::bigint[], $5::text[], $6::text[], $7::bigint[], $8::text[],
  $9::text[], $10::bigint[], $11::bigint[], $12::bigint[], $13::text[], $14::bytea[])
  WITH ORDINALITY h (source, key, state, rule, file, line, item, message, rows, held_ms, kind,
  key_id, content, ordinal)
ORDER BY ordinal ON CONFLICT (municipality, source, key, file, line) DO NOTHING RETURNING number";

const HELD_NUMBERS: &str = "
SELECT h.number FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[])
  WITH ORDINALITY g (source, key, file, line, ordinal)
JOIN held h ON h.municipality = $1 AND h.source = g.source AND h.key = g.key AND h.file = g.file
  AND h.line = g.line
ORDER BY g.ordinal";

/// The numbers of units that are held, in order.
pub(super) async fn numbers_of(
    session: &mut Session<'_>,
    m: &Municipality,
    held: &[NewHeld],
) -> Result<Vec<i64>, sqlx::Error> {
    let sources: Vec<&str> = held.iter().map(|held| held.source.as_str()).collect();
    let keys: Vec<&str> = held.iter().map(|held| held.key.as_str()).collect();
    let files: Vec<&str> = held.iter().map(|held| held.file.as_str()).collect();
    let lines: Vec<i64> = held.iter().map(|held| held.line.cast_signed()).collect();
    session
        .scalar(HELD_NUMBERS)
        .bind(m.as_str())
        .bind(sources)
        .bind(keys)
        .bind(files)
        .bind(lines)
        .fetch_all(&mut **session)
        .await
}

/// Holds units that are not held yet; returns the numbers of all.
pub(super) async fn hold(
    session: &mut Session<'_>,
    m: &Municipality,
    held: &[NewHeld],
) -> Result<Vec<i64>, sqlx::Error> {
    let texts = |of: fn(&NewHeld) -> &str| -> Vec<&str> { held.iter().map(of).collect() };
    let numbers = |of: fn(&NewHeld) -> i64| -> Vec<i64> { held.iter().map(of).collect() };
    let contents: Vec<&[u8]> = held.iter().map(|held| &held.content.bytes[..]).collect();
    let new: Vec<i64> = session
        .scalar(HOLD)
        .bind(m.as_str())
        .bind(texts(|held| &held.source))
        .bind(texts(|held| &held.key))
        .bind(numbers(|held| state_number(held.state)))
        .bind(texts(|held| &held.rule))
        .bind(texts(|held| &held.file))
        .bind(numbers(|held| held.line.cast_signed()))
        .bind(texts(|held| &held.item))
        .bind(texts(|held| &held.message))
        .bind(numbers(|held| i64::from(held.rows)))
        .bind(numbers(|held| held.held_ms))
        .bind(numbers(|held| i64::from(held.kind == HeldKind::Rows)))
        .bind(texts(|held| &held.content.key_id))
        .bind(contents)
        .fetch_all(&mut **session)
        .await?;
    let all = numbers_of(session, m, held).await?;
    let mut new: HashSet<i64> = new.into_iter().collect();
    let new = held
        .iter()
        .zip(&all)
        .filter(|(_, number)| new.remove(number));
    let new: Vec<(&NewHeld, i64)> = new.map(|(held, number)| (held, *number)).collect();
    put_subjects(session, m, &new).await?;
    put_events(session, m, &new).await?;
    Ok(all)
}

async fn put_subjects(
    session: &mut Session<'_>,
    m: &Municipality,
    held: &[(&NewHeld, i64)],
) -> Result<(), sqlx::Error> {
    let (mut numbers, mut ordinals) = (Vec::new(), Vec::new());
    let (mut sources, mut subjects) = (Vec::new(), Vec::new());
    let (mut versions, mut open) = (Vec::new(), Vec::new());
    for (held, number) in held {
        for (ordinal, (subject, version)) in held.subjects.iter().enumerate() {
            numbers.push(*number);
            ordinals.push(ordinal as i64);
            sources.push(held.source.as_str());
            subjects.push(subject.0.as_str());
            versions.push(i64::from(*version));
            open.push(matches!(
                held.state,
                HeldState::Refused | HeldState::Waiting
            ));
        }
    }
    session
        .query(
            "INSERT INTO held_subject (municipality, number, ordinal, source, subject, version, open)
             SELECT $1, * FROM unnest($2::bigint[], $3::bigint[], $4::text[], $5::text[],
               $6::bigint[], $7::boolean[])",
        )
        .bind(m.as_str())
        .bind(numbers)
        .bind(ordinals)
        .bind(sources)
        .bind(subjects)
        .bind(versions)
        .bind(open)
        .execute(&mut **session)
        .await?;
    Ok(())
}

async fn put_events(
    session: &mut Session<'_>,
    m: &Municipality,
    held: &[(&NewHeld, i64)],
) -> Result<(), sqlx::Error> {
    let (mut ids, mut numbers) = (Vec::new(), Vec::new());
    let (mut ordinals, mut digests) = (Vec::new(), Vec::new());
    for (held, number) in held {
        for (ordinal, (id, digest)) in held.events.iter().enumerate() {
            ids.push(id.as_str());
            numbers.push(*number);
            ordinals.push(ordinal as i64);
            digests.push(digest.as_slice());
        }
    }
    session
        .query(
            "INSERT INTO held_event (municipality, id, number, ordinal, digest)
             SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::bytea[])
             ON CONFLICT DO NOTHING",
        )
        .bind(m.as_str())
        .bind(ids)
        .bind(numbers)
        .bind(ordinals)
        .bind(digests)
        .execute(&mut **session)
        .await?;
    Ok(())
}
