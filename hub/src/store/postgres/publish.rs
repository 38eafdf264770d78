//! The publish role in PostgreSQL.
//! Implements `PublishStore`.
//! Must never place an event without closing what was held for it, in the same transaction.
//! Read next: `store/postgres/publish/commit.rs`.

mod commit;
mod held;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use self::commit::{apply, claim};
use self::held::{held_columns, held_from, held_id, held_number, state_number};
use super::PgStore;
use super::rows::{number, position};
use super::session::{Trouble, retried};
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::{
    CaptureState, Claim, HeldFilter, HeldRow, IndexedEvent, Known, PublishDelta, PublishStore,
    SnapshotMark, StoreError,
};

fn place_of(stream: Option<i64>, at: Option<i64>) -> Option<(Stream, Position)> {
    Some((Stream::from_number(stream?), position(at?)))
}

fn indexed(row: &PgRow) -> IndexedEvent {
    IndexedEvent {
        source: row.get("source"),
        claim: Claim {
            id: row.get("id"),
            digest: row.get("digest"),
            event_type: row.get("type"),
            subject: Subject(row.get("subject")),
            version: row.get::<i64, _>("version") as u32,
            file: row.get("file"),
            line: number(row, "line"),
            published_ms: row.get("published_ms"),
            traceparent: row.get("traceparent"),
        },
        at: place_of(row.get("stream"), row.get("position")),
    }
}

fn known_of(row: &PgRow) -> (String, Known) {
    let digest = row.get("digest");
    let known = match row.get::<Option<i64>, _>("number") {
        None => Known::Claimed {
            digest,
            at: place_of(row.get("stream"), row.get("position")),
        },
        Some(number) => Known::Held {
            held_id: held_id(number),
            digest,
        },
    };
    (row.get("id"), known)
}

/// A claim for the release of a held unit does not end its waiting: what is held comes last.
/// Each id is looked up by itself (`OFFSET 0` keeps it so): all at once, a table without statistics
/// would be read for all of a municipality.
const KNOWN: &str = "
SELECT e.*, NULL::bigint AS number FROM unnest($2::text[]) g (id)
CROSS JOIN LATERAL (SELECT id, digest, stream, position FROM event
  WHERE municipality = $1 AND id = g.id OFFSET 0) e
UNION ALL
SELECT e.id, e.digest, NULL, NULL, e.number FROM unnest($2::text[]) g (id)
CROSS JOIN LATERAL (SELECT id, digest, number FROM held_event
  WHERE municipality = $1 AND id = g.id OFFSET 0) e
JOIN held h ON h.municipality = $1 AND h.number = e.number AND h.state < 3";

const VERSIONS: &str = "
SELECT v.subject, v.version FROM unnest($3::text[]) g (subject)
CROSS JOIN LATERAL (SELECT subject, version FROM version
  WHERE municipality = $1 AND source = $2 AND subject = g.subject OFFSET 0) v";

const HELD_BEHIND: &str = concat!(
    "SELECT ",
    held_columns!(),
    " FROM held h WHERE h.municipality = $1 AND h.number IN
      (SELECT s.number FROM unnest($3::text[]) g (subject)
       CROSS JOIN LATERAL (SELECT number FROM held_subject WHERE municipality = $1
         AND source = $2 AND subject = g.subject AND open OFFSET 0) s)
    ORDER BY h.number"
);

const HELD_LIST: &str = concat!(
    "SELECT ",
    held_columns!(),
    " FROM held h WHERE h.municipality = $1 AND h.state BETWEEN $2 AND $3 AND h.number > $4
    ORDER BY h.number LIMIT $5"
);

const HELD_ONE: &str = concat!(
    "SELECT ",
    held_columns!(),
    " FROM held h WHERE h.municipality = $1 AND h.number = $2"
);

fn names(subjects: &[Subject]) -> Vec<&str> {
    subjects.iter().map(|subject| subject.0.as_str()).collect()
}

