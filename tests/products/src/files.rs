//! Files that others read while a product writes: replaced as a whole, removed without complaint.
//! Used for addresses, manifests, done-files and states.
//! It must never let a reader see a half-written file under its final name.
//! Read next: `hinoki/night.rs` and `tsubame/outbox.rs`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Replaces a file so that a reader sees the old or the new content, nothing between.
pub(crate) fn replace(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    let mut temporary = file.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let write = || -> io::Result<()> {
        let mut out = File::create(&temporary)?;
        out.write_all(content)?;
        out.sync_all()?;
        fs::rename(&temporary, file)?;
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    write().with_context(|| format!("write {}", file.display()))
}

/// Removes a file that may be gone already.
pub(crate) fn remove(file: &Path) -> anyhow::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", file.display()))
        }
        _ => Ok(()),
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
