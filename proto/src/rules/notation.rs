//! Reads the wording of an unknown day (不詳表記).
//! Flexible dates ask it for the kind of the date and for the parts that are known.
//! It never guesses: what the wording does not say is 0, and other wording is wholly unknown.
//! Read `dates.rs` next.

use super::{Day, ERAS, Era};
use crate::standard::common::v1::DateKind;

/// What a notation says.
pub(super) struct Reading {
    /// Kind of the date.
    pub(super) kind: DateKind,
    /// Known parts of the day, or of the first day of a range; 0 for a part that is not known.
    pub(super) first: Day,
    /// Last day of a range, when it is known and exists.
    pub(super) last: Option<Day>,
}

/// Reads a notation such as 平成１４年　月日不詳.
pub(super) fn read(notation: &str) -> Reading {
    let (text, rest) = match notation.split_once("から") {
        Some((from, to)) if to.contains('間') => (from, Some(to)),
        _ => (notation, None),
    };
    let nothing = Day {
        year: 0,
        month: 0,
        day: 0,
    };
    let first = known_parts(text, nothing);
    let last = rest
        .map(|to| known_parts(to, first))
        .filter(|day| day.is_calendar());
    let kind = if rest.is_some() {
        DateKind::Range
    } else {
        kind(notation, first)
    };
    Reading { kind, first, last }
}

fn kind(notation: &str, known: Day) -> DateKind {
    const SEASONS: [&str; 7] = ["春", "夏", "秋", "冬", "上旬", "中旬", "下旬"];
    const ABOUT: [&str; 3] = ["頃", "ころ", "ごろ"];
    let says = |words: &[&str]| words.iter().any(|word| notation.contains(word));
    let whole = known.year > 0 && known.month > 0 && known.day > 0;
    if says(&SEASONS) {
        DateKind::Season
    } else if says(&["推定"]) {
        DateKind::Estimated
    } else if says(&ABOUT) {
        DateKind::Approximate
    } else if whole && !known.is_calendar() {
        DateKind::NonCalendar
    } else if !whole && (known.year > 0 || known.month > 0 || known.day > 0) {
        DateKind::Partial
    } else {
        DateKind::Unknown
    }
}

// The numbers that stand directly before 年, 月 and 日. `inherited` gives the larger parts that
// the end of a range leaves out.
fn known_parts(text: &str, inherited: Day) -> Day {
    let mut known = inherited;
    let mut era: Option<&Era> = None;
    let mut number: Option<u32> = None;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if let Some((found, after)) = leading_era(rest) {
            (era, number, rest) = (Some(found), None, after);
            continue;
        }
        match (character, number) {
            ('元', _) => number = Some(1),
            ('年', Some(year)) => {
                known.year = era
                    .map_or(Some(year), |era| era.western_year(year))
                    .unwrap_or(0);
            }
            ('月', Some(month @ 1..=12)) => known.month = month,
            ('日', Some(day @ 1..=31)) => known.day = day,
            _ => {}
        }
        if character != '元' {
            number = digit(character).map(|digit| appended(number, digit));
        }
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    known
}

fn leading_era(text: &str) -> Option<(&'static Era, &str)> {
    ERAS.iter()
        .find_map(|era| text.strip_prefix(era.name).map(|after| (era, after)))
}

fn appended(number: Option<u32>, digit: u32) -> u32 {
    number
        .unwrap_or(0)
        .saturating_mul(10)
        .saturating_add(digit)
        .min(9999)
}

fn digit(character: char) -> Option<u32> {
    match character {
        '０'..='９' => Some(u32::from(character) - u32::from('０')),
        _ => character.to_digit(10),
    }
}
