//! Backup of a data folder while its hub runs, and the folder made of a backup again.
//! Beside the event path: the operator's commands call it, the hub itself does not.
//! Must never take the log before the store: a store that knows more than its log is refused.
//! Read next: `log/sqlite.rs`, `docs/specs/log.md` (incarnations).
//!
//! ```text
//!   store.sqlite ─┐ first                       ┌─ digests checked, folder empty
//!   log.sqlite  ──┼──▶ backup + manifest.json ──┤
//!   pseudonym.key ┘ last                        └─▶ a new folder, incarnation + 1
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use prost::Message;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};
use thiserror::Error;

use crate::clock::now_ms;
use crate::event::{Event, Municipality, Position, Stream};
use crate::folder::{self, FolderError};
use crate::limits::{READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::sqlite::SqliteLog;
use crate::log::{EventLog, LogError, ReadLimit, RecordKind};
use crate::sqlite::{OpenError, seal::digest};
use crate::store::sqlite::SqliteStore;
use crate::store::{DeliveryStore, StoreError};

const LOG: &str = "log.sqlite";
const STORE: &str = "store.sqlite";
const KEY: &str = "pseudonym.key";
const MANIFEST: &str = "manifest.json";
const LOCK: &str = "backup.lock";

/// A backup or a restore failed. Each text is one line for an operator.
#[derive(Debug, Error)]
pub enum BackupError {
    /// A file or folder cannot be used.
    #[error("`{0}` cannot be used: {1}")]
    File(String, #[source] io::Error),
    /// A folder is not empty.
    #[error("`{0}` is not empty; name a new folder, so that nothing is written over")]
    NotEmpty(String),
    /// A file is not what the manifest says.
    #[error("`{0}` is not the file that was backed up; take another backup")]
    Changed(String),
    /// A copy cannot be made.
    #[error("copying `{0}` failed: {1}")]
    Copy(String, #[source] sqlx::Error),
    /// The folder that is replaced is in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// A copy cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// A record of the log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a backup holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the program that took it.
    pub musubi: String,
    /// When, in milliseconds since 1970.
    pub taken_ms: i64,
    /// Incarnation of the log.
    pub incarnation: u64,
    /// Its files.
    pub files: Vec<FileEntry>,
    /// How far each stream goes.
    pub streams: Vec<StreamEntry>,
    /// Where each source's capture stood.
    pub sources: Vec<SourceEntry>,
}

/// A file of a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FileEntry {
    /// Name.
    pub name: String,
    /// SHA-256, in hex.
    pub sha256: String,
}

/// A stream of a municipality's log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamEntry {
    /// Whose.
    pub municipality: String,
    /// Stream.
    pub stream: String,
    /// First position that is kept.
    pub first: u64,
    /// Next position to be given.
    pub next: u64,
    /// When the last event was recorded, in seconds since 1970; 0 without events.
    pub recorded_s: i64,
}

/// A source's capture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SourceEntry {
    /// Whose.
    pub municipality: String,
    /// Source.
    pub source: String,
    /// Cursor from which it sends again; `None` from its beginning.
    pub cursor: Option<String>,
}

/// What a restored folder lacks.
#[derive(Clone, Debug)]
pub struct Missing {
    /// The stream as it was backed up.
    pub stream: StreamEntry,
    /// Last position that the old folder has; `None` when there is no old folder to ask.
    pub to: Option<u64>,
}

/// A restored folder.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Its incarnation.
    pub incarnation: u64,
    /// What it may lack, or lacks.
    pub missing: Vec<Missing>,
    /// From where each source sends again.
    pub sources: Vec<SourceEntry>,
}

/// The file whose lock keeps a backup and the trimming of the log apart: many backups may share it.
///
/// # Errors
/// When it cannot be opened.
pub(crate) fn lock_file(data: &Path) -> io::Result<File> {
    let path = data.join(LOCK);
    // Reading is enough for a lock: the one who made the file may be another user.
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path),
        opened => opened,
    }
}

/// Waits for the end of a step of trimming; no further one begins while the lock is held.
async fn lock_against_trimming(data: &Path) -> io::Result<File> {
    let file = lock_file(data)?;
    let locked = tokio::task::spawn_blocking(move || file.lock_shared().map(|()| file));
    locked.await.map_err(io::Error::other)?
}

