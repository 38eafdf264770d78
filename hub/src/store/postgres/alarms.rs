//! The roles of alarms and of rhythms in PostgreSQL.
//! Implements `AlarmStore` and `RhythmStore`.
//! Must never wait for the disk but for an act, nor be asked on the way of an event.
//! Read next: `store/contract/alarms.rs`.

use std::collections::HashMap;

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PgStore;
use super::acts::put_act;
use super::rows::position;
use super::session::{Session, Trouble, retried};
use crate::event::{Municipality, Stream};
use crate::publish::source_rules::GAP;
use crate::store::{
    AlarmStore, Followed, HeldPile, NewAct, ParkedState, Pile, Piles, RhythmRow, RhythmStore,
    StandingRow, StoreError,
};

/// Follows placed events, inside an open transaction.
pub(super) async fn follow(
    session: &mut Session<'_>,
    m: &Municipality,
    events: &[Followed],
) -> Result<(), sqlx::Error> {
    let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    let types: Vec<&str> = events.iter().map(|e| e.event_type.as_str()).collect();
    let streams: Vec<i64> = events.iter().map(|event| event.stream.number()).collect();
    let positions: Vec<i64> = events.iter().map(|e| e.position.0.cast_signed()).collect();
    let times: Vec<i64> = events.iter().map(|event| event.at_ms).collect();
    session
        .query(
            "INSERT INTO followed (municipality, id, type, stream, position, at_ms)
             SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[], $5::bigint[],
               $6::bigint[])
             ON CONFLICT DO NOTHING",
        )
        .bind(m.as_str())
        .bind(ids)
        .bind(types)
        .bind(streams)
        .bind(positions)
        .bind(times)
        .execute(&mut **session)
        .await?;
    Ok(())
}

fn followed_of(row: &PgRow) -> Followed {
    Followed {
        id: row.get("id"),
        event_type: row.get("type"),
        stream: Stream::from_number(row.get("stream")),
        position: position(row.get("position")),
        at_ms: row.get("at_ms"),
    }
}

fn pile_of(row: &PgRow) -> Pile {
    Pile {
        count: row.get::<i64, _>("count").cast_unsigned(),
        oldest_ms: row.get("oldest_ms"),
        reason: row.get("reason"),
    }
}

/// The oldest with its reason comes from the index of states: rows, with their content, are not
/// read.
const PILES: &str = "
SELECT subscription, state, count(*) AS count, min(at_ms) AS oldest_ms,
  (array_agg(reason ORDER BY at_ms))[1] AS reason
FROM parked WHERE subscription = ANY ($1) AND state = ANY ($2) GROUP BY subscription, state";

const OPEN: &str = "
SELECT f.* FROM followed f JOIN subscription s ON s.id = $2
WHERE f.municipality = $1
  AND NOT EXISTS (SELECT 1 FROM history h WHERE h.municipality = $1
    AND h.event_id = f.id AND h.subscription = $2 AND h.outcome <> $3)
  AND (f.position >= CASE f.stream WHEN 2 THEN s.bulk_position ELSE s.live_position END
    OR EXISTS (SELECT 1 FROM parked p
      WHERE p.subscription = $2 AND p.stream = f.stream AND f.id = ANY (p.event_ids)))
ORDER BY f.at_ms, f.id LIMIT $4";

#[async_trait]
impl AlarmStore for PgStore {
    async fn piles(&self, subscriptions: &[String]) -> Result<HashMap<String, Piles>, StoreError> {
        let states = [ParkedState::Rejected, ParkedState::Dead, ParkedState::Due];
        let states = states.map(ParkedState::number);
        retried!(self, "counting parked units", async {
            let mut session = self.read().await?;
            let rows = session
                .query(PILES)
                .bind(subscriptions)
                .bind(states.as_slice())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let mut all: HashMap<String, Piles> = HashMap::new();
            for row in &rows {
                let piles = all.entry(row.get("subscription")).or_default();
                match ParkedState::from_number(row.get("state")) {
                    ParkedState::Rejected => piles.refused = pile_of(row),
                    ParkedState::Dead => piles.dead = pile_of(row),
                    ParkedState::Due => piles.due = pile_of(row),
                    ParkedState::Waiting => {}
                }
            }
            Ok::<_, Trouble>(all)
        })
    }

