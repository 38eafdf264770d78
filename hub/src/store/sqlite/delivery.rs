//! The delivery role in SQLite.
//! Implements `DeliveryStore`.
//! Must never apply a delta whose owner epoch is not the stored one: the fence is a condition
//! inside the transaction.
//! Read next: `engine.rs`.

mod commit;
mod write;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::{SqliteStore, failed};

use crate::event::seal::Sealed;
use crate::event::{Municipality, Position, Subject};
use crate::store::delivery::stored::{pair, settings_of};
use crate::store::{
    BindingRow, BindingState, Cursor, DeliveryDelta, DeliveryStore, Durability, HistoryRow,
    OutcomeTally, ParkedRow, ParkedState, Pause, RunRow, StoreError, SubscriptionRow, UnitKey,
};

pub(super) fn key_of(row: &SqliteRow) -> UnitKey {
    UnitKey::stored(row.get("stream"), row.get("sequence"), row.get("member"))
}

fn position_of(number: i64) -> Position {
    Position(number as u64)
}

pub(super) fn parked_of(row: &SqliteRow, subjects: Vec<Subject>) -> ParkedRow {
    ParkedRow {
        key: key_of(row),
        subjects,
        state: ParkedState::from_number(row.get("state")),
        reason: row.get("reason"),
        field: row.get("field"),
        message: row.get("message"),
        attempts: row.get::<i64, _>("attempts") as u32,
        at_ms: row.get("at_ms"),
        due_ms: row.get("due_ms"),
        revision: row.get::<i64, _>("revision") as u64,
        position: position_of(row.get("position")),
        event_ids: serde_json::from_str(row.get("event_ids")).unwrap_or_default(),
        content: Sealed {
            key_id: row.get("key_id"),
            bytes: row.get("content"),
        },
    }
}

pub(super) async fn subjects_of(
    connection: &mut SqliteConnection,
    subscription: &str,
    key: UnitKey,
) -> Result<Vec<Subject>, sqlx::Error> {
    let names: Vec<String> = sqlx::query_scalar(
        "SELECT subject FROM parked_subject
         WHERE subscription = $1 AND stream = $2 AND sequence = $3 AND member = $4
         ORDER BY ordinal",
    )
    .bind(subscription)
    .bind(key.stream.number())
    .bind(key.sequence as i64)
    .bind(i64::from(key.member))
    .fetch_all(connection)
    .await?;
    Ok(names.into_iter().map(Subject).collect())
}

fn binding_of(row: &SqliteRow) -> BindingRow {
    BindingRow {
        product: row.get("product"),
        epoch: row.get::<i64, _>("epoch") as u64,
        state: BindingState::from_number(row.get("state")),
        cut: pair(row.get("cut_live"), row.get("cut_bulk")),
        paused: Pause::stored(row.get("paused_by"), row.get("paused")),
        settings: settings_of(row.get("subscription"), row.get("settings")),
    }
}

/// A subscription without its bindings and counts.
fn subscription_of(m: &Municipality, row: &SqliteRow) -> SubscriptionRow {
    SubscriptionRow {
        id: row.get("id"),
        municipality: m.clone(),
        system: row.get("system"),
        live: Cursor {
            position: position_of(row.get("live_position")),
            sequence: row.get::<i64, _>("live_sequence") as u64,
        },
        bulk: Cursor {
            position: position_of(row.get("bulk_position")),
            sequence: row.get::<i64, _>("bulk_sequence") as u64,
        },
        filled: row.get::<i64, _>("filled") == 1,
        until: pair(row.get("until_live"), row.get("until_bulk")),
        closed: row.get::<i64, _>("closed") == 1,
        bindings: Vec::new(),
        tally: OutcomeTally::default(),
    }
}

/// Adds what a row of another table says to its subscription.
type Add = fn(&mut SubscriptionRow, &SqliteRow);

