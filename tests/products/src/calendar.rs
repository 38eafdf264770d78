//! Days as the products take them: the Gregorian calendar and the Japanese eras.
//! Used by every product when it judges a date that a caller hands in.
//! It must never repair a date: a day is in the calendar, or it is not.
//! Read next: `fields.rs`, which turns the judgement into a refusal.

/// One day, which need not exist in the calendar (29 February of a common year).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day {
    pub(crate) year: u32,
    pub(crate) month: u32,
    pub(crate) day: u32,
}

impl Day {
    /// A day with month 1–12 and day 1–31 of the years that a register can hold.
    pub(crate) fn new(year: u32, month: u32, day: u32) -> Option<Self> {
        let plausible =
            (1868..=2100).contains(&year) && (1..=12).contains(&month) && (1..=31).contains(&day);
        plausible.then_some(Self { year, month, day })
    }

    /// Whether the Gregorian calendar has this day.
    pub(crate) fn exists(self) -> bool {
        let leap = (self.year.is_multiple_of(4) && !self.year.is_multiple_of(100))
            || self.year.is_multiple_of(400);
        let last = match self.month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        };
        self.day <= last
    }
}

/// A Japanese era: name, digit in old files, first day.
struct Era {
    name: &'static str,
    digit: u8,
    first: (u32, u32, u32),
}

const ERAS: [Era; 5] = [
    Era {
        name: "明治",
        digit: b'1',
        first: (1868, 1, 25),
    },
    Era {
        name: "大正",
        digit: b'2',
        first: (1912, 7, 30),
    },
    Era {
        name: "昭和",
        digit: b'3',
        first: (1926, 12, 25),
    },
    Era {
        name: "平成",
        digit: b'4',
        first: (1989, 1, 8),
    },
    Era {
        name: "令和",
        digit: b'5',
        first: (2019, 5, 1),
    },
];

/// Reads `YYYY-MM-DD`.
pub(crate) fn parse_iso(text: &str) -> Option<Day> {
    let [year, month, day] = split3(text)?;
    Day::new(
        digits(year, 4..=4)?,
        digits(month, 2..=2)?,
        digits(day, 2..=2)?,
    )
}

/// Reads `YYYYMMDD`.
pub(crate) fn parse_compact(text: &str) -> Option<Day> {
    let number = digits(text, 8..=8)?;
    Day::new(number / 10_000, number / 100 % 100, number % 100)
}

/// Reads `昭和38-04-05`; the era must be the one of that day.
pub(crate) fn parse_wareki(text: &str) -> Option<Day> {
    let index = ERAS.iter().position(|era| text.starts_with(era.name))?;
    let rest = text.strip_prefix(ERAS[index].name)?;
    let [year, month, day] = split3(rest)?;
    if year.starts_with('0') {
        return None;
    }
    in_era(
        index,
        digits(year, 1..=2)?,
        digits(month, 2..=2)?,
        digits(day, 2..=2)?,
    )
}

/// Reads `3380405`: one digit for the era, two each for year, month and day.
pub(crate) fn parse_wareki_digits(text: &str) -> Option<Day> {
    let number = digits(text, 7..=7)?;
    let index = ERAS
        .iter()
        .position(|era| text.as_bytes().first() == Some(&era.digit))?;
    in_era(
        index,
        number / 10_000 % 100,
        number / 100 % 100,
        number % 100,
    )
}

fn in_era(index: usize, year: u32, month: u32, day: u32) -> Option<Day> {
    if year == 0 {
        return None;
    }
    let first = ERAS[index].first;
    let found = Day::new(first.0 + year - 1, month, day)?;
    let key = (found.year, found.month, found.day);
    let before_next = ERAS.get(index + 1).is_none_or(|next| key < next.first);
    (key >= first && before_next).then_some(found)
}

fn split3(text: &str) -> Option<[&str; 3]> {
    let mut parts = text.split('-');
    let found = [parts.next()?, parts.next()?, parts.next()?];
    parts.next().is_none().then_some(found)
}

fn digits(text: &str, length: std::ops::RangeInclusive<usize>) -> Option<u32> {
    if !length.contains(&text.len()) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_era_must_be_the_one_of_the_day() {
        assert_eq!(parse_wareki("昭和38-04-05"), Day::new(1963, 4, 5));
        assert_eq!(parse_wareki("令和1-05-01"), Day::new(2019, 5, 1));
        assert_eq!(parse_wareki("昭和64-01-07"), Day::new(1989, 1, 7));
        for bad in [
            "昭和64-01-08",
            "平成31-05-01",
            "令和1-04-30",
            "昭和038-04-05",
            "昭和0-01-01",
        ] {
            assert_eq!(parse_wareki(bad), None, "{bad}");
        }
        for bad in [
            "",
            "昭和",
            "昭和38-4-5",
            "1963-04-05",
            "昭和38-04-05-",
            "昭和３８-04-05",
        ] {
            assert_eq!(parse_wareki(bad), None, "{bad}");
        }
        assert_eq!(parse_wareki_digits("3380405"), Day::new(1963, 4, 5));
        assert_eq!(parse_wareki_digits("4310501"), None);
        assert_eq!(parse_wareki_digits("9999999"), None);
    }

    #[test]
    fn a_day_outside_the_calendar_is_read_but_does_not_exist() {
        let day = parse_wareki("昭和21-02-29").unwrap();
        assert!(!day.exists());
        assert!(parse_iso("2024-02-29").unwrap().exists());
        assert!(!parse_iso("1900-02-29").unwrap().exists());
        assert_eq!(parse_iso("2024-13-01"), None);
        assert_eq!(parse_compact("20240230").map(Day::exists), Some(false));
        assert_eq!(parse_compact("+2024023"), None);
    }
}
