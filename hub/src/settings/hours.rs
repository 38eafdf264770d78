//! When a receiver is open: weekly windows without holidays and closed periods, in Japan's time.
//! Pure; asked by the runner, which tells its engine, and by whoever shows a binding.
//! Must never ask a clock, nor take a day by another zone's midnight.
//! Read next: `server/runner/settings.rs`.
//!
//! ```text
//!  mon          tue          wed (holiday)   thu
//!  ──[open]──────[open]──────────────────────[open]──▶     `mon-fri 08:30-17:15`
//! ```

use std::ops::RangeInclusive;

use musubi_proto::rules::Day;

const MINUTE_MS: i64 = 60_000;
const DAY_MINUTES: i64 = 24 * 60;
const WEEK_MINUTES: i64 = 7 * DAY_MINUTES;
/// Japan is nine hours ahead of UTC, in summer too.
const JAPAN_MINUTES: i64 = 9 * 60;
/// How far ahead the next change is looked for: more than any window, and a year of closed days.
const DAYS_AHEAD: i64 = 400;
const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// Opening hours. Without windows the receiver is open but for the closed days.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hours {
    /// Weekly windows.
    pub windows: Vec<Window>,
    /// Days on which it is closed from midnight to midnight, whatever the windows say.
    pub closed: Vec<Days>,
}

/// A time of the week in which the receiver is open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// Minute of the week from Monday's midnight.
    from: i64,
    /// Minutes that it is open; it may run over the week's end.
    length: i64,
}

/// Days from the first to the last, counted from 1970-01-01.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Days(RangeInclusive<i64>);

impl Hours {
    /// True when the receiver is open at a time, in milliseconds since 1970.
    pub fn open_at(&self, ms: i64) -> bool {
        self.is_open(minute(ms))
    }

    /// When the receiver next opens or closes, in milliseconds since 1970; `None` when it does
    /// neither within more than a year.
    pub fn next_change(&self, ms: i64) -> Option<i64> {
        if self.windows.is_empty() && self.closed.is_empty() {
            return None;
        }
        let (now, open) = (minute(ms), self.open_at(ms));
        let today = now.div_euclid(DAY_MINUTES);
        for day in today..=today + DAYS_AHEAD {
            let mut edges: Vec<i64> = self.edges(day).filter(|edge| *edge > now).collect();
            edges.sort_unstable();
            if let Some(edge) = edges.into_iter().find(|edge| self.is_open(*edge) != open) {
                return Some((edge - JAPAN_MINUTES) * MINUTE_MS);
            }
        }
        None
    }

    fn is_open(&self, minute: i64) -> bool {
        let day = minute.div_euclid(DAY_MINUTES);
        let closed = self.closed.iter().any(|days| days.0.contains(&day));
        let of_week = minute_of_week(minute);
        let mut windows = self.windows.iter();
        !closed && (self.windows.is_empty() || windows.any(|window| window.holds(of_week)))
    }

    /// The minutes of a day at which something may change: midnight, and where windows begin or end.
    fn edges(&self, day: i64) -> impl Iterator<Item = i64> {
        let midnight = day * DAY_MINUTES;
        let of_week = minute_of_week(midnight);
        let windows = self.windows.iter();
        let ends = windows.flat_map(|window| [window.from, window.from + window.length]);
        let of_day = ends.map(move |end| (end - of_week).rem_euclid(WEEK_MINUTES));
        let today = of_day.filter(|minute| *minute < DAY_MINUTES);
        std::iter::once(midnight).chain(today.map(move |minute| midnight + minute))
    }
}

