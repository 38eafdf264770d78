//! Applies one publish delta inside an open transaction: a few statements, whatever its size.
//! Called by `commit_publish`; claims are written by a statement of the same form.
//! Must never place an event without closing what was held for it.
//! Read next: `store/publish.rs`, `store/postgres/publish/held.rs`.

use super::held::{close_by_name, close_for, held_id, hold, numbers_of};
use crate::event::{Municipality, Position, Stream};
use crate::store::postgres::alarms::follow;
use crate::store::postgres::session::Session;
use crate::store::{Claim, Placed, ProtectionMark, PublishDelta, SnapshotMark};

/// Events as rows: of an id that comes twice the first one counts.
macro_rules! given {
    () => {
        "WITH given AS (
          SELECT DISTINCT ON (id) * FROM unnest($2::text[], $3::text[], $4::bytea[], $5::text[],
            $6::text[], $7::bigint[], $8::text[], $9::bigint[], $10::bigint[], $11::text[],
            $12::bigint[], $13::bigint[])
            WITH ORDINALITY g (id, source, digest, type, subject, version, file, line,
              published_ms, traceparent, stream, position, ordinal)
          ORDER BY id, ordinal
        ), put AS (
          INSERT INTO event (municipality, id, source, digest, type, subject, version, file, line,
            published_ms, traceparent, stream, position)
          SELECT $1, id, source, digest, type, subject, version, file, line, published_ms,
            traceparent, stream, position FROM given ORDER BY ordinal
          ON CONFLICT (municipality, id) "
    };
}

const CLAIM: &str = concat!(given!(), "DO NOTHING) SELECT 1");

/// Places events, raises versions and moves tails, which go together; says whether anything is
/// held that they may close.
const PLACE: &str = concat!(
    given!(),
    "DO UPDATE SET stream = excluded.stream, position = excluded.position
       WHERE event.position IS NULL
    ), raised AS (
      INSERT INTO version (municipality, source, subject, version)
      SELECT $1, source, subject, max(version)
      FROM unnest($14::text[], $15::text[], $16::bigint[]) v (source, subject, version)
      GROUP BY source, subject
      ON CONFLICT (municipality, source, subject) DO UPDATE SET version = excluded.version
        WHERE version.version < excluded.version
    ), moved AS (
      INSERT INTO tail (municipality, stream, position)
      SELECT $1, stream, max(position) FROM unnest($17::bigint[], $18::bigint[]) t (stream, position)
      GROUP BY stream
      ON CONFLICT (municipality, stream) DO UPDATE SET position = excluded.position
        WHERE tail.position < excluded.position
    )
    SELECT EXISTS (SELECT 1 FROM held WHERE municipality = $1 AND state < 3)"
);

/// Claims as columns, with their sources, and with their places once they have one.
#[derive(Default)]
struct Columns<'a> {
    ids: Vec<&'a str>,
    sources: Vec<&'a str>,
    digests: Vec<&'a [u8]>,
    types: Vec<&'a str>,
    subjects: Vec<&'a str>,
    versions: Vec<i64>,
    files: Vec<&'a str>,
    lines: Vec<i64>,
    published: Vec<i64>,
    traceparents: Vec<&'a str>,
    streams: Vec<Option<i64>>,
    positions: Vec<Option<i64>>,
}

impl<'a> Columns<'a> {
    fn add(&mut self, source: &'a str, claim: &'a Claim, at: Option<(Stream, Position)>) {
        self.ids.push(&claim.id);
        self.sources.push(source);
        self.digests.push(&claim.digest);
        self.types.push(&claim.event_type);
        self.subjects.push(&claim.subject.0);
        self.versions.push(i64::from(claim.version));
        self.files.push(&claim.file);
        self.lines.push(claim.line.cast_signed());
        self.published.push(claim.published_ms);
        self.traceparents.push(&claim.traceparent);
        self.streams.push(at.map(|(stream, _)| stream.number()));
        self.positions.push(at.map(|(_, at)| at.0.cast_signed()));
    }
}

/// Binds the columns behind the municipality.
macro_rules! bind_columns {
    ($query:expr, $m:expr, $columns:expr) => {{
        let columns = $columns;
        $query
            .bind($m.as_str())
            .bind(columns.ids)
            .bind(columns.sources)
            .bind(columns.digests)
            .bind(columns.types)
            .bind(columns.subjects)
            .bind(columns.versions)
            .bind(columns.files)
            .bind(columns.lines)
            .bind(columns.published)
            .bind(columns.traceparents)
            .bind(columns.streams)
            .bind(columns.positions)
    }};
}

/// Claims ids.
pub(super) async fn claim(
    session: &mut Session<'_>,
    m: &Municipality,
    source: &str,
    claims: &[Claim],
) -> Result<(), sqlx::Error> {
    let mut columns = Columns::default();
    for claim in claims {
        columns.add(source, claim, None);
    }
    let query = bind_columns!(session.query(CLAIM), m, columns);
    query.execute(&mut **session).await?;
    Ok(())
}

