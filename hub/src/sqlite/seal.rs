//! The digest that a file is left with at a stop in order, and its check at the next start.
//! For a file whose rows carry no digest of their own: the store.
//! Must never outlive the first write: a file in use is unsealed, and the disk knows that first.
//! Read next: `sqlite/wal.rs`, which watches over a stop that was not in order.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteConnection;

use super::{OpenError, not_opened};
use crate::limits::CHECK_AT_START_BYTES_MAX;

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |file| file.len())
}

/// SHA-256 of a file, in hex.
pub(crate) fn digest(path: &Path) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut file = File::open(path)?;
    let mut piece = vec![0; 1 << 16];
    loop {
        let read = io::Read::read(&mut file, &mut piece)?;
        if read == 0 {
            let digest = hasher.finalize();
            return Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect());
        }
        hasher.update(piece.get(..read).unwrap_or_default());
    }
}

/// Checks a file that was just opened and not written to, then takes its seal off.
pub(crate) async fn unseal(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), OpenError> {
    let damaged = |what: String| OpenError::Damaged {
        path: path.display().to_string(),
        what,
    };
    let seal = beside(path, ".sealed");
    if bytes(path) <= CHECK_AT_START_BYTES_MAX {
        let failed = |source| not_opened(path, source);
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(connection)
            .await
            .map_err(failed)?;
        if found != "ok" {
            return Err(damaged(found.replace('\n', " ")));
        }
        let unreadable = |error: io::Error| damaged(format!("it cannot be read: {error}"));
        if seal.exists() {
            let sealed = fs::read_to_string(&seal).map_err(unreadable)?;
            let same = digest(path).map_err(unreadable)? == sealed;
            if !same || bytes(&beside(path, "-wal")) > 0 {
                let what = "it is not what the last stop left; something else wrote to it, or the \
                            disk failed";
                return Err(damaged(what.to_owned()));
            }
        }
    }
    take_off(&seal).map_err(|error| damaged(format!("its seal cannot be taken off: {error}")))
}

fn take_off(seal: &Path) -> io::Result<()> {
    match fs::remove_file(seal) {
        Ok(()) => sync_folder(seal),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent()
        .map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

/// Brings everything into the file itself and writes its digest beside it. The connection takes no
/// further write: nothing stands behind the seal.
pub(crate) async fn seal(
    path: &Path,
    connection: &mut SqliteConnection,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(&mut *connection)
        .await?;
    sqlx::raw_sql("PRAGMA query_only = 1")
        .execute(connection)
        .await?;
    if busy != 0 || bytes(path) > CHECK_AT_START_BYTES_MAX {
        return Ok(());
    }
    let seal = beside(path, ".sealed");
    let mut file = File::create(&seal)?;
    file.write_all(digest(path)?.as_bytes())?;
    file.sync_all()?;
    Ok(sync_folder(&seal)?)
}
