//! Puts the rows of one 届出 together and judges them as a whole.
//! It reads one row ahead, since a group ends where another begins.
//! It must never split a group, nor hold one without a bound.
//! Read next: `translate.rs`.

use std::fs::File;

use musubi_adapter_sdk::CaptureError;
use musubi_adapter_sdk::hub::{Origin, RefusedRow, RefusedUnit};

use super::check::{Judged, Violation, judge};
use super::folder::{self, Kind, Numbered, Verified};
use super::limits::{GROUP_BYTES_MAX, GROUP_ROWS_MAX};
use super::records::{Record, Records};

/// A file that is being read.
#[derive(Debug)]
pub(super) struct OpenFile {
    /// Which it is.
    pub(super) file: Numbered,
    /// What its done-file promises.
    pub(super) verified: Verified,
    municipality: String,
    records: Records<File>,
    ahead: Option<Judged>,
}

impl OpenFile {
    /// Verifies a file and opens it after its first `records_done` records.
    pub(super) async fn open(
        file: Numbered,
        municipality: &str,
        records_done: u64,
    ) -> Result<Self, CaptureError> {
        let copy = file.clone();
        let verified = tokio::task::spawn_blocking(move || folder::verify(&copy))
            .await
            .map_err(|cause| CaptureError::Read {
                what: file.name(),
                cause: Box::new(cause),
            })??;
        let records = File::open(&file.path).map_err(|cause| CaptureError::Read {
            what: file.name(),
            cause: Box::new(cause),
        })?;
        let records =
            Records::new(records, file.kind).map_err(|error| error.into_capture(&file.name()))?;
        let municipality = municipality.to_owned();
        let mut opened = Self {
            file,
            verified,
            municipality,
            records,
            ahead: None,
        };
        for _ in 0..records_done {
            opened.record()?;
        }
        Ok(opened)
    }

    fn record(&mut self) -> Result<Option<Record>, CaptureError> {
        self.records
            .next()
            .map_err(|error| error.into_capture(&self.file.name()))
    }

    /// The next row of a full file.
    pub(super) fn next_row(&mut self) -> Result<Option<Judged>, CaptureError> {
        let kind = self.file.kind;
        Ok(self
            .record()?
            .map(|record| judge(record, kind, &self.municipality)))
    }

    /// The rows of the next 届出 of a differential file; empty at its end.
    pub(super) fn next_group(&mut self) -> Result<Vec<Judged>, CaptureError> {
        let first = match self.ahead.take() {
            Some(judged) => Some(judged),
            None => self.next_row()?,
        };
        let Some(first) = first else {
            return Ok(Vec::new());
        };
        let mut bytes = first.record.raw.len();
        let mut rows = vec![first];
        while let Some(judged) = self.next_row()? {
            let same = rows
                .first()
                .is_some_and(|first| is_same_group(first, &judged));
            if !same {
                self.ahead = Some(judged);
                break;
            }
            bytes += judged.record.raw.len();
            rows.push(judged);
            if rows.len() > GROUP_ROWS_MAX || bytes > GROUP_BYTES_MAX {
                let message = format!(
                    "a 届出 has more than {GROUP_ROWS_MAX} rows or {GROUP_BYTES_MAX} bytes"
                );
                return Err(folder::alarm(&self.file, "GROUP_TOO_LARGE", message));
            }
        }
        Ok(rows)
    }

    /// Where a record stands.
    pub(super) fn origin(&self, record: &Record) -> Origin {
        Origin {
            file: self.file.name(),
            line: record.line,
        }
    }

    /// A unit with refused rows, for the hub to hold.
    pub(super) fn refused(&self, rows: &[Judged]) -> RefusedUnit {
        let key = rows
            .iter()
            .map(group_id)
            .find(|id| !id.is_empty() && self.file.kind == Kind::Differential)
            .map(str::to_owned)
            .unwrap_or_else(|| {
                let line = rows.first().map_or(0, |row| row.record.line);
                format!("{}:{line}", self.file.name())
            });
        RefusedUnit {
            key,
            rows: rows.iter().map(|judged| self.refused_row(judged)).collect(),
        }
    }

