//! The delivery role in PostgreSQL.
//! Implements `DeliveryStore`.
//! Must never apply a delta whose owner epoch is not the stored one: the fence is a condition
//! inside the transaction.
//! Read next: `store/postgres/delivery/commit.rs`.

mod commit;
mod history;
mod write;

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use sqlx::Row;
use sqlx::postgres::PgRow;

pub(super) use self::history::Months;
pub(super) use self::write::Turn;
use super::PgStore;
use super::rows::{key_of, number, parked_columns, parked_of, position};
use super::session::{Session, Trouble, retried};
use crate::event::{Municipality, Position, Subject};
use crate::store::delivery::stored::{pair, settings_of, town};
use crate::store::{
    BindingRow, BindingState, Cursor, DeliveryDelta, DeliveryStore, HistoryRow, OutcomeTally,
    ParkedRow, Pause, RunRow, StoreError, SubscriptionRow, UnitKey,
};

fn binding_of(row: &PgRow) -> BindingRow {
    BindingRow {
        product: row.get("product"),
        epoch: number(row, "epoch"),
        state: BindingState::from_number(row.get("state")),
        cut: pair(row.get("cut_live"), row.get("cut_bulk")),
        paused: Pause::stored(row.get("paused_by"), row.get("paused")),
        settings: settings_of(row.get("subscription"), row.get("settings")),
    }
}

/// A subscription without its bindings and counts.
fn subscription_of(m: &Municipality, row: &PgRow) -> SubscriptionRow {
    SubscriptionRow {
        id: row.get("id"),
        municipality: m.clone(),
        system: row.get("system"),
        live: Cursor {
            position: position(row.get("live_position")),
            sequence: number(row, "live_sequence"),
        },
        bulk: Cursor {
            position: position(row.get("bulk_position")),
            sequence: number(row, "bulk_sequence"),
        },
        filled: row.get("filled"),
        until: pair(row.get("until_live"), row.get("until_bulk")),
        closed: row.get("closed"),
        bindings: Vec::new(),
        tally: OutcomeTally::default(),
    }
}

/// Adds what a row of another table says to its subscription.
type Add = fn(&mut SubscriptionRow, &PgRow);

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
        "SELECT p.subscription, p.state, sum(p.events)::bigint AS events
         FROM subscription s JOIN parked p ON p.subscription = s.id
         WHERE s.municipality = $1 GROUP BY p.subscription, p.state",
        |of, row| of.tally.count_parked(row.get("state"), row.get("events")),
    ),
];

/// Reads the subscriptions of a municipality with all that belongs to them.
async fn read_subscriptions(
    session: &mut Session<'_>,
    m: &Municipality,
) -> Result<Vec<SubscriptionRow>, sqlx::Error> {
    let rows = session
        .query("SELECT * FROM subscription WHERE municipality = $1")
        .bind(m.as_str())
        .fetch_all(&mut **session)
        .await?;
    let mut read: Vec<SubscriptionRow> = rows.iter().map(|row| subscription_of(m, row)).collect();
    // Not left to the database: its order is that of its locale.
    read.sort_by(|a, b| a.id.cmp(&b.id));
    for (statement, add) in PARTS {
        let rows = session.query(statement).bind(m.as_str());
        for row in rows.fetch_all(&mut **session).await? {
            let id: &str = row.get("subscription");
            let place = read.binary_search_by(|of| of.id.as_str().cmp(id));
            if let Some(of) = place.ok().and_then(|place| read.get_mut(place)) {
                add(of, &row);
            }
        }
    }
    Ok(read)
}

const PUT_SUBSCRIPTION: &str = "
INSERT INTO subscription (id, municipality, system, live_position, live_sequence, bulk_position,
  bulk_sequence, filled, until_live, until_bulk, closed)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
ON CONFLICT (id) DO UPDATE SET until_live = excluded.until_live,
  until_bulk = excluded.until_bulk, closed = subscription.closed OR excluded.closed";

