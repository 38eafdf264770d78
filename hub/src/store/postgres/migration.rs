//! What a migration writes into the database: whole tables of a municipality that nobody owns yet.
//! Beside the roles; the municipality is held by the migration until it is done.
//! Must never write into a municipality that an instance ever owned.
//! Read next: `migrate.rs`.

use futures::TryStreamExt;
use sqlx::AssertSqlSafe;

use super::PgStore;
use super::session::{Trouble, retried};
use crate::event::Municipality;
use crate::store::StoreError;

/// Who holds a municipality while it is migrated; its lease ends only with the migration.
const HOLDER: &str = "migration";

/// Answer to a migration that wants to begin, or to go on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Begun {
    /// It may write under these epochs, one for each municipality.
    Under(Vec<u64>),
    /// It was done before.
    Done,
    /// The municipality is known here already.
    NotNew(Municipality),
}

impl PgStore {
    /// Takes municipalities for a migration, each with the epoch of its former owner.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_migration(
        &self,
        id: &str,
        towns: &[(Municipality, u64)],
    ) -> Result<Begun, StoreError> {
        let begun = retried!(self, "beginning a migration", async {
            let mut session = self.begin().await?;
            session
                .query(
                    "INSERT INTO holders (id, address, lease_until) VALUES ($1, '', 'infinity')
                     ON CONFLICT (id) DO NOTHING",
                )
                .bind(HOLDER)
                .execute(&mut *session)
                .await?;
            let mut epochs = Vec::with_capacity(towns.len());
            let mut done = 0;
            for (m, former) in towns {
                let insert = session.query(
                    "INSERT INTO migration (municipality, id) SELECT $1, $2
                     WHERE NOT EXISTS (SELECT 1 FROM owners WHERE municipality = $1)
                     ON CONFLICT DO NOTHING",
                );
                insert
                    .bind(m.as_str())
                    .bind(id)
                    .execute(&mut *session)
                    .await?;
                let state: Option<bool> = session
                    .scalar(
                        "SELECT done FROM migration WHERE municipality = $1 AND id = $2 FOR UPDATE",
                    )
                    .bind(m.as_str())
                    .bind(id)
                    .fetch_optional(&mut *session)
                    .await?;
                match state {
                    None => return Ok(Begun::NotNew(m.clone())),
                    Some(true) => done += 1,
                    Some(false) => {
                        let take = session.scalar(
                            "INSERT INTO owners (municipality, epoch, holder)
                             VALUES ($1, $2 + 1, $3)
                             ON CONFLICT (municipality) DO UPDATE SET epoch = owners.epoch + 1
                             RETURNING epoch",
                        );
                        let epoch: i64 = take
                            .bind(m.as_str())
                            .bind(former.cast_signed())
                            .bind(HOLDER)
                            .fetch_one(&mut *session)
                            .await?;
                        epochs.push(epoch.cast_unsigned());
                    }
                }
            }
            session.end().await?;
            Ok::<_, Trouble>(match done {
                0 => Begun::Under(epochs),
                _ => Begun::Done,
            })
        })?;
        if let Begun::Under(epochs) = &begun {
            for ((m, _), epoch) in towns.iter().zip(epochs) {
                self.owned.write_under(m, *epoch);
            }
        }
        Ok(begun)
    }

    /// How many rows of a table the migration has written.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn migrated_rows(&self, id: &str, table: &str) -> Result<u64, StoreError> {
        retried!(self, "reading how far a migration is", async {
            let mut session = self.read().await?;
            let rows: Option<i64> = session
                .scalar("SELECT rows FROM migrated_rows WHERE id = $1 AND name = $2")
                .bind(id)
                .bind(table)
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.unwrap_or(0).cast_unsigned())
        })
    }

    /// Writes rows of a table, a JSON list of objects, behind the `before` that it has written.
    ///
    /// # Errors
    /// When the database fails or refuses one; then none is written.
    pub async fn put_migrated_rows(
        &self,
        id: &str,
        table: &str,
        columns: &[String],
        rows: &str,
        (before, count): (u64, u64),
    ) -> Result<(), StoreError> {
        let names = columns.join(", ");
        let insert = format!(
            "INSERT INTO {table} ({names})
             SELECT {names} FROM json_populate_recordset(NULL::{table}, $1::json)"
        );
        retried!(self, "writing migrated rows", async {
            let mut session = self.begin().await?;
            let advanced = session
                .query(
                    "INSERT INTO migrated_rows (id, name, rows) VALUES ($1, $2, $4)
                     ON CONFLICT (id, name) DO UPDATE SET rows = $4
                       WHERE migrated_rows.rows = $3",
                )
                .bind(id)
                .bind(table)
                .bind(before.cast_signed())
                .bind((before + count).cast_signed())
                .execute(&mut *session)
                .await?;
            // Not advanced: an attempt whose answer was lost has written them.
            if advanced.rows_affected() > 0 {
                if table == "history" {
                    session
                        .query(
                            "SELECT history_month(at_ms) FROM (SELECT DISTINCT ON
                               (date_trunc('month', to_timestamp(at_ms / 1000) AT TIME ZONE 'UTC'))
                               at_ms FROM json_to_recordset($1::json) AS one (at_ms BIGINT)) months",
                        )
                        .bind(rows)
                        .execute(&mut *session)
                        .await?;
                }
                sqlx::query(AssertSqlSafe(insert.clone()))
                    .persistent(false)
                    .bind(rows)
                    .execute(&mut *session)
                    .await?;
            }
            session.end().await
        })
    }

    /// Lets the database learn how a table looks that was filled at once: with what it knew of the
    /// empty one it would read all of it again and again, until it looks by itself.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn learn(&self, table: &str) -> Result<(), StoreError> {
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| StoreError::Backend {
            action: "looking at a migrated table",
            source,
        };
        let lost = |_| failed("the database cannot be reached".into());
        let mut session = self.begin().await.map_err(lost)?;
        let analyze = sqlx::raw_sql(AssertSqlSafe(format!("ANALYZE {table}")));
        let analyzed = analyze.execute(&mut *session).await;
        analyzed.map_err(|error| failed(error.into()))?;
        session.end().await.map_err(lost)
    }

    /// Gives every row of a table that belongs to one of the municipalities, as JSON.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn each_migrated_row(
        &self,
        (table, owner): (&str, &str),
        towns: &[String],
        mut take: impl FnMut(&str) + Send,
    ) -> Result<(), StoreError> {
        let failed = |source: sqlx::Error| StoreError::Backend {
            action: "reading migrated rows back",
            source: source.into(),
        };
        let lost = |_| StoreError::Backend {
            action: "reading migrated rows back",
            source: "the database cannot be reached".into(),
        };
        let select = format!(
            "SELECT row_to_json(one)::text FROM {table} one
             WHERE split_part({owner}, '/', 1) = ANY($1)"
        );
        let mut session = self.read().await.map_err(lost)?;
        {
            let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(select))
                .persistent(false)
                .bind(towns)
                .fetch(&mut *session);
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                take(&row);
            }
        }
        session.end().await.map_err(lost)
    }

    /// Ends a migration: the municipalities are free for the instances from here on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_migration(&self, id: &str, incarnation: u64) -> Result<(), StoreError> {
        retried!(self, "ending a migration", async {
            let mut session = self.begin().await?;
            // Numbers that are given from here on stand behind all that were brought.
            let numbers = "LOCK TABLE held, snapshot, act, history IN EXCLUSIVE MODE";
            session.query(numbers).execute(&mut *session).await?;
            for table in ["held", "snapshot", "act", "history"] {
                let set = format!(
                    "SELECT setval(pg_get_serial_sequence('{table}', 'number'),
                       GREATEST(nextval(pg_get_serial_sequence('{table}', 'number')),
                         (SELECT coalesce(max(number), 0) + 1 FROM {table})))"
                );
                sqlx::query(AssertSqlSafe(set))
                    .persistent(false)
                    .execute(&mut *session)
                    .await?;
            }
            session
                .query("UPDATE meta SET incarnation = GREATEST(incarnation, $1)")
                .bind(incarnation.cast_signed())
                .execute(&mut *session)
                .await?;
            session
                .query(
                    "UPDATE owners SET holder = NULL WHERE holder = $2 AND municipality IN
                       (SELECT municipality FROM migration WHERE id = $1 AND NOT done)",
                )
                .bind(id)
                .bind(HOLDER)
                .execute(&mut *session)
                .await?;
            session
                .query("UPDATE migration SET done = TRUE WHERE id = $1")
                .bind(id)
                .execute(&mut *session)
                .await?;
            session
                .query("DELETE FROM migrated_rows WHERE id = $1")
                .bind(id)
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }
}
