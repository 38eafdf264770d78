//! Keys and passwords: files that only the hub may read.
//! Read at start; the key of a data folder is made there once.
//! Must never take a secret from an argument or the environment, nor say one in an error.
//! Read next: `server/backend.rs`.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use super::serve::ServeError;

/// Bytes of a key of pseudonyms.
const KEY_BYTES: usize = 32;

/// The key of the pseudonyms in a data folder: made once, readable by the hub alone.
///
/// # Errors
/// When it cannot be read or made.
pub fn key_of_folder(folder: &Path) -> Result<[u8; KEY_BYTES], ServeError> {
    let failed = |error| ServeError::Data(folder.display().to_string(), error);
    let path = folder.join("pseudonym.key");
    if let Ok(bytes) = std::fs::read(&path) {
        return checked(&path, bytes);
    }
    let mut key = [0; KEY_BYTES];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    write_private(&path, &key).map_err(failed)?;
    Ok(key)
}

/// Reads a key of pseudonyms that must be there.
///
/// # Errors
/// When it is not there, or is none.
pub fn read_key(path: &Path) -> Result<[u8; KEY_BYTES], ServeError> {
    let bytes = std::fs::read(path).map_err(|error| {
        ServeError::Config(format!(
            "the key of the pseudonyms `{}` cannot be read: {error}; make one for all instances \
             with `head -c {KEY_BYTES} /dev/urandom`, or take `pseudonym.key` of the data folder \
             that was migrated",
            path.display()
        ))
    })?;
    checked(path, bytes)
}

fn checked(path: &Path, bytes: Vec<u8>) -> Result<[u8; KEY_BYTES], ServeError> {
    <[u8; KEY_BYTES]>::try_from(bytes).map_err(|_| {
        let path = path.display();
        ServeError::Config(format!("`{path}` must have {KEY_BYTES} bytes"))
    })
}

/// Reads a password's file, without the line end.
///
/// # Errors
/// When it cannot be read.
pub fn read_secret(path: &Path) -> Result<String, ServeError> {
    let text = std::fs::read_to_string(path).map_err(|error| {
        ServeError::Config(format!(
            "the file `{}` cannot be read: {error}",
            path.display()
        ))
    })?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Writes beside, flushes, renames: a crash leaves the whole file or none.
///
/// # Errors
/// When the folder cannot be written.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(folder_of(path))?.sync_all()
}

/// The folder of a file; a bare name stands in the working folder.
fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_stands_in_the_working_folder() {
        for (path, folder) in [("port", "."), ("run/port", "run"), ("/run/port", "/run")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder));
        }
    }

    #[test]
    fn a_password_ends_before_the_line_does_and_a_missing_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let error = read_secret(&path).unwrap_err().to_string();
        assert!(error.contains("password"), "{error}");
        std::fs::write(&path, "two words\n").unwrap();
        assert_eq!(read_secret(&path).unwrap(), "two words");
        let error = read_key(&path).unwrap_err().to_string();
        assert!(error.contains("32 bytes"), "{error}");
    }
}