/// What else belongs to a subscription: one query for all subscriptions of a municipality.
const PARTS: [(&str, Add); 3] = [
    (
        "SELECT b.* FROM subscription s JOIN binding b ON b.subscription = s.id
         WHERE s.municipality = $1 ORDER BY b.subscription, b.epoch",
        |of, row| of.bindings.push(binding_of(row)),
    ),
    (
        "SELECT t.* FROM subscription s JOIN tally t ON t.subscription = s.id
         WHERE s.municipality = $1",
        |of, row| of.tally.count_done(row.get("outcome"), row.get("events")),
    ),
    (
        "SELECT p.subscription, p.state, sum(p.events) AS events
         FROM subscription s JOIN parked p ON p.subscription = s.id
         WHERE s.municipality = $1 GROUP BY p.subscription, p.state",
        |of, row| of.tally.count_parked(row.get("state"), row.get("events")),
    ),
];

#[async_trait]
impl DeliveryStore for SqliteStore {
    async fn own(&self, m: &Municipality) -> Result<u64, StoreError> {
        let failed = failed("taking ownership");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let epoch: i64 = sqlx::query_scalar(
            "INSERT INTO owner (municipality, epoch) VALUES ($1, 1)
             ON CONFLICT (municipality) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        )
        .bind(m.as_str())
        .fetch_one(&mut *writer)
        .await
        .map_err(failed)?;
        Ok(epoch as u64)
    }

    async fn municipalities(&self) -> Result<Vec<Municipality>, StoreError> {
        let codes: Vec<String> = sqlx::query_scalar(
            "SELECT municipality FROM owner UNION SELECT municipality FROM subscription
             UNION SELECT municipality FROM tail UNION SELECT municipality FROM capture",
        )
        .fetch_all(&self.readers)
        .await
        .map_err(failed("listing municipalities"))?;
        Ok(codes
            .iter()
            .filter_map(|code| Municipality::parse(code))
            .collect())
    }

    async fn subscriptions(&self, m: &Municipality) -> Result<Vec<SubscriptionRow>, StoreError> {
        let failed = failed("reading subscriptions");
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let rows = sqlx::query("SELECT * FROM subscription WHERE municipality = $1 ORDER BY id")
            .bind(m.as_str())
            .fetch_all(&mut *reader)
            .await
            .map_err(&failed)?;
        let mut read: Vec<SubscriptionRow> =
            rows.iter().map(|row| subscription_of(m, row)).collect();
        for (statement, add) in PARTS {
            let rows = sqlx::query(statement).bind(m.as_str());
            for row in rows.fetch_all(&mut *reader).await.map_err(&failed)? {
                let id: &str = row.get("subscription");
                let place = read.binary_search_by(|of| of.id.as_str().cmp(id));
                if let Some(of) = place.ok().and_then(|place| read.get_mut(place)) {
                    add(of, &row);
                }
            }
        }
        Ok(read)
    }