/// Places events, and closes what was held for them. A recovered event may lack its claim when the
/// store is older than the log.
async fn place(
    session: &mut Session<'_>,
    m: &Municipality,
    delta: &PublishDelta,
) -> Result<(), sqlx::Error> {
    let mut columns = Columns::default();
    for Placed {
        source,
        claim,
        stream,
        position,
    } in &delta.placed
    {
        columns.add(source, claim, Some((*stream, *position)));
    }
    let raised = &delta.versions;
    let sources: Vec<&str> = raised.iter().map(|of| of.source.as_str()).collect();
    let subjects: Vec<&str> = raised.iter().map(|of| of.subject.0.as_str()).collect();
    let versions: Vec<i64> = raised.iter().map(|of| i64::from(of.version)).collect();
    let streams: Vec<i64> = delta
        .tail
        .iter()
        .map(|(stream, _)| stream.number())
        .collect();
    let tails: Vec<i64> = delta
        .tail
        .iter()
        .map(|(_, at)| at.0.cast_signed())
        .collect();
    let query = bind_columns!(session.scalar(PLACE), m, columns)
        .bind(sources)
        .bind(subjects)
        .bind(versions)
        .bind(streams)
        .bind(tails);
    let anything_held: bool = query.fetch_one(&mut **session).await?;
    if anything_held && !delta.placed.is_empty() {
        close_for(session, m, &delta.placed).await?;
    }
    Ok(())
}

async fn mark_snapshot(
    session: &mut Session<'_>,
    m: &Municipality,
    mark: &SnapshotMark,
) -> Result<(), sqlx::Error> {
    session
        .query(
            "INSERT INTO snapshot
               (municipality, source, snapshot_id, bulk_start, bulk_end, live_mark)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (municipality, source, snapshot_id) DO UPDATE
               SET bulk_end = coalesce(snapshot.bulk_end, excluded.bulk_end)",
        )
        .bind(m.as_str())
        .bind(&mark.source)
        .bind(&mark.snapshot_id)
        .bind(mark.bulk_start.0.cast_signed())
        .bind(mark.bulk_end.map(|position| position.0.cast_signed()))
        .bind(mark.live_mark.0.cast_signed())
        .execute(&mut **session)
        .await?;
    Ok(())
}

async fn put_protection(
    session: &mut Session<'_>,
    m: &Municipality,
    marks: &[ProtectionMark],
) -> Result<(), sqlx::Error> {
    let subjects: Vec<&str> = marks.iter().map(|mark| mark.subject.0.as_str()).collect();
    let measures: Vec<&str> = marks.iter().map(|mark| mark.measure.as_str()).collect();
    let versions: Vec<i64> = marks.iter().map(|mark| i64::from(mark.version)).collect();
    let active: Vec<bool> = marks.iter().map(|mark| mark.active).collect();
    session
        .query(
            "INSERT INTO protection (municipality, subject, measure, version, active)
             SELECT DISTINCT ON (subject, measure) $1, subject, measure, version, active
             FROM unnest($2::text[], $3::text[], $4::bigint[], $5::boolean[])
               WITH ORDINALITY g (subject, measure, version, active, ordinal)
             ORDER BY subject, measure, version DESC, ordinal
             ON CONFLICT (municipality, subject, measure) DO UPDATE
               SET version = excluded.version, active = excluded.active
               WHERE excluded.version > protection.version",
        )
        .bind(m.as_str())
        .bind(subjects)
        .bind(measures)
        .bind(versions)
        .bind(active)
        .execute(&mut **session)
        .await?;
    Ok(())
}

async fn move_cursor(
    session: &mut Session<'_>,
    m: &Municipality,
    source: &str,
    cursor: &str,
) -> Result<(), sqlx::Error> {
    session
        .query(
            "INSERT INTO capture (municipality, source, epoch, product, cursor)
             VALUES ($1, $2, 0, '', $3)
             ON CONFLICT (municipality, source) DO UPDATE SET cursor = excluded.cursor",
        )
        .bind(m.as_str())
        .bind(source)
        .bind(cursor)
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// False when the delta of this name was applied by an earlier try whose answer was lost. A try
/// that is still under way is waited for.
async fn begin_once(
    session: &mut Session<'_>,
    m: &Municipality,
    name: &str,
) -> Result<bool, sqlx::Error> {
    let begun = session
        .query(
            "INSERT INTO published (municipality, delta) VALUES ($1, $2)
             ON CONFLICT (municipality) DO UPDATE SET delta = excluded.delta
               WHERE published.delta <> excluded.delta",
        )
        .bind(m.as_str())
        .bind(name)
        .execute(&mut **session)
        .await?;
    Ok(begun.rows_affected() > 0)
}

/// Applies a delta; the name tells a second try of it from the first.
pub(super) async fn apply(
    session: &mut Session<'_>,
    m: &Municipality,
    delta: &PublishDelta,
    name: &str,
) -> Result<Vec<String>, sqlx::Error> {
    // Done again, every other delta changes nothing. This one would find its own refused units
    // beside the accepted versions, and close what a clerk has to see.
    let once = !delta.placed.is_empty() && !delta.hold.is_empty();
    if once && !begin_once(session, m, name).await? {
        let numbers = numbers_of(session, m, &delta.hold).await?;
        return Ok(numbers.into_iter().map(held_id).collect());
    }
    if !delta.placed.is_empty() || !delta.versions.is_empty() || !delta.tail.is_empty() {
        place(session, m, delta).await?;
    }
    if !delta.corrected.is_empty() {
        close_by_name(session, m, &delta.corrected).await?;
    }
    let held = match delta.hold.as_slice() {
        [] => Vec::new(),
        units => hold(session, m, units).await?,
    };
    if !delta.protection.is_empty() {
        put_protection(session, m, &delta.protection).await?;
    }
    if !delta.follow.is_empty() {
        follow(session, m, &delta.follow).await?;
    }
    for mark in &delta.snapshots {
        mark_snapshot(session, m, mark).await?;
    }
    if let Some((source, cursor)) = &delta.cursor {
        move_cursor(session, m, source, cursor).await?;
    }
    Ok(held.into_iter().map(held_id).collect())
}
