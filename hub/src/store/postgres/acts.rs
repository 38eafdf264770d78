//! The role of acts in PostgreSQL.
//! Implements `ActStore`; a delta of a delivery writes its act through `put_act`.
//! Must never record an act twice, nor one without what it changed.
//! Read next: `store/contract/acts.rs`.

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::PgStore;
use super::rows::{number, parked_columns, parked_of};
use super::session::{Session, Trouble, retried};
use crate::event::{Municipality, Subject};
use crate::store::{ActRow, ActStore, NewAct, ParkedFilter, ParkedRow, StoreError, UnitKey};

/// What an act concerned is told only of an act that was not recorded before.
const PUT: &str = "
WITH put AS (
  INSERT INTO act (municipality, id, at_ms, operator, reason, kind, subscription, target, units,
    subjects, note)
  VALUES ($1, $2, $3, $4, $5, $6, $7, $8, cardinality($9::bigint[]), $12, $13)
  ON CONFLICT (municipality, id) DO NOTHING RETURNING number
), unit AS (
  SELECT DISTINCT number, u.stream, u.sequence, u.member
  FROM put, unnest($9::bigint[], $10::bigint[], $11::bigint[]) u (stream, sequence, member)
), noted AS (
  INSERT INTO act_unit (municipality, subscription, stream, sequence, member, number)
  SELECT $1, $7, stream, sequence, member, number FROM unit
)
UPDATE parked p SET revision = revision + 1 FROM unit u
WHERE p.subscription = $7 AND p.stream = u.stream AND p.sequence = u.sequence
  AND p.member = u.member";

/// Records an act inside an open transaction.
pub(super) async fn put_act(
    session: &mut Session<'_>,
    m: &str,
    act: &NewAct,
) -> Result<(), sqlx::Error> {
    let keys = || act.units.iter();
    let streams: Vec<i64> = keys().map(|key| key.stream.number()).collect();
    let sequences: Vec<i64> = keys().map(|key| key.sequence.cast_signed()).collect();
    let members: Vec<i64> = keys().map(|key| i64::from(key.member)).collect();
    session
        .query(PUT)
        .bind(m)
        .bind(&act.id)
        .bind(act.at_ms)
        .bind(&act.operator)
        .bind(&act.reason)
        .bind(i64::from(act.kind))
        .bind(&act.subscription)
        .bind(&act.target)
        .bind(streams)
        .bind(sequences)
        .bind(members)
        .bind(act.subjects.cast_signed())
        .bind(&act.note)
        .execute(&mut **session)
        .await?;
    Ok(())
}

fn row_of(row: &PgRow) -> ActRow {
    ActRow {
        number: number(row, "number"),
        units: number(row, "units"),
        act: NewAct {
            id: row.get("id"),
            at_ms: row.get("at_ms"),
            operator: row.get("operator"),
            reason: row.get("reason"),
            kind: row.get::<i64, _>("kind") as i32,
            subscription: row.get("subscription"),
            target: row.get("target"),
            units: Vec::new(),
            subjects: number(row, "subjects"),
            note: row.get("note"),
        },
    }
}

/// A filter that is not given is NULL; planned anew each time, so that its index serves.
const FIND: &str = concat!(
    "SELECT ",
    parked_columns!(),
    " FROM parked p WHERE p.subscription = $1
      AND ($2::bigint[] IS NULL OR p.state = ANY ($2))
      AND ($3::text IS NULL OR p.reason = $3)
      AND ($4::bigint IS NULL OR p.at_ms < $4)
      AND ($5::text IS NULL OR EXISTS (SELECT 1 FROM parked_subject s
        WHERE s.subscription = p.subscription AND s.stream = p.stream
          AND s.sequence = p.sequence AND s.member = p.member AND s.subject = $5))
      AND ($6::bigint IS NULL OR (p.stream, p.sequence, p.member) > ($6, $7, $8))
    ORDER BY p.stream, p.sequence, p.member LIMIT $9"
);

#[async_trait]
impl ActStore for PgStore {
    async fn record_act(&self, m: &Municipality, act: NewAct) -> Result<(), StoreError> {
        retried!(self, "recording an act", async {
            let mut session = self.write(m).await?;
            put_act(&mut session, m.as_str(), &act).await?;
            session.end().await
        })
    }

    async fn acts(
        &self,
        m: &Municipality,
        below: u64,
        limit: usize,
    ) -> Result<Vec<ActRow>, StoreError> {
        retried!(self, "reading acts", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT * FROM act WHERE municipality = $1 AND ($2 = 0 OR number < $2)
                     ORDER BY number DESC LIMIT $3",
                )
                .bind(m.as_str())
                .bind(below.cast_signed())
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(row_of).collect())
        })
    }

    async fn acts_on(&self, subscription: &str, key: UnitKey) -> Result<Vec<ActRow>, StoreError> {
        retried!(self, "reading the acts on a unit", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT a.* FROM act_unit u
                     JOIN act a ON a.municipality = u.municipality AND a.number = u.number
                     WHERE u.subscription = $1 AND u.stream = $2 AND u.sequence = $3
                       AND u.member = $4
                     ORDER BY a.number",
                )
                .bind(subscription)
                .bind(key.stream.number())
                .bind(key.sequence.cast_signed())
                .bind(i64::from(key.member))
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(row_of).collect())
        })
    }

    async fn find_parked(
        &self,
        subscription: &str,
        filter: &ParkedFilter,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let states: Option<Vec<i64>> = (!filter.states.is_empty())
            .then(|| filter.states.iter().map(|state| state.number()).collect());
        let subject = filter.subject.as_ref().map(|Subject(name)| name);
        retried!(self, "looking for parked units", async {
            let mut session = self.read().await?;
            let rows = session
                .query(FIND)
                .persistent(false)
                .bind(subscription)
                .bind(&states)
                .bind(&filter.reason)
                .bind(filter.before_ms)
                .bind(subject)
                .bind(after.map(|key| key.stream.number()))
                .bind(after.map(|key| key.sequence.cast_signed()))
                .bind(after.map(|key| i64::from(key.member)))
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(parked_of).collect())
        })
    }
}