/// Copies the data folder of a hub, running or not, and reads the copy through.
///
/// # Errors
/// When a file cannot be copied, or a record of the copy is damaged.
pub async fn backup(data: &Path, out: &Path) -> Result<Manifest, BackupError> {
    let key = fs::read(data.join(KEY)).map_err(|error| unusable(&data.join(KEY), error))?;
    make_empty(out)?;
    // While they are copied, nothing is trimmed that the copied store still points at.
    let lock = lock_against_trimming(data).await;
    let lock = lock.map_err(|error| unusable(data, error))?;
    // The store first: a log that is ahead is what a crash leaves, and recovery knows it.
    copy_database(&data.join(STORE), &out.join(STORE)).await?;
    copy_database(&data.join(LOG), &out.join(LOG)).await?;
    drop(lock);
    write(&out.join(KEY), &key)?;

    let store = SqliteStore::open(&out.join(STORE)).await?;
    let towns = store.municipalities().await?;
    store.close().await;
    let log = SqliteLog::open(&out.join(LOG)).await?;
    let streams = read_through(&log, &towns).await?;
    let incarnation = log.incarnation().await?;
    log.close().await;

    let mut files = Vec::new();
    for name in [STORE, LOG, KEY] {
        let path = out.join(name);
        let sha256 = digest(&path).map_err(|error| unusable(&path, error))?;
        let name = name.to_owned();
        files.push(FileEntry { name, sha256 });
    }
    let manifest = Manifest {
        musubi: env!("CARGO_PKG_VERSION").to_owned(),
        taken_ms: now_ms(),
        incarnation,
        files,
        streams,
        sources: sources(&out.join(STORE)).await?,
    };
    let path = out.join(MANIFEST);
    let text = serde_json::to_vec_pretty(&manifest);
    let text = text.map_err(|error| unusable(&path, error.into()))?;
    // The manifest last: without it a folder is no backup.
    write(&path, &text)?;
    Ok(manifest)
}

/// Makes a data folder of a backup, under a new incarnation.
///
/// # Errors
/// When a file is not what was backed up, or the folder is not empty.
pub async fn restore(
    from: &Path,
    data: &Path,
    instead_of: Option<&Path>,
) -> Result<Restored, BackupError> {
    let path = from.join(MANIFEST);
    let text = fs::read(&path).map_err(|error| unusable(&path, error))?;
    let manifest: Manifest =
        serde_json::from_slice(&text).map_err(|error| unusable(&path, error.into()))?;
    for file in &manifest.files {
        let path = from.join(&file.name);
        let found = digest(&path).map_err(|error| unusable(&path, error))?;
        let known = [STORE, LOG, KEY].contains(&file.name.as_str());
        if found != file.sha256 || !known {
            return Err(BackupError::Changed(path.display().to_string()));
        }
    }
    let (missing, old_incarnation) = missing(&manifest, instead_of).await?;
    make_empty(data)?;
    for file in &manifest.files {
        let source = from.join(&file.name);
        let content = File::open(&source).map_err(|error| unusable(&source, error))?;
        copy(content, &data.join(&file.name))?;
    }
    let incarnation = manifest.incarnation.max(old_incarnation) + 1;
    let log = SqliteLog::open(&data.join(LOG)).await?;
    log.begin_incarnation(incarnation).await?;
    log.close().await;
    Ok(Restored {
        incarnation,
        missing,
        sources: manifest.sources,
    })
}

/// What the backup lacks, and the incarnation of the folder that it replaces.
async fn missing(
    manifest: &Manifest,
    instead_of: Option<&Path>,
) -> Result<(Vec<Missing>, u64), BackupError> {
    let streams = manifest.streams.iter().cloned();
    let Some(old) = instead_of else {
        let missing = streams.map(|stream| Missing { stream, to: None });
        return Ok((missing.collect(), 0));
    };
    // A hub that goes on there would publish what this answer does not name.
    let file = old.join(LOG);
    fs::metadata(&file).map_err(|error| unusable(&file, error))?;
    let _lock = folder::lock(old)?;
    let log = SqliteLog::open(&file).await?;
    let mut missing = Vec::new();
    for stream in streams {
        let Some(m) = Municipality::parse(&stream.municipality) else {
            continue;
        };
        let of = Stream::ALL
            .into_iter()
            .find(|one| one.name() == stream.stream);
        let bounds = log.bounds(&m, of.unwrap_or(Stream::Live)).await?;
        if bounds.next.0 > stream.next {
            let to = Some(bounds.next.0 - 1);
            missing.push(Missing { stream, to });
        }
    }
    let incarnation = log.incarnation().await?;
    log.close().await;
    Ok((missing, incarnation))
}