const PUT_BINDINGS: &str = "
INSERT INTO binding (subscription, epoch, product, state, cut_live, cut_bulk, settings)
SELECT $1, b.* FROM unnest($2::bigint[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[],
  $7::text[]) b
ON CONFLICT (subscription, epoch) DO UPDATE SET state = excluded.state,
  cut_live = excluded.cut_live, cut_bulk = excluded.cut_bulk, settings = excluded.settings";

/// Writes a subscription with its bindings.
async fn put_subscription(
    session: &mut Session<'_>,
    row: &SubscriptionRow,
) -> Result<(), sqlx::Error> {
    session
        .query(PUT_SUBSCRIPTION)
        .bind(&row.id)
        .bind(row.municipality.as_str())
        .bind(&row.system)
        .bind(row.live.position.0.cast_signed())
        .bind(row.live.sequence.cast_signed())
        .bind(row.bulk.position.0.cast_signed())
        .bind(row.bulk.sequence.cast_signed())
        .bind(row.filled)
        .bind(row.until.map(|until| until.0.0.cast_signed()))
        .bind(row.until.map(|until| until.1.0.cast_signed()))
        .bind(row.closed)
        .execute(&mut **session)
        .await?;
    let bindings = &row.bindings;
    let settings = bindings.iter().map(|one| &one.settings);
    let settings = settings.map(|one| serde_json::to_string(one).unwrap_or_default());
    session
        .query(PUT_BINDINGS)
        .bind(&row.id)
        .bind(column(bindings, |one| one.epoch.cast_signed()))
        .bind(column(bindings, |one| one.product.as_str()))
        .bind(column(bindings, |one| one.state.number()))
        .bind(column(bindings, |one| {
            one.cut.map(|cut| cut.0.0.cast_signed())
        }))
        .bind(column(bindings, |one| {
            one.cut.map(|cut| cut.1.0.cast_signed())
        }))
        .bind(settings.collect::<Vec<String>>())
        .execute(&mut **session)
        .await?;
    Ok(())
}

/// A column of rows, for `unnest`.
fn column<'a, T, C>(rows: &'a [T], of: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(of).collect()
}

/// What the end of a filling does, in order, with its name ($1) and its system's own ($2). A unit
/// that both have parked stays as the system's own has it.
const FINISH: [&str; 8] = [
    "INSERT INTO tally (subscription, outcome, events)
       SELECT $2, outcome, events FROM tally WHERE subscription = $1
       ON CONFLICT (subscription, outcome) DO UPDATE SET events = tally.events + excluded.events",
    "UPDATE parked p SET subscription = $2 WHERE subscription = $1 AND NOT EXISTS
       (SELECT 1 FROM parked o WHERE o.subscription = $2 AND o.stream = p.stream
          AND o.sequence = p.sequence AND o.member = p.member)",
    "UPDATE parked_subject p SET subscription = $2 WHERE subscription = $1 AND NOT EXISTS
       (SELECT 1 FROM parked_subject o WHERE o.subscription = $2 AND o.subject = p.subject
          AND o.stream = p.stream AND o.sequence = p.sequence AND o.member = p.member)",
    "DELETE FROM tally WHERE subscription = $1",
    "WITH subject AS
       (DELETE FROM parked_subject WHERE subscription = $1)
       DELETE FROM parked WHERE subscription = $1",
    "DELETE FROM attempt WHERE subscription = $1",
    "DELETE FROM run WHERE subscription = $1",
    "UPDATE subscription SET closed = TRUE WHERE id = $1",
];

const PARKED_OF_ALL: &str = concat!(
    "SELECT ",
    parked_columns!(),
    " FROM parked p WHERE p.subscription = $1
        AND (p.stream, p.sequence, p.member) > ($2, $3, $4)
      ORDER BY p.stream, p.sequence, p.member LIMIT $5"
);