impl Window {
    /// Reads `mon-fri 08:30-17:15` (a window on each of the days), `daily 22:00-05:00` (over
    /// midnight) or `fri 18:00-mon 08:00` (one window over several days).
    ///
    /// # Errors
    /// With what a window must look like.
    pub fn parse(text: &str) -> Result<Vec<Self>, &'static str> {
        const FORM: &str = "write `mon-fri 08:30-17:15`, `sat 09:00-12:00`, `daily 22:00-05:00` or \
                            `fri 18:00-mon 08:00`";
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            [days, times] => {
                let (from, to) = times.split_once('-').ok_or(FORM)?;
                let from = time(from).ok_or(FORM)?;
                let to = time(to).ok_or(FORM)?;
                let days = weekdays(days).ok_or(FORM)?;
                // One that ends where it begins is open a whole day; an earlier end is the next day's.
                let length = if to > from {
                    to - from
                } else {
                    to + DAY_MINUTES - from
                };
                let window = |day: i64| Self::new(day * DAY_MINUTES + from, length);
                Ok(days.map(window).collect())
            }
            [first, middle, last_time] => {
                let (from, last) = middle.split_once('-').ok_or(FORM)?;
                let from = weekday(first).ok_or(FORM)? * DAY_MINUTES + time(from).ok_or(FORM)?;
                let to = weekday(last).ok_or(FORM)? * DAY_MINUTES + time(last_time).ok_or(FORM)?;
                let length = (to - from).rem_euclid(WEEK_MINUTES);
                if length == 0 {
                    return Err("a window over a whole week is no window: leave the hours out");
                }
                Ok(vec![Self::new(from, length)])
            }
            _ => Err(FORM),
        }
    }

    fn new(from: i64, length: i64) -> Self {
        Self {
            from: from.rem_euclid(WEEK_MINUTES),
            length,
        }
    }

    fn holds(&self, of_week: i64) -> bool {
        (of_week - self.from).rem_euclid(WEEK_MINUTES) < self.length
    }
}

impl Days {
    /// Reads one day: `2027-01-01`.
    ///
    /// # Errors
    /// With what a day must look like.
    pub fn day(text: &str) -> Result<Self, &'static str> {
        let day = day_number(text).ok_or("write a day of the calendar as `2027-01-01`")?;
        Ok(Self(day..=day))
    }

    /// Reads a period with both its days: `2027-02-16..2027-03-15`.
    ///
    /// # Errors
    /// With what a period must look like.
    pub fn period(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "write first and last day as `2027-02-16..2027-03-15`";
        let (first, last) = text.split_once("..").ok_or(FORM)?;
        let first = day_number(first).ok_or(FORM)?;
        let last = day_number(last).ok_or(FORM)?;
        if last < first {
            return Err("the last day lies before the first");
        }
        Ok(Self(first..=last))
    }
}

/// Minute in Japan since 1970-01-01 there.
fn minute(ms: i64) -> i64 {
    ms.div_euclid(MINUTE_MS) + JAPAN_MINUTES
}

/// 1970-01-01 was a Thursday.
fn minute_of_week(minute: i64) -> i64 {
    (minute + 3 * DAY_MINUTES).rem_euclid(WEEK_MINUTES)
}

fn weekday(name: &str) -> Option<i64> {
    let place = WEEKDAYS.iter().position(|known| *known == name)?;
    i64::try_from(place).ok()
}

fn weekdays(text: &str) -> Option<RangeInclusive<i64>> {
    if text == "daily" {
        return Some(0..=6);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (weekday(first)?, weekday(last)?);
    // `sat-mon` runs over the week's end.
    let last = if last < first { last + 7 } else { last };
    Some(first..=last)
}

/// Minutes of `HH:MM`, up to `24:00`.
fn time(text: &str) -> Option<i64> {
    let (hour, minute) = text.split_once(':')?;
    let number = |text: &str| {
        let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hour, minute) = (number(hour)?, number(minute)?);
    let time = hour * 60 + minute;
    (minute < 60 && time <= DAY_MINUTES).then_some(time)
}

/// Day counted from 1970-01-01. The year is taken to begin in March, so that the leap day is last.
fn day_number(text: &str) -> Option<i64> {
    let day = Day::parse(text).ok().filter(|day| day.is_calendar())?;
    let month = (i64::from(day.month) + 9) % 12;
    let year = i64::from(day.year) - i64::from(month >= 10);
    let day_of_year = (153 * month + 2) / 5 + i64::from(day.day) - 1;
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

#[cfg(test)]
mod tests;
