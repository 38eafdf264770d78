//! F11: a wall clock that jumps while processes run, by libfaketime.
//! The monotonic clock stays right, as it does when an operator sets the time.
//! Must never touch the clock of the machine.
//! Read next: `rig.rs`, which starts processes with it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Where Debian keeps libraries of each architecture.
const LIBRARIES: &str = "/usr/lib";
/// The edition for programs with threads.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A wall clock of some processes.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A right clock, set by a file below `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let found = fs::read_dir(LIBRARIES)?
            .filter_map(Result::ok)
            .map(|entry| entry.path().join(LIBRARY))
            .find(|path| path.is_file());
        let library = found.context("libfaketime is missing; run `cargo xtask tools`")?;
        let file = folder.join("clock");
        let clock = Self { file, library };
        clock.set("+0")?;
        Ok(clock)
    }

    /// Sets it off by so much, such as `+1h` or `-1d`.
    pub fn set(&self, offset: &str) -> Result<()> {
        // Renamed, so that no process reads half of it.
        let new = self.file.with_extension("new");
        fs::write(&new, offset)
            .and_then(|()| fs::rename(&new, &self.file))
            .context("set the clock")
    }

    /// Variables of the processes that live by it.
    pub fn environment(&self) -> Vec<(String, String)> {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        vec![
            pair("LD_PRELOAD", &self.library.to_string_lossy()),
            pair("FAKETIME_TIMESTAMP_FILE", &self.file.to_string_lossy()),
            pair("FAKETIME_NO_CACHE", "1"),
            pair("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
    }
}
