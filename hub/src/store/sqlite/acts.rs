//! The role of acts in SQLite.
//! Implements `ActStore`; a delta of a delivery writes its act through `put_act`.
//! Must never record an act twice, nor one without what it changed.
//! Read next: `store/contract/acts.rs`.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, Row};

use super::{SqliteStore, failed, json_list};
use crate::event::Municipality;
use crate::store::{ActRow, ActStore, Durability, NewAct, StoreError, UnitKey};

/// Records an act inside an open transaction.
pub(super) async fn put_act(
    connection: &mut SqliteConnection,
    m: &str,
    act: &NewAct,
) -> Result<(), sqlx::Error> {
    let number: Option<i64> = sqlx::query_scalar(
        "INSERT INTO act (municipality, id, at_ms, operator, reason, kind, subscription, target,
           units, subjects, note)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
         ON CONFLICT (municipality, id) DO NOTHING RETURNING number",
    )
    .bind(m)
    .bind(&act.id)
    .bind(act.at_ms)
    .bind(&act.operator)
    .bind(&act.reason)
    .bind(i64::from(act.kind))
    .bind(&act.subscription)
    .bind(&act.target)
    .bind(act.units.len() as i64)
    .bind(act.subjects as i64)
    .bind(&act.note)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(number) = number else { return Ok(()) };
    let units: Vec<_> = act
        .units
        .iter()
        .map(|key| (key.stream.number(), key.sequence, key.member))
        .collect();
    sqlx::query(
        "INSERT INTO act_unit (subscription, stream, sequence, member, number)
         SELECT $1, u.value->>0, u.value->>1, u.value->>2, $2 FROM json_each($3) u WHERE true
         ON CONFLICT DO NOTHING",
    )
    .bind(&act.subscription)
    .bind(number)
    .bind(json_list(&units))
    .execute(connection)
    .await?;
    Ok(())
}

fn row_of(row: &SqliteRow) -> ActRow {
    ActRow {
        number: row.get::<i64, _>("number") as u64,
        units: row.get::<i64, _>("units") as u64,
        act: NewAct {
            id: row.get("id"),
            at_ms: row.get("at_ms"),
            operator: row.get("operator"),
            reason: row.get("reason"),
            kind: row.get::<i64, _>("kind") as i32,
            subscription: row.get("subscription"),
            target: row.get("target"),
            units: Vec::new(),
            subjects: row.get::<i64, _>("subjects") as u64,
            note: row.get("note"),
        },
    }
}

#[async_trait]
impl ActStore for SqliteStore {
    async fn record_act(&self, m: &Municipality, act: NewAct) -> Result<(), StoreError> {
        let failed = failed("recording an act");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let mut transaction = writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(&failed)?;
        put_act(&mut transaction, m.as_str(), &act)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)
    }

    async fn acts(
        &self,
        m: &Municipality,
        below: u64,
        limit: usize,
    ) -> Result<Vec<ActRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM act WHERE municipality = $1 AND ($2 = 0 OR number < $2)
             ORDER BY number DESC LIMIT $3",
        )
        .bind(m.as_str())
        .bind(below as i64)
        .bind(limit as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading acts"))?;
        Ok(rows.iter().map(row_of).collect())
    }

    async fn acts_on(&self, subscription: &str, key: UnitKey) -> Result<Vec<ActRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT a.* FROM act_unit u JOIN act a ON a.number = u.number
             WHERE u.subscription = $1 AND u.stream = $2 AND u.sequence = $3 AND u.member = $4
             ORDER BY a.number",
        )
        .bind(subscription)
        .bind(key.stream.number())
        .bind(key.sequence as i64)
        .bind(i64::from(key.member))
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading the acts on a unit"))?;
        Ok(rows.iter().map(row_of).collect())
    }
}
