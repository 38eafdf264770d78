//! Takes what an embedded hub has over into a cluster: the log into topics, the store into tables.
//! Beside the event path: the operator's command calls it while the folder's hub is stopped.
//! Must never free a municipality before everything was read back and found the same.
//! Read next: `migrate/records.rs`, `migrate/tables.rs`, `docs/specs/migrate.md`.
//!
//! ```text
//!   both looked at ─▶ folder marked ─▶ municipalities held ─▶ records ─▶ positions ─▶ rows ─▶ read back ─▶ free
//!        each step goes on where a former attempt ended
//! ```

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use musubi_proto::crash;
use serde::{Deserialize, Serialize};

use crate::event::{Municipality, Position, Pseudonyms, Stream};
use crate::folder::{self, MIGRATED};
use crate::limits::MIGRATED_STEP_BYTES;
use crate::log::EventLog;
use crate::log::kafka::KafkaLog;
use crate::log::sqlite::SqliteLog;
use crate::server::backend::open_cluster;
use crate::server::config::ClusterConfig;
use crate::server::secret::{read_key, write_private};
use crate::store::postgres::PgStore;
use crate::store::postgres::migration::Begun;
use crate::store::sqlite::SqliteStore;
use crate::store::{DeliveryStore, PublishStore};

mod error;
mod positions;
mod records;
mod rows;
mod tables;
mod target;

pub use error::MigrateError;
use positions::Positions;
use records::Move;
use rows::{Rows, Sum, towns_of_log};
use tables::{Row, TABLES, Table};
use target::Target;

const LOG: &str = "log.sqlite";
const STORE: &str = "store.sqlite";
const KEY: &str = "pseudonym.key";

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

/// What a migration would do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan {
    /// Municipalities.
    pub municipalities: Vec<String>,
    /// A former attempt is gone on with.
    pub goes_on: bool,
    /// Streams and tables, each with its records or rows.
    pub parts: Vec<(String, u64)>,
}

/// A folder that may go into a cluster.
struct Checked {
    _lock: File,
    old: Old,
    towns: Vec<Municipality>,
    pseudonyms: Pseudonyms,
    cluster: String,
    mark: Option<Mark>,
}

impl Checked {
    async fn new(folder: &Path, config: &ClusterConfig) -> Result<Self, MigrateError> {
        for file in [LOG, STORE, KEY] {
            if !folder.join(file).exists() {
                let folder = folder.display().to_string();
                return Err(MigrateError::NoFolder { folder, file });
            }
        }
        let lock = folder::lock(folder)?;
        let key = read_key(&folder.join(KEY))?;
        if read_key(&config.pseudonym_key_file).ok() != Some(key) {
            return Err(MigrateError::OtherKey {
                folder: folder.display().to_string(),
                key: config.pseudonym_key_file.display().to_string(),
            });
        }
        let mark = mark(folder)?;
        let old = Old::open(folder).await?;
        let towns = old.towns(folder).await?;
        let pseudonyms = Pseudonyms::new(key);
        let target = Target {
            config,
            key_check: &pseudonyms.key_check(),
            towns: &towns,
            mark: mark.as_ref(),
        };
        let cluster = target.check().await?;
        Ok(Self {
            _lock: lock,
            old,
            towns,
            pseudonyms,
            cluster,
            mark,
        })
    }
}

/// Says what a migration would move, or why it cannot be. Writes nothing.
///
/// # Errors
/// When it cannot be done, in one line.
pub async fn plan(folder: &Path, config: &ClusterConfig) -> Result<Plan, MigrateError> {
    let Checked {
        _lock,
        old,
        towns,
        mark,
        ..
    } = Checked::new(folder, config).await?;
    let mut parts = Vec::new();
    for m in &towns {
        for stream in Stream::ALL {
            let bounds = old.log.bounds(m, stream).await?;
            let name = format!("{m} {}", stream.name());
            parts.push((name, bounds.next.0 - bounds.first.0));
        }
    }
    let mut rows = Rows::open(&folder.join(STORE)).await?;
    for table in &TABLES {
        parts.push((table.name.to_owned(), rows.count(table).await?));
    }
    old.close().await;
    Ok(Plan {
        municipalities: towns.iter().map(ToString::to_string).collect(),
        goes_on: mark.is_some(),
        parts,
    })
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
    let Checked {
        _lock,
        old,
        towns,
        pseudonyms,
        cluster,
        mark,
    } = Checked::new(folder, config).await?;
    let (log, store) = open_cluster(config, None).await?;
    store.uses_key(&pseudonyms.key_check()).await?;
    let is_new = mark.is_none();
    let mark = mark.unwrap_or_else(|| Mark {
        id: uuid::Uuid::now_v7().to_string(),
        cluster,
        done: false,
    });
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
    .run(folder, &towns, &mut say)
    .await;
    old.close().await;
    if is_new && matches!(ran, Err(MigrateError::NotNew(_))) {
        let path = folder.join(MIGRATED);
        let failed = |error| MigrateError::File(path.display().to_string(), error);
        std::fs::remove_file(&path).map_err(failed)?;
    }
    let migrated = ran?;
    write_mark(folder, &Mark { done: true, ..mark })?;
    Ok(migrated)
}

/// What a former attempt left in the folder.
fn mark(folder: &Path) -> Result<Option<Mark>, MigrateError> {
    let path = folder.join(MIGRATED);
    let failed = |error| MigrateError::File(path.display().to_string(), error);
    match File::open(&path) {
        Ok(file) => serde_json::from_reader(file).map_err(|error| failed(error.into())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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
        let log = SqliteLog::open_as_it_is(&folder.join(LOG)).await?;
        let store = SqliteStore::open_as_it_is(&folder.join(STORE)).await?;
        store.check_beside().await?;
        Ok(Self { log, store })
    }

    async fn close(self) {
        self.log.close().await;
        self.store.close().await;
    }

    /// Its municipalities. The log is written first: what the store does not know yet only its own
    /// hub brings in.
    async fn towns(&self, folder: &Path) -> Result<Vec<Municipality>, MigrateError> {
        let towns = self.store.municipalities().await?;
        for m in towns_of_log(&folder.join(LOG)).await? {
            if !towns.contains(&m) {
                return Err(MigrateError::Behind(m));
            }
        }
        for m in &towns {
            for stream in Stream::ALL {
                let next = self.log.bounds(m, stream).await?.next;
                if self.store.committed_tail(m, stream).await? != next && next > Position(1) {
                    return Err(MigrateError::Behind(m.clone()));
                }
            }
        }
        Ok(towns)
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
        towns: &[Municipality],
        say: &mut (impl FnMut(&str) + Send),
    ) -> Result<Migrated, MigrateError> {
        let mut rows = Rows::open(&folder.join(STORE)).await?;
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
            self.store.learn(table.name).await?;
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
