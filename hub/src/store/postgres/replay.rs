//! The role of replays in PostgreSQL.
//! Implements `ReplayStore` over the history, the event index and the replays' own table.
//! Must never let two replays of one subscription run at once: a unique index forbids it.
//! Read next: `store/contract/replay.rs`.

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;
use sqlx::postgres::PgRow;
use sqlx::{Postgres, QueryBuilder, Row};

use super::PgStore;
use super::acts::put_act;
use super::delivery::municipality_of;
use super::rows::{number, position};
use super::session::{Session, Trouble, retried};
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::delivery::stored::town;
use crate::store::replay::{
    HadEvent, ReplayAt, ReplayProgress, ReplayRow, ReplayState, ReplayStore, Selected, Selection,
};
use crate::store::{NewAct, StoreError};

/// An event with the last of its outcomes at this subscription, as a unit had it.
const HAD: &str = "SELECT * FROM (SELECT DISTINCT ON (h.stream, h.sequence, e.id)
    h.number AS ended, e.id, e.type, e.subject, e.published_ms, coalesce(e.position, 0) AS position,
    h.stream, h.sequence, h.member, h.outcome, h.reason";
/// The history with the events that it tells of.
const FROM: &str =
    " FROM history h JOIN event e ON e.municipality = h.municipality AND e.id = h.event_id";
/// Refusals are steps of the history too: what was refused lies parked.
const ANSWERED: &str = " AND h.outcome <> 6";
/// The end of what begins with `HAD`: the last outcome comes first.
const LAST: &str = " ORDER BY h.stream, h.sequence, e.id, h.number DESC) had
  ORDER BY stream DESC, sequence, position";

fn had_event(row: &PgRow) -> HadEvent {
    HadEvent {
        id: row.get("id"),
        event_type: row.get("type"),
        subject: Subject(row.get("subject")),
        published_ms: row.get("published_ms"),
        stream: Stream::from_number(row.get("stream")),
        position: position(row.get("position")),
        sequence: number(row, "sequence"),
        member: row.get::<i64, _>("member") as u32,
        ended: number(row, "ended"),
        outcome: row.get::<i64, _>("outcome") as i32,
        reason: row.get("reason"),
    }
}

fn replay_of(row: &PgRow) -> ReplayRow {
    let at = |name| row.get::<Option<i64>, _>(name).map(position);
    let subjects: Vec<String> = row.get("subjects");
    let selection = Selection {
        stream: row.get::<Option<i64>, _>("stream").map(Stream::from_number),
        from_position: at("from_position"),
        to_position: at("to_position"),
        from_ms: row.get("from_ms"),
        to_ms: row.get("to_ms"),
        subjects: subjects.into_iter().map(Subject).collect(),
        types: row.get("types"),
    };
    ReplayRow {
        id: row.get("id"),
        subscription: row.get("subscription"),
        binding_epoch: number(row, "binding_epoch"),
        selection,
        repair: row.get("repair"),
        operator: row.get("operator"),
        reason: row.get("reason"),
        started_ms: row.get("started_ms"),
        selected: (number(row, "units"), number(row, "subject_count")),
        progress: ReplayProgress {
            state: ReplayState::from_number(row.get("state")),
            note: row.get("note"),
            ended_ms: row.get("ended_ms"),
            at: ReplayAt::stored(
                row.get("at_stream"),
                row.get("at_sequence"),
                row.get("at_subject"),
            ),
            delivered: number(row, "delivered"),
            known: number(row, "known"),
            parked: number(row, "parked"),
        },
    }
}

/// Narrows a query over `history h` and `event e` to what a selection names.
fn narrow(query: &mut QueryBuilder<Postgres>, subscription: &str, of: &Selection) {
    query
        .push(" WHERE h.subscription = ")
        .push_bind(subscription.to_owned());
    query
        .push(" AND h.municipality = ")
        .push_bind(town(subscription).to_owned());
    query.push(ANSWERED);
    let numbers = [
        (" AND h.stream = ", of.stream.map(Stream::number)),
        (" AND e.position >= ", of.from_position.map(number_of)),
        (" AND e.position <= ", of.to_position.map(number_of)),
        (" AND e.published_ms >= ", of.from_ms),
        (" AND e.published_ms < ", of.to_ms),
    ];
    for (condition, number) in numbers {
        if let Some(number) = number {
            query.push(condition).push_bind(number);
        }
    }
    let subjects = of.subjects.iter().map(|Subject(name)| name.clone());
    for (condition, names) in [
        (" AND e.subject = ANY (", subjects.collect()),
        (" AND e.type = ANY (", of.types.clone()),
    ] {
        let names: Vec<String> = names;
        if !names.is_empty() {
            query.push(condition).push_bind(names).push(")");
        }
    }
    query
        .push(
            " AND NOT EXISTS (SELECT 1 FROM history s WHERE s.municipality = h.municipality
               AND s.event_id = h.event_id AND s.subscription = h.subscription AND s.outcome = ",
        )
        .push_bind(i64::from(Outcome::Skipped as i32))
        .push(")");
}

fn number_of(position: Position) -> i64 {
    position.0.cast_signed()
}