    async fn held_piles(&self, m: &Municipality) -> Result<Vec<HeldPile>, StoreError> {
        retried!(self, "counting held units", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT source, state, count(*) AS count, min(held_ms) AS oldest_ms,
                       (array_agg(rule ORDER BY held_ms))[1] AS reason
                     FROM held
                     WHERE municipality = $1 AND (state = 1 OR (state = 2 AND rule = $2))
                     GROUP BY source, state ORDER BY source, state",
                )
                .bind(m.as_str())
                .bind(GAP)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let held = rows.iter().map(|row| HeldPile {
                source: row.get("source"),
                refused: row.get::<i64, _>("state") == 1,
                pile: pile_of(row),
            });
            Ok::<_, Trouble>(held.collect())
        })
    }

    async fn standing(&self, m: &Municipality) -> Result<Vec<StandingRow>, StoreError> {
        retried!(self, "reading alarms", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT kind, subscription, source, since_ms FROM alarm
                     WHERE municipality = $1 ORDER BY kind, subscription, source",
                )
                .bind(m.as_str())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let standing = rows.iter().map(|row| StandingRow {
                kind: row.get::<i64, _>(0) as i32,
                subscription: row.get(1),
                source: row.get(2),
                since_ms: row.get(3),
            });
            Ok::<_, Trouble>(standing.collect())
        })
    }

    async fn put_standing(
        &self,
        m: &Municipality,
        rows: Vec<StandingRow>,
    ) -> Result<(), StoreError> {
        let kinds: Vec<i64> = rows.iter().map(|row| i64::from(row.kind)).collect();
        let subscriptions: Vec<&str> = rows.iter().map(|row| row.subscription.as_str()).collect();
        let sources: Vec<&str> = rows.iter().map(|row| row.source.as_str()).collect();
        let since: Vec<i64> = rows.iter().map(|row| row.since_ms).collect();
        retried!(self, "noting alarms", async {
            let mut session = self.write(m).await?;
            session
                .query("DELETE FROM alarm WHERE municipality = $1")
                .bind(m.as_str())
                .execute(&mut *session)
                .await?;
            session
                .query(
                    "INSERT INTO alarm (municipality, kind, subscription, source, since_ms)
                     SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[])",
                )
                .bind(m.as_str())
                .bind(&kinds)
                .bind(&subscriptions)
                .bind(&sources)
                .bind(&since)
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }

    async fn followed(&self, m: &Municipality, limit: usize) -> Result<Vec<Followed>, StoreError> {
        retried!(self, "reading followed events", async {
            let mut session = self.read().await?;
            let rows = session
                .query("SELECT * FROM followed WHERE municipality = $1 ORDER BY at_ms, id LIMIT $2")
                .bind(m.as_str())
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(followed_of).collect())
        })
    }

    async fn open_followed(
        &self,
        m: &Municipality,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<Followed>, StoreError> {
        retried!(self, "looking for followed events", async {
            let mut session = self.read().await?;
            let rows = session
                .query(OPEN)
                .bind(m.as_str())
                .bind(subscription)
                .bind(Outcome::Rejected as i64)
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(followed_of).collect())
        })
    }

    async fn unfollow(&self, m: &Municipality, ids: &[String]) -> Result<(), StoreError> {
        retried!(self, "ending to follow events", async {
            let mut session = self.write(m).await?;
            session
                .query("DELETE FROM followed WHERE municipality = $1 AND id = ANY ($2)")
                .bind(m.as_str())
                .bind(ids)
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }
}

#[async_trait]
impl RhythmStore for PgStore {
    async fn rhythms(&self, m: &Municipality) -> Result<Vec<RhythmRow>, StoreError> {
        retried!(self, "reading rhythms", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT source, rhythm_ms, heard_ms FROM rhythm
                     WHERE municipality = $1 ORDER BY source",
                )
                .bind(m.as_str())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let rhythms = rows.iter().map(|row| RhythmRow {
                source: row.get(0),
                rhythm_ms: row.get(1),
                heard_ms: row.get(2),
            });
            Ok::<_, Trouble>(rhythms.collect())
        })
    }

    async fn put_rhythm(
        &self,
        m: &Municipality,
        row: RhythmRow,
        act: NewAct,
    ) -> Result<(), StoreError> {
        retried!(self, "setting a rhythm", async {
            let mut session = self.write(m).await?;
            let set = session.query(match row.rhythm_ms {
                0 => "DELETE FROM rhythm WHERE municipality = $1 AND source = $2",
                _ => {
                    "INSERT INTO rhythm (municipality, source, rhythm_ms, heard_ms)
                     VALUES ($1, $2, $3, $4) ON CONFLICT (municipality, source) DO UPDATE
                       SET rhythm_ms = excluded.rhythm_ms, heard_ms = excluded.heard_ms"
                }
            });
            let mut set = set.bind(m.as_str()).bind(&row.source);
            if row.rhythm_ms > 0 {
                set = set.bind(row.rhythm_ms).bind(row.heard_ms);
            }
            set.execute(&mut *session).await?;
            put_act(&mut session, m.as_str(), &act).await?;
            session.end().await
        })
    }

    async fn heard(&self, m: &Municipality, times: &[(String, i64)]) -> Result<(), StoreError> {
        let sources: Vec<&str> = times.iter().map(|(source, _)| source.as_str()).collect();
        let at: Vec<i64> = times.iter().map(|(_, at_ms)| *at_ms).collect();
        retried!(self, "noting which sources were heard", async {
            let mut session = self.write(m).await?;
            session
                .query(
                    "UPDATE rhythm r SET heard_ms = greatest(r.heard_ms, t.at_ms)
                     FROM unnest($2::text[], $3::bigint[]) t (source, at_ms)
                     WHERE r.municipality = $1 AND r.source = t.source AND r.heard_ms < t.at_ms",
                )
                .bind(m.as_str())
                .bind(&sources)
                .bind(&at)
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }
}
