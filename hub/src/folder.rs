//! The lock of a data folder: one hub writes there, or one restore reads what it leaves.
//! Taken before any file in it is opened.
//! Must never be given up while a file of the folder is open.
//! Read next: `server/serve.rs`, `backup.rs`.

use std::fs::{File, TryLockError};
use std::io;
use std::path::Path;

use thiserror::Error;

/// The lock cannot be taken. Each text is one line for an operator.
#[derive(Debug, Error)]
pub enum FolderError {
    /// Somebody has it.
    #[error("the data folder `{0}` is in use by another hub; stop it or give another folder")]
    InUse(String),
    /// What it holds is in a cluster, or on its way there.
    #[error(
        "the data folder `{0}` was migrated, or its migration was broken off: `musubi migrate` \
         says which and ends it; serve the cluster that its file `migrated` names"
    )]
    Migrated(String),
    /// The folder cannot be used.
    #[error("the data folder `{0}` cannot be used: {1}")]
    Unusable(String, #[source] io::Error),
}

/// File that says where the content of a folder has gone.
pub const MIGRATED: &str = "migrated";

/// Takes the lock of a folder to serve it. One whose content is in a cluster, or on its way there,
/// is refused: served again, it would give out what the cluster gives out too.
///
/// # Errors
/// When it is so, when somebody has it, or when it cannot be used.
pub fn lock_to_serve(folder: &Path) -> Result<File, FolderError> {
    let file = lock(folder)?;
    match folder.join(MIGRATED).exists() {
        true => Err(FolderError::Migrated(folder.display().to_string())),
        false => Ok(file),
    }
}

/// Creates the folder when it is missing and takes its lock, which ends with the process or with
/// the file that is returned.
pub fn lock(folder: &Path) -> Result<File, FolderError> {
    let name = || folder.display().to_string();
    let failed = |error| FolderError::Unusable(name(), error);
    std::fs::create_dir_all(folder).map_err(failed)?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join("lock"))
        .map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(FolderError::InUse(name())),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}
