//! The exchange folder: request files go in, result files come out.
//! `batch.rs` calls it from a blocking thread.
//! It must never use a name twice, nor leave a request under a name without its manifest.
//! Read next: `batch.rs`.
//!
//! ```text
//! hinoki.last (fsync) ─► in/NK….csv ─► in/NK….mf ┄► night ┄► out/NK….kekka.csv ─► .kekka.mf ─► gone
//! ```
//! A crash before `in/NK….mf` leaves nothing that Hinoki looks at; after it, the keys are found
//! again in the request or in its result.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use csv::{ByteRecord, QuoteStyle, ReaderBuilder, Terminator, WriterBuilder};
use musubi_proto::crash;
use sha2::{Digest, Sha256};

use super::answer::Outcome;
use super::row::Row;
use crate::connectors::files;

/// File with the last name that was used.
const LAST_NAME: &str = "hinoki.last";

const REQUEST: &str = ".csv";
const MANIFEST: &str = ".mf";
const RESULT: &str = ".kekka.csv";
const RESULT_MANIFEST: &str = ".kekka.mf";

/// Name of a request file without its ending: day and number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct FileName {
    day: u32,
    number: u32,
}

impl FileName {
    const NUMBER_MAX: u32 = 999_999;

    /// The name after this one; `None` when the day has no more. A clock that goes back changes
    /// nothing: names are taken in order.
    pub(super) fn next(self, today: u32) -> Option<Self> {
        if today > self.day {
            return Some(Self {
                day: today,
                number: 1,
            });
        }
        let number = self.number + 1;
        (number <= Self::NUMBER_MAX).then_some(Self {
            day: self.day,
            number,
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("NK").filter(|rest| rest.len() == 14)?;
        if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let (day, number) = digits.split_at_checked(8)?;
        Some(Self {
            day: day.parse().ok()?,
            number: number.parse().ok()?,
        })
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NK{:08}{:06}", self.day, self.number)
    }
}

/// A request file that lies in the folder, and the keys of its records in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    /// Name.
    pub(super) name: FileName,
    /// Keys; empty for a record without a readable one.
    pub(super) keys: Vec<String>,
}

/// What a start finds in the folder.
#[derive(Debug)]
pub(super) struct Found {
    /// The last name that was used.
    pub(super) last: FileName,
    /// Files without a result that was read.
    pub(super) open: Vec<Written>,
}

/// A record of a result file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResultRecord {
    /// 処理キー.
    pub(super) key: String,
    /// The rest.
    pub(super) outcome: Outcome,
}

/// The exchange folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    incoming: PathBuf,
    outgoing: PathBuf,
}

