//! The small store of the stand-in products: persons, support measures, journal of applied keys.
//! `kaede`, `hinoki` and `ayame` keep their state here; the caller owns the transaction.
//! It must never apply a key twice, nor an older version over a newer one.
//! Read next: `writer.rs`, which commits several requests together.

use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions, Row, SqliteConnection, SqlitePool};

use crate::fields::Refusal;

/// A record as the product holds it, without protection.
pub(crate) type Doc = Map<String, Value>;

/// Makes the new image out of the one held (`None`: a new person), or refuses.
pub(crate) type Edit = Box<dyn FnOnce(Option<Doc>) -> Result<Doc, Refusal> + Send>;

/// What a caller asks for, already judged as far as possible without the state.
pub(crate) enum Change {
    /// A person's record.
    Record {
        key: String,
        no: String,
        version: i64,
        create: bool,
        edit: Edit,
        /// Measures that are added when the person never had them.
        seen: Vec<String>,
    },
    /// A support measure, apart from the record's version.
    Measure {
        key: String,
        no: String,
        measure: String,
        version: i64,
        ended: bool,
    },
}

/// What became of a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A new person was registered.
    Created { version: i64 },
    /// The record or the measure was changed.
    Applied { version: i64 },
    /// The measure is kept for a person who is not registered yet.
    Ahead { version: i64 },
    /// The key was applied before.
    Already { version: i64 },
    /// What is held is as new or newer.
    NotNewer { held: i64 },
    /// The person is not registered.
    Unknown,
    /// The content is refused.
    Refused(Refusal),
}

/// A person read back.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) no: String,
    pub(crate) version: i64,
    pub(crate) doc: Doc,
    pub(crate) measures: Vec<Measure>,
}

/// A support measure as held.
#[derive(Debug)]
pub(crate) struct Measure {
    pub(crate) measure: String,
    pub(crate) version: i64,
    pub(crate) ended: bool,
}

/// An applied key.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) seq: i64,
    pub(crate) key: String,
    pub(crate) no: String,
    pub(crate) version: i64,
    pub(crate) measure: Option<String>,
}

const TABLES: [&str; 3] = [
    "CREATE TABLE IF NOT EXISTS person (
        no TEXT PRIMARY KEY, version INTEGER NOT NULL, doc TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS measure (
        no TEXT NOT NULL, measure TEXT NOT NULL, version INTEGER NOT NULL,
        ended INTEGER NOT NULL, PRIMARY KEY (no, measure)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS journal (
        seq INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, no TEXT NOT NULL,
        version INTEGER NOT NULL, measure TEXT)",
];

fn options(file: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(std::time::Duration::from_secs(10))
}

/// Opens the one connection that writes, and makes the tables.
pub(crate) async fn open(file: &Path) -> anyhow::Result<SqliteConnection> {
    if let Some(folder) = file.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("make the folder {}", folder.display()))?;
    }
    let mut conn = options(file)
        .connect()
        .await
        .with_context(|| format!("open the database {}", file.display()))?;
    for table in TABLES {
        sqlx::query(table)
            .execute(&mut conn)
            .await
            .context("make the tables")?;
    }
    Ok(conn)
}

/// Opens connections that only read, beside the writing one.
pub(crate) async fn open_readers(file: &Path) -> anyhow::Result<SqlitePool> {
    SqlitePoolOptions::new()
        .max_connections(2)
        .connect_with(options(file).read_only(true).create_if_missing(false))
        .await
        .with_context(|| format!("read the database {}", file.display()))
}

/// Applies one change inside the caller's transaction.
pub(crate) async fn apply(conn: &mut SqliteConnection, change: Change) -> sqlx::Result<Outcome> {
    match change {
        Change::Record {
            key,
            no,
            version,
            create,
            edit,
            seen,
        } => {
            if let Some(entry) = find_key(conn, &key).await? {
                return Ok(Outcome::Already {
                    version: entry.version,
                });
            }
            let held = find_record(conn, &no).await?;
            let known = held.is_some();
            let doc = match held {
                None if !create => return Ok(Outcome::Unknown),
                Some((held, _)) if held >= version => return Ok(Outcome::NotNewer { held }),
                Some((_, doc)) => Some(doc),
                None => None,
            };
            let doc = match edit(doc) {
                Ok(doc) => doc,
                Err(refusal) => return Ok(Outcome::Refused(refusal)),
            };
            put_record(conn, &no, version, &doc).await?;
            for measure in &seen {
                add_measure(conn, &no, measure).await?;
            }
            record_key(conn, &key, &no, version, None).await?;
            Ok(if known {
                Outcome::Applied { version }
            } else {
                Outcome::Created { version }
            })
        }
        Change::Measure {
            key,
            no,
            measure,
            version,
            ended,
        } => {
            if let Some(entry) = find_key(conn, &key).await? {
                return Ok(Outcome::Already {
                    version: entry.version,
                });
            }
            if let Some(held) = measure_version(conn, &no, &measure).await?
                && held >= version
            {
                return Ok(Outcome::NotNewer { held });
            }
            put_measure(conn, &no, &measure, version, ended).await?;
            record_key(conn, &key, &no, version, Some(&measure)).await?;
            let known = find_record(conn, &no).await?.is_some();
            Ok(if known {
                Outcome::Applied { version }
            } else {
                Outcome::Ahead { version }
            })
        }
    }
}

/// The journal entry of a key.
pub(crate) async fn find_key(
    conn: &mut SqliteConnection,
    key: &str,
) -> sqlx::Result<Option<Entry>> {
    sqlx::query("SELECT seq, key, no, version, measure FROM journal WHERE key = ?")
        .bind(key)
        .fetch_optional(conn)
        .await?
        .as_ref()
        .map(entry)
        .transpose()
}

