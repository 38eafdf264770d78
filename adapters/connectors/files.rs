//! Files in an exchange folder that another program watches.
//! A file appears under its name with all its bytes on disk, or not at all.
//! It must never leave a half-written file under a name that the other side takes.
//! Read next: `cp932.rs`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use musubi_proto::crash;

/// Files that are still being written begin with this.
pub(crate) const TEMPORARY_PREFIX: &str = "tmp-";

/// Writes a file: temporary name, fsync, rename, fsync of the folder.
pub(crate) fn write_whole(folder: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join(format!("{TEMPORARY_PREFIX}{name}"));
    let mut file = File::create(&temporary)?;
    let (half, rest) = bytes.split_at(bytes.len() / 2);
    file.write_all(half)?;
    crash::point("file.half_written");
    file.write_all(rest)?;
    file.sync_all()?;
    drop(file);
    crash::point("file.flushed");
    fs::rename(&temporary, folder.join(name))?;
    crash::point("file.renamed");
    sync_folder(folder)
}

/// Removes what a crash left under temporary names.
pub(crate) fn remove_temporary(folder: &Path) -> io::Result<()> {
    for name in names(folder)? {
        if name.starts_with(TEMPORARY_PREFIX) {
            remove(&folder.join(name))?;
        }
    }
    Ok(())
}

/// Removes a file; one that is gone already is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a file; `None` when it is not there.
pub(crate) fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Names in a folder, in order. Names that are no text belong to somebody else.
pub(crate) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

#[cfg(unix)]
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_appears_whole_and_leftovers_go() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("tmp-old"), "half").unwrap();
        write_whole(folder.path(), "b.csv", b"whole").unwrap();
        remove_temporary(folder.path()).unwrap();
        assert_eq!(names(folder.path()).unwrap(), ["b.csv"]);
        assert_eq!(
            read(&folder.path().join("b.csv")).unwrap().as_deref(),
            Some(&b"whole"[..])
        );
        assert_eq!(read(&folder.path().join("none")).unwrap(), None);
        remove(&folder.path().join("none")).unwrap();
    }
}
