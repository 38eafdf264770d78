//! What the batch hands out beside its results: the ledger and the journal of applied keys.
//! `night.rs` calls it after the requests.
//! It must never leave a half-written ledger in place of a whole one.
//! Read next: §5 of the manual.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use csv::{Terminator, WriterBuilder};
use sha2::{Digest, Sha256};
use sqlx::{Row, SqliteConnection};

use super::row;
use super::text::encode;
use crate::files::{self, hex};
use crate::ledger as store;

const PAGE: i64 = 500;
/// A journal line is far shorter; the last line lies within so many bytes of the end.
const TAIL_BYTES: u64 = 4096;

/// Count and digest of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub(super) records: i64,
    pub(super) sha256: String,
}

impl Manifest {
    /// The manifest of these bytes.
    pub(super) fn of(records: i64, bytes: &[u8]) -> Self {
        Self {
            records,
            sha256: hex(&Sha256::digest(bytes)),
        }
    }

    /// Its text.
    pub(super) fn text(&self) -> String {
        format!("KENSU={}\r\nSHA256={}\r\n", self.records, self.sha256)
    }

    /// Reads what a sender wrote.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        let value = |name: &str| {
            text.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
        };
        let records = value("KENSU")?.parse().ok()?;
        Some(Self {
            records,
            sha256: value("SHA256")?.to_owned(),
        })
    }
}

/// Writes the whole ledger and its manifest.
pub(super) async fn ledger(
    folder: &Path,
    conn: &mut SqliteConnection,
    journal: i64,
) -> anyhow::Result<()> {
    let temporary = folder.join("daicho.csv.tmp");
    let file = File::create(&temporary).context("make the ledger's file")?;
    let mut out = Hashing {
        inner: BufWriter::new(file),
        hash: Sha256::new(),
    };
    let mut count = 0;
    let mut after = String::new();
    loop {
        let page = store::persons(conn, &after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.no);
        let mut lines = WriterBuilder::new()
            .terminator(Terminator::CRLF)
            .from_writer(Vec::new());
        for person in page {
            let mut line = vec![
                person.no.into_bytes(),
                person.version.to_string().into_bytes(),
            ];
            for number in row::FIRST..=row::LAST {
                let value = person
                    .doc
                    .get(&row::item(number))
                    .and_then(|value| value.as_str());
                line.push(encode(value.unwrap_or_default()));
            }
            lines.write_record(&line)?;
            count += 1;
        }
        out.write_all(&lines.into_inner().context("write the ledger")?)?;
    }
    out.inner.flush()?;
    out.inner.get_ref().sync_all()?;
    let manifest = Manifest {
        records: count,
        sha256: hex(&out.hash.finalize()),
    };
    // The manifest goes first so that an old one never vouches for a new ledger.
    files::remove(&folder.join("daicho.mf"))?;
    fs::rename(&temporary, folder.join("daicho.csv")).context("replace the ledger")?;
    let text = format!("{}JISSEKI={journal}\r\n", manifest.text());
    files::replace(&folder.join("daicho.mf"), text.as_bytes())
}

/// The file of applied keys.
#[derive(Debug)]
pub(super) struct Journal {
    file: PathBuf,
    last: i64,
}

impl Journal {
    /// Opens the file and cuts off a line that a kill left unfinished.
    pub(super) fn open(file: PathBuf) -> anyhow::Result<Self> {
        let mut out = open_journal(&file)?;
        let size = out.seek(SeekFrom::End(0))?;
        let start = size.saturating_sub(TAIL_BYTES);
        out.seek(SeekFrom::Start(start))?;
        let mut tail = Vec::new();
        out.read_to_end(&mut tail)?;
        let whole = tail
            .windows(2)
            .rposition(|pair| pair == b"\r\n")
            .map_or(0, |at| at + 2);
        out.set_len(start + u64::try_from(whole)?)?;
        tail.truncate(whole);
        let text = String::from_utf8_lossy(&tail);
        let last = text.lines().last().and_then(|line| line.split(',').next());
        let last = last
            .map_or(Ok(0), str::parse)
            .context("read the last line of the journal")?;
        Ok(Self { file, last })
    }

    /// Number of the last line.
    pub(super) fn last(&self) -> i64 {
        self.last
    }

    /// Appends the keys that were applied since.
    pub(super) async fn append(&mut self, conn: &mut SqliteConnection) -> anyhow::Result<()> {
        loop {
            let rows = sqlx::query(
                "SELECT j.seq, j.key, j.no, j.version, p.file, p.record
                 FROM journal j JOIN place p ON p.seq = j.seq
                 WHERE j.seq > ? ORDER BY j.seq LIMIT ?",
            )
            .bind(self.last)
            .bind(PAGE)
            .fetch_all(&mut *conn)
            .await?;
            if rows.is_empty() {
                return Ok(());
            }
            let mut text = String::new();
            let mut last = self.last;
            for row in rows {
                last = row.try_get(0)?;
                let (key, no): (&str, &str) = (row.try_get(1)?, row.try_get(2)?);
                let (version, file): (i64, &str) = (row.try_get(3)?, row.try_get(4)?);
                let record: i64 = row.try_get(5)?;
                text.push_str(&format!(
                    "{last},{key},{no},{version},{file},{record:06}\r\n"
                ));
            }
            let mut out = open_journal(&self.file)?;
            out.seek(SeekFrom::End(0))?;
            out.write_all(text.as_bytes())?;
            self.last = last;
        }
    }
}

fn open_journal(file: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(file)
        .with_context(|| format!("open {}", file.display()))
}

struct Hashing<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
