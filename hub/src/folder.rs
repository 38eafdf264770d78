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
    /// The folder cannot be used.
    #[error("the data folder `{0}` cannot be used: {1}")]
    Unusable(String, #[source] io::Error),
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
