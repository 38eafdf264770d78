//! The adapter's memory of the registry: the last image of each person, changes and measures.
//! It is built from the files alone, in one transaction with the place up to which it was built.
//! It must never run ahead of what the hub made durable; when in doubt it is built again.
//! Read next: `index/queries.rs`, then `capture.rs`, which drives it.

mod queries;

use std::path::Path;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection};

use super::limits::INDEX_CACHE_KIB;

pub(super) use queries::KnownChange;

/// Layout of the tables; another one is built again.
const LAYOUT: &str = "1";

const SCHEMA: &[&str] = &[
    "CREATE TABLE IF NOT EXISTS identity (layout TEXT NOT NULL, instance TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS place (id INTEGER PRIMARY KEY CHECK (id = 1), \
     file INTEGER NOT NULL, item INTEGER NOT NULL, number_next INTEGER NOT NULL, \
     loaded_file INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS person (atenabango TEXT PRIMARY KEY, version INTEGER NOT NULL, \
     household TEXT NOT NULL, resident INTEGER NOT NULL, head INTEGER NOT NULL, \
     held INTEGER NOT NULL DEFAULT 0, image TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS person_household ON person (household)",
    "CREATE TABLE IF NOT EXISTS change (number INTEGER PRIMARY KEY, version INTEGER NOT NULL, \
     reason TEXT NOT NULL, digest BLOB NOT NULL)",
    "CREATE TABLE IF NOT EXISTS measure (atenabango TEXT NOT NULL, measure TEXT NOT NULL, \
     version INTEGER NOT NULL, PRIMARY KEY (atenabango, measure)) WITHOUT ROWID",
];

/// Where a capture stands: everything before `item` of `file` is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Number of the file.
    pub(super) file: u32,
    /// Items of it that are done. A full file has its header before and its trailer after its
    /// rows; a differential file has only rows.
    pub(super) item: u64,
}

impl Place {
    /// Before the first file.
    pub(super) const START: Self = Self { file: 1, item: 0 };

    /// The beginning of the next file.
    pub(super) fn next_file(self) -> Self {
        Self {
            file: self.file + 1,
            item: 0,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:06}/{}", self.file, self.item)
    }
}

impl std::str::FromStr for Place {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (file, item) = text.split_once('/').unwrap_or((text, ""));
        Ok(Self {
            file: file.parse()?,
            item: item.parse()?,
        })
    }
}

/// The state of the index at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Progress {
    /// Everything before it is in the index.
    pub(super) place: Place,
    /// 異動連番 that the next row must have; 0 before the first one.
    pub(super) number_next: u64,
    /// Last full file whose images were loaded as a whole.
    pub(super) loaded_file: u32,
}

/// The index, and the transaction that is open on it.
pub(super) struct Index {
    connection: SqliteConnection,
    open: bool,
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

impl Index {
    /// Opens the index of an installation; one that is broken, of another installation or of
    /// another layout is emptied.
    pub(super) async fn open(file: &Path, instance: &str) -> Result<Self, sqlx::Error> {
        match Self::open_as_it_is(file, instance).await {
            Ok(Some(index)) => return Ok(index),
            Ok(None) => tracing::warn!("the index belongs to something else, building it again"),
            Err(error) => tracing::warn!(%error, "the index is not readable, building it again"),
        }
        remove(file).map_err(sqlx::Error::Io)?;
        let index = Self::open_as_it_is(file, instance).await?;
        index.ok_or_else(|| sqlx::Error::Configuration("the new index is not empty".into()))
    }

    async fn open_as_it_is(file: &Path, instance: &str) -> Result<Option<Self>, sqlx::Error> {
        let mut connection = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A crash may lose the last transactions, never the order: it is rolled forward.
            .synchronous(SqliteSynchronous::Normal)
            .pragma("cache_size", format!("-{INDEX_CACHE_KIB}"))
            .disable_statement_logging()
            .connect()
            .await?;
        for statement in SCHEMA {
            sqlx::query(*statement).execute(&mut connection).await?;
        }
        let found: Option<(String, String)> =
            sqlx::query_as("SELECT layout, instance FROM identity")
                .fetch_optional(&mut connection)
                .await?;
        match found {
            None => {
                sqlx::query("INSERT INTO identity VALUES (?1, ?2)")
                    .bind(LAYOUT)
                    .bind(instance)
                    .execute(&mut connection)
                    .await?;
                sqlx::query("INSERT INTO place VALUES (1, ?1, 0, 0, 0)")
                    .bind(Place::START.file)
                    .execute(&mut connection)
                    .await?;
            }
            Some((layout, owner)) if layout == LAYOUT && owner == instance => {}
            Some(_) => {
                connection.close().await?;
                return Ok(None);
            }
        }
        Ok(Some(Self {
            connection,
            open: false,
        }))
    }

    /// Where the index stands.
    pub(super) async fn progress(&mut self) -> Result<Progress, sqlx::Error> {
        let (file, item, number_next, loaded_file): (u32, i64, i64, u32) =
            sqlx::query_as("SELECT file, item, number_next, loaded_file FROM place")
                .fetch_one(&mut self.connection)
                .await?;
        Ok(Progress {
            place: Place {
                file,
                item: unsigned(item),
            },
            number_next: unsigned(number_next),
            loaded_file,
        })
    }

    /// Begins to collect what belongs to the next page.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.rollback().await?;
        sqlx::query("BEGIN IMMEDIATE")
            .execute(&mut self.connection)
            .await?;
        self.open = true;
        Ok(())
    }

    /// Makes what was collected durable, with the place that it reaches.
    pub(super) async fn commit(&mut self, progress: Progress) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE place SET file = ?1, item = ?2, number_next = ?3, loaded_file = ?4")
            .bind(progress.place.file)
            .bind(signed(progress.place.item))
            .bind(signed(progress.number_next))
            .bind(progress.loaded_file)
            .execute(&mut self.connection)
            .await?;
        if self.open {
            sqlx::query("COMMIT").execute(&mut self.connection).await?;
            self.open = false;
        }
        Ok(())
    }

    /// Forgets what was collected since `begin`.
    pub(super) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        if self.open {
            sqlx::query("ROLLBACK")
                .execute(&mut self.connection)
                .await?;
            self.open = false;
        }
        Ok(())
    }

    /// Marks the state before a 届出, to return to when it is refused.
    pub(super) async fn mark(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("SAVEPOINT unit")
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Keeps what was collected since `mark`.
    pub(super) async fn keep(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("RELEASE unit")
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Returns to `mark`.
    pub(super) async fn return_to_mark(&mut self) -> Result<(), sqlx::Error> {
        sqlx::query("ROLLBACK TO unit")
            .execute(&mut self.connection)
            .await?;
        self.keep().await
    }

    /// Empties the index, to build it from the first file.
    pub(super) async fn reset(&mut self) -> Result<(), sqlx::Error> {
        self.begin().await?;
        for statement in [
            "DELETE FROM person",
            "DELETE FROM change",
            "DELETE FROM measure",
        ] {
            sqlx::query(statement).execute(&mut self.connection).await?;
        }
        self.commit(Progress {
            place: Place::START,
            number_next: 0,
            loaded_file: 0,
        })
        .await
    }
}

/// Deletes the files of an index.
pub(super) fn remove(file: &Path) -> std::io::Result<()> {
    for suffix in ["", "-wal", "-shm"] {
        let mut name = file.as_os_str().to_owned();
        name.push(suffix);
        match std::fs::remove_file(&name) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// SQLite's integers are signed; counts of records never come near the difference.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
