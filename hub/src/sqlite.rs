//! How the hub opens its SQLite files.
//! Used by the log and the store, so that both keep the same promises to the disk.
//! Must never open with less than `synchronous=FULL`: an acknowledged publish survives a power cut
//! (P1). Only the store lowers it, for commits that the log brings back.
//! Read next: `log/sqlite.rs`, `store/sqlite/writer.rs`.

use std::path::Path;
use std::time::Duration;

use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use thiserror::Error;

/// How long a statement waits for a lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections of one file.
const READERS_MAX: u32 = 3;
/// Page cache of a writing connection, as SQLite wants it: KiB, negative. Small, so that a hub of
/// 200,000 residents needs little more memory than one of 1,000: the system's own cache serves.
const WRITER_CACHE: &str = "-1024";
/// Page cache of a reading connection.
const READER_CACHE: &str = "-256";

/// A file cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// SQLite refused.
    #[error("cannot open `{0}`; check that the folder exists and may be written")]
    Sqlite(String, #[source] sqlx::Error),
    /// Written by a newer version.
    #[error("`{path}` has data version {found}, this program knows {known}: start a newer version")]
    Newer {
        /// File.
        path: String,
        /// Version in the file.
        found: i64,
        /// Version that this program writes.
        known: i64,
    },
}

/// Opens the one writing connection and creates the tables of a new file.
pub(crate) async fn open_writer(
    path: &Path,
    version: i64,
    schema: &'static str,
) -> Result<SqliteConnection, OpenError> {
    let failed = |source| OpenError::Sqlite(path.display().to_string(), source);
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", WRITER_CACHE)
        .connect()
        .await
        .map_err(failed)?;
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    if found > version {
        return Err(OpenError::Newer {
            path: path.display().to_string(),
            found,
            known: version,
        });
    }
    if found == 0 {
        sqlx::raw_sql(schema)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "PRAGMA user_version = {version}"
        )))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(connection)
}

/// Opens the reading connections.
pub(crate) async fn open_readers(path: &Path) -> Result<SqlitePool, OpenError> {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", READER_CACHE);
    SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .connect_with(options)
        .await
        .map_err(|source| OpenError::Sqlite(path.display().to_string(), source))
}
