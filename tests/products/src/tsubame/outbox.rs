//! The out folder: numbered data files, written in place, and their done-files.
//! `tsubame.rs` decides what comes next; progress lies in the data folder.
//! It must never touch a data file whose done-file exists.
//! Read next: the manual, for what a reader may rely on.
//!
//! ```text
//! data file (in pieces) ─► fsync ─► done-file (rename) ─► progress (rename)
//! ```
//! A kill before the done-file: the data file is written again. A kill behind it: the same content
//! comes up again under the same number, and is left as it is.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::records::{Batch, Records};
use crate::files::{self, hex};

/// Bytes of a full file that are written at once.
const PIECE_BYTES: usize = 64 * 1024;
/// Pieces of a differential file.
const PIECES: usize = 4;

/// How far the registry is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// Number of the last file with a done-file.
    pub(super) written: u64,
    /// Place in the town's changes behind that file.
    pub(super) offset: u64,
    /// The invalid rows are written.
    pub(super) invalid: bool,
}

/// The folders of the registry.
#[derive(Debug)]
pub(super) struct Outbox {
    out: PathBuf,
    progress: PathBuf,
    pace: Duration,
}

impl Outbox {
    /// Makes the folders.
    pub(super) fn open(out: &Path, data: &Path, pace: Duration) -> anyhow::Result<Self> {
        for folder in [out, data] {
            fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        }
        Ok(Self {
            out: out.to_owned(),
            progress: data.join("progress.json"),
            pace,
        })
    }

    /// How far an earlier process came.
    pub(super) fn progress(&self) -> anyhow::Result<Progress> {
        match fs::read(&self.progress) {
            Ok(bytes) => serde_json::from_slice(&bytes).context("read progress.json"),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Progress::default()),
            Err(error) => Err(error).context("read progress.json"),
        }
    }

    /// Stores how far the registry is.
    pub(super) fn advance(&self, progress: Progress) -> anyhow::Result<()> {
        files::replace(&self.progress, &serde_json::to_vec(&progress)?)
    }

    /// Writes the full file from the records of several files with the same header.
    pub(super) async fn write_full(&self, sources: &[PathBuf]) -> anyhow::Result<()> {
        let path = self.out.join("juki_000001_zenken.csv");
        if done_file(&path).exists() {
            return Ok(());
        }
        let mut file = DataFile::create(path)?;
        let mut slow_pieces = 2 * PIECES;
        let mut header = Vec::new();
        let (mut record, mut piece) = (Vec::new(), Vec::with_capacity(PIECE_BYTES));
        for source in sources {
            let mut records = Records::open(source)?;
            if header.is_empty() {
                header = records.header().to_vec();
                piece.extend_from_slice(&header);
            } else if header != records.header() {
                bail!("{} has another header", source.display());
            }
            while records.next(&mut record)? {
                piece.extend_from_slice(&record);
                file.records += 1;
                if piece.len() >= PIECE_BYTES {
                    file.write(&piece)?;
                    piece.clear();
                    // A large town has thousands of pieces; only the first ones are slow.
                    if slow_pieces > 0 {
                        slow_pieces -= 1;
                        self.pause().await;
                    }
                }
            }
        }
        file.write(&piece)?;
        file.finish()
    }

    /// Writes a differential file.
    pub(super) async fn write_changes(
        &self,
        number: u64,
        header: &[u8],
        batch: &Batch,
    ) -> anyhow::Result<()> {
        let path = self.out.join(format!("juki_{number:06}_sabun.csv"));
        if done_file(&path).exists() {
            return Ok(());
        }
        let mut file = DataFile::create(path)?;
        file.records = batch.records;
        file.write(header)?;
        for piece in batch.bytes.chunks(batch.bytes.len() / PIECES + 1) {
            self.pause().await;
            file.write(piece)?;
        }
        file.finish()
    }

    /// Leaves readers time to see a file that is not complete.
    async fn pause(&self) {
        let part = self.pace / 8;
        if part.is_zero() {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(part.min(Duration::from_millis(50))).await;
        }
    }
}

fn done_file(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".done");
    PathBuf::from(name)
}

/// A data file that is being written.
struct DataFile {
    path: PathBuf,
    file: File,
    hash: Sha256,
    records: u64,
}

impl DataFile {
    fn create(path: PathBuf) -> anyhow::Result<Self> {
        let file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
        Ok(Self {
            path,
            file,
            hash: Sha256::new(),
            records: 0,
        })
    }

    fn write(&mut self, piece: &[u8]) -> anyhow::Result<()> {
        self.hash.update(piece);
        let path = &self.path;
        self.file
            .write_all(piece)
            .with_context(|| format!("write {}", path.display()))
    }

    /// Makes the data durable, then says so.
    fn finish(self) -> anyhow::Result<()> {
        self.file
            .sync_all()
            .with_context(|| format!("write {}", self.path.display()))?;
        let sha256 = hex(&self.hash.finalize());
        let text = format!("kensu={}\nsha256={sha256}\n", self.records);
        files::replace(&done_file(&self.path), text.as_bytes())
    }
}
