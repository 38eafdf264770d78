//! A look at a data folder: its lock, its files' versions, whether they are whole, its disk.
//! For a hub of one instance, whether it runs or not.
//! Must never make a file, nor keep a lock for longer than it takes to try it.
//! Read next: `folder.rs`, `sqlite.rs`.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::process::Command;

use sqlx::Connection;

use super::rules::key_file;
use super::{Finding, Level};
use crate::limits::{DISK_ROOM_ERROR, DISK_ROOM_WARNING, LOOK_FILE_BYTES};
use crate::log::sqlite::SCHEMA_VERSION as LOG_VERSION;
use crate::sqlite::{check_wal, open_reader};
use crate::store::sqlite::SCHEMA_VERSION as STORE_VERSION;

/// Looks at a folder.
pub(super) async fn look(data: &Path) -> Vec<Finding> {
    let name = data.display();
    if !data.is_dir() {
        let mend = "name the folder with --data; `musubi serve` makes a new one";
        let subject = format!("the data folder `{name}`");
        return vec![Finding::error(subject, "not there", "a folder", mend)];
    }
    let mut all = vec![lock(data)];
    for (file, known) in [("log.sqlite", LOG_VERSION), ("store.sqlite", STORE_VERSION)] {
        all.extend(sqlite(&data.join(file), known).await);
    }
    // The log's every commit is synced: what its write-ahead log lacks was there once.
    if let Err(error) = check_wal(&data.join("log.sqlite")) {
        all.push(damaged("the log", &error.to_string()));
    }
    all.push(match data.join("pseudonym.key").metadata() {
        Ok(file) if file.len() == 32 => Finding::ok("the key of the pseudonyms", "32 bytes"),
        Ok(file) => Finding::error(
            "the key of the pseudonyms",
            format!("{} bytes", file.len()),
            "32 bytes",
            "take `pseudonym.key` of a backup",
        ),
        Err(error) => Finding::warning(
            "the key of the pseudonyms",
            error.to_string(),
            "a file of 32 bytes",
            "take `pseudonym.key` of a backup; a folder that never served has none yet",
        ),
    });
    all.extend(key_file(&data.join("pseudonym.key")));
    all.extend(disk(data).and_then(|percent| room(percent, &name.to_string())));
    all
}

fn lock(data: &Path) -> Finding {
    let subject = "the lock of the data folder";
    let Ok(file) = File::open(data.join("lock")) else {
        return Finding::ok(subject, "free: no hub ever ran here");
    };
    match file.try_lock() {
        Ok(()) => Finding::ok(subject, "free: no hub runs"),
        Err(TryLockError::WouldBlock) => Finding::ok(subject, "held: a hub runs"),
        Err(TryLockError::Error(error)) => Finding::error(
            subject,
            error.to_string(),
            "a file system that can lock files",
            "move the data folder to a local disk",
        ),
    }
}

/// A file's version, and whether it is whole.
async fn sqlite(path: &Path, known: i64) -> Vec<Finding> {
    let subject = format!("the file `{}`", path.display());
    let Ok(file) = path.metadata() else {
        let found = "not there";
        let mend = "restore a backup (musubi restore); a folder that never served has none yet";
        return vec![Finding::warning(subject, found, "a file", mend)];
    };
    match read(path, file.len() <= LOOK_FILE_BYTES).await {
        Err(error) => vec![damaged(&subject, &error.to_string())],
        Ok((version, said)) => {
            let mut all = vec![self::version(&subject, version, known)];
            match said.as_deref() {
                None => all.push(Finding::ok(
                    subject,
                    "too large to be read through here: `musubi backup` does",
                )),
                Some("ok") => all.push(Finding::ok(subject, "whole")),
                Some(said) => all.push(damaged(&subject, said)),
            }
            all
        }
    }
}

async fn read(path: &Path, whole: bool) -> Result<(i64, Option<String>), sqlx::Error> {
    let mut connection = open_reader(path).await?;
    let version = sqlx::query_scalar("PRAGMA user_version");
    let version = version.fetch_one(&mut connection).await?;
    let said = match whole {
        true => {
            let check = sqlx::query_scalar("PRAGMA quick_check(1)");
            Some(check.fetch_one(&mut connection).await?)
        }
        false => None,
    };
    connection.close().await?;
    Ok((version, said))
}

/// A file of another version than this program's.
pub(super) fn version(subject: &str, found: i64, known: i64) -> Finding {
    let needed = format!("version {known}");
    let mend = match found {
        found if found == known => return Finding::ok(subject, needed),
        found if found > known => "start a newer version of this program",
        _ => "start the version that wrote it, or begin with an empty folder",
    };
    Finding::error(subject, format!("version {found}"), needed, mend)
}

fn damaged(subject: &str, what: &str) -> Finding {
    let mend = "keep the data folder as it is and restore a backup (musubi restore)";
    Finding::error(subject, what, "a file that is whole", mend)
}

/// Percent of a disk that are free. The standard library does not say; `df` is everywhere.
fn disk(data: &Path) -> Option<u64> {
    let said = Command::new("df").arg("-Pk").arg(data).output().ok()?;
    free(&String::from_utf8(said.stdout).ok()?)
}

/// Percent that are free of what the hub may use, of the columns that POSIX names: all, used, free.
pub(super) fn free(said: &str) -> Option<u64> {
    let mut numbers = said.lines().nth(1)?.split_whitespace().skip(2);
    let used: u64 = numbers.next()?.parse().ok()?;
    let free: u64 = numbers.next()?.parse().ok()?;
    free.saturating_mul(100)
        .checked_div(used.checked_add(free)?)
}

/// Judges the room of a disk.
pub(super) fn room(percent: u64, data: &str) -> Option<Finding> {
    let subject = "the disk of the data folder";
    let found = format!("{percent} % free");
    let level = match percent {
        percent if percent < DISK_ROOM_ERROR => Level::Error,
        percent if percent < DISK_ROOM_WARNING => Level::Warning,
        _ => return Some(Finding::ok(subject, found)),
    };
    let mend = format!("make room on the disk of `{data}`, or see `--retention-days`");
    let needed = format!("{DISK_ROOM_WARNING} % at least");
    Some(Finding::of(level, subject, found, needed, mend))
}
