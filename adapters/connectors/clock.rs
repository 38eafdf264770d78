//! The wall clock as text: what a product wants to see in a file name or a column.
//! Used by the vendors whose interface asks for a day or a time of making.
//! Nothing may be ordered or decided by it: a clock can stand still or jump.
//! Read next: `files.rs`.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY_SECONDS: i64 = 86_400;
const JAPAN_OFFSET_SECONDS: i64 = 9 * 3_600;

/// A time in Japan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JapanTime {
    year: i64,
    month: i64,
    day: i64,
    second_of_day: i64,
}

impl JapanTime {
    /// Now.
    pub(crate) fn now() -> Self {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .ok()
            .and_then(|since| i64::try_from(since.as_secs()).ok())
            .unwrap_or(0);
        Self::from_unix(seconds)
    }

    fn from_unix(seconds: i64) -> Self {
        let local = seconds + JAPAN_OFFSET_SECONDS;
        let (year, month, day) = civil(local.div_euclid(DAY_SECONDS));
        Self {
            year,
            month,
            day,
            second_of_day: local.rem_euclid(DAY_SECONDS),
        }
    }

    /// The day as the number `YYYYMMDD`.
    pub(crate) fn day_number(self) -> u32 {
        u32::try_from(self.year * 10_000 + self.month * 100 + self.day).unwrap_or(0)
    }

    /// RFC 3339 with the offset of Japan.
    pub(crate) fn rfc3339(self) -> String {
        let Self {
            year,
            month,
            day,
            second_of_day: second,
        } = self;
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+09:00")
    }
}

/// Year, month and day of a day counted from 1970-01-01. The year is taken to begin in March, so
/// that the leap day is the last one.
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_in_japan() {
        for (seconds, day, text) in [
            (0, 19_700_101, "1970-01-01T09:00:00+09:00"),
            (951_750_000, 20_000_229, "2000-02-29T00:00:00+09:00"),
            (1_772_377_199, 20_260_301, "2026-03-01T23:59:59+09:00"),
            (1_772_377_200, 20_260_302, "2026-03-02T00:00:00+09:00"),
        ] {
            let time = JapanTime::from_unix(seconds);
            assert_eq!((time.day_number(), time.rfc3339().as_str()), (day, text));
        }
    }
}
