//! How the hub opens its SQLite files.
//! Used by the log and the store, so that both keep the same promises to the disk.
//! Must never open with less than `synchronous=FULL`: an acknowledged publish survives a power cut
//! (P1). Only the store lowers it, for commits that the log brings back.
//! Read next: `sqlite/wal.rs`, `sqlite/seal.rs`, `log/sqlite.rs`, `store/sqlite/writer.rs`.

use std::cmp::Ordering;
use std::path::Path;
use std::time::Duration;

use musubi_proto::crash;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use thiserror::Error;

pub(crate) mod seal;
pub(crate) mod trouble;
mod wal;

pub use trouble::EXIT_DISK_FAILED;

/// How long a statement waits for a lock before it fails.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reading connections of one file.
const READERS_MAX: u32 = 3;
/// Page cache of a reading connection, as SQLite wants it: KiB, negative. Small, so that a hub of
/// 200,000 residents needs little more memory than one of 1,000: the system's own cache serves.
const READER_CACHE: &str = "-256";

/// How a file is laid out and written.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Page of a new file, in bytes.
    page_bytes: u32,
    /// Page cache of the writing connection, as SQLite wants it: KiB, negative.
    writer_cache: &'static str,
    /// Pages of the write-ahead log from which on it is folded into the file.
    checkpoint_pages: &'static str,
}

/// For rows that are appended and read in order. An event of 1 KiB fits into a page with others;
/// in a small page it would take a page of its own for its tail.
pub(crate) const IN_ORDER: Layout = Layout {
    page_bytes: 16_384,
    writer_cache: "-1024",
    checkpoint_pages: "1000",
};
/// For rows that are looked up by name: each publish touches pages all over the file, so they stay
/// small, are kept in memory and are folded in together.
pub(crate) const BY_NAME: Layout = Layout {
    page_bytes: 4_096,
    writer_cache: "-6144",
    checkpoint_pages: "4000",
};

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
    /// Written by an older version.
    #[error(
        "`{path}` has data version {found}, from before this program's version {known}, and cannot \
         be read by it: start the version that wrote it, or begin with an empty folder"
    )]
    Older {
        /// File.
        path: String,
        /// Version in the file.
        found: i64,
        /// Version that this program writes.
        known: i64,
    },
    /// The disk gave back something else than was written.
    #[error(
        "`{path}` is damaged: {what}; keep the data folder as it is and restore a backup with \
         `musubi restore`"
    )]
    Damaged {
        /// File.
        path: String,
        /// What is damaged, and where.
        what: String,
    },
}

/// A file cannot be opened, or is damaged.
fn not_opened(path: &Path, source: sqlx::Error) -> OpenError {
    let name = path.display().to_string();
    trouble::must_not_be_io(&format!("opening `{name}`"), &source);
    if trouble::is_damage(&source) {
        let what = source.to_string();
        return OpenError::Damaged { path: name, what };
    }
    OpenError::Sqlite(name, source)
}

/// Refuses a write-ahead log that lost something that was synced: SQLite would read it as a
/// shorter one. For a file whose every commit is synced.
pub(crate) fn check_wal(path: &Path) -> Result<(), OpenError> {
    let mut wal = path.as_os_str().to_owned();
    wal.push("-wal");
    let wal = Path::new(&wal);
    let damaged = |what| OpenError::Damaged {
        path: wal.display().to_string(),
        what,
    };
    match wal::damage(wal) {
        Ok(None) => Ok(()),
        Ok(Some(at)) => Err(damaged(format!(
            "what was synced at byte {at} is not whole"
        ))),
        Err(error) => Err(damaged(format!("it cannot be read: {error}"))),
    }
}

fn must_be_known(path: &Path, found: i64, known: i64) -> Result<(), OpenError> {
    let path = || path.display().to_string();
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(OpenError::Newer {
            path: path(),
            found,
            known,
        }),
        Ordering::Less => Err(OpenError::Older {
            path: path(),
            found,
            known,
        }),
    }
}

/// Opens a file that is only read, and stays as it was found, byte for byte.
pub(crate) async fn open_as_it_is(
    path: &Path,
    version: i64,
) -> Result<SqliteConnection, OpenError> {
    let failed = |source| not_opened(path, source);
    let mut connection = open_reader(path).await.map_err(failed)?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut connection)
        .await
        .map_err(failed)?;
    must_be_known(path, found, version)?;
    Ok(connection)
}

/// Opens the one writing connection and creates the tables of a new file.
pub(crate) async fn open_writer(
    path: &Path,
    version: i64,
    schema: &'static str,
    layout: &Layout,
) -> Result<SqliteConnection, OpenError> {
    let failed = |source| not_opened(path, source);
    let mut connection = connect(path, layout).await.map_err(failed)?;
    let mut transaction = connection
        .begin_with("BEGIN IMMEDIATE")
        .await
        .map_err(failed)?;
    let found: i64 = sqlx::query_scalar("PRAGMA user_version")
        .fetch_one(&mut *transaction)
        .await
        .map_err(failed)?;
    if found > 0 {
        must_be_known(path, found, version)?;
    } else {
        sqlx::raw_sql(schema)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        crash::point("open.schema");
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
            "PRAGMA user_version = {version}"
        )))
        .execute(&mut *transaction)
        .await
        .map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    crash::point("open.opened");
    Ok(connection)
}

/// Opens a writing connection again that cannot begin any more; true when it did. On a full disk
/// SQLite rolls a transaction back by itself; the rollback that follows finds none, and the library
/// goes on to count one that is open.
pub(crate) async fn renew(
    connection: &mut SqliteConnection,
    path: &Path,
    layout: &Layout,
) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may still be on its way to the connection's thread.
        connection.ping().await?;
    }
    let stuck = connection.is_in_transaction();
    if stuck {
        *connection = connect(path, layout).await?;
    }
    Ok(stuck)
}

async fn connect(path: &Path, layout: &Layout) -> Result<SqliteConnection, sqlx::Error> {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .page_size(layout.page_bytes)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", layout.writer_cache)
        .pragma("wal_autocheckpoint", layout.checkpoint_pages)
        .connect()
        .await
}

fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("cache_size", READER_CACHE)
}

/// Opens a reading connection of its own.
pub(crate) async fn open_reader(path: &Path) -> Result<SqliteConnection, sqlx::Error> {
    reading(path).connect().await
}

/// Opens the reading connections.
pub(crate) async fn open_readers(path: &Path) -> Result<SqlitePool, OpenError> {
    SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        // A file does not go away as a server does: asking each connection whether it is still
        // there is a round trip to its thread before every read.
        .test_before_acquire(false)
        .connect_with(reading(path))
        .await
        .map_err(|source| not_opened(path, source))
}
