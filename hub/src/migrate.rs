//! Takes what an embedded hub has over into a cluster: the log into topics, the store into tables.
//! Beside the event path: the operator's command calls it while the folder's hub is stopped.
//! Must never free a municipality before everything was read back and found the same.
//! Read next: `migrate/records.rs`, `migrate/tables.rs`, `docs/specs/migrate.md`.
//!
//! ```text
//!   folder locked, marked ─▶ municipalities held ─▶ records ─▶ positions ─▶ rows ─▶ read back ─▶ free
//!        each step goes on where a former attempt ended
//! ```

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use musubi_proto::crash;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::event::{Municipality, Position, Pseudonyms, Stream};
use crate::folder::{self, FolderError, MIGRATED};
use crate::limits::MIGRATED_STEP_BYTES;
use crate::log::kafka::KafkaLog;
use crate::log::sqlite::SqliteLog;
use crate::log::{AppendError, EventLog, LogError};
use crate::server::ServeError;
use crate::server::backend::open_cluster;
use crate::server::config::ClusterConfig;
use crate::server::secret::{key_of_folder, read_key, write_private};
use crate::sqlite::OpenError;
use crate::store::postgres::migration::Begun;
use crate::store::postgres::{PgOpenError, PgStore};
use crate::store::sqlite::SqliteStore;
use crate::store::{DeliveryStore, PublishStore, StoreError};

mod positions;
mod records;
mod rows;
mod tables;

use positions::Positions;
use records::Move;
use rows::{Rows, Sum};
use tables::{Row, TABLES, Table};

