//! Judges one record: a row that is right, or the first rule that it breaks.
//! The registry hands out what clerks entered; the hub holds what is not right.
//! It must never repair a value, and never put personal data into a message.
//! Read next: `check/content.rs`, `check/codes.rs`, then `group.rs` for rules over several rows.

mod codes;
mod content;
mod encoding;

use std::borrow::Cow;

use csv::StringRecord;

use super::columns::Columns;
use super::folder::Kind;
use super::records::Record;
use super::row::Row;

pub(super) use codes::relationship_steps;
pub(super) use content::is_time;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Violation {
    /// Stable name.
    pub(super) rule: Cow<'static, str>,
    /// The item that breaks it.
    pub(super) item: &'static str,
    /// What the rule says, without the value.
    pub(super) message: Cow<'static, str>,
}

impl Violation {
    pub(super) fn new(
        rule: impl Into<Cow<'static, str>>,
        item: &'static str,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self {
            rule: rule.into(),
            item,
            message: message.into(),
        }
    }
}

/// A record with what was found about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Judged {
    /// The record.
    pub(super) record: Record,
    /// The row, or the first rule that it breaks.
    pub(super) row: Result<Row, Violation>,
}

impl Judged {
    /// Text of an item of the change, also when the record breaks a rule; empty when it is no text.
    pub(super) fn text(&self, name: &str) -> &str {
        Columns::get()
            .place(name)
            .and_then(|place| self.record.fields.get(place))
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }
}

/// Judges a record by the rules that need nothing beside it.
pub(super) fn judge(record: Record, kind: Kind, municipality: &str) -> Judged {
    let row = check(&record, kind, municipality);
    Judged { record, row }
}

fn check(record: &Record, kind: Kind, municipality: &str) -> Result<Row, Violation> {
    let columns = match kind {
        Kind::Full => Columns::get().image(),
        Kind::Differential => Columns::get().all(),
    };
    if record.fields.len() < columns.len() {
        let first_missing = columns
            .get(record.fields.len())
            .map_or("", |column| column.name);
        return Err(Violation::new(
            "TOO_FEW_FIELDS",
            first_missing,
            "the record lacks items",
        ));
    }
    if record.fields.len() > columns.len() {
        return Err(Violation::new(
            "TOO_MANY_FIELDS",
            "",
            "the record has more items than named",
        ));
    }
    for (column, bytes) in columns.iter().zip(&record.fields) {
        encoding::check(column, bytes)?;
    }
    let fields = StringRecord::from_byte_record(record.fields.clone())
        .map_err(|_| Violation::new("INVALID_UTF8", "", "the record is not UTF-8"))?;
    for (column, text) in columns.iter().zip(&fields) {
        content::check(column, text)?;
    }
    let row = match kind {
        Kind::Full => Row::image(fields),
        Kind::Differential => Row::change(fields),
    };
    codes::check(&row, municipality)?;
    content::check_dates(&row, columns)?;
    if kind == Kind::Differential {
        codes::check_change(&row)?;
    }
    Ok(row)
}