#[async_trait]
impl PublishStore for PgStore {
    async fn known(
        &self,
        m: &Municipality,
        _source: &str,
        ids: &[String],
    ) -> Result<HashMap<String, Known>, StoreError> {
        retried!(self, "looking up event ids", async {
            let mut session = self.read().await?;
            let known = session.query(KNOWN).bind(m.as_str()).bind(ids);
            let rows = known.fetch_all(&mut *session).await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(known_of).collect())
        })
    }

    async fn claim(
        &self,
        m: &Municipality,
        source: &str,
        claims: &[Claim],
    ) -> Result<(), StoreError> {
        retried!(self, "claiming event ids", async {
            let mut session = self.write(m).await?;
            claim(&mut session, m, source, claims).await?;
            session.end().await
        })
    }

    async fn versions(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<HashMap<Subject, u32>, StoreError> {
        let names = names(subjects);
        retried!(self, "reading versions", async {
            let mut session = self.read().await?;
            let rows = session
                .query(VERSIONS)
                .bind(m.as_str())
                .bind(source)
                .bind(&names)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let versions = rows.iter();
            let versions = versions.map(|row| (Subject(row.get(0)), row.get::<i64, _>(1) as u32));
            Ok::<_, Trouble>(versions.collect())
        })
    }

    async fn held_behind(
        &self,
        m: &Municipality,
        source: &str,
        subjects: &[Subject],
    ) -> Result<Vec<HeldRow>, StoreError> {
        let names = names(subjects);
        retried!(self, "reading held units", async {
            let mut session = self.read().await?;
            let rows = session
                .query(HELD_BEHIND)
                .bind(m.as_str())
                .bind(source)
                .bind(&names)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(held_from).collect())
        })
    }

    async fn commit_publish(
        &self,
        m: &Municipality,
        delta: PublishDelta,
    ) -> Result<Vec<String>, StoreError> {
        let name = Uuid::now_v7().to_string();
        retried!(self, "committing a publish", async {
            let mut session = self.write(m).await?;
            let held = apply(&mut session, m, &delta, &name).await?;
            session.end().await?;
            Ok::<_, Trouble>(held)
        })
    }

    async fn find_event(
        &self,
        m: &Municipality,
        id: &str,
    ) -> Result<Option<IndexedEvent>, StoreError> {
        retried!(self, "finding an event", async {
            let mut session = self.read().await?;
            let row = session
                .query("SELECT * FROM event WHERE municipality = $1 AND id = $2")
                .bind(m.as_str())
                .bind(id)
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(row.as_ref().map(indexed))
        })
    }

    async fn events_of(
        &self,
        m: &Municipality,
        subject: &Subject,
        limit: usize,
    ) -> Result<Vec<IndexedEvent>, StoreError> {
        retried!(self, "finding a subject's events", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT * FROM event WHERE municipality = $1 AND subject = $2
                     ORDER BY published_ms, version LIMIT $3",
                )
                .bind(m.as_str())
                .bind(&subject.0)
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(indexed).collect())
        })
    }

    async fn committed_tail(&self, m: &Municipality, s: Stream) -> Result<Position, StoreError> {
        retried!(self, "reading the committed tail", async {
            let mut session = self.read().await?;
            let at: Option<i64> = session
                .scalar("SELECT position FROM tail WHERE municipality = $1 AND stream = $2")
                .bind(m.as_str())
                .bind(s.number())
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(position(at.unwrap_or(1)))
        })
    }

    async fn snapshots(&self, m: &Municipality) -> Result<Vec<SnapshotMark>, StoreError> {
        retried!(self, "reading snapshots", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT source, snapshot_id, bulk_start, bulk_end, live_mark FROM snapshot
                     WHERE municipality = $1 ORDER BY number",
                )
                .bind(m.as_str())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let marks = rows.iter().map(|row| SnapshotMark {
                source: row.get(0),
                snapshot_id: row.get(1),
                bulk_start: position(row.get(2)),
                bulk_end: row.get::<Option<i64>, _>(3).map(position),
                live_mark: position(row.get(4)),
            });
            Ok::<_, Trouble>(marks.collect())
        })
    }

    async fn protected(&self, m: &Municipality) -> Result<HashSet<Subject>, StoreError> {
        retried!(self, "reading protected subjects", async {
            let mut session = self.read().await?;
            let names: Vec<String> = session
                .scalar(
                    "SELECT DISTINCT subject FROM protection WHERE municipality = $1 AND active",
                )
                .bind(m.as_str())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(names.into_iter().map(Subject).collect())
        })
    }

    async fn capture(&self, m: &Municipality, source: &str) -> Result<CaptureState, StoreError> {
        retried!(self, "reading a capture cursor", async {
            let mut session = self.read().await?;
            let row = session
                .query(
                    "SELECT epoch, product, cursor FROM capture
                     WHERE municipality = $1 AND source = $2",
                )
                .bind(m.as_str())
                .bind(source)
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            let state = row.map_or_else(CaptureState::default, |row| CaptureState {
                epoch: number(&row, "epoch"),
                product: row.get(1),
                cursor: row.get(2),
            });
            Ok::<_, Trouble>(state)
        })
    }

    async fn bind_capture(
        &self,
        m: &Municipality,
        source: &str,
        product: &str,
    ) -> Result<u64, StoreError> {
        retried!(self, "binding a source", async {
            let mut session = self.write(m).await?;
            let epoch: i64 = session
                .scalar(
                    "INSERT INTO capture (municipality, source, epoch, product)
                     VALUES ($1, $2, 1, $3)
                     ON CONFLICT (municipality, source) DO UPDATE
                       SET epoch = capture.epoch + 1, product = excluded.product
                     RETURNING epoch",
                )
                .bind(m.as_str())
                .bind(source)
                .bind(product)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(epoch.cast_unsigned())
        })
    }

    async fn list_held(
        &self,
        m: &Municipality,
        filter: HeldFilter,
        after: &str,
        limit: usize,
    ) -> Result<(Vec<HeldRow>, u64), StoreError> {
        let (low, high) = match filter {
            HeldFilter::Open => (1, 2),
            HeldFilter::State(state) => (state_number(state), state_number(state)),
        };
        retried!(self, "listing held units", async {
            let mut session = self.read().await?;
            let rows = session
                .query(HELD_LIST)
                .bind(m.as_str())
                .bind(low)
                .bind(high)
                .bind(held_number(after))
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            let total: i64 = session
                .scalar(
                    "SELECT count(*) FROM held WHERE municipality = $1 AND state BETWEEN $2 AND $3",
                )
                .bind(m.as_str())
                .bind(low)
                .bind(high)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            let held = rows.iter().map(held_from).collect();
            Ok::<_, Trouble>((held, total.cast_unsigned()))
        })
    }

    async fn held(&self, m: &Municipality, id: &str) -> Result<Option<HeldRow>, StoreError> {
        retried!(self, "reading a held unit", async {
            let mut session = self.read().await?;
            let row = session
                .query(HELD_ONE)
                .bind(m.as_str())
                .bind(held_number(id))
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(row.as_ref().map(held_from))
        })
    }
}
