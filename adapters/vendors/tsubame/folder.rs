//! The registry's out folder: numbered files, each complete once its done-file is there.
//! The capture asks it for the next file and verifies a file before it reads it.
//! It must never read a file without a done-file, nor pass over a number.
//! Read next: `records.rs`.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use musubi_adapter_sdk::CaptureError;
use musubi_proto::rules::Day;
use sha2::{Digest, Sha256};

use super::check::is_time;
use super::limits::DONE_BYTES_MAX;
use super::records::Records;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 全件.
    Full,
    /// 異動差分.
    Differential,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Full => "zenken",
            Self::Differential => "sabun",
        }
    }
}

/// A file that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Numbered {
    /// Number in the sequence.
    pub(super) number: u32,
    /// What it holds.
    pub(super) kind: Kind,
    /// Where it is.
    pub(super) path: PathBuf,
}

impl Numbered {
    /// Name without folders.
    pub(super) fn name(&self) -> String {
        file_name(self.number, self.kind)
    }
}

/// What the folder has for a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Next {
    /// The file is complete.
    Ready(Numbered),
    /// Nothing yet.
    Absent,
    /// It is missing, while a higher number is complete.
    Missing {
        /// The higher number.
        higher: u32,
    },
}

/// Looks for file `number`.
pub(super) fn next(folder: &Path, number: u32) -> io::Result<Next> {
    for kind in [Kind::Full, Kind::Differential] {
        let path = folder.join(file_name(number, kind));
        if done_path(&path).exists() && path.exists() {
            return Ok(Next::Ready(Numbered { number, kind, path }));
        }
    }
    let mut higher = None;
    for entry in std::fs::read_dir(folder)? {
        let found = entry?.file_name().to_str().and_then(done_number);
        if let Some(found) = found.filter(|found| *found > number) {
            higher = Some(higher.map_or(found, |known: u32| known.min(found)));
        }
    }
    Ok(higher.map_or(Next::Absent, |higher| Next::Missing { higher }))
}

fn file_name(number: u32, kind: Kind) -> String {
    format!("juki_{number:06}_{}.csv", kind.word())
}

fn done_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".done");
    PathBuf::from(name)
}

/// Number of a done-file's name.
fn done_number(name: &str) -> Option<u32> {
    let (digits, rest) = name.strip_prefix("juki_")?.split_once('_')?;
    let known = rest == "zenken.csv.done" || rest == "sabun.csv.done";
    (known && digits.len() >= 6)
        .then(|| digits.parse().ok())
        .flatten()
}

/// What a verified file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verified {
    /// Records after the header.
    pub(super) records: u64,
    /// Latest 操作年月日 and 操作時刻 of a full file, as RFC 3339; empty otherwise.
    pub(super) as_of: String,
    /// SHA-256 of the file.
    pub(super) sha256: [u8; 32],
}

/// Compares a file with its done-file. Reads the file once, in a stream.
pub(super) fn verify(file: &Numbered) -> Result<Verified, CaptureError> {
    let (kensu, sha256) = read_done(file)?;
    let opened = File::open(&file.path).map_err(|cause| read_error(file, cause))?;
    let mut records = Records::new(
        Hashing {
            inner: opened,
            hash: Sha256::new(),
        },
        file.kind,
    )
    .map_err(|error| error.into_capture(&file.name()))?;
    let mut latest: Option<String> = None;
    let mut count = 0;
    loop {
        let record = records
            .next()
            .map_err(|error| error.into_capture(&file.name()))?;
        let Some(record) = record else { break };
        count += 1;
        if file.kind == Kind::Full {
            latest = latest.max(operated_at(&record.fields));
        }
    }
    let digest: [u8; 32] = records.into_inner().hash.finalize().into();
    if hex(&digest) != sha256 {
        return Err(alarm(
            file,
            "FILE_DIGEST",
            "the SHA-256 differs from the done-file",
        ));
    }
    if count != kensu {
        let message = format!("the file has {count} records, the done-file says {kensu}");
        return Err(alarm(file, "FILE_COUNT", message));
    }
    Ok(Verified {
        records: count,
        as_of: latest.unwrap_or_default(),
        sha256: digest,
    })
}

/// 操作年月日 and 操作時刻 are the last two items of an image.
fn operated_at(fields: &csv::ByteRecord) -> Option<String> {
    let (day, time) = (
        fields.get(fields.len().checked_sub(2)?)?,
        fields.get(fields.len() - 1)?,
    );
    let (day, time) = (
        std::str::from_utf8(day).ok()?,
        std::str::from_utf8(time).ok()?,
    );
    let right = Day::parse(day).is_ok_and(Day::is_calendar) && is_time(time);
    right.then(|| format!("{day}T{time}+09:00"))
}

fn read_done(file: &Numbered) -> Result<(u64, String), CaptureError> {
    let mut text = String::new();
    File::open(done_path(&file.path))
        .and_then(|done| done.take(DONE_BYTES_MAX).read_to_string(&mut text))
        .map_err(|cause| read_error(file, cause))?;
    let item = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name))
            .map(|value| value.trim().to_owned())
    };
    let kensu = item("kensu=").and_then(|value| value.parse().ok());
    match (kensu, item("sha256=")) {
        (Some(kensu), Some(sha256)) => Ok((kensu, sha256)),
        _ => Err(alarm(
            file,
            "DONE_FILE",
            "the done-file lacks kensu or sha256",
        )),
    }
}

/// An alarm about a file: the source stops until a human has looked.
pub(super) fn alarm(file: &Numbered, reason: &str, message: impl Into<String>) -> CaptureError {
    CaptureError::Alarm {
        source_name: file.name(),
        reason: reason.to_owned(),
        message: message.into(),
    }
}

fn read_error(file: &Numbered, cause: io::Error) -> CaptureError {
    CaptureError::Read {
        what: file.name(),
        cause: Box::new(cause),
    }
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Hashes what is read through it.
struct Hashing {
    inner: File,
    hash: Sha256,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
