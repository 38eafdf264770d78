//! The items of an insured person's record, as columns of the interface and of the ledger.
//! `tables.rs` makes the columns, `units.rs` judges and writes them.
//! The order here is the order in both tables.
//! Read next: `tables.rs`.

use crate::fields::{DateForm, Field, Kind, code, date, lines, number, text};

const COMPACT: DateForm = DateForm::Compact;

/// State of a person who lives in the municipality.
pub(super) const RESIDENT: &str = "10";

/// All items in the order of the manual.
pub(super) const COLUMNS: [Field; 31] = [
    text("shimei", 100),
    text("shimei_kana", 100),
    text("tsusho", 100),
    text("tsusho_kana", 100),
    date("umare_ymd", COMPACT, "umare_fusho").needed(),
    text("umare_fusho", 72),
    code("seibetsu", &["1", "2", "9"]).needed(),
    code("jumin_kbn", &["01", "02"]).needed(),
    date("jumin_ymd", COMPACT, "jumin_fusho"),
    text("jumin_fusho", 72),
    text("ken", 4),
    text("shi", 12),
    text("machi", 120),
    text("banchi", 50),
    lines("katagaki", 300),
    number("machi_cd", 7, 7),
    number("yubin_no", 7, 7),
    date("jutei_ymd", COMPACT, "jutei_fusho"),
    text("jutei_fusho", 72),
    number("setai_no", 1, 15),
    number("nushi_no", 1, 15),
    code("nushi_misettei", &["0", "1"]).fixed(),
    text("zokugara", 50),
    code("gaikoku_kbn", &["G1", "G2", "G3", "G4", "G5", "G6"]),
    text("zairyu_shikaku", 50),
    text("zairyu_kikan", 20),
    Field {
        kind: Kind::Date {
            form: COMPACT,
            wording: "",
            open: Some("99999999"),
        },
        ..date("zairyu_manryo", COMPACT, "")
    },
    date("gaikoku_jumin_ymd", COMPACT, ""),
    code("jotai_kbn", &[RESIDENT, "20", "30", "90"]).fixed(),
    date("jotai_ymd", COMPACT, "jotai_fusho"),
    text("jotai_fusho", 72),
];

/// An item by its name.
pub(super) fn find(name: &str) -> Option<&'static Field> {
    COLUMNS.iter().find(|field| field.name == name)
}