/// A migration failed. Each text is one line for an operator.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// The folder is in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder holds no hub's files.
    #[error("`{0}` is no data folder of a hub: it has no `log.sqlite` and `store.sqlite`")]
    NoFolder(String),
    /// A file of the folder cannot be used.
    #[error("`{0}` cannot be used: {1}")]
    File(String, #[source] io::Error),
    /// A file of the folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The cluster cannot be used.
    #[error(transparent)]
    Cluster(#[from] ServeError),
    /// The instances have another key than the configuration names.
    #[error(transparent)]
    Database(#[from] PgOpenError),
    /// The pseudonyms would not be the same.
    #[error(
        "the cluster's key of the pseudonyms is not the folder's, so nobody would be found again; \
         copy it to all instances: `cp {folder}/pseudonym.key {key}`"
    )]
    OtherKey {
        /// Folder.
        folder: String,
        /// The cluster's file.
        key: String,
    },
    /// The folder goes into another cluster.
    #[error("the folder's migration into the Kafka cluster `{0}` has begun; end it there")]
    OtherCluster(String),
    /// Its store has not all that its log has.
    #[error(
        "the hub of the folder did not stop in order: its store does not know the end of the log of \
         `{0}`; start it with `musubi serve --data`, stop it, and migrate then"
    )]
    Behind(Municipality),
    /// The cluster knows the municipality.
    #[error(
        "the cluster knows `{0}` already; a municipality that is migrated must be new there: check \
         that nobody published or bound there, and give a database and topics without it"
    )]
    NotNew(Municipality),
    /// A row cannot be read.
    #[error("a row of the table `{0}` in the folder's store names no municipality of its log")]
    Row(&'static str),
    /// The rows cannot be read.
    #[error("the folder's store cannot be read: {0}")]
    Rows(#[source] sqlx::Error),
    /// What was read back is not what was written.
    #[error("{what}; the folder is as it was, and the cluster serves nothing of it")]
    Differs {
        /// Which part.
        what: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The topics cannot be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A part that was read back and found the same.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Verified {
    /// A stream, as `142042 live`, or a table.
    pub name: String,
    /// Records or rows.
    pub count: u64,
    /// Digest over them, in hex.
    pub digest: String,
}

/// What a migration did.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Migrated {
    /// Municipalities.
    pub municipalities: Vec<String>,
    /// Parts; empty when all was done before.
    pub verified: Vec<Verified>,
}

/// What the folder's file `migrated` says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Mark {
    id: String,
    cluster: String,
    done: bool,
}

/// Takes a folder over into a cluster, or goes on with that.
///
/// # Errors
/// When it cannot be done, in one line; done again, it goes on.
pub async fn migrate(
    folder: &Path,
    config: &ClusterConfig,
    mut say: impl FnMut(&str) + Send,
) -> Result<Migrated, MigrateError> {
    let there = |name| folder.join(name).exists();
    if !there("log.sqlite") || !there("store.sqlite") {
        return Err(MigrateError::NoFolder(folder.display().to_string()));
    }
    let _lock = folder::lock(folder)?;
    let key = key_of_folder(folder)?;
    if read_key(&config.pseudonym_key_file).ok() != Some(key) {
        return Err(MigrateError::OtherKey {
            folder: folder.display().to_string(),
            key: config.pseudonym_key_file.display().to_string(),
        });
    }
    let old = Old::open(folder).await?;
    let pseudonyms = Pseudonyms::new(key);
    let (log, store) = open_cluster(config, None).await?;
    store.uses_key(&pseudonyms.key_check()).await?;
    let mark = mark(folder, log.cluster_id())?;
    let is_new = !there(MIGRATED);
    // From here on the folder's own hub must not go on: what was copied would be out of date.
    write_mark(folder, &mark)?;
    crash::point("migrate.marked");
    let ran = Run {
        id: mark.id.clone(),
        old: &old,
        log,
        store,
        pseudonyms,
    }
    .run(folder, &mut say)
    .await;
    old.close().await;
    if is_new && matches!(ran, Err(MigrateError::NotNew(_) | MigrateError::Behind(_))) {
        let path = folder.join(MIGRATED);
        let failed = |error| MigrateError::File(path.display().to_string(), error);
        std::fs::remove_file(&path).map_err(failed)?;
    }
    let migrated = ran?;
    write_mark(folder, &Mark { done: true, ..mark })?;
    Ok(migrated)
}

/// The mark of the folder, made when it is the first attempt.
fn mark(folder: &Path, cluster: &str) -> Result<Mark, MigrateError> {
    let path = folder.join(MIGRATED);
    let failed = |error| MigrateError::File(path.display().to_string(), error);
    match File::open(&path) {
        Ok(file) => {
            let mark: Mark = serde_json::from_reader(file).map_err(|e| failed(e.into()))?;
            match mark.cluster == cluster {
                true => Ok(mark),
                false => Err(MigrateError::OtherCluster(mark.cluster)),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Mark {
            id: uuid::Uuid::now_v7().to_string(),
            cluster: cluster.to_owned(),
            done: false,
        }),
        Err(error) => Err(failed(error)),
    }
}

fn write_mark(folder: &Path, mark: &Mark) -> Result<(), MigrateError> {
    let path = folder.join(MIGRATED);
    let failed = |error| MigrateError::File(path.display().to_string(), error);
    let bytes = serde_json::to_vec(mark).map_err(|error| failed(error.into()))?;
    write_private(&path, &bytes).map_err(failed)
}

/// The files of the folder.
struct Old {
    log: SqliteLog,
    store: SqliteStore,
}

impl Old {
    async fn open(folder: &Path) -> Result<Self, MigrateError> {
        let log = SqliteLog::open(&folder.join("log.sqlite")).await?;
        let store = SqliteStore::open(&folder.join("store.sqlite")).await?;
        store.check_beside().await?;
        Ok(Self { log, store })
    }

    async fn close(self) {
        self.log.settle().await;
        self.log.close().await;
        self.store.seal().await;
        self.store.close().await;
    }

    /// The log is written first: what the store does not know yet only its own hub brings in.
    async fn must_be_whole(&self, towns: &[Municipality]) -> Result<(), MigrateError> {
        for m in towns {
            for stream in Stream::ALL {
                let next = self.log.bounds(m, stream).await?.next;
                if self.store.committed_tail(m, stream).await? != next && next > Position(1) {
                    return Err(MigrateError::Behind(m.clone()));
                }
            }
        }
        Ok(())
    }
}

struct Run<'a> {
    id: String,
    old: &'a Old,
    log: Arc<KafkaLog>,
    store: Arc<PgStore>,
    pseudonyms: Pseudonyms,
}

impl Run<'_> {
    async fn run(
        &self,
        folder: &Path,
        say: &mut (impl FnMut(&str) + Send),
    ) -> Result<Migrated, MigrateError> {
        let towns = self.old.store.municipalities().await?;
        self.old.must_be_whole(&towns).await?;
        let mut rows = Rows::open(&folder.join("store.sqlite")).await?;
        let former = rows.epochs().await?;
        let with_epochs: Vec<_> = towns
            .iter()
            .map(|m| (m.clone(), former.get(m.as_str()).copied().unwrap_or(0)))
            .collect();
        let mut migrated = Migrated {
            municipalities: towns.iter().map(ToString::to_string).collect(),
            verified: Vec::new(),
        };
        let epochs = match self.store.begin_migration(&self.id, &with_epochs).await? {
            Begun::Under(epochs) => epochs,
            Begun::Done => return Ok(migrated),
            Begun::NotNew(m) => return Err(MigrateError::NotNew(m)),
        };
        crash::point("migrate.begun");
        let mut positions = Positions::default();
        for (m, epoch) in towns.iter().zip(epochs) {
            self.log.own(m, epoch).await?;
            for stream in Stream::ALL {
                say(&format!("the {} log of {m}", stream.name()));
                let verified = self.stream(m, stream, &mut positions).await?;
                migrated.verified.push(verified);
            }
        }
        crash::point("migrate.logged");
        for table in &TABLES {
            say(&format!("the table {}", table.name));
            self.copy(&mut rows, table, &positions).await?;
        }
        crash::point("migrate.copied");
        for table in &TABLES {
            let verified = self.verify(&mut rows, table, &positions, &migrated.municipalities);
            migrated.verified.push(verified.await?);
        }
        crash::point("migrate.verified");
        let incarnation = self.old.log.incarnation().await?;
        // Positions are others than before: they belong to another life of the log.
        self.store.end_migration(&self.id, incarnation + 1).await?;
        crash::point("migrate.ended");
        Ok(migrated)
    }

    async fn stream(
        &self,
        m: &Municipality,
        stream: Stream,
        positions: &mut Positions,
    ) -> Result<Verified, MigrateError> {
        let moving = Move {
            old: &self.old.log,
            new: &self.log,
            pseudonyms: &self.pseudonyms,
            m,
            stream,
        };
        let (moved, verified) = moving.run().await?;
        positions.insert(m, stream, moved);
        Ok(verified)
    }

    async fn copy(
        &self,
        rows: &mut Rows,
        table: &'static Table,
        positions: &Positions,
    ) -> Result<(), MigrateError> {
        let columns = rows.columns(table).await?;
        let mut before = self.store.migrated_rows(&self.id, table.name).await?;
        if table.name == "granted" && before > 0 {
            return Ok(());
        }
        let from = before;
        let put = async |piece: Vec<Row>| {
            let count = piece.len() as u64;
            let piece: Vec<_> = piece.into_iter().map(serde_json::Value::from).collect();
            let text = serde_json::Value::from(piece).to_string();
            let place = (before, count);
            self.store
                .put_migrated_rows(&self.id, table.name, &columns, &text, place)
                .await?;
            before += count;
            crash::point("migrate.rows");
            Ok(())
        };
        rows.each(table, positions, from, MIGRATED_STEP_BYTES, put)
            .await
    }

    async fn verify(
        &self,
        rows: &mut Rows,
        table: &'static Table,
        positions: &Positions,
        towns: &[String],
    ) -> Result<Verified, MigrateError> {
        let columns = rows.columns(table).await?;
        let (mut here, mut there) = (Sum::default(), Sum::default());
        let take = async |piece: Vec<Row>| {
            piece.iter().for_each(|row| here.add(row, &columns));
            Ok(())
        };
        rows.each(table, positions, 0, MIGRATED_STEP_BYTES, take)
            .await?;
        let place = (table.name, table.owner);
        let read = self.store.each_migrated_row(place, towns, |row| {
            let row: Row = serde_json::from_str(row).unwrap_or_default();
            there.add(&row, &columns);
        });
        read.await?;
        match here == there {
            true => Ok(here.verified(table.name)),
            false => Err(MigrateError::Differs {
                what: format!("the table `{}` is not what the folder has", table.name),
            }),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
