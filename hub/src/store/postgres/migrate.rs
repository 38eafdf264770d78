//! Brings a database to the shape that this program knows, and says whose it is.
//! First thing when the store is opened; several instances may do it at once.
//! Must never change a database of a newer version, nor serve two clusters from one.
//! Read next: `store/postgres/schema.sql`.

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, Row};

use super::PgOpenError;
use super::pool::connect;

/// Version of the shape.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// The steps from each version to the next; an empty database is at 0.
const STEPS: [&str; SCHEMA_VERSION as usize] = [include_str!("schema.sql")];

/// Names this lock among all locks of the database ("musubi" in letters).
const LOCK: i64 = 0x6d75_7375_6269;

/// What is known of the whole database, in its only row.
const META: &str = "SET LOCAL client_min_messages = warning;
CREATE TABLE IF NOT EXISTS meta (
  one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one), version BIGINT NOT NULL,
  incarnation BIGINT NOT NULL, cluster TEXT, key_check TEXT);
INSERT INTO meta (version, incarnation) VALUES (0, 1) ON CONFLICT DO NOTHING";

/// Migrates over a connection of its own, straight to the server.
pub(super) async fn migrate(options: &PgConnectOptions) -> Result<(), PgOpenError> {
    let mut connection = connect(options)
        .await
        .map_err(|error| PgOpenError::unreachable(options, error))?;
    let failed = |error| PgOpenError::schema(options, error);
    let mut transaction = connection.begin().await.map_err(failed)?;
    // Until the end of the transaction: nothing stays locked when this program ends half-way.
    sqlx::query("SELECT pg_advisory_xact_lock($1)")
        .bind(LOCK)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    sqlx::raw_sql(META)
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    let row = sqlx::query("SELECT version, current_setting('synchronous_commit') FROM meta")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    let found: i64 = row.get(0);
    if found > SCHEMA_VERSION {
        return Err(PgOpenError::Newer {
            database: PgOpenError::name(options),
            found,
            known: SCHEMA_VERSION,
        });
    }
    if row.get::<&str, _>(1) == "off" {
        return Err(PgOpenError::NotDurable(PgOpenError::name(options)));
    }
    for step in STEPS.iter().skip(found as usize) {
        sqlx::raw_sql(*step)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    if found < SCHEMA_VERSION {
        let set = format!("UPDATE meta SET version = {SCHEMA_VERSION}");
        sqlx::raw_sql(AssertSqlSafe(set))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    connection.close().await.map_err(failed)
}