    async fn put_subscription(&self, row: SubscriptionRow) -> Result<(), StoreError> {
        let failed = failed("writing a subscription");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO subscription (id, municipality, system, live_position, live_sequence,
               bulk_position, bulk_sequence, filled, until_live, until_bulk, closed)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (id) DO UPDATE SET until_live = excluded.until_live,
               until_bulk = excluded.until_bulk, closed = max(closed, excluded.closed)",
        )
        .bind(&row.id)
        .bind(row.municipality.as_str())
        .bind(&row.system)
        .bind(row.live.position.0 as i64)
        .bind(row.live.sequence as i64)
        .bind(row.bulk.position.0 as i64)
        .bind(row.bulk.sequence as i64)
        .bind(i64::from(row.filled))
        .bind(row.until.map(|until| until.0.0 as i64))
        .bind(row.until.map(|until| until.1.0 as i64))
        .bind(i64::from(row.closed))
        .execute(&mut *transaction)
        .await
        .map_err(&failed)?;
        for binding in &row.bindings {
            sqlx::query(
                "INSERT INTO binding
                   (subscription, epoch, product, state, cut_live, cut_bulk, settings)
                 VALUES ($1, $2, $3, $4, $5, $6, $7)
                 ON CONFLICT (subscription, epoch) DO UPDATE SET state = excluded.state,
                   cut_live = excluded.cut_live, cut_bulk = excluded.cut_bulk,
                   settings = excluded.settings",
            )
            .bind(&row.id)
            .bind(binding.epoch as i64)
            .bind(&binding.product)
            .bind(binding.state.number())
            .bind(binding.cut.map(|cut| cut.0.0 as i64))
            .bind(binding.cut.map(|cut| cut.1.0 as i64))
            .bind(serde_json::to_string(&binding.settings).unwrap_or_default())
            .execute(&mut *transaction)
            .await
            .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn finish_filling(&self, filling: &str, into: &str) -> Result<(), StoreError> {
        let failed = failed("finishing a filling subscription");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        let mut transaction = writer.begin().await.map_err(&failed)?;
        for statement in [
            "UPDATE OR IGNORE parked SET subscription = $2 WHERE subscription = $1",
            "UPDATE OR IGNORE parked_subject SET subscription = $2 WHERE subscription = $1",
            "INSERT INTO tally (subscription, outcome, events)
               SELECT $2, outcome, events FROM tally WHERE subscription = $1 AND true
               ON CONFLICT (subscription, outcome)
                 DO UPDATE SET events = tally.events + excluded.events",
            "DELETE FROM tally WHERE subscription = $1 AND $2 = $2",
            "DELETE FROM parked WHERE subscription = $1 AND $2 = $2",
            "DELETE FROM parked_subject WHERE subscription = $1 AND $2 = $2",
            "DELETE FROM attempt WHERE subscription = $1 AND $2 = $2",
            "DELETE FROM run WHERE subscription = $1 AND $2 = $2",
            "UPDATE subscription SET closed = 1 WHERE id = $1 AND $2 = $2",
        ] {
            sqlx::query(statement)
                .bind(filling)
                .bind(into)
                .execute(&mut *transaction)
                .await
                .map_err(&failed)?;
        }
        transaction.commit().await.map_err(&failed)
    }

    async fn commit(&self, delta: DeliveryDelta) -> Result<(), StoreError> {
        self.deltas.commit(delta, self.writer.turn()).await
    }

    async fn ahead(&self, subscription: &str) -> Result<HashSet<UnitKey>, StoreError> {
        let rows =
            sqlx::query("SELECT stream, sequence, member FROM ahead WHERE subscription = $1")
                .bind(subscription)
                .fetch_all(&self.readers)
                .await
                .map_err(failed("reading outcomes ahead of the cursor"))?;
        Ok(rows.iter().map(key_of).collect())
    }

    async fn attempts(&self, subscription: &str) -> Result<Vec<(UnitKey, u32)>, StoreError> {
        let rows = sqlx::query(
            "SELECT stream, sequence, member, attempts FROM attempt WHERE subscription = $1",
        )
        .bind(subscription)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading attempts"))?;
        Ok(rows
            .iter()
            .map(|row| (key_of(row), row.get::<i64, _>(3) as u32))
            .collect())
    }

    async fn runs(&self, subscription: &str) -> Result<Vec<RunRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, stream, sequence, member FROM run WHERE subscription = $1
             ORDER BY id, ordinal",
        )
        .bind(subscription)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading runs"))?;
        let mut runs: Vec<RunRow> = Vec::new();
        for row in &rows {
            let id: String = row.get("id");
            match runs.last_mut() {
                Some(run) if run.id == id => run.keys.push(key_of(row)),
                _ => runs.push(RunRow {
                    id,
                    keys: vec![key_of(row)],
                }),
            }
        }
        Ok(runs)
    }

    async fn parked_subjects(
        &self,
        subscription: &str,
    ) -> Result<HashMap<Subject, UnitKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT subject, stream, sequence, member FROM parked_subject
             WHERE subscription = $1 ORDER BY subject, stream, sequence, member",
        )
        .bind(subscription)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading parked subjects"))?;
        let mut subjects = HashMap::new();
        for row in &rows {
            let subject = Subject(row.get("subject"));
            subjects.entry(subject).or_insert_with(|| key_of(row));
        }
        Ok(subjects)
    }

    async fn parked(
        &self,
        subscription: &str,
        subject: Option<&Subject>,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let failed = failed("reading parked units");
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let after = after.map_or((0, 0, -1), |key| {
            (
                key.stream.number(),
                key.sequence as i64,
                i64::from(key.member),
            )
        });
        // One subject has few of many: its own index leads.
        let statement = match subject {
            None => {
                "SELECT * FROM parked WHERE subscription = $1
                   AND (stream, sequence, member) > ($2, $3, $4) AND $5 IS NULL
                 ORDER BY stream, sequence, member LIMIT $6"
            }
            Some(_) => {
                "SELECT p.* FROM parked_subject s CROSS JOIN parked p
                   ON p.subscription = s.subscription AND p.stream = s.stream
                     AND p.sequence = s.sequence AND p.member = s.member
                 WHERE s.subscription = $1 AND s.subject = $5
                   AND (s.stream, s.sequence, s.member) > ($2, $3, $4)
                 ORDER BY s.stream, s.sequence, s.member LIMIT $6"
            }
        };
        let rows = sqlx::query(statement)
            .bind(subscription)
            .bind(after.0)
            .bind(after.1)
            .bind(after.2)
            .bind(subject.map(|subject| subject.0.clone()))
            .bind(limit as i64)
            .fetch_all(&mut *reader)
            .await
            .map_err(&failed)?;
        let mut parked = Vec::with_capacity(rows.len());
        for row in &rows {
            let subjects = subjects_of(&mut reader, subscription, key_of(row))
                .await
                .map_err(&failed)?;
            parked.push(parked_of(row, subjects));
        }
        Ok(parked)
    }

    async fn due(
        &self,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<(i64, UnitKey)>, StoreError> {
        let rows = sqlx::query(
            "SELECT due_ms, stream, sequence, member FROM parked
             WHERE subscription = $1 AND due_ms IS NOT NULL ORDER BY due_ms LIMIT $2",
        )
        .bind(subscription)
        .bind(limit as i64)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading what is due"))?;
        let due = rows.iter().map(|row| (row.get("due_ms"), key_of(row)));
        Ok(due.collect())
    }

    async fn parked_unit(
        &self,
        subscription: &str,
        key: UnitKey,
    ) -> Result<Option<ParkedRow>, StoreError> {
        let failed = failed("reading a parked unit");
        let mut reader = self.readers.acquire().await.map_err(&failed)?;
        let row = sqlx::query(
            "SELECT * FROM parked
             WHERE subscription = $1 AND stream = $2 AND sequence = $3 AND member = $4",
        )
        .bind(subscription)
        .bind(key.stream.number())
        .bind(key.sequence as i64)
        .bind(i64::from(key.member))
        .fetch_optional(&mut *reader)
        .await
        .map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let subjects = subjects_of(&mut reader, subscription, key)
            .await
            .map_err(&failed)?;
        Ok(Some(parked_of(&row, subjects)))
    }

    async fn history(
        &self,
        m: &Municipality,
        event_id: &str,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM history WHERE municipality = $1 AND event_id = $2 ORDER BY number",
        )
        .bind(m.as_str())
        .bind(event_id)
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading a history"))?;
        Ok(rows
            .iter()
            .map(|row| HistoryRow {
                subscription: row.get("subscription"),
                product: row.get("product"),
                key: key_of(row),
                attempt: row.get::<i64, _>("attempt") as u32,
                outcome: row.get::<i64, _>("outcome") as i32,
                reason: row.get("reason"),
                at_ms: row.get("at_ms"),
            })
            .collect())
    }

    async fn grants(
        &self,
        m: &Municipality,
    ) -> Result<Vec<((Position, Position), String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT live_position, bulk_position, text FROM granted
             WHERE municipality = $1 ORDER BY live_position, bulk_position",
        )
        .bind(m.as_str())
        .fetch_all(&self.readers)
        .await
        .map_err(failed("reading grants"))?;
        Ok(rows
            .iter()
            .map(|row| {
                (
                    (position_of(row.get(0)), position_of(row.get(1))),
                    row.get(2),
                )
            })
            .collect())
    }

    async fn put_grants(
        &self,
        m: &Municipality,
        from: (Position, Position),
        text: &str,
    ) -> Result<(), StoreError> {
        let failed = failed("writing grants");
        let mut writer = self.writer.lock(Durability::Now).await.map_err(&failed)?;
        sqlx::query(
            "INSERT INTO granted (municipality, live_position, bulk_position, text)
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        )
        .bind(m.as_str())
        .bind(from.0.0 as i64)
        .bind(from.1.0 as i64)
        .bind(text)
        .execute(&mut *writer)
        .await
        .map_err(failed)?;
        Ok(())
    }
}
