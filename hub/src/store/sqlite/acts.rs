//! The role of acts in SQLite.
//! Implements `ActStore`; a delta of a delivery writes its act through `put_act`.
//! Must never record an act twice, nor one without what it changed.
//! Read next: `store/contract/acts.rs`.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection, QueryBuilder, Row, Sqlite};

use super::delivery::{key_of, parked_of, subjects_of};
use super::{SqliteStore, failed, json_list};
use crate::event::Municipality;
use crate::store::{
    ActRow, ActStore, Durability, NewAct, ParkedFilter, ParkedRow, StoreError, UnitKey,
};

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
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE parked SET revision = revision + 1 WHERE subscription = $1
           AND (stream, sequence, member) IN
             (SELECT u.value->>0, u.value->>1, u.value->>2 FROM json_each($2) u)",
    )
    .bind(&act.subscription)
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

/// Only what the filter names is asked for, so that its index serves.
fn found_by(subscription: &str, filter: &ParkedFilter) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new("SELECT * FROM parked p WHERE subscription = ");
    query.push_bind(subscription.to_owned());
    if !filter.states.is_empty() {
        let states: Vec<i64> = filter.states.iter().map(|state| state.number()).collect();
        query.push(" AND state IN (SELECT value FROM json_each(");
        query.push_bind(json_list(&states)).push("))");
    }
    if let Some(reason) = &filter.reason {
        query.push(" AND reason = ").push_bind(reason.clone());
    }
    if let Some(before) = filter.before_ms {
        query.push(" AND at_ms < ").push_bind(before);
    }
    if let Some(subject) = &filter.subject {
        query.push(
            " AND EXISTS (SELECT 1 FROM parked_subject s WHERE s.subscription = p.subscription
               AND s.stream = p.stream AND s.sequence = p.sequence AND s.member = p.member
               AND s.subject = ",
        );
        query.push_bind(subject.0.clone()).push(")");
    }
    query
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

    async fn find_parked(
        &self,
        subscription: &str,
        filter: &ParkedFilter,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let failed = failed("looking for parked units");
        let mut query = found_by(subscription, filter);
        if let Some(key) = after {
            query
                .push(" AND (stream, sequence, member) > (")
                .push_bind(key.stream.number())
                .push(", ")
                .push_bind(key.sequence as i64)
                .push(", ")
                .push_bind(i64::from(key.member))
                .push(")");
        }
        query.push(" ORDER BY stream, sequence, member LIMIT ");
        query.push_bind(limit as i64);
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let rows = query.build().fetch_all(&mut *reader).await;
        let mut parked = Vec::new();
        for row in rows.map_err(&failed)? {
            let subjects = subjects_of(&mut reader, subscription, key_of(&row)).await;
            parked.push(parked_of(&row, subjects.map_err(&failed)?));
        }
        Ok(parked)
    }
}
