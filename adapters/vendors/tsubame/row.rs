//! One row of a file, after every rule was checked: text by item name.
//! A row of a full file has only the image; one of a differential file has the change before it.
//! It must never be made from bytes that were not checked.
//! Read next: `check.rs`.

use csv::StringRecord;
use musubi_proto::rules::flexible_date;
use musubi_proto::standard::common::v1::FlexibleDate;

use super::columns::Columns;

/// Stands between the items of a stored image: right rows hold no control character but a newline.
const SEPARATOR: char = '\u{1f}';

/// A row that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    fields: StringRecord,
    /// Items of a differential file that this row does not have in front.
    skipped: usize,
}

impl Row {
    /// A row of a differential file.
    pub(super) fn change(fields: StringRecord) -> Self {
        Self { fields, skipped: 0 }
    }

    /// A row of a full file.
    pub(super) fn image(fields: StringRecord) -> Self {
        Self {
            fields,
            skipped: Columns::get().changes(),
        }
    }

    /// Text of an item; empty when the row has no such item.
    pub(super) fn get(&self, name: &str) -> &str {
        Columns::get()
            .place(name)
            .and_then(|place| place.checked_sub(self.skipped))
            .and_then(|place| self.fields.get(place))
            .unwrap_or_default()
    }

    /// Text of an item `prefix` + `name`.
    pub(super) fn get_in(&self, prefix: &str, name: &str) -> &str {
        self.get(&format!("{prefix}{name}"))
    }

    /// Number of an item; 0 when it is empty.
    pub(super) fn number(&self, name: &str) -> u32 {
        self.get(name).parse().unwrap_or_default()
    }

    /// True when a flag is set.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.get(name) == "1"
    }

    /// Date of an item, with its 不詳フラグ and 不詳表記 where it has them.
    pub(super) fn date(&self, name: &str) -> Option<FlexibleDate> {
        let unknown = self.get_in(name, "_fushofuragu") == "1";
        // The rules were checked with the row: what is not a date here is an empty item.
        flexible_date(self.get(name), unknown, self.get_in(name, "_fushohyoki"))
            .ok()
            .flatten()
    }

    /// 宛名番号.
    pub(super) fn atenabango(&self) -> &str {
        self.get("atenabango")
    }

    /// 履歴番号.
    pub(super) fn version(&self) -> u32 {
        self.number("rirekibango")
    }

    /// 世帯番号.
    pub(super) fn household(&self) -> &str {
        self.get("setaibango")
    }

    /// True while the person is a resident.
    pub(super) fn is_resident(&self) -> bool {
        self.get("juminjotai") == "1"
    }

    /// True when the person is the head of the household.
    pub(super) fn is_head(&self) -> bool {
        self.get("zokugarakodo") == "01"
    }

    /// 異動連番.
    pub(super) fn change_number(&self) -> u64 {
        self.get("idorenban").parse().unwrap_or_default()
    }

    /// The image in the form that the index keeps.
    pub(super) fn stored_image(&self) -> String {
        let before = Columns::get().changes() - self.skipped;
        let mut text = String::new();
        for (place, field) in self.fields.iter().skip(before).enumerate() {
            if place > 0 {
                text.push(SEPARATOR);
            }
            text.push_str(field);
        }
        text
    }

    /// Reads an image that the index kept; `None` when it has another number of items.
    pub(super) fn from_stored_image(text: &str) -> Option<Self> {
        let fields: StringRecord = text.split(SEPARATOR).collect();
        (fields.len() == Columns::get().image().len()).then(|| Self::image(fields))
    }
}