/// Reads every record of the copy: a backup that nobody has read is none.
async fn read_through(
    log: &SqliteLog,
    towns: &[Municipality],
) -> Result<Vec<StreamEntry>, BackupError> {
    let limit = ReadLimit {
        records: READ_RECORDS_MAX,
        bytes: READ_BYTES_MAX,
    };
    let mut streams = Vec::new();
    for (m, stream) in towns
        .iter()
        .flat_map(|m| Stream::ALL.map(|stream| (m, stream)))
    {
        let bounds = log.bounds(m, stream).await?;
        let mut recorded_s = 0;
        let mut from = bounds.first;
        loop {
            let records = log.read(m, stream, from, limit).await?;
            let Some(last) = records.last() else { break };
            from = last.position.after();
            let mut events = records
                .into_iter()
                .filter(|record| record.kind == RecordKind::Event);
            let bytes = events
                .next_back()
                .and_then(|record| record.sealed.open().ok());
            let event = bytes.and_then(|bytes| Event::decode(&bytes[..]).ok());
            let at = event.and_then(|event| event.recorded_at);
            recorded_s = at.map_or(recorded_s, |at| at.seconds);
        }
        let Position(next) = bounds.next;
        streams.push(StreamEntry {
            municipality: m.as_str().to_owned(),
            stream: stream.name().to_owned(),
            first: bounds.first.0,
            next,
            recorded_s,
        });
    }
    Ok(streams)
}

/// SQLite's own copy of one moment of a file that may be in use.
async fn copy_database(from: &Path, to: &Path) -> Result<(), BackupError> {
    let failed = |error| BackupError::Copy(from.display().to_string(), error);
    let options = SqliteConnectOptions::new().filename(from).read_only(true);
    let mut connection = options.connect().await.map_err(failed)?;
    sqlx::query("VACUUM INTO $1")
        .bind(to.display().to_string())
        .execute(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    let synced = File::open(to).and_then(|file| file.sync_all());
    synced.map_err(|error| unusable(to, error))
}

async fn sources(store: &Path) -> Result<Vec<SourceEntry>, BackupError> {
    let failed = |error| BackupError::Copy(store.display().to_string(), error);
    let options = SqliteConnectOptions::new()
        .filename(store)
        .read_only(true)
        .immutable(true);
    let mut connection = options.connect().await.map_err(failed)?;
    let rows = sqlx::query("SELECT municipality, source, cursor FROM capture ORDER BY 1, 2")
        .fetch_all(&mut connection)
        .await
        .map_err(failed)?;
    connection.close().await.map_err(failed)?;
    let entry = |row: &sqlx::sqlite::SqliteRow| SourceEntry {
        municipality: row.get(0),
        source: row.get(1),
        cursor: row.get(2),
    };
    Ok(rows.iter().map(entry).collect())
}

fn unusable(path: &Path, error: io::Error) -> BackupError {
    BackupError::File(path.display().to_string(), error)
}

/// Makes a folder that only its owner reads, or takes one that is empty.
fn make_empty(folder: &Path) -> Result<(), BackupError> {
    let failed = |error| unusable(folder, error);
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder);
    made.map_err(failed)?;
    match fs::read_dir(folder).map_err(failed)?.next() {
        None => Ok(()),
        Some(_) => Err(BackupError::NotEmpty(folder.display().to_string())),
    }
}

fn write(path: &Path, content: &[u8]) -> Result<(), BackupError> {
    copy(content, path)
}

/// Writes a file that only its owner reads, down to the disk.
fn copy(mut content: impl io::Read, to: &Path) -> Result<(), BackupError> {
    let mut written = || -> io::Result<()> {
        let options = File::options()
            .create_new(true)
            .write(true)
            .mode(0o600)
            .open(to);
        let mut file = options?;
        io::copy(&mut content, &mut file)?;
        file.flush()?;
        file.sync_all()?;
        let folder = to.parent().map_or_else(PathBuf::new, Path::to_owned);
        File::open(folder)?.sync_all()
    };
    written().map_err(|error| unusable(to, error))
}