    fn refused_row(&self, judged: &Judged) -> RefusedRow {
        let (subject, subject_version) = readable_subject(judged, self.file.kind);
        let mut row = RefusedRow {
            origin: Some(self.origin(&judged.record)),
            subject,
            subject_version,
            row: judged.record.raw.clone().into(),
            ..RefusedRow::default()
        };
        if let Err(violation) = &judged.row {
            row.rule = violation.rule.clone().into_owned();
            row.item = violation.item.to_owned();
            row.message = violation.message.clone().into_owned();
        }
        row
    }
}

fn group_id(judged: &Judged) -> &str {
    judged.text("todokedegurupuid")
}

/// A row without a readable group stands alone.
fn is_same_group(one: &Judged, other: &Judged) -> bool {
    !group_id(one).is_empty() && group_id(one) == group_id(other)
}

/// 宛名番号 and 履歴番号 of a row that may break a rule; empty and 0 where they cannot be read.
pub(super) fn readable_subject(judged: &Judged, kind: Kind) -> (String, u32) {
    if let Ok(row) = &judged.row {
        return (row.atenabango().to_owned(), row.version());
    }
    let skipped = match kind {
        Kind::Full => super::columns::Columns::get().changes(),
        Kind::Differential => 0,
    };
    let text = |name: &str| {
        super::columns::Columns::get()
            .place(name)
            .and_then(|place| judged.record.fields.get(place.checked_sub(skipped)?))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    };
    let number = text("atenabango");
    let readable = (1..=15).contains(&number.len()) && number.bytes().all(|b| b.is_ascii_digit());
    let subject = if readable {
        number.to_owned()
    } else {
        String::new()
    };
    (subject, text("rirekibango").parse().unwrap_or_default())
}

/// Judges the rows of a group as a whole: rows that were right so far may be refused by it.
pub(super) fn judge_group(rows: &mut [Judged]) {
    let Some((size, sequences)) = sizes(rows) else {
        return;
    };
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    for place in 0..rows.len() {
        let Some(judged) = rows.get_mut(place) else {
            continue;
        };
        let Ok(row) = &judged.row else { continue };
        let sequence = row.number("gurupunaijunjo");
        let violation = if row.number("gurupukensu") != size {
            Some((
                "GROUP_SIZE_DIFFERS",
                "gurupukensu",
                "the rows of the group name different sizes",
            ))
        } else if count < size {
            Some((
                "GROUP_INCOMPLETE",
                "gurupukensu",
                "the group has fewer rows than it says",
            ))
        } else if count > size {
            Some((
                "GROUP_TOO_MANY",
                "gurupukensu",
                "the group has more rows than it says",
            ))
        } else if sequences.iter().filter(|other| **other == sequence).count() > 1 {
            Some((
                "GROUP_SEQ_TWICE",
                "gurupunaijunjo",
                "a place in the group is taken twice",
            ))
        } else if u32::try_from(place + 1).is_ok_and(|expected| expected != sequence) {
            Some((
                "GROUP_ORDER",
                "gurupunaijunjo",
                "the rows of the group are not in their order",
            ))
        } else {
            None
        };
        if let Some((rule, item, message)) = violation {
            judged.row = Err(Violation::new(rule, item, message));
        }
    }
}

/// Size that the first right row names, and the places that right rows take.
fn sizes(rows: &[Judged]) -> Option<(u32, Vec<u32>)> {
    let right = || rows.iter().filter_map(|judged| judged.row.as_ref().ok());
    let size = right().next()?.number("gurupukensu");
    Some((
        size,
        right().map(|row| row.number("gurupunaijunjo")).collect(),
    ))
}
