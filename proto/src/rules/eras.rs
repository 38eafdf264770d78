//! Japanese eras as data, with the conversion between 和暦 and the western calendar.
//! Adapters need it for products that hold 和暦, and flexible dates for their notation.
//! A new era is one more line of the table; nothing else may know an era by name.
//! Read `dates.rs` next.

use super::Day;

/// One era.
#[derive(Debug, PartialEq, Eq)]
pub struct Era {
    /// Name, such as 令和.
    pub name: &'static str,
    /// Letter, such as `R`.
    pub letter: char,
    /// First day.
    pub first: Day,
    /// Last day; `None` while the era goes on.
    pub last: Option<Day>,
}

/// A year of an era.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wareki {
    /// The era.
    pub era: &'static Era,
    /// Year from 1 (元年).
    pub year: u32,
}

/// The eras since 明治, oldest first. Where one follows another within a day, that day belongs to
/// both. Days of 明治 before 1873 are those of the lunar calendar in old records.
pub const ERAS: &[Era] = &[
    Era {
        name: "明治",
        letter: 'M',
        first: day(1868, 10, 23),
        last: Some(day(1912, 7, 30)),
    },
    Era {
        name: "大正",
        letter: 'T',
        first: day(1912, 7, 30),
        last: Some(day(1926, 12, 25)),
    },
    Era {
        name: "昭和",
        letter: 'S',
        first: day(1926, 12, 25),
        last: Some(day(1989, 1, 7)),
    },
    Era {
        name: "平成",
        letter: 'H',
        first: day(1989, 1, 8),
        last: Some(day(2019, 4, 30)),
    },
    Era {
        name: "令和",
        letter: 'R',
        first: day(2019, 5, 1),
        last: None,
    },
];

impl Era {
    /// True when the day lies in the era; the day of a change lies in both eras.
    #[must_use]
    pub fn contains(&self, day: Day) -> bool {
        self.first <= day && self.last.is_none_or(|last| day <= last)
    }

    /// Returns the western year of a year of the era; `None` for year 0.
    #[must_use]
    pub fn western_year(&self, year: u32) -> Option<u32> {
        self.first.year.checked_add(year.checked_sub(1)?)
    }
}

/// Finds an era by its name or by its letter.
#[must_use]
pub fn era(name_or_letter: &str) -> Option<&'static Era> {
    ERAS.iter().find(|era| {
        era.name == name_or_letter || era.letter.encode_utf8(&mut [0; 4]) == name_or_letter
    })
}

/// Returns era and year of a day; the later era on the day of a change, `None` before 明治.
///
/// The day need not exist in the calendar.
#[must_use]
pub fn to_wareki(day: Day) -> Option<Wareki> {
    let era = ERAS.iter().rev().find(|era| era.first <= day)?;
    Some(Wareki {
        era,
        year: day.year - era.first.year + 1,
    })
}

const fn day(year: u32, month: u32, day: u32) -> Day {
    Day { year, month, day }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_get_era_and_year() {
        for (year, month, date, expected) in [
            (1868, 10, 22, None),
            (1868, 10, 23, Some(("明治", 1))),
            (1912, 7, 29, Some(("明治", 45))),
            (1912, 7, 30, Some(("大正", 1))),
            (1926, 12, 24, Some(("大正", 15))),
            (1926, 12, 25, Some(("昭和", 1))),
            (1946, 2, 29, Some(("昭和", 21))),
            (1989, 1, 7, Some(("昭和", 64))),
            (1989, 1, 8, Some(("平成", 1))),
            (2019, 4, 30, Some(("平成", 31))),
            (2019, 5, 1, Some(("令和", 1))),
            (2026, 3, 1, Some(("令和", 8))),
        ] {
            let wareki = to_wareki(day(year, month, date));
            assert_eq!(
                wareki.map(|wareki| (wareki.era.name, wareki.year)),
                expected
            );
            if let Some(wareki) = wareki {
                assert_eq!(wareki.era.western_year(wareki.year), Some(year));
                assert!(wareki.era.contains(day(year, month, date)));
            }
        }
    }

    #[test]
    fn the_day_of_a_change_lies_in_both_eras() {
        for (date, eras) in [
            (day(1912, 7, 30), vec!["明治", "大正"]),
            (day(1926, 12, 25), vec!["大正", "昭和"]),
            (day(1989, 1, 7), vec!["昭和"]),
            (day(1989, 1, 8), vec!["平成"]),
        ] {
            let found: Vec<_> = ERAS.iter().filter(|era| era.contains(date)).collect();
            assert_eq!(found.iter().map(|era| era.name).collect::<Vec<_>>(), eras);
        }
    }

    #[test]
    fn eras_are_found_by_name_and_letter() {
        for era_of_table in ERAS {
            assert_eq!(era(era_of_table.name), Some(era_of_table));
            assert_eq!(era(&era_of_table.letter.to_string()), Some(era_of_table));
        }
        assert_eq!(era("慶応"), None);
        assert_eq!(era(""), None);
        assert_eq!(ERAS[0].western_year(0), None);
    }
}
