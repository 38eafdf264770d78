//! Rules on the form of an item: presence, length, width, digits, dates and times.
//! Each is checked by the item's own type, for any item of the table.
//! It must never know what an item means; `codes.rs` does.
//! Read next: `codes.rs`.

use musubi_proto::rules::{
    FlexibleDateError, contains_my_number, flexible_date, has_half_width_kana, is_full_width_text,
};

use super::Violation;
use crate::vendors::tsubame::columns::{Column, Content};
use crate::vendors::tsubame::row::Row;

/// Checks the form of one item. Dates are checked with their flags by [`check_dates`].
pub(super) fn check(column: &Column, text: &str) -> Result<(), Violation> {
    let broken =
        |rule: &'static str, message: &'static str| Err(Violation::new(rule, column.name, message));
    if text.is_empty() {
        if column.required {
            let rule = format!("MISSING_{}", short_name(column.name));
            return Err(Violation::new(
                rule,
                column.name,
                "the item may not be empty",
            ));
        }
        return Ok(());
    }
    match column.content {
        Content::Digits | Content::Flag | Content::Number if !is_digits(text) => {
            if text.bytes().any(|byte| byte.is_ascii_alphabetic()) {
                return broken(
                    "LETTERS_IN_CODE",
                    "the item holds letters beside its digits",
                );
            }
            return broken("FULLWIDTH_IN_CODE", "the item must be half-width digits");
        }
        Content::Latin if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            return broken(
                "FULLWIDTH_IN_CODE",
                "the item must be half-width letters and digits",
            );
        }
        Content::Date | Content::Time | Content::Timestamp => return form(column, text),
        Content::Text | Content::Name | Content::Free | Content::Lines => wide(column, text)?,
        _ => {}
    }
    if column.name.ends_with("yubinbango") && text.len() != column.chars_max {
        return broken("POSTCODE_LENGTH", "a postal code has 7 digits");
    }
    if text.chars().count() > column.chars_max {
        let rule = format!("{}_TOO_LONG", short_name(column.name));
        let message = format!("the item has more than {} characters", column.chars_max);
        return Err(Violation::new(rule, column.name, message));
    }
    if column.content == Content::Flag && !matches!(text, "0" | "1") {
        return broken("UNKNOWN_FLAG", "a flag is 0 or 1");
    }
    Ok(())
}

/// Rules on full-width text.
fn wide(column: &Column, text: &str) -> Result<(), Violation> {
    let broken =
        |rule: &'static str, message: &'static str| Err(Violation::new(rule, column.name, message));
    if contains_my_number(text) {
        // Masked so that only twelve half-width digits in a row, or with hyphens, are found again.
        let half_width: String = text
            .chars()
            .map(|one| if one.is_ascii_digit() { one } else { 'x' })
            .collect();
        return if contains_my_number(&half_width) {
            broken("MYNUMBER_IN_TEXT", "the text holds what may be a 個人番号")
        } else {
            broken(
                "MYNUMBER_IN_TEXT_FULLWIDTH",
                "the text holds what may be a 個人番号",
            )
        };
    }
    if matches!(column.content, Content::Free | Content::Lines) || is_full_width_text(text) {
        return Ok(());
    }
    if has_half_width_kana(text) {
        return broken("HALFWIDTH_KANA", "half-width kana in a full-width item");
    }
    if column.content == Content::Name {
        return broken("HALFWIDTH_NAME", "half-width characters in a name");
    }
    broken(
        "HALFWIDTH_TEXT",
        "half-width characters in a full-width item",
    )
}

/// Rules on the form of dates and times.
fn form(column: &Column, text: &str) -> Result<(), Violation> {
    let broken =
        |rule: &'static str, message: &'static str| Err(Violation::new(rule, column.name, message));
    match column.content {
        Content::Time if !is_time(text) => broken("TIME_FORMAT", "a time is written HH:MM:SS"),
        Content::Timestamp => timestamp(column, text),
        Content::Date if text.contains('/') => broken(
            "DATE_SLASHES",
            "a date is written YYYY-MM-DD, without slashes",
        ),
        Content::Date if !is_date_form(text) => {
            broken("DATE_FORMAT", "a date is written YYYY-MM-DD")
        }
        _ => Ok(()),
    }
}

fn timestamp(column: &Column, text: &str) -> Result<(), Violation> {
    let (day, rest) = text.split_once('T').unwrap_or_default();
    let time = rest.get(..8).unwrap_or_default();
    let zone = rest.get(8..).unwrap_or_default();
    if !is_date_form(day) || !is_time(time) {
        let message = "a time of processing is written YYYY-MM-DDTHH:MM:SS with its offset";
        return Err(Violation::new("TIMESTAMP_FORMAT", column.name, message));
    }
    if !is_offset(zone) {
        let message = "a time of processing needs its offset, such as +09:00";
        return Err(Violation::new("TIME_WITHOUT_ZONE", column.name, message));
    }
    Ok(())
}

/// Checks that each date is a day, or is flagged and worded as unknown.
pub(super) fn check_dates(row: &Row, columns: &[Column]) -> Result<(), Violation> {
    for column in columns
        .iter()
        .filter(|column| column.content == Content::Date)
    {
        let name = column.name;
        let unknown = row.get_in(name, "_fushofuragu") == "1";
        let notation = row.get_in(name, "_fushohyoki");
        let Err(error) = flexible_date(row.get(name), unknown, notation) else {
            continue;
        };
        let rule = match error {
            FlexibleDateError::Format => "DATE_FORMAT",
            FlexibleDateError::NotInCalendar => "IMPOSSIBLE_DATE",
            FlexibleDateError::UnknownWithoutNotation => "UNSURE_WITHOUT_NOTATION",
            FlexibleDateError::NotationWithoutDate => "NOTATION_WITHOUT_DATE",
            FlexibleDateError::NotationTooLong => "NOTATION_TOO_LONG",
        };
        return Err(Violation::new(rule, name, error.to_string()));
    }
    Ok(())
}

/// Name of an item in the name of a rule: without the group that an address item stands in.
fn short_name(name: &str) -> String {
    let short = name
        .strip_prefix("idomaejusho_")
        .or_else(|| name.strip_prefix("jusho_"));
    short.unwrap_or(name).to_ascii_uppercase()
}

fn is_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_date_form(text: &str) -> bool {
    matches_form(text, "0000-00-00")
}

/// True for HH:MM:SS.
pub(in crate::vendors::tsubame) fn is_time(text: &str) -> bool {
    let part = |from: usize| {
        text.get(from..from + 2)
            .and_then(|two| two.parse::<u32>().ok())
    };
    matches_form(text, "00:00:00")
        && part(0).is_some_and(|hour| hour < 24)
        && part(3).is_some_and(|minute| minute < 60)
        && part(6).is_some_and(|second| second < 60)
}

fn is_offset(text: &str) -> bool {
    text == "Z" || matches_form(text, "+00:00") || matches_form(text, "-00:00")
}

/// `0` in a form stands for any digit.
fn matches_form(text: &str, form: &str) -> bool {
    text.len() == form.len()
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, wanted)| match wanted {
                b'0' => byte.is_ascii_digit(),
                other => byte == other,
            })
}