const PUT: &str = "
INSERT INTO replay (id, subscription, municipality, binding_epoch, stream, from_position,
  to_position, from_ms, to_ms, subjects, types, repair, operator, reason, started_ms, units,
  subject_count, state, note, at_stream, at_sequence, at_subject, delivered, known, parked)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, 1, '', $18,
  $19, $20, 0, 0, 0)
ON CONFLICT DO NOTHING";

/// Writes a replay; false when another one runs. One that stands there was written by this very
/// call, whose answer was lost.
async fn put(session: &mut Session<'_>, row: &ReplayRow) -> Result<bool, sqlx::Error> {
    let of = &row.selection;
    let subjects = of.subjects.iter().map(|Subject(name)| name.as_str());
    let (at_stream, at_sequence, at_subject) = row.progress.at.columns();
    session
        .query(PUT)
        .bind(&row.id)
        .bind(&row.subscription)
        .bind(town(&row.subscription))
        .bind(row.binding_epoch.cast_signed())
        .bind(of.stream.map(Stream::number))
        .bind(of.from_position.map(number_of))
        .bind(of.to_position.map(number_of))
        .bind(of.from_ms)
        .bind(of.to_ms)
        .bind(subjects.collect::<Vec<&str>>())
        .bind(&of.types)
        .bind(row.repair)
        .bind(&row.operator)
        .bind(&row.reason)
        .bind(row.started_ms)
        .bind(row.selected.0.cast_signed())
        .bind(row.selected.1.cast_signed())
        .bind(at_stream)
        .bind(at_sequence)
        .bind(at_subject)
        .execute(&mut **session)
        .await?;
    session
        .scalar("SELECT EXISTS (SELECT 1 FROM replay WHERE id = $1)")
        .bind(&row.id)
        .fetch_one(&mut **session)
        .await
}

/// Writes the progress of a replay that runs; false when it does not.
async fn put_progress(
    session: &mut Session<'_>,
    id: &str,
    progress: &ReplayProgress,
) -> Result<bool, sqlx::Error> {
    let (at_stream, at_sequence, at_subject) = progress.at.columns();
    let written = session
        .query(
            "UPDATE replay SET state = $2, note = $3, ended_ms = $4, at_stream = $5,
               at_sequence = $6, at_subject = $7, delivered = $8, known = $9, parked = $10
             WHERE id = $1 AND state = 1",
        )
        .bind(id)
        .bind(progress.state.number())
        .bind(&progress.note)
        .bind(progress.ended_ms)
        .bind(at_stream)
        .bind(at_sequence)
        .bind(at_subject)
        .bind(progress.delivered.cast_signed())
        .bind(progress.known.cast_signed())
        .bind(progress.parked.cast_signed())
        .execute(&mut **session)
        .await?;
    Ok(written.rows_affected() == 1)
}

/// True when a replay was ended by this very call, whose answer was lost: by its act, or, without
/// one, by the hub itself at this time.
async fn ended_so(
    session: &mut Session<'_>,
    id: &str,
    progress: &ReplayProgress,
    act: Option<&NewAct>,
) -> Result<bool, sqlx::Error> {
    session
        .scalar(
            "SELECT EXISTS (SELECT 1 FROM replay r WHERE r.id = $1 AND r.state = $2
               AND r.ended_ms = $3 AND ($4::text IS NULL OR EXISTS
                 (SELECT 1 FROM act a WHERE a.municipality = r.municipality AND a.id = $4)))",
        )
        .bind(id)
        .bind(progress.state.number())
        .bind(progress.ended_ms)
        .bind(act.map(|act| &act.id))
        .fetch_one(&mut **session)
        .await
}

impl PgStore {
    /// Runs a query that is made of parts: none of them is kept by the server.
    async fn read_built(
        &self,
        action: &'static str,
        build: impl Fn() -> QueryBuilder<Postgres> + Sync,
    ) -> Result<Vec<PgRow>, StoreError> {
        retried!(self, action, async {
            let mut session = self.read().await?;
            let mut query = build();
            let rows = query.build().persistent(false).fetch_all(&mut *session);
            let rows = rows.await?;
            session.end().await?;
            Ok::<_, Trouble>(rows)
        })
    }

    async fn town_of_replay(&self, id: &str) -> Result<Option<Municipality>, StoreError> {
        let subscription: Option<String> = retried!(self, "reading a replay", async {
            let mut session = self.read().await?;
            let subscription = session
                .scalar("SELECT subscription FROM replay WHERE id = $1")
                .bind(id)
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(subscription)
        })?;
        subscription.map(|of| municipality_of(&of)).transpose()
    }
}

#[async_trait]
impl ReplayStore for PgStore {
    async fn start_replay(&self, row: ReplayRow, act: NewAct) -> Result<bool, StoreError> {
        let m = municipality_of(&row.subscription)?;
        retried!(self, "starting a replay", async {
            let mut session = self.write(&m).await?;
            let started = put(&mut session, &row).await?;
            if started {
                put_act(&mut session, m.as_str(), &act).await?;
            }
            session.end().await?;
            Ok::<_, Trouble>(started)
        })
    }

