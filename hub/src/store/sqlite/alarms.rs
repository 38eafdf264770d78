//! The roles of alarms and of rhythms in SQLite.
//! Implements `AlarmStore` and `RhythmStore`.
//! Must never cost a sync but for an act, nor be asked on the way of an event.
//! Read next: `store/contract/alarms.rs`.

use std::collections::HashMap;

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::acts::put_act;
use super::{SqliteStore, failed, json_list};
use crate::event::{Municipality, Position, Stream};
use crate::publish::source_rules::GAP;
use crate::store::{
    AlarmStore, Durability, Followed, HeldPile, NewAct, ParkedState, Pile, Piles, RhythmRow,
    RhythmStore, StandingRow, StoreError,
};

/// Follows placed events, inside an open transaction.
pub(super) async fn follow(
    connection: &mut SqliteConnection,
    m: &Municipality,
    events: &[Followed],
) -> Result<(), sqlx::Error> {
    for event in events {
        sqlx::query(
            "INSERT INTO followed (municipality, id, type, stream, position, at_ms)
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        )
        .bind(m.as_str())
        .bind(&event.id)
        .bind(&event.event_type)
        .bind(event.stream.number())
        .bind(event.position.0 as i64)
        .bind(event.at_ms)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

fn followed_of(row: &SqliteRow) -> Followed {
    Followed {
        id: row.get("id"),
        event_type: row.get("type"),
        stream: Stream::from_number(row.get("stream")),
        position: Position(row.get::<i64, _>("position") as u64),
        at_ms: row.get("at_ms"),
    }
}

#[async_trait]
impl AlarmStore for SqliteStore {
    async fn piles(&self, subscriptions: &[String]) -> Result<HashMap<String, Piles>, StoreError> {
        // Beside min(), a bare column comes from the row that has the minimum. What waits behind
        // others can be a town's work: its rows, with their content, are not read.
        let rows = sqlx::query(
            "SELECT state, count(*), min(at_ms), reason, subscription FROM parked
             WHERE subscription IN (SELECT value FROM json_each($1)) AND state IN ($2, $3, $4)
             GROUP BY subscription, state",
        )
        .bind(serde_json::json!(subscriptions).to_string())
        .bind(ParkedState::Rejected.number())
        .bind(ParkedState::Dead.number())
        .bind(ParkedState::Due.number())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("counting parked units"))?;
        let mut all: HashMap<String, Piles> = HashMap::new();
        for row in rows {
            let piles = all.entry(row.get(4)).or_default();
            let pile = Pile {
                count: row.get::<i64, _>(1) as u64,
                oldest_ms: row.get(2),
                reason: row.get(3),
            };
            match ParkedState::from_number(row.get(0)) {
                ParkedState::Rejected => piles.refused = pile,
                ParkedState::Dead => piles.dead = pile,
                ParkedState::Due => piles.due = pile,
                ParkedState::Waiting => {}
            }
        }
        Ok(all)
    }

    async fn held_piles(&self, m: &Municipality) -> Result<Vec<HeldPile>, StoreError> {
        let rows = sqlx::query(
            "SELECT source, state, count(*), min(held_ms), rule FROM held
             WHERE municipality = $1 AND (state = 1 OR (state = 2 AND rule = $2))
             GROUP BY source, state ORDER BY source, state",
        )
        .bind(m.as_str())
        .bind(GAP)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("counting held units"))?;
        let pile_of = |row: &SqliteRow| HeldPile {
            source: row.get(0),
            refused: row.get::<i64, _>(1) == 1,
            pile: Pile {
                count: row.get::<i64, _>(2) as u64,
                oldest_ms: row.get(3),
                reason: row.get(4),
            },
        };
        Ok(rows.iter().map(pile_of).collect())
    }

    async fn standing(&self, m: &Municipality) -> Result<Vec<StandingRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT kind, subscription, source, since_ms FROM alarm
             WHERE municipality = $1 ORDER BY kind, subscription, source",
        )
        .bind(m.as_str())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading alarms"))?;
        let row_of = |row: &SqliteRow| StandingRow {
            kind: row.get::<i64, _>(0) as i32,
            subscription: row.get(1),
            source: row.get(2),
            since_ms: row.get(3),
        };
        Ok(rows.iter().map(row_of).collect())
    }

    async fn put_standing(
        &self,
        m: &Municipality,
        rows: Vec<StandingRow>,
    ) -> Result<(), StoreError> {
        let failed = failed("noting alarms");
        let mut writer = self
            .writer
            .lock(Durability::WithLog)
            .await
            .map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        sqlx::query("DELETE FROM alarm WHERE municipality = $1")
            .bind(m.as_str())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        let rows: Vec<_> = rows
            .iter()
            .map(|row| (row.kind, &row.subscription, &row.source, row.since_ms))
            .collect();
        sqlx::query(
            "INSERT INTO alarm (municipality, kind, subscription, source, since_ms)
             SELECT $1, a.value->>0, a.value->>1, a.value->>2, a.value->>3 FROM json_each($2) a",
        )
        .bind(m.as_str())
        .bind(json_list(&rows))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn followed(&self, m: &Municipality, limit: usize) -> Result<Vec<Followed>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM followed WHERE municipality = $1 ORDER BY at_ms, id LIMIT $2",
        )
        .bind(m.as_str())
        .bind(limit as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading followed events"))?;
        Ok(rows.iter().map(followed_of).collect())
    }

    async fn open_followed(
        &self,
        m: &Municipality,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<Followed>, StoreError> {
        let rows = sqlx::query(
            "SELECT f.* FROM followed f JOIN subscription s ON s.id = $2
             WHERE f.municipality = $1
               AND NOT EXISTS (SELECT 1 FROM history h WHERE h.municipality = $1
                 AND h.event_id = f.id AND h.subscription = $2 AND h.outcome <> $3)
               AND (f.position >= CASE f.stream WHEN 2 THEN s.bulk_position
                                                ELSE s.live_position END
                 OR EXISTS (SELECT 1 FROM parked p JOIN json_each(p.event_ids) e
                   WHERE p.subscription = $2 AND p.stream = f.stream AND e.value = f.id))
             ORDER BY f.at_ms, f.id LIMIT $4",
        )
        .bind(m.as_str())
        .bind(subscription)
        .bind(Outcome::Rejected as i64)
        .bind(limit as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("looking for followed events"))?;
        Ok(rows.iter().map(followed_of).collect())
    }

    async fn unfollow(&self, m: &Municipality, ids: &[String]) -> Result<(), StoreError> {
        let failed = failed("ending to follow events");
        let mut writer = self
            .writer
            .lock(Durability::WithLog)
            .await
            .map_err(&failed)?;
        sqlx::query(
            "DELETE FROM followed
             WHERE municipality = $1 AND id IN (SELECT value FROM json_each($2))",
        )
        .bind(m.as_str())
        .bind(json_list(ids))
        .execute(&mut *writer)
        .await
        .map_err(failed)?;
        Ok(())
    }
}

