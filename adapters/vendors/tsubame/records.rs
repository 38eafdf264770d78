//! Reads a file record by record, as bytes.
//! A record keeps its own bytes beside its fields: they are what is signed, held and compared.
//! It must never hold more than one record, nor stumble over bytes that are no text.
//! Read next: `check.rs`.

use std::io::{self, Read};

use csv::{ByteRecord, ReaderBuilder, Terminator};
use musubi_adapter_sdk::CaptureError;

use super::columns::Columns;
use super::folder::Kind;
use super::limits::RECORD_BYTES_MAX;

/// One record of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    /// Number in the file, from 1, without the header.
    pub(super) line: u64,
    /// Its bytes as written, without the end of the line.
    pub(super) raw: Vec<u8>,
    /// Its fields.
    pub(super) fields: ByteRecord,
}

/// Why a file cannot be read on.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    #[error("the header differs from the vendor's list of items")]
    Header,
    #[error("a record is longer than {RECORD_BYTES_MAX} bytes: a quote may not be closed")]
    TooLong,
    #[error("reading failed")]
    Read(#[source] io::Error),
}

impl RecordError {
    /// As an error of the capture.
    pub(super) fn into_capture(self, file: &str) -> CaptureError {
        let reason = match &self {
            Self::Header => "FILE_HEADER",
            Self::TooLong => "RECORD_TOO_LONG",
            Self::Read(_) => {
                return CaptureError::Read {
                    what: file.to_owned(),
                    cause: Box::new(self),
                };
            }
        };
        CaptureError::Alarm {
            source_name: file.to_owned(),
            reason: reason.to_owned(),
            message: self.to_string(),
        }
    }
}

/// The records of one file.
pub(super) struct Records<R> {
    reader: csv::Reader<Recorder<R>>,
    line: u64,
}

impl<R> std::fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

impl<R: Read> Records<R> {
    /// Starts to read and checks the header.
    pub(super) fn new(inner: R, kind: Kind) -> Result<Self, RecordError> {
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .terminator(Terminator::Any(b'\n'))
            .from_reader(Recorder {
                inner,
                kept: Vec::new(),
                start: 0,
                overflowed: false,
            });
        let mut records = Self { reader, line: 0 };
        let columns = match kind {
            Kind::Full => Columns::get().image(),
            Kind::Differential => Columns::get().all(),
        };
        let header = records.read()?.ok_or(RecordError::Header)?;
        let names = columns.iter().map(|column| column.name.as_bytes());
        if !header.fields.iter().eq(names) {
            return Err(RecordError::Header);
        }
        Ok(records)
    }

    /// The next record; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<Record>, RecordError> {
        self.line += 1;
        self.read()
    }

    /// What was read from.
    pub(super) fn into_inner(self) -> R {
        self.reader.into_inner().inner
    }

    fn read(&mut self) -> Result<Option<Record>, RecordError> {
        let from = self.reader.position().byte();
        let mut fields = ByteRecord::new();
        let found = self.reader.read_byte_record(&mut fields);
        if self.reader.get_ref().overflowed {
            return Err(RecordError::TooLong);
        }
        if !found.map_err(|error| RecordError::Read(io::Error::other(error)))? {
            return Ok(None);
        }
        let to = self.reader.position().byte();
        let raw = self.reader.get_mut().take(from, to);
        Ok(Some(Record {
            line: self.line,
            raw,
            fields,
        }))
    }
}

/// Keeps the bytes of the record that is being read.
struct Recorder<R> {
    inner: R,
    kept: Vec<u8>,
    /// Offset in the file of the first byte that is kept.
    start: u64,
    overflowed: bool,
}

impl<R> Recorder<R> {
    /// The bytes of the file from `from` to `to`, without the end of a line; what is before `to`
    /// is forgotten.
    fn take(&mut self, from: u64, to: u64) -> Vec<u8> {
        let place = |offset: u64| {
            usize::try_from(offset.saturating_sub(self.start))
                .unwrap_or(usize::MAX)
                .min(self.kept.len())
        };
        let (from, end) = (place(from), place(to));
        let mut raw = self.kept.get(from..end).unwrap_or_default().to_vec();
        self.kept.drain(..end);
        self.start = to;
        while raw.last() == Some(&b'\n') {
            raw.pop();
        }
        // Empty lines are no records; they may stand before one.
        let text = raw
            .iter()
            .position(|byte| *byte != b'\n')
            .unwrap_or_default();
        raw.drain(..text);
        raw
    }
}

impl<R: Read> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.kept.len() > RECORD_BYTES_MAX {
            self.overflowed = true;
            return Err(io::Error::other(RecordError::TooLong));
        }
        let count = self.inner.read(buffer)?;
        self.kept
            .extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
