//! Flexible dates: what the register holds where a day is unknown, impossible or open.
//! Adapters build them from the three items value, 不詳フラグ and 不詳表記, and give them back.
//! A value never changes on the way: `value` is what was given, also where it is a stand-in.
//! Read `notation.rs` for the wording of unknown days.

use std::fmt;

use super::notation;
use crate::standard::common::v1::{DateKind, FlexibleDate};

/// Most characters of a 不詳表記.
pub const NOTATION_CHARS_MAX: usize = 72;

const OPEN_START: &str = "0000-01-01";
const OPEN_END: &str = "9999-12-31";

/// A day written as year, month and day; it need not exist in the calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day {
    /// Year of the western calendar.
    pub year: u32,
    /// Month.
    pub month: u32,
    /// Day of the month.
    pub day: u32,
}

/// Why three items are not a flexible date. The text never repeats the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FlexibleDateError {
    /// The value is not `YYYY-MM-DD`.
    #[error("the date is not written as YYYY-MM-DD")]
    Format,
    /// The day does not exist, and the date is not flagged as unknown.
    #[error("the day is not in the calendar and 不詳フラグ is not set")]
    NotInCalendar,
    /// 不詳フラグ without 不詳表記.
    #[error("不詳フラグ is set without 不詳表記")]
    UnknownWithoutNotation,
    /// 不詳表記 without a value and without 不詳フラグ.
    #[error("不詳表記 is given without a date and without 不詳フラグ")]
    NotationWithoutDate,
    /// 不詳表記 is longer than [`NOTATION_CHARS_MAX`].
    #[error("不詳表記 is longer than {NOTATION_CHARS_MAX} characters")]
    NotationTooLong,
}

impl Day {
    /// Reads `YYYY-MM-DD`; the day need not exist.
    ///
    /// # Errors
    /// [`FlexibleDateError::Format`] for anything else.
    pub fn parse(value: &str) -> Result<Self, FlexibleDateError> {
        let mut parts = value.split('-');
        let mut part = |digits| parts.next().and_then(|text| number(text, digits));
        let (year, month, day) = (part(4), part(2), part(2));
        match (year, month, day, parts.next()) {
            (Some(year), Some(month), Some(day), None) => Ok(Self { year, month, day }),
            _ => Err(FlexibleDateError::Format),
        }
    }

    /// True when the day exists in the Gregorian calendar.
    #[must_use]
    pub fn is_calendar(self) -> bool {
        self.year >= 1 && self.day >= 1 && self.day <= days_of_month(self.year, self.month)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:04}-{:02}-{:02}",
            self.year, self.month, self.day
        )
    }
}

/// Builds a flexible date from its value, 不詳フラグ and 不詳表記; `None` when all are empty.
///
/// Year, month and day are what is really known: of an unknown date they come from the notation,
/// since the value is only a stand-in then, and of an open date they are 0.
///
/// # Errors
/// When the items contradict each other or are not written as the standard says.
pub fn flexible_date(
    value: &str,
    is_unknown: bool,
    notation: &str,
) -> Result<Option<FlexibleDate>, FlexibleDateError> {
    if notation.chars().count() > NOTATION_CHARS_MAX {
        return Err(FlexibleDateError::NotationTooLong);
    }
    if is_unknown {
        return unknown_date(value, notation).map(Some);
    }
    match (value, notation) {
        ("", "") => Ok(None),
        ("", _) => Err(FlexibleDateError::NotationWithoutDate),
        _ => known_date(value, notation).map(Some),
    }
}

/// Returns the value as `YYYY-MM-DD`; empty when the date holds none.
#[must_use]
pub fn date_value(date: &FlexibleDate) -> String {
    let day = Day {
        year: date.year,
        month: date.month,
        day: date.day,
    };
    match date.kind() {
        _ if !date.value.is_empty() => date.value.clone(),
        DateKind::OpenStart => OPEN_START.to_owned(),
        DateKind::OpenEnd => OPEN_END.to_owned(),
        _ if day.year > 0 && day.month > 0 && day.day > 0 => day.to_string(),
        _ => String::new(),
    }
}

fn known_date(value: &str, notation: &str) -> Result<FlexibleDate, FlexibleDateError> {
    let mut date = FlexibleDate {
        value: value.to_owned(),
        notation: notation.to_owned(),
        ..FlexibleDate::default()
    };
    match value {
        OPEN_START => date.set_kind(DateKind::OpenStart),
        OPEN_END => date.set_kind(DateKind::OpenEnd),
        _ => {
            let day = Day::parse(value)?;
            if !day.is_calendar() {
                return Err(FlexibleDateError::NotInCalendar);
            }
            date.set_kind(DateKind::Exact);
            (date.year, date.month, date.day) = (day.year, day.month, day.day);
        }
    }
    Ok(date)
}

fn unknown_date(value: &str, notation: &str) -> Result<FlexibleDate, FlexibleDateError> {
    if notation.trim().is_empty() {
        return Err(FlexibleDateError::UnknownWithoutNotation);
    }
    if !value.is_empty() {
        let stand_in = Day::parse(value)?;
        // A month or day 00 is how some systems hold an unknown part.
        if stand_in.month > 12 || stand_in.day > 31 {
            return Err(FlexibleDateError::Format);
        }
    }
    let reading = notation::read(notation);
    Ok(FlexibleDate {
        year: reading.first.year,
        month: reading.first.month,
        day: reading.first.day,
        kind: reading.kind.into(),
        value: value.to_owned(),
        is_unknown: true,
        notation: notation.to_owned(),
        range_end: reading.last.map(|day| day.to_string()).unwrap_or_default(),
        sort_value: String::new(),
    })
}

fn number(text: &str, digits: usize) -> Option<u32> {
    let right = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    right.then(|| text.parse().ok()).flatten()
}

fn days_of_month(year: u32, month: u32) -> u32 {
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