/// One subject has few of many: its own index leads.
const PARKED_OF_SUBJECT: &str = concat!(
    "SELECT ",
    parked_columns!(),
    " FROM parked_subject u JOIN parked p ON p.subscription = u.subscription
        AND p.stream = u.stream AND p.sequence = u.sequence AND p.member = u.member
      WHERE u.subscription = $1 AND u.subject = $6
        AND (u.stream, u.sequence, u.member) > ($2, $3, $4)
      ORDER BY u.stream, u.sequence, u.member LIMIT $5"
);

const PARKED_UNIT: &str = concat!(
    "SELECT ",
    parked_columns!(),
    " FROM parked p
      WHERE p.subscription = $1 AND p.stream = $2 AND p.sequence = $3 AND p.member = $4"
);

/// Runs a query of one subscription.
macro_rules! of_subscription {
    ($self:ident, $action:literal, $statement:literal, $subscription:ident) => {
        retried!($self, $action, async {
            let mut session = $self.read().await?;
            let query = session.query($statement).bind($subscription);
            let rows = query.fetch_all(&mut *session).await?;
            session.end().await?;
            Ok::<Vec<PgRow>, Trouble>(rows)
        })
    };
}

#[async_trait]
impl DeliveryStore for PgStore {
    async fn own(&self, m: &Municipality) -> Result<u64, StoreError> {
        self.own_town(m).await
    }

    async fn municipalities(&self) -> Result<Vec<Municipality>, StoreError> {
        let codes: Vec<String> = retried!(self, "listing municipalities", async {
            let mut session = self.read().await?;
            let codes = session
                .scalar(
                    "SELECT municipality FROM owners UNION SELECT municipality FROM subscription
                     UNION SELECT municipality FROM tail UNION SELECT municipality FROM capture",
                )
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(codes)
        })?;
        let codes = codes.iter();
        Ok(codes.filter_map(|code| Municipality::parse(code)).collect())
    }

    async fn subscriptions(&self, m: &Municipality) -> Result<Vec<SubscriptionRow>, StoreError> {
        retried!(self, "reading subscriptions", async {
            let mut session = self.read().await?;
            let read = read_subscriptions(&mut session, m).await?;
            session.end().await?;
            Ok::<_, Trouble>(read)
        })
    }

    async fn put_subscription(&self, row: SubscriptionRow) -> Result<(), StoreError> {
        retried!(self, "writing a subscription", async {
            let mut session = self.write(&row.municipality).await?;
            put_subscription(&mut session, &row).await?;
            session.end().await
        })
    }

    async fn finish_filling(&self, filling: &str, into: &str) -> Result<(), StoreError> {
        let m = municipality_of(filling)?;
        retried!(self, "finishing a filling subscription", async {
            let mut session = self.write(&m).await?;
            for statement in FINISH {
                let step = session.query(statement).bind(filling).bind(into);
                step.execute(&mut *session).await?;
            }
            session.end().await
        })
    }

    async fn commit(&self, delta: DeliveryDelta) -> Result<(), StoreError> {
        self.deltas.commit(delta, Turn::of(self)).await
    }

    async fn ahead(&self, subscription: &str) -> Result<HashSet<UnitKey>, StoreError> {
        let rows = of_subscription!(
            self,
            "reading outcomes ahead of the cursor",
            "SELECT stream, sequence, member FROM ahead WHERE subscription = $1",
            subscription
        )?;
        Ok(rows.iter().map(key_of).collect())
    }

    async fn attempts(&self, subscription: &str) -> Result<Vec<(UnitKey, u32)>, StoreError> {
        let rows = of_subscription!(
            self,
            "reading attempts",
            "SELECT * FROM attempt WHERE subscription = $1 ORDER BY stream, sequence, member",
            subscription
        )?;
        let attempts = |row: &PgRow| (key_of(row), row.get::<i64, _>("attempts") as u32);
        Ok(rows.iter().map(attempts).collect())
    }