#[async_trait]
impl RhythmStore for SqliteStore {
    async fn rhythms(&self, m: &Municipality) -> Result<Vec<RhythmRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT source, rhythm_ms, heard_ms FROM rhythm
             WHERE municipality = $1 ORDER BY source",
        )
        .bind(m.as_str())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading rhythms"))?;
        let row_of = |row: &SqliteRow| RhythmRow {
            source: row.get(0),
            rhythm_ms: row.get(1),
            heard_ms: row.get(2),
        };
        Ok(rows.iter().map(row_of).collect())
    }

    async fn put_rhythm(
        &self,
        m: &Municipality,
        row: RhythmRow,
        act: NewAct,
    ) -> Result<(), StoreError> {
        let failed = failed("setting a rhythm");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        let statement = match row.rhythm_ms {
            0 => "DELETE FROM rhythm WHERE municipality = $1 AND source = $2",
            _ => {
                "INSERT INTO rhythm (municipality, source, rhythm_ms, heard_ms)
                 VALUES ($1, $2, $3, $4) ON CONFLICT (municipality, source) DO UPDATE
                   SET rhythm_ms = excluded.rhythm_ms, heard_ms = excluded.heard_ms"
            }
        };
        let mut statement = sqlx::query(statement).bind(m.as_str()).bind(&row.source);
        if row.rhythm_ms > 0 {
            statement = statement.bind(row.rhythm_ms).bind(row.heard_ms);
        }
        statement
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        put_act(&mut transaction, m.as_str(), &act)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(failed)
    }

    async fn heard(&self, m: &Municipality, times: &[(String, i64)]) -> Result<(), StoreError> {
        let failed = failed("noting which sources were heard");
        let mut writer = self
            .writer
            .lock(Durability::WithLog)
            .await
            .map_err(&failed)?;
        sqlx::query(
            "UPDATE rhythm SET heard_ms = max(heard_ms, t.value->>1) FROM json_each($2) t
             WHERE municipality = $1 AND source = t.value->>0",
        )
        .bind(m.as_str())
        .bind(json_list(times))
        .execute(&mut *writer)
        .await
        .map_err(failed)?;
        Ok(())
    }
}
