//! The items of the registry's files: names, types and what they may hold.
//! Read from `columns.csv`, which follows the vendor's list of items.
//! It must never be changed while an index built with it is in use: bump the index's layout.
//! Read next: `row.rs`.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("columns.csv");

/// What a column may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// Half-width digits (X).
    Digits,
    /// Half-width letters and digits (X).
    Latin,
    /// 0 or 1 (X1).
    Flag,
    /// A number (9).
    Number,
    /// YYYY-MM-DD.
    Date,
    /// HH:MM:SS.
    Time,
    /// RFC 3339 with an offset.
    Timestamp,
    /// Full-width text (N).
    Text,
    /// Full-width text that is a name (N).
    Name,
    /// Text that may hold half-width characters (N).
    Free,
    /// As `Free`, and newlines.
    Lines,
}

/// One item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Column {
    /// Name in the files.
    pub(super) name: &'static str,
    /// Longest content in characters; 0 where the content itself bounds it.
    pub(super) chars_max: usize,
    /// What it may hold.
    pub(super) content: Content,
    /// True when it is never empty.
    pub(super) required: bool,
}

/// All items of a differential file: those of the change, then those of the image.
#[derive(Debug)]
pub(super) struct Columns {
    all: Vec<Column>,
    changes: usize,
    places: HashMap<&'static str, usize>,
}

impl Columns {
    /// The table, read once.
    pub(super) fn get() -> &'static Self {
        static COLUMNS: OnceLock<Columns> = OnceLock::new();
        COLUMNS.get_or_init(Self::parse)
    }

    /// Items of a differential file.
    pub(super) fn all(&self) -> &[Column] {
        &self.all
    }

    /// Items of the image: a full file, or the second part of a differential file.
    pub(super) fn image(&self) -> &[Column] {
        self.all.get(self.changes..).unwrap_or_default()
    }

    /// Number of items that stand before the image in a differential file.
    pub(super) fn changes(&self) -> usize {
        self.changes
    }

    /// Place of an item in a differential file.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    fn parse() -> Self {
        let mut columns = Self {
            all: Vec::new(),
            changes: 0,
            places: HashMap::new(),
        };
        for line in TABLE.lines().skip(1) {
            let mut cells = line.split(',');
            let mut cell = || cells.next().unwrap_or_default();
            let (name, _japanese, kind, content) = (cell(), cell(), cell(), cell());
            let (required, part) = (cell(), cell());
            let column = Column {
                name,
                chars_max: chars_max(kind),
                content: content_of(content),
                required: required == "1",
            };
            columns.places.insert(name, columns.all.len());
            columns.all.push(column);
            if part == "change" {
                columns.changes += 1;
            }
        }
        columns
    }
}

/// `X15`, `N100` and `9(3)` name the length in characters; dates and times do not.
fn chars_max(kind: &str) -> usize {
    let number = kind
        .strip_prefix("9(")
        .and_then(|rest| rest.strip_suffix(')'));
    let text = kind.strip_prefix(['X', 'N']);
    number
        .or(text)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or_default()
}

fn content_of(word: &str) -> Content {
    match word {
        "digits" => Content::Digits,
        "latin" => Content::Latin,
        "flag" => Content::Flag,
        "number" => Content::Number,
        "date" => Content::Date,
        "time" => Content::Time,
        "timestamp" => Content::Timestamp,
        "name" => Content::Name,
        "free" => Content::Free,
        "lines" => Content::Lines,
        _ => Content::Text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_holds_all_items_with_a_length_or_a_form() {
        let columns = Columns::get();
        assert_eq!(
            (
                columns.all().len(),
                columns.changes(),
                columns.image().len()
            ),
            (103, 27, 76)
        );
        assert_eq!(columns.place("shikuchosonkodo"), Some(27));
        for column in columns.all() {
            let formed = matches!(column.content, Content::Date | Content::Time);
            assert!(formed || column.chars_max > 0, "{}", column.name);
        }
    }
}
