//! The store in SQLite: the embedded default, one file in the hub's data folder.
//! Implements both roles; each delta is one transaction.
//! Must never write outside `BEGIN IMMEDIATE … COMMIT` on the one writing connection.
//! Read next: `store/sqlite/writer.rs`, `store/sqlite/publish.rs`, `store/sqlite/delivery.rs`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::sqlite::{SqliteConnection, SqlitePool};
use tokio::sync::Mutex;

use self::writer::Writer;
use super::delivery::group::Deltas;
use super::{Durability, StoreError};
use crate::limits::CHECK_AT_START_BYTES_MAX;
use crate::sqlite::seal::{self, Unchecked};
use crate::sqlite::{self, OpenError, trouble};

mod acts;
mod alarms;
mod delivery;
mod publish;
mod replay;
mod retention;
mod rows;
mod writer;

/// Version of the file's shape; a file of a newer version is refused.
pub(crate) const SCHEMA_VERSION: i64 = 5;

/// Store in one SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    path: PathBuf,
    writer: Writer,
    /// Deltas of deliveries that wait for the writer.
    deltas: Deltas,
    readers: SqlitePool,
    /// What is to be checked beside the service.
    unchecked: Mutex<Option<Unchecked>>,
    /// What the disk gave back at the start is what was left: only that may be sealed again.
    checked: AtomicBool,
}

impl SqliteStore {
    /// Opens or creates the file.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let schema = include_str!("sqlite/schema.sql");
        let writer = sqlite::open_writer(path, SCHEMA_VERSION, schema, &sqlite::BY_NAME).await?;
        let mut unchecked = Some(seal::unseal(path).await?);
        let small = |file: &mut Unchecked| file.is_small(CHECK_AT_START_BYTES_MAX);
        if let Some(file) = unchecked.take_if(small) {
            file.check().await?;
        }
        Self::over(path, writer, unchecked).await
    }

    /// Opens a file that is only read, stays as it was found, and keeps its seal.
    pub(crate) async fn open_as_it_is(path: &Path) -> Result<Self, OpenError> {
        let writer = sqlite::open_as_it_is(path, SCHEMA_VERSION).await?;
        let unchecked = seal::look(path).await?;
        Self::over(path, writer, Some(unchecked)).await
    }

    async fn over(
        path: &Path,
        writer: SqliteConnection,
        unchecked: Option<Unchecked>,
    ) -> Result<Self, OpenError> {
        let readers = sqlite::open_readers(path).await?;
        Ok(Self {
            path: path.to_owned(),
            writer: Writer::new(path, writer),
            deltas: Deltas::default(),
            readers,
            checked: AtomicBool::new(unchecked.is_none()),
            unchecked: Mutex::new(unchecked),
        })
    }

    /// Checks what was too large to be checked before it served; the file is in use meanwhile.
    ///
    /// # Errors
    /// When the file is damaged: nothing in it can be trusted.
    pub async fn check_beside(&self) -> Result<(), OpenError> {
        let unchecked = self.unchecked.lock().await.take();
        if let Some(file) = unchecked {
            file.check().await?;
            self.checked.store(true, Ordering::Release);
        }
        Ok(())
    }

    /// Seals the file at a stop in order, so that the next start sees whether the disk kept it.
    /// Nothing is written any more. A stop before the check has ended leaves no seal: it would
    /// say that what nobody has looked at is sound.
    pub async fn seal(&self) {
        if !self.checked.load(Ordering::Acquire) {
            return;
        }
        let sealed = match self.writer.lock(Durability::Now).await {
            Ok(mut writer) => seal::seal(&self.path, &mut writer).await,
            Err(error) => Err(error.into()),
        };
        if let Err(error) = sealed {
            tracing::warn!(error, "sealing the store file failed");
        }
    }

    /// Closes the file.
    pub async fn close(self) {
        if let Some(file) = self.unchecked.into_inner()
            && let Err(error) = file.close().await
        {
            tracing::warn!(%error, "giving up the check of the store file failed");
        }
        self.readers.close().await;
        if let Err(error) = self.writer.close().await {
            tracing::warn!(%error, "closing the store file failed");
        }
    }
}

/// Wraps a cause with what was tried.
fn failed(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| {
        if trouble::is_full(&source) {
            let source = Box::new(source);
            return StoreError::Full { action, source };
        }
        trouble::must_not_be_io(action, &source);
        let source = Box::new(source);
        StoreError::Backend { action, source }
    }
}

/// Encodes a list as JSON, for `json_each`: one statement for any number of values.
fn json_list<T: serde::Serialize>(values: &[T]) -> String {
    serde_json::to_string(values).unwrap_or_else(|_| "[]".to_owned())
}
