//! The role of alarms in SQLite.
//! Implements `AlarmStore`.
//! Must never cost a sync, nor be asked on the way of an event.
//! Read next: `store/contract/alarms.rs`.

use async_trait::async_trait;
use sqlx::Row;

use super::{SqliteStore, failed, json_list};
use crate::event::Municipality;
use crate::store::{AlarmStore, Durability, ParkedState, Pile, Piles, StandingRow, StoreError};

#[async_trait]
impl AlarmStore for SqliteStore {
    async fn piles(&self, subscription: &str) -> Result<Piles, StoreError> {
        // Beside min(), a bare column comes from the row that has the minimum.
        let rows = sqlx::query(
            "SELECT state, count(*), min(at_ms), reason FROM parked
             WHERE subscription = $1 AND state IN ($2, $3) GROUP BY state",
        )
        .bind(subscription)
        .bind(ParkedState::Rejected.number())
        .bind(ParkedState::Dead.number())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("counting parked units"))?;
        let mut piles = Piles::default();
        for row in rows {
            let pile = Pile {
                count: row.get::<i64, _>(1) as u64,
                oldest_ms: row.get(2),
                reason: row.get(3),
            };
            match ParkedState::from_number(row.get(0)) {
                ParkedState::Dead => piles.dead = pile,
                _ => piles.refused = pile,
            }
        }
        Ok(piles)
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
        let row_of = |row: &sqlx::sqlite::SqliteRow| StandingRow {
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
}
