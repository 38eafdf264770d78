//! The role of replays in SQLite.
//! Implements `ReplayStore` over the history, the event index and the replays' own table.
//! Must never let two replays of one subscription run at once: a unique index forbids it.
//! Read next: `store/contract/replay.rs`.

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row, Sqlite};

use super::acts::put_act;
use super::{SqliteStore, failed, json_list};
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::delivery::stored::town;
use crate::store::replay::{
    HadEvent, ReplayAt, ReplayProgress, ReplayRow, ReplayState, ReplayStore, Selected, Selection,
};
use crate::store::{Durability, NewAct, StoreError};

/// An event with the last of its outcomes at this subscription: SQLite takes the other columns
/// from the row with the largest number.
const HAD: &str = "SELECT max(h.number) AS ended, e.id, e.type, e.subject, e.published_ms, e.position, \
     h.stream, h.sequence, h.member, h.outcome, h.reason \
     FROM history h JOIN event e ON e.municipality = h.municipality AND e.id = h.event_id";
/// Refusals are steps of the history too: what was refused lies parked.
const ANSWERED: &str = " AND h.outcome <> 6";
/// The same from the events on, where few of these are named.
const FROM_EVENTS: &str = " FROM event e CROSS JOIN history h \
     ON h.municipality = e.municipality AND h.event_id = e.id";
/// From the history on, in its order.
const FROM_HISTORY: &str = " FROM history h CROSS JOIN event e \
     ON e.municipality = h.municipality AND e.id = h.event_id";

fn had_event(row: &SqliteRow) -> HadEvent {
    HadEvent {
        id: row.get("id"),
        event_type: row.get("type"),
        subject: Subject(row.get("subject")),
        published_ms: row.get("published_ms"),
        stream: Stream::from_number(row.get("stream")),
        position: Position(row.get::<i64, _>("position") as u64),
        sequence: row.get::<i64, _>("sequence") as u64,
        member: row.get::<i64, _>("member") as u32,
        ended: row.get::<i64, _>("ended") as u64,
        outcome: row.get::<i64, _>("outcome") as i32,
        reason: row.get("reason"),
    }
}

fn replay_of(row: &SqliteRow) -> ReplayRow {
    let position = |name| {
        row.get::<Option<i64>, _>(name)
            .map(|at| Position(at as u64))
    };
    let subjects: Vec<String> = serde_json::from_str(row.get("subjects")).unwrap_or_default();
    let selection = Selection {
        stream: row.get::<Option<i64>, _>("stream").map(Stream::from_number),
        from_position: position("from_position"),
        to_position: position("to_position"),
        from_ms: row.get("from_ms"),
        to_ms: row.get("to_ms"),
        subjects: subjects.into_iter().map(Subject).collect(),
        types: serde_json::from_str(row.get("types")).unwrap_or_default(),
    };
    let subject = row.get::<Option<String>, _>("at_subject");
    let at = ReplayAt::stored(row.get("at_stream"), row.get("at_sequence"), subject);
    let count = |name| row.get::<i64, _>(name) as u64;
    ReplayRow {
        id: row.get("id"),
        subscription: row.get("subscription"),
        binding_epoch: count("binding_epoch"),
        selection,
        repair: row.get::<i64, _>("repair") == 1,
        operator: row.get("operator"),
        reason: row.get("reason"),
        started_ms: row.get("started_ms"),
        selected: (count("units"), count("subject_count")),
        progress: ReplayProgress {
            state: ReplayState::from_number(row.get("state")),
            note: row.get("note"),
            ended_ms: row.get("ended_ms"),
            at,
            delivered: count("delivered"),
            known: count("known"),
            parked: count("parked"),
        },
    }
}

/// Narrows a query over `history h` and `event e` to what a selection names.
fn narrow(query: &mut QueryBuilder<Sqlite>, subscription: &str, of: &Selection) {
    query
        .push(" WHERE h.subscription = ")
        .push_bind(subscription.to_owned());
    query
        .push(" AND e.municipality = ")
        .push_bind(town(subscription).to_owned());
    query.push(ANSWERED);
    let numbers = [
        (" AND h.stream = ", of.stream.map(Stream::number)),
        (
            " AND e.position >= ",
            of.from_position.map(|at| at.0 as i64),
        ),
        (" AND e.position <= ", of.to_position.map(|at| at.0 as i64)),
        (" AND e.published_ms >= ", of.from_ms),
        (" AND e.published_ms < ", of.to_ms),
    ];
    for (condition, number) in numbers {
        if let Some(number) = number {
            query.push(condition).push_bind(number);
        }
    }
    let subjects: Vec<&str> = of.subjects.iter().map(|s| s.0.as_str()).collect();
    for (column, names) in [
        ("e.subject", json_list(&subjects)),
        ("e.type", json_list(&of.types)),
    ] {
        if names != "[]" {
            query.push(format!(" AND {column} IN (SELECT value FROM json_each("));
            query.push_bind(names).push("))");
        }
    }
    query
        .push(
            " AND NOT EXISTS (SELECT 1 FROM history s WHERE s.municipality = h.municipality
               AND s.event_id = h.event_id AND s.subscription = h.subscription AND s.outcome = ",
        )
        .push_bind(Outcome::Skipped as i32)
        .push(")");
}

