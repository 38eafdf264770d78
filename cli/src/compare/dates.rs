//! Dates in the eras of Japan, computed from the days on which each began.
//! For the two products that write 和暦.
//! Must never ask a calendar: days that do not exist are held as they are written.
//! Read next: `kaede.rs`, `hinoki.rs`.

use std::fmt;

/// First day of each era, latest first, with its name and the digit that stands for it.
const ERAS: &[((u32, u32, u32), &str, u32)] = &[
    ((2019, 5, 1), "令和", 5),
    ((1989, 1, 8), "平成", 4),
    ((1926, 12, 25), "昭和", 3),
    ((1912, 7, 30), "大正", 2),
    ((1868, 1, 25), "明治", 1),
];

/// How the registry writes a stay without an end (無期限).
pub(crate) const INDEFINITE: &str = "9999-12-31";

/// A value that a product has no form for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NoForm {
    /// What it is.
    pub(crate) what: &'static str,
}

impl fmt::Display for NoForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "(the {} has no form in this product)", self.what)
    }
}

impl std::error::Error for NoForm {}

/// A day of an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EraDay {
    /// Name of the era.
    pub(crate) era: &'static str,
    /// Digit of the era, 1 to 5.
    pub(crate) digit: u32,
    /// Year of the era from 1.
    pub(crate) year: u32,
    /// Month.
    pub(crate) month: u32,
    /// Day.
    pub(crate) day: u32,
}

/// Turns `YYYY-MM-DD` into a day of an era.
pub(crate) fn era_day(date: &str) -> Result<EraDay, NoForm> {
    let no_form = NoForm { what: "date" };
    let parts: Vec<u32> = date
        .split('-')
        .filter_map(|part| part.parse().ok())
        .collect();
    let [year, month, day] = parts[..] else {
        return Err(no_form);
    };
    let (first, era, digit) = ERAS
        .iter()
        .find(|(first, ..)| (year, month, day) >= *first)
        .ok_or(no_form)?;
    let year = year - first.0 + 1;
    Ok(EraDay {
        era,
        digit: *digit,
        year,
        month,
        day,
    })
}
