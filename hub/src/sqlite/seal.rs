//! The digest that a file is left with at a stop in order, and its check at or after the next start.
//! For a file whose rows carry no digest of their own: the store.
//! Must never outlive the first write: a file in use is unsealed, and the disk knows that first.
//! Read next: `sqlite/wal.rs`, which watches over a stop that was not in order.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;

use super::{OpenError, not_opened, open_reader};
use crate::limits::SEAL_BYTES_MAX;

/// What a seal's name ends in.
const SEAL: &str = ".sealed";

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

fn damaged(path: &Path, what: String) -> OpenError {
    OpenError::Damaged {
        path: path.display().to_string(),
        what,
    }
}

/// A file whose content is still to be checked. As long as this is there, the file itself stays as
/// it was opened: a reader at its start lets nothing be folded in from the write-ahead log.
#[derive(Debug)]
pub(crate) struct Unchecked {
    path: PathBuf,
    reader: SqliteConnection,
    sealed: Option<String>,
}

/// Takes the seal off a file that was just opened and not written to; what is left to be checked.
pub(crate) async fn unseal(path: &Path) -> Result<Unchecked, OpenError> {
    let unchecked = look(path).await?;
    take_off(&beside(path, SEAL)).map_err(|error| {
        let what = format!("its seal cannot be taken off: {error}");
        damaged(path, what)
    })?;
    Ok(unchecked)
}

/// What is to be checked of a file that keeps its seal.
pub(crate) async fn look(path: &Path) -> Result<Unchecked, OpenError> {
    let failed = |source| not_opened(path, source);
    let seal = beside(path, SEAL);
    let sealed = match fs::read_to_string(&seal) {
        Ok(sealed) => Some(sealed),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(damaged(&seal, format!("it cannot be read: {error}"))),
    };
    if sealed.is_some() && bytes(&beside(path, "-wal")) > 0 {
        return Err(not_as_left(path));
    }
    let mut reader = open_reader(path).await.map_err(failed)?;
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM sqlite_schema")
        .execute(&mut reader)
        .await
        .map_err(failed)?;
    Ok(Unchecked {
        path: path.to_owned(),
        reader,
        sealed,
    })
}

impl Unchecked {
    /// True when reading the file through takes no time that anybody would notice.
    pub(crate) fn is_small(&self, bytes_max: u64) -> bool {
        bytes(&self.path) <= bytes_max
    }

    /// Checks the structure, and every byte when the file was sealed.
    pub(crate) async fn check(mut self) -> Result<(), OpenError> {
        let path = &self.path;
        let failed = |source| not_opened(path, source);
        let found: String = sqlx::query_scalar("PRAGMA quick_check(1)")
            .fetch_one(&mut self.reader)
            .await
            .map_err(failed)?;
        if found != "ok" {
            return Err(damaged(path, found.replace('\n', " ")));
        }
        if let Some(sealed) = self.sealed {
            let of = path.clone();
            let read = tokio::task::spawn_blocking(move || digest(&of)).await;
            let digest = read
                .map_err(io::Error::other)
                .flatten()
                .map_err(|error| damaged(path, format!("it cannot be read: {error}")))?;
            if digest != sealed {
                return Err(not_as_left(path));
            }
        }
        self.reader.close().await.map_err(failed)
    }

    /// Gives the check up.
    pub(crate) async fn close(self) -> Result<(), sqlx::Error> {
        self.reader.close().await
    }
}

fn not_as_left(path: &Path) -> OpenError {
    let what = "it is not what the last stop left; something else wrote to it, or the disk failed";
    damaged(path, what.to_owned())
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
    if busy != 0 || bytes(path) > SEAL_BYTES_MAX {
        return Ok(());
    }
    let seal = beside(path, SEAL);
    let mut file = File::create(&seal)?;
    file.write_all(digest(path)?.as_bytes())?;
    file.sync_all()?;
    Ok(sync_folder(&seal)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;
    use crate::sqlite::{BY_NAME, open_writer};

    const SCHEMA: &str = "CREATE TABLE t (number INTEGER PRIMARY KEY, text TEXT NOT NULL)";

    async fn open(path: &Path) -> SqliteConnection {
        open_writer(path, 1, SCHEMA, &BY_NAME).await.unwrap()
    }

    async fn put(connection: &mut SqliteConnection, rows: u32) {
        sqlx::query(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $1)
             INSERT INTO t (text) SELECT printf('%0100d', i) FROM n",
        )
        .bind(rows)
        .execute(connection)
        .await
        .unwrap();
    }

    /// A sealed file of some pages.
    async fn sealed(folder: &Path) -> PathBuf {
        let path = folder.join("store.sqlite");
        let mut writer = open(&path).await;
        put(&mut writer, 1_000).await;
        seal(&path, &mut writer).await.unwrap();
        writer.close().await.unwrap();
        path
    }

    /// More pages than the write-ahead log holds before it is folded in.
    async fn write_on(writer: &mut SqliteConnection) {
        for _ in 0..10 {
            put(writer, 20_000).await;
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written_to_meanwhile_is_checked_as_it_was_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = sealed(folder.path()).await;
        let mut writer = open(&path).await;
        let unchecked = unseal(&path).await.unwrap();
        assert!(!beside(&path, ".sealed").exists());
        let left = fs::read(&path).unwrap();
        write_on(&mut writer).await;
        assert_eq!(fs::read(&path).unwrap(), left);
        unchecked.check().await.unwrap();
        // Folding in goes on afterwards.
        put(&mut writer, 1).await;
        assert_ne!(fs::read(&path).unwrap(), left);
    }

    #[tokio::test]
    async fn a_bit_that_flipped_inside_a_value_is_found_although_the_file_is_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let path = sealed(folder.path()).await;
        let at = fs::metadata(&path).unwrap().len() / 2;
        let file = File::options().read(true).write(true).open(&path).unwrap();
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 1], at).unwrap();
        let mut writer = open(&path).await;
        let unchecked = unseal(&path).await.unwrap();
        write_on(&mut writer).await;
        let found = unchecked.check().await;
        assert!(matches!(found, Err(OpenError::Damaged { .. })), "{found:?}");
    }
}