#[async_trait]
impl ReplayStore for SqliteStore {
    async fn start_replay(&self, row: ReplayRow, act: NewAct) -> Result<bool, StoreError> {
        let failed = failed("starting a replay");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        let of = &row.selection;
        let subjects: Vec<&str> = of.subjects.iter().map(|s| s.0.as_str()).collect();
        let (at_stream, at_sequence, at_subject) = row.progress.at.columns();
        let written = sqlx::query(
            "INSERT INTO replay (id, subscription, municipality, binding_epoch, stream,
               from_position, to_position, from_ms, to_ms, subjects, types, repair, operator,
               reason, started_ms, units, subject_count, state, note, at_stream, at_sequence,
               at_subject, delivered, known, parked)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,
               1, '', $18, $19, $20, 0, 0, 0)
             ON CONFLICT DO NOTHING",
        )
        .bind(&row.id)
        .bind(&row.subscription)
        .bind(town(&row.subscription))
        .bind(row.binding_epoch as i64)
        .bind(of.stream.map(Stream::number))
        .bind(of.from_position.map(|at| at.0 as i64))
        .bind(of.to_position.map(|at| at.0 as i64))
        .bind(of.from_ms)
        .bind(of.to_ms)
        .bind(json_list(&subjects))
        .bind(json_list(&of.types))
        .bind(i64::from(row.repair))
        .bind(&row.operator)
        .bind(&row.reason)
        .bind(row.started_ms)
        .bind(row.selected.0 as i64)
        .bind(row.selected.1 as i64)
        .bind(at_stream)
        .bind(at_sequence)
        .bind(at_subject)
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        if written.rows_affected() == 0 {
            return Ok(false);
        }
        put_act(&mut transaction, town(&row.subscription), &act)
            .await
            .map_err(&failed)?;
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    async fn move_replay(
        &self,
        id: &str,
        progress: ReplayProgress,
        act: Option<NewAct>,
    ) -> Result<bool, StoreError> {
        let failed = failed("writing the progress of a replay");
        // A page that is taken back is delivered once more, under the same keys.
        let durability = match progress.state {
            ReplayState::Running => Durability::WithLog,
            ReplayState::Done | ReplayState::Stopped => Durability::Now,
        };
        let mut writer = self.writer.lock(durability).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        let (at_stream, at_sequence, at_subject) = progress.at.columns();
        let town: Option<String> = sqlx::query_scalar(
            "UPDATE replay SET state = $2, note = $3, ended_ms = $4, at_stream = $5,
               at_sequence = $6, at_subject = $7, delivered = $8, known = $9, parked = $10
             WHERE id = $1 AND state = 1 RETURNING municipality",
        )
        .bind(id)
        .bind(progress.state.number())
        .bind(&progress.note)
        .bind(progress.ended_ms)
        .bind(at_stream)
        .bind(at_sequence)
        .bind(at_subject)
        .bind(progress.delivered as i64)
        .bind(progress.known as i64)
        .bind(progress.parked as i64)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(&failed)?;
        let Some(town) = town else { return Ok(false) };
        if let Some(act) = act {
            put_act(&mut transaction, &town, &act)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)?;
        Ok(true)
    }

    async fn running_replay(&self, subscription: &str) -> Result<Option<ReplayRow>, StoreError> {
        let row = sqlx::query("SELECT * FROM replay WHERE subscription = $1 AND state = 1")
            .bind(subscription)
            .fetch_optional(&self.readers)
            .await
            .map_err(failed("reading a replay"))?;
        Ok(row.as_ref().map(replay_of))
    }

    async fn replays(&self, m: &Municipality, limit: usize) -> Result<Vec<ReplayRow>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM replay WHERE municipality = $1 ORDER BY id DESC LIMIT $2")
                .bind(m.as_str())
                .bind(limit as i64)
                .fetch_all(&self.readers)
                .await
                .map_err(failed("reading replays"))?;
        Ok(rows.iter().map(replay_of).collect())
    }

    async fn selected(&self, subscription: &str, of: &Selection) -> Result<Selected, StoreError> {
        let mut query = QueryBuilder::new(
            "SELECT count(DISTINCT h.stream * (1 << 56) + h.sequence), count(DISTINCT e.subject),
               min(CASE h.stream WHEN 1 THEN e.position END),
               min(CASE h.stream WHEN 2 THEN e.position END)",
        );
        query.push(from(of));
        narrow(&mut query, subscription, of);
        let row = query.build().fetch_one(&self.readers).await;
        let row = row.map_err(failed("counting what is to be replayed"))?;
        let first = |index| {
            row.get::<Option<i64>, _>(index)
                .map(|at| Position(at as u64))
        };
        Ok(Selected {
            units: row.get::<i64, _>(0) as u64,
            subjects: row.get::<i64, _>(1) as u64,
            first: [first(2), first(3)],
        })
    }

    async fn had(
        &self,
        subscription: &str,
        stream: Stream,
        after: u64,
        of: Option<&Selection>,
        limit: usize,
    ) -> Result<Vec<HadEvent>, StoreError> {
        let mut query = QueryBuilder::new(HAD);
        query
            .push(" WHERE h.subscription = ")
            .push_bind(subscription.to_owned());
        query.push(" AND h.stream = ").push_bind(stream.number());
        query.push(" AND h.sequence IN (SELECT DISTINCT h.sequence");
        match of {
            Some(of) => {
                query.push(from(of));
                narrow(&mut query, subscription, of);
            }
            None => {
                query.push(" FROM history h WHERE h.subscription = ");
                query.push_bind(subscription.to_owned()).push(ANSWERED);
            }
        }
        query.push(" AND h.stream = ").push_bind(stream.number());
        query.push(" AND h.sequence > ").push_bind(after as i64);
        query
            .push(" ORDER BY h.sequence LIMIT ")
            .push_bind(limit as i64);
        query.push(")").push(ANSWERED);
        query.push(" GROUP BY h.sequence, h.event_id ORDER BY h.sequence, e.position");
        let rows = query.build().fetch_all(&self.readers).await;
        let rows = rows.map_err(failed("reading what a subscription had"))?;
        Ok(rows.iter().map(had_event).collect())
    }

    async fn had_of(
        &self,
        subscription: &str,
        subject: &Subject,
    ) -> Result<Vec<HadEvent>, StoreError> {
        let mut query = QueryBuilder::new(HAD);
        query
            .push(" WHERE e.municipality = ")
            .push_bind(town(subscription).to_owned());
        query.push(" AND e.subject = ").push_bind(subject.0.clone());
        query
            .push(" AND h.subscription = ")
            .push_bind(subscription.to_owned());
        query.push(
            " AND h.outcome <> 6 GROUP BY h.stream, h.sequence, h.event_id
              ORDER BY h.stream DESC, h.sequence, e.position",
        );
        let rows = query.build().fetch_all(&self.readers).await;
        let rows = rows.map_err(failed("reading what a subscription had of a subject"))?;
        Ok(rows.iter().map(had_event).collect())
    }

    async fn touched(
        &self,
        subscription: &str,
        of: &Selection,
        whole: bool,
        after: Option<&Subject>,
        limit: usize,
    ) -> Result<Vec<Subject>, StoreError> {
        let mut query = QueryBuilder::new("SELECT DISTINCT e.subject");
        query.push(FROM_EVENTS);
        if whole {
            query.push(" WHERE e.municipality = ");
            query.push_bind(town(subscription).to_owned());
            query
                .push(" AND h.subscription = ")
                .push_bind(subscription.to_owned());
            query.push(" AND (h.stream, h.sequence) IN (SELECT h.stream, h.sequence");
            query.push(from(of));
            narrow(&mut query, subscription, of);
            query.push(")");
        } else {
            narrow(&mut query, subscription, of);
        }
        if let Some(after) = after {
            query.push(" AND e.subject > ").push_bind(after.0.clone());
        }
        query
            .push(" ORDER BY e.subject LIMIT ")
            .push_bind(limit as i64);
        let rows = query.build().fetch_all(&self.readers).await;
        let rows = rows.map_err(failed("reading the subjects of a replay"))?;
        Ok(rows.iter().map(|row| Subject(row.get(0))).collect())
    }
}

/// Few named subjects lead to their events; everything else follows the history.
fn from(of: &Selection) -> &'static str {
    if of.subjects.is_empty() {
        FROM_HISTORY
    } else {
        FROM_EVENTS
    }
}
