//! Records of the town's files, taken over byte by byte.
//! `outbox.rs` writes what is read here.
//! It must never judge or repair a record: invalid ones leave as they are.
//! Read next: `outbox.rs`.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context, bail};

/// 届出 in one differential file at most.
const GROUPS_MAX: usize = 40;
/// No record of a register is longer; a longer one means a quote that is never closed.
const RECORD_BYTES_MAX: usize = 1024 * 1024;
/// Place of the items that decide where a file ends.
const GROUP: usize = 1;
const PROCESSED_AT: usize = 12;
/// A processing day is the date part of the processing time.
const DAY_BYTES: usize = 10;

/// Reads records with their line end.
#[derive(Debug)]
pub(super) struct Records {
    inner: BufReader<File>,
    offset: u64,
    header: Vec<u8>,
}

impl Records {
    /// Opens a file and reads its header record.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let inner = BufReader::with_capacity(64 * 1024, file);
        let mut records = Self {
            inner,
            offset: 0,
            header: Vec::new(),
        };
        let mut header = Vec::new();
        if !records.next(&mut header)? {
            bail!("{} is empty", path.display());
        }
        records.header = header;
        Ok(records)
    }

    /// The header record.
    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }

    /// Reads the next record; false at the end. A record ends at an LF outside of quotes.
    pub(super) fn next(&mut self, record: &mut Vec<u8>) -> anyhow::Result<bool> {
        record.clear();
        let mut open = false;
        loop {
            let start = record.len();
            let count = self
                .inner
                .read_until(b'\n', record)
                .context("read a record")?;
            let line = record.get(start..).unwrap_or_default();
            open ^= line.iter().filter(|byte| **byte == b'"').count() % 2 == 1;
            self.offset += u64::try_from(count)?;
            if count == 0 || !open {
                break;
            }
            if record.len() > RECORD_BYTES_MAX {
                bail!("the record before byte {} has no end", self.offset);
            }
        }
        if record.last().is_some_and(|last| *last != b'\n') {
            record.push(b'\n');
        }
        Ok(!record.is_empty())
    }

    fn seek(&mut self, offset: u64) -> io::Result<()> {
        self.offset = self.inner.seek(SeekFrom::Start(offset))?;
        Ok(())
    }
}

/// The content of one differential file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) records: u64,
    /// Place in the town's file behind this batch.
    pub(super) end: u64,
}

impl Batch {
    fn push(&mut self, record: &[u8]) {
        self.bytes.extend_from_slice(record);
        self.records += 1;
    }
}

/// The town's changes, cut into files: whole 届出 of one processing day, 40 at most.
#[derive(Debug)]
pub(super) struct Changes {
    records: Records,
    /// The first record of the next batch, read already.
    ahead: Option<Vec<u8>>,
}

impl Changes {
    /// Opens the changes behind a batch that was written (0: from the start).
    pub(super) fn open(path: &Path, offset: u64) -> anyhow::Result<Self> {
        let mut records = Records::open(path)?;
        if offset > 0 {
            records
                .seek(offset)
                .context("go on where the last file ended")?;
        }
        Ok(Self {
            records,
            ahead: None,
        })
    }

    /// The header record.
    pub(super) fn header(&self) -> &[u8] {
        self.records.header()
    }

    /// The content of the next file.
    pub(super) fn next_batch(&mut self) -> anyhow::Result<Option<Batch>> {
        let mut batch = Batch::default();
        let mut record = Vec::new();
        let (mut group, mut day, mut groups) = (Vec::new(), Vec::new(), 0);
        loop {
            let start = self.records.offset;
            match self.ahead.take() {
                Some(ahead) => record = ahead,
                None if self.records.next(&mut record)? => {}
                None => break,
            }
            let record_group = item(&record, GROUP);
            if groups == 0 || record_group != group {
                let mut record_day = item(&record, PROCESSED_AT);
                record_day.truncate(DAY_BYTES);
                if groups > 0 && (groups == GROUPS_MAX || record_day != day) {
                    batch.end = start;
                    self.ahead = Some(record);
                    return Ok(Some(batch));
                }
                (group, day, groups) = (record_group, record_day, groups + 1);
            }
            batch.push(&record);
        }
        batch.end = self.records.offset;
        Ok((batch.records > 0).then_some(batch))
    }
}

/// The invalid rows without the two items that say what is wrong with them.
pub(super) fn invalid(path: &Path) -> anyhow::Result<Batch> {
    let mut records = Records::open(path)?;
    let mut batch = Batch::default();
    let mut record = Vec::new();
    while records.next(&mut record)? {
        let behind = item_end(&record, 1) + 1;
        batch.push(record.get(behind..).unwrap_or_default());
    }
    Ok(batch)
}

/// One item of a record, without its quotes.
fn item(record: &[u8], index: usize) -> Vec<u8> {
    let start = if index == 0 {
        0
    } else {
        item_end(record, index - 1) + 1
    };
    let raw = record
        .get(start..item_end(record, index))
        .unwrap_or_default();
    raw.iter().copied().filter(|byte| *byte != b'"').collect()
}

/// Where an item ends: at the comma behind it or at the end of the record.
fn item_end(record: &[u8], index: usize) -> usize {
    let (mut quoted, mut commas) = (false, 0);
    for (at, byte) in record.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b',' if !quoted && commas == index => return at,
            b',' if !quoted => commas += 1,
            b'\n' if !quoted => return at,
            _ => {}
        }
    }
    record.len()
}