    async fn move_replay(
        &self,
        id: &str,
        progress: ReplayProgress,
        act: Option<NewAct>,
    ) -> Result<bool, StoreError> {
        // A page that is taken back is delivered once more, under the same keys.
        let Some(m) = self.town_of_replay(id).await? else {
            return Ok(false);
        };
        retried!(self, "writing the progress of a replay", async {
            let mut session = self.write(&m).await?;
            let mut moved = put_progress(&mut session, id, &progress).await?;
            if !moved {
                moved = ended_so(&mut session, id, &progress, act.as_ref()).await?;
            } else if let Some(act) = &act {
                put_act(&mut session, m.as_str(), act).await?;
            }
            session.end().await?;
            Ok::<_, Trouble>(moved)
        })
    }

    async fn running_replay(&self, subscription: &str) -> Result<Option<ReplayRow>, StoreError> {
        retried!(self, "reading a replay", async {
            let mut session = self.read().await?;
            let row = session
                .query("SELECT * FROM replay WHERE subscription = $1 AND state = 1")
                .bind(subscription)
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(row.as_ref().map(replay_of))
        })
    }

    async fn replays(&self, m: &Municipality, limit: usize) -> Result<Vec<ReplayRow>, StoreError> {
        retried!(self, "reading replays", async {
            let mut session = self.read().await?;
            let rows = session
                .query("SELECT * FROM replay WHERE municipality = $1 ORDER BY id DESC LIMIT $2")
                .bind(m.as_str())
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(replay_of).collect())
        })
    }

    async fn selected(&self, subscription: &str, of: &Selection) -> Result<Selected, StoreError> {
        let build = || {
            let mut query = QueryBuilder::new(
                "SELECT count(DISTINCT (h.stream, h.sequence)), count(DISTINCT e.subject),
                   min(e.position) FILTER (WHERE h.stream = 1),
                   min(e.position) FILTER (WHERE h.stream = 2)",
            );
            query.push(FROM);
            narrow(&mut query, subscription, of);
            query
        };
        let action = "counting what is to be replayed";
        let rows = self.read_built(action, build).await?;
        let Some(row) = rows.first() else {
            return Ok(Selected::default());
        };
        let first = |index: usize| row.get::<Option<i64>, _>(index).map(position);
        Ok(Selected {
            units: row.get::<i64, _>(0).cast_unsigned(),
            subjects: row.get::<i64, _>(1).cast_unsigned(),
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
        let build = || {
            let mut query = QueryBuilder::new(HAD);
            query.push(FROM).push(" WHERE h.subscription = ");
            query.push_bind(subscription.to_owned());
            query.push(" AND h.stream = ").push_bind(stream.number());
            query.push(" AND h.sequence IN (SELECT DISTINCT h.sequence");
            match of {
                Some(of) => {
                    query.push(FROM);
                    narrow(&mut query, subscription, of);
                }
                None => {
                    query.push(" FROM history h WHERE h.subscription = ");
                    query.push_bind(subscription.to_owned()).push(ANSWERED);
                }
            }
            query.push(" AND h.stream = ").push_bind(stream.number());
            query.push(" AND h.sequence > ");
            query.push_bind(after.cast_signed());
            query.push(" ORDER BY h.sequence LIMIT ");
            query.push_bind(limit as i64).push(")");
            query.push(ANSWERED).push(LAST);
            query
        };
        let action = "reading what a subscription had";
        let rows = self.read_built(action, build).await?;
        Ok(rows.iter().map(had_event).collect())
    }

    async fn had_of(
        &self,
        subscription: &str,
        subject: &Subject,
    ) -> Result<Vec<HadEvent>, StoreError> {
        let build = || {
            let mut query = QueryBuilder::new(HAD);
            query.push(FROM).push(" WHERE e.municipality = ");
            query.push_bind(town(subscription).to_owned());
            query.push(" AND e.subject = ").push_bind(subject.0.clone());
            query.push(" AND h.subscription = ");
            query.push_bind(subscription.to_owned());
            query.push(ANSWERED).push(LAST);
            query
        };
        let action = "reading what a subscription had of a subject";
        let rows = self.read_built(action, build).await?;
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
        let build = || {
            let mut query = QueryBuilder::new("SELECT DISTINCT e.subject");
            query.push(FROM);
            if whole {
                query.push(" WHERE h.municipality = ");
                query.push_bind(town(subscription).to_owned());
                query.push(" AND h.subscription = ");
                query.push_bind(subscription.to_owned());
                query.push(" AND (h.stream, h.sequence) IN (SELECT h.stream, h.sequence");
                query.push(FROM);
                narrow(&mut query, subscription, of);
                query.push(")");
            } else {
                narrow(&mut query, subscription, of);
            }
            if let Some(after) = after {
                query.push(" AND e.subject > ").push_bind(after.0.clone());
            }
            query.push(" ORDER BY e.subject LIMIT ");
            query.push_bind(limit as i64);
            query
        };
        let action = "reading the subjects of a replay";
        let rows = self.read_built(action, build).await?;
        Ok(rows.iter().map(|row| Subject(row.get(0))).collect())
    }
}