impl Folder {
    pub(super) fn new(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            incoming: root.join("in"),
            outgoing: root.join("out"),
        }
    }

    /// Removes what a crash left unfinished and finds the files that still matter.
    pub(super) fn recover(&self) -> io::Result<Found> {
        files::remove_temporary(&self.incoming)?;
        files::remove_temporary(&self.root)?;
        let mut last = self.last_name()?;
        let mut open = Vec::new();
        let incoming: BTreeSet<String> = files::names(&self.incoming)?.into_iter().collect();
        for file in &incoming {
            let Some(name) = named(file, REQUEST) else {
                continue;
            };
            last = last.max(name);
            let path = self.incoming.join(file);
            if incoming.contains(&format!("{name}{MANIFEST}")) {
                let keys = files::read(&path)?
                    .map(|bytes| keys(&bytes))
                    .unwrap_or_default();
                open.push(Written { name, keys });
            } else {
                files::remove(&path)?;
            }
        }
        for name in self.finished()? {
            last = last.max(name);
            if !open.iter().any(|written| written.name == name) {
                let path = self.outgoing.join(format!("{name}{RESULT}"));
                let keys = files::read(&path)?
                    .map(|bytes| keys(&bytes))
                    .unwrap_or_default();
                open.push(Written { name, keys });
            }
        }
        Ok(Found { last, open })
    }

    /// Writes a request file, then its manifest. An error means that Hinoki will not look at it.
    pub(super) fn write(&self, name: FileName, records: &[(String, Row)]) -> io::Result<()> {
        files::write_whole(&self.root, LAST_NAME, name.to_string().as_bytes())?;
        let request = encode(records)?;
        let manifest = manifest(records.len(), &request);
        files::write_whole(&self.incoming, &format!("{name}{REQUEST}"), &request)?;
        crash::point("file.before_manifest");
        let manifest_name = format!("{name}{MANIFEST}");
        let written = files::write_whole(&self.incoming, &manifest_name, manifest.as_bytes());
        match written {
            Ok(()) => {
                crash::point("file.manifest_written");
                Ok(())
            }
            // Once the manifest has its name the file counts, whatever failed after that.
            Err(_) if self.incoming.join(&manifest_name).exists() => Ok(()),
            Err(error) => {
                files::remove(&self.incoming.join(format!("{name}{REQUEST}")))?;
                Err(error)
            }
        }
    }

    /// Names of the files that have a result, in order.
    pub(super) fn finished(&self) -> io::Result<Vec<FileName>> {
        let files = files::names(&self.outgoing)?;
        Ok(files
            .iter()
            .filter_map(|file| named(file, RESULT_MANIFEST))
            .collect())
    }

    /// Reads a result; `None` when it is not what its manifest says.
    pub(super) fn result(&self, name: FileName) -> io::Result<Option<Vec<ResultRecord>>> {
        let result = files::read(&self.outgoing.join(format!("{name}{RESULT}")))?;
        let promised = files::read(&self.outgoing.join(format!("{name}{RESULT_MANIFEST}")))?;
        let (Some(result), Some(promised)) = (result, promised) else {
            return Ok(None);
        };
        let records = result_records(&result);
        Ok(records.filter(|records| {
            let expected = manifest(records.len(), &result);
            String::from_utf8_lossy(&promised).trim_end() == expected.trim_end()
        }))
    }

    /// Removes a result that was read. The manifest goes first: without it nobody looks at the rest.
    pub(super) fn discard(&self, name: FileName) -> io::Result<()> {
        files::remove(&self.outgoing.join(format!("{name}{RESULT_MANIFEST}")))?;
        files::remove(&self.outgoing.join(format!("{name}{RESULT}")))
    }

    fn last_name(&self) -> io::Result<FileName> {
        let text = files::read(&self.root.join(LAST_NAME))?;
        let name = text.and_then(|text| FileName::parse(String::from_utf8_lossy(&text).trim()));
        Ok(name.unwrap_or_default())
    }
}

fn named(file: &str, ending: &str) -> Option<FileName> {
    FileName::parse(file.strip_suffix(ending)?)
}

fn encode(records: &[(String, Row)]) -> io::Result<Vec<u8>> {
    let mut writer = WriterBuilder::new()
        .has_headers(false)
        .terminator(Terminator::CRLF)
        .quote_style(QuoteStyle::Necessary)
        .from_writer(Vec::new());
    for (index, (key, row)) in records.iter().enumerate() {
        writer.write_record(row.columns(index + 1, key))?;
    }
    writer
        .into_inner()
        .map_err(|error| io::Error::other(error.to_string()))
}

fn manifest(records: usize, file: &[u8]) -> String {
    let digest = Sha256::digest(file);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("KENSU={records}\r\nSHA256={hex}\r\n")
}

/// The records of a file without header; `None` when it is no CSV.
fn records(file: &[u8]) -> Option<Vec<ByteRecord>> {
    let mut reader = ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(file);
    reader.byte_records().collect::<Result<_, _>>().ok()
}

fn column(record: &ByteRecord, index: usize) -> String {
    String::from_utf8_lossy(record.get(index).unwrap_or_default()).into_owned()
}

/// Keys of a request or of a result: the second column of both.
fn keys(file: &[u8]) -> Vec<String> {
    records(file)
        .unwrap_or_default()
        .iter()
        .map(|record| column(record, 1))
        .collect()
}

fn result_records(file: &[u8]) -> Option<Vec<ResultRecord>> {
    let read = |record: &ByteRecord| {
        let held = column(record, 4);
        let outcome = Outcome::Result {
            code: column(record, 2),
            column: column(record, 3),
            held: held.parse().ok(),
        };
        let whole = record.len() == 6 && (held.is_empty() || held.parse::<i64>().is_ok());
        whole.then(|| ResultRecord {
            key: column(record, 1),
            outcome,
        })
    };
    records(file)?.iter().map(read).collect()
}