    async fn runs(&self, subscription: &str) -> Result<Vec<RunRow>, StoreError> {
        let rows = of_subscription!(
            self,
            "reading runs",
            "SELECT * FROM run WHERE subscription = $1 ORDER BY id, ordinal",
            subscription
        )?;
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
        let rows = of_subscription!(
            self,
            "reading parked subjects",
            "SELECT DISTINCT ON (subject) subject, stream, sequence, member FROM parked_subject
             WHERE subscription = $1 ORDER BY subject, stream, sequence, member",
            subscription
        )?;
        let subjects = rows.iter();
        let subjects = subjects.map(|row| (Subject(row.get("subject")), key_of(row)));
        Ok(subjects.collect())
    }

    async fn parked(
        &self,
        subscription: &str,
        subject: Option<&Subject>,
        after: Option<UnitKey>,
        limit: usize,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let after = after.map_or((0, 0, -1), |key| {
            let sequence = key.sequence.cast_signed();
            (key.stream.number(), sequence, i64::from(key.member))
        });
        retried!(self, "reading parked units", async {
            let mut session = self.read().await?;
            let mut query = session
                .query(match subject {
                    None => PARKED_OF_ALL,
                    Some(_) => PARKED_OF_SUBJECT,
                })
                .bind(subscription)
                .bind(after.0)
                .bind(after.1)
                .bind(after.2)
                .bind(limit as i64);
            if let Some(Subject(name)) = subject {
                query = query.bind(name);
            }
            let rows = query.fetch_all(&mut *session).await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(parked_of).collect())
        })
    }

    async fn due(
        &self,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<(i64, UnitKey)>, StoreError> {
        retried!(self, "reading what is due", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT due_ms, stream, sequence, member FROM parked
                     WHERE subscription = $1 AND due_ms IS NOT NULL ORDER BY due_ms LIMIT $2",
                )
                .bind(subscription)
                .bind(limit as i64)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let due = rows.iter().map(|row| (row.get("due_ms"), key_of(row)));
            Ok::<_, Trouble>(due.collect())
        })
    }

    async fn parked_unit(
        &self,
        subscription: &str,
        key: UnitKey,
    ) -> Result<Option<ParkedRow>, StoreError> {
        retried!(self, "reading a parked unit", async {
            let mut session = self.read().await?;
            let row = session
                .query(PARKED_UNIT)
                .bind(subscription)
                .bind(key.stream.number())
                .bind(key.sequence.cast_signed())
                .bind(i64::from(key.member))
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(row.as_ref().map(parked_of))
        })
    }

    async fn history(
        &self,
        m: &Municipality,
        event_id: &str,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        self.history_of(m, event_id).await
    }

    async fn grants(
        &self,
        m: &Municipality,
    ) -> Result<Vec<((Position, Position), String)>, StoreError> {
        retried!(self, "reading grants", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT live_position, bulk_position, text FROM granted
                     WHERE municipality = $1 ORDER BY live_position, bulk_position",
                )
                .bind(m.as_str())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let grants = rows.iter().map(|row| {
                let from = (position(row.get(0)), position(row.get(1)));
                (from, row.get(2))
            });
            Ok::<_, Trouble>(grants.collect())
        })
    }

    async fn put_grants(
        &self,
        m: &Municipality,
        from: (Position, Position),
        text: &str,
    ) -> Result<(), StoreError> {
        retried!(self, "writing grants", async {
            let mut session = self.write(m).await?;
            session
                .query(
                    "INSERT INTO granted (municipality, live_position, bulk_position, text)
                     VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
                )
                .bind(m.as_str())
                .bind(from.0.0.cast_signed())
                .bind(from.1.0.cast_signed())
                .bind(text)
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }
}

/// The municipality that a subscription's name begins with; a name without one is nobody's.
pub(super) fn municipality_of(subscription: &str) -> Result<Municipality, StoreError> {
    let m = Municipality::parse(town(subscription));
    m.ok_or_else(|| StoreError::Fenced(subscription.to_owned()))
}