/// Persons after a number, in text order, with their measures.
pub(crate) async fn persons(
    conn: &mut SqliteConnection,
    after: &str,
    limit: i64,
) -> sqlx::Result<Vec<Person>> {
    let rows = sqlx::query("SELECT no, version, doc FROM person WHERE no > ? ORDER BY no LIMIT ?")
        .bind(after)
        .bind(limit)
        .fetch_all(&mut *conn)
        .await?;
    let mut persons = rows.iter().map(person).collect::<sqlx::Result<Vec<_>>>()?;
    let (Some(first), Some(last)) = (persons.first(), persons.last()) else {
        return Ok(persons);
    };
    let rows = sqlx::query(
        "SELECT no, measure, version, ended FROM measure WHERE no BETWEEN ? AND ? ORDER BY no, measure",
    )
    .bind(first.no.clone())
    .bind(last.no.clone())
    .fetch_all(conn)
    .await?;
    for row in &rows {
        let no: &str = row.try_get(0)?;
        if let Ok(index) = persons.binary_search_by(|person| person.no.as_str().cmp(no)) {
            persons[index].measures.push(Measure {
                measure: row.try_get(1)?,
                version: row.try_get(2)?,
                ended: row.try_get(3)?,
            });
        }
    }
    Ok(persons)
}

/// One person with the measures.
pub(crate) async fn find_person(
    conn: &mut SqliteConnection,
    no: &str,
) -> sqlx::Result<Option<Person>> {
    let row = sqlx::query("SELECT no, version, doc FROM person WHERE no = ?")
        .bind(no)
        .fetch_optional(&mut *conn)
        .await?;
    let Some(mut found) = row.as_ref().map(person).transpose()? else {
        return Ok(None);
    };
    let rows =
        sqlx::query("SELECT measure, version, ended FROM measure WHERE no = ? ORDER BY measure")
            .bind(no)
            .fetch_all(conn)
            .await?;
    for row in &rows {
        found.measures.push(Measure {
            measure: row.try_get(0)?,
            version: row.try_get(1)?,
            ended: row.try_get(2)?,
        });
    }
    Ok(Some(found))
}

/// Applied keys after a number, in the order in which they were applied.
pub(crate) async fn journal(
    conn: &mut SqliteConnection,
    after: i64,
    limit: i64,
) -> sqlx::Result<Vec<Entry>> {
    let rows = sqlx::query(
        "SELECT seq, key, no, version, measure FROM journal WHERE seq > ? ORDER BY seq LIMIT ?",
    )
    .bind(after)
    .bind(limit)
    .fetch_all(conn)
    .await?;
    rows.iter().map(entry).collect()
}

fn person(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Person> {
    let doc: &str = row.try_get(2)?;
    let doc = serde_json::from_str(doc).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
    Ok(Person {
        no: row.try_get(0)?,
        version: row.try_get(1)?,
        doc,
        measures: Vec::new(),
    })
}

fn entry(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Entry> {
    Ok(Entry {
        seq: row.try_get(0)?,
        key: row.try_get(1)?,
        no: row.try_get(2)?,
        version: row.try_get(3)?,
        measure: row.try_get(4)?,
    })
}

async fn find_record(conn: &mut SqliteConnection, no: &str) -> sqlx::Result<Option<(i64, Doc)>> {
    let row = sqlx::query("SELECT no, version, doc FROM person WHERE no = ?")
        .bind(no)
        .fetch_optional(conn)
        .await?;
    let found = row.as_ref().map(person).transpose()?;
    Ok(found.map(|person| (person.version, person.doc)))
}

async fn put_record(
    conn: &mut SqliteConnection,
    no: &str,
    version: i64,
    doc: &Doc,
) -> sqlx::Result<()> {
    let doc = serde_json::to_string(doc).map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    sqlx::query(
        "INSERT INTO person (no, version, doc) VALUES (?, ?, ?)
         ON CONFLICT (no) DO UPDATE SET version = excluded.version, doc = excluded.doc",
    )
    .bind(no)
    .bind(version)
    .bind(doc)
    .execute(conn)
    .await?;
    Ok(())
}

async fn measure_version(
    conn: &mut SqliteConnection,
    no: &str,
    measure: &str,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT version FROM measure WHERE no = ? AND measure = ?")
        .bind(no)
        .bind(measure)
        .fetch_optional(conn)
        .await
}

async fn put_measure(
    conn: &mut SqliteConnection,
    no: &str,
    measure: &str,
    version: i64,
    ended: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO measure (no, measure, version, ended) VALUES (?, ?, ?, ?)
         ON CONFLICT (no, measure) DO UPDATE SET version = excluded.version, ended = excluded.ended",
    )
    .bind(no)
    .bind(measure)
    .bind(version)
    .bind(ended)
    .execute(conn)
    .await?;
    Ok(())
}

async fn add_measure(conn: &mut SqliteConnection, no: &str, measure: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO measure (no, measure, version, ended) VALUES (?, ?, 0, 0)
         ON CONFLICT (no, measure) DO NOTHING",
    )
    .bind(no)
    .bind(measure)
    .execute(conn)
    .await?;
    Ok(())
}

async fn record_key(
    conn: &mut SqliteConnection,
    key: &str,
    no: &str,
    version: i64,
    measure: Option<&str>,
) -> sqlx::Result<()> {
    sqlx::query("INSERT INTO journal (key, no, version, measure) VALUES (?, ?, ?, ?)")
        .bind(key)
        .bind(no)
        .bind(version)
        .bind(measure)
        .execute(conn)
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests;
