//! Declared items of a product and the refusals that break them.
//! A product lists its items once; whatever a caller hands in is judged against that list.
//! It must never change a value: what is not right is refused with the item named.
//! Read next: `kaede/person.rs` and `momiji/columns.rs`, the two lists.

use crate::calendar::{self, Day};

/// Why a value is refused; each product has its own code for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Not the shape that the interface describes.
    Malformed,
    /// A needed item is absent.
    Missing,
    /// More characters or bytes than the item holds.
    TooLong,
    /// A character that the product does not take.
    Character,
    /// Half-width text in a full-width item.
    Width,
    /// No date, or a day that the calendar does not have.
    Date,
    /// Not one of the item's code values.
    Value,
    /// An item that the product does not know.
    UnknownItem,
}

/// A refused request: nothing of it was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    pub(crate) item: String,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) fn new(fault: Fault, item: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            fault,
            item: item.into(),
            detail: detail.into(),
        }
    }
}

/// How a product writes a date.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DateForm {
    /// `昭和38-04-05`
    Wareki,
    /// `19630405`
    Compact,
}

/// What an item may hold.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// Text of at most so many characters.
    Text { max: usize, newline: bool },
    /// Half-width digits.
    Digits { min: usize, max: usize },
    /// One of the listed values.
    Code(&'static [&'static str]),
    /// A date; `wording` is the item that must come along for a day outside the calendar,
    /// `open` the value that stands for "without end".
    Date {
        form: DateForm,
        wording: &'static str,
        open: Option<&'static str>,
    },
}

/// One item of a product's record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// Whether the item may be emptied.
    pub(crate) clearable: bool,
    /// Whether a new record must have it.
    pub(crate) needed: bool,
}

/// A text item that may be emptied.
pub(crate) const fn text(name: &'static str, max: usize) -> Field {
    Field {
        name,
        kind: Kind::Text {
            max,
            newline: false,
        },
        clearable: true,
        needed: false,
    }
}

/// A text item that may hold newlines.
pub(crate) const fn lines(name: &'static str, max: usize) -> Field {
    Field {
        name,
        kind: Kind::Text { max, newline: true },
        clearable: true,
        needed: false,
    }
}

/// An item of digits that may be emptied.
pub(crate) const fn number(name: &'static str, min: usize, max: usize) -> Field {
    Field {
        name,
        kind: Kind::Digits { min, max },
        clearable: true,
        needed: false,
    }
}

/// A code item that may be emptied.
pub(crate) const fn code(name: &'static str, values: &'static [&'static str]) -> Field {
    Field {
        name,
        kind: Kind::Code(values),
        clearable: true,
        needed: false,
    }
}

/// A date item that may be emptied.
pub(crate) const fn date(name: &'static str, form: DateForm, wording: &'static str) -> Field {
    let kind = Kind::Date {
        form,
        wording,
        open: None,
    };
    Field {
        name,
        kind,
        clearable: true,
        needed: false,
    }
}

impl Field {
    /// The item is needed in a new record and can never be emptied.
    pub(crate) const fn needed(self) -> Self {
        Self {
            clearable: false,
            needed: true,
            ..self
        }
    }

    /// The item always has a value.
    pub(crate) const fn fixed(self) -> Self {
        Self {
            clearable: false,
            ..self
        }
    }

    /// Judges a value; `worded` tells whether another item of the request has a wording.
    pub(crate) fn check(&self, value: &str, worded: impl Fn(&str) -> bool) -> Result<(), Refusal> {
        match self.kind {
            Kind::Text { max, newline } => check_text(self.name, value, max, newline),
            Kind::Digits { min, max } => check_digits(self.name, value, min, max),
            Kind::Code(values) if values.contains(&value) => Ok(()),
            Kind::Code(values) => Err(Refusal::new(
                Fault::Value,
                self.name,
                format!("not one of {}", values.join(" ")),
            )),
            Kind::Date {
                open: Some(open), ..
            } if value == open => Ok(()),
            Kind::Date { form, wording, .. } => {
                let day = match form {
                    DateForm::Wareki => calendar::parse_wareki(value),
                    DateForm::Compact => calendar::parse_compact(value),
                };
                check_day(self.name, day, worded(wording))
            }
        }
    }

    /// Judges that the item is emptied.
    pub(crate) fn check_clear(&self) -> Result<(), Refusal> {
        if self.clearable {
            return Ok(());
        }
        Err(Refusal::new(Fault::Missing, self.name, "cannot be cleared"))
    }
}

/// Judges a date that was read: it must be in the calendar unless a wording says what it is.
pub(crate) fn check_day(item: &str, day: Option<Day>, worded: bool) -> Result<(), Refusal> {
    match day {
        None => Err(Refusal::new(
            Fault::Date,
            item,
            "not a date in the form of this interface",
        )),
        Some(day) if !day.exists() && !worded => Err(Refusal::new(
            Fault::Date,
            item,
            "not in the calendar and without wording",
        )),
        Some(_) => Ok(()),
    }
}

/// Judges text: length in characters, no control characters, no byte order mark.
pub(crate) fn check_text(
    item: &str,
    value: &str,
    max: usize,
    newline: bool,
) -> Result<(), Refusal> {
    let count = value.chars().count();
    if count > max {
        return Err(Refusal::new(
            Fault::TooLong,
            item,
            format!("{count} characters, max {max}"),
        ));
    }
    if value.is_empty() {
        return Err(Refusal::new(
            Fault::Malformed,
            item,
            "empty text; clear the item instead",
        ));
    }
    let bad = |c: &char| (c.is_control() && !(newline && *c == '\n')) || *c == '\u{FEFF}';
    match value.chars().find(bad) {
        None => Ok(()),
        Some(found) => {
            let detail = format!("U+{:04X} is not accepted", u32::from(found));
            Err(Refusal::new(Fault::Character, item, detail))
        }
    }
}

/// Judges half-width digits.
pub(crate) fn check_digits(item: &str, value: &str, min: usize, max: usize) -> Result<(), Refusal> {
    let all_digits = value.bytes().all(|byte| byte.is_ascii_digit());
    if all_digits && (min..=max).contains(&value.len()) {
        return Ok(());
    }
    Err(Refusal::new(
        Fault::Malformed,
        item,
        format!("{min} to {max} half-width digits"),
    ))
}

/// Judges a caller's key: 1 to 100 printable ASCII characters.
pub(crate) fn check_key(item: &str, value: &str) -> Result<(), Refusal> {
    if !value.is_empty() && value.len() <= 100 && value.bytes().all(|b| (0x21..=0x7E).contains(&b))
    {
        return Ok(());
    }
    Err(Refusal::new(
        Fault::Malformed,
        item,
        "1 to 100 printable ASCII characters",
    ))
}

/// Judges the number of a support measure: 1 to 40 letters, digits and hyphens.
pub(crate) fn check_measure(item: &str, value: &str) -> Result<(), Refusal> {
    let right = value
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if right && (1..=40).contains(&value.len()) {
        return Ok(());
    }
    Err(Refusal::new(
        Fault::Malformed,
        item,
        "1 to 40 ASCII letters, digits or hyphens",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(result: Result<(), Refusal>) -> Option<Fault> {
        result.err().map(|refusal| refusal.fault)
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert_eq!(fault(check_text("x", &"𠮷".repeat(100), 100, false)), None);
        assert_eq!(
            fault(check_text("x", &"𠮷".repeat(101), 100, false)),
            Some(Fault::TooLong)
        );
    }

    #[test]
    fn control_characters_are_refused() {
        assert_eq!(
            fault(check_text("x", "山田様方\n離れ", 9, false)),
            Some(Fault::Character)
        );
        assert_eq!(fault(check_text("x", "山田様方\n離れ", 9, true)), None);
        assert_eq!(
            fault(check_text("x", "\u{FEFF}山", 9, true)),
            Some(Fault::Character)
        );
        assert_eq!(fault(check_text("x", "", 9, true)), Some(Fault::Malformed));
    }

    #[test]
    fn a_day_outside_the_calendar_needs_its_wording() {
        let birth = date("umare", DateForm::Wareki, "umareFusho");
        assert_eq!(
            fault(birth.check("昭和21-02-29", |_| false)),
            Some(Fault::Date)
        );
        assert_eq!(
            fault(birth.check("昭和21-02-29", |item| item == "umareFusho")),
            None
        );
        assert_eq!(
            fault(birth.check("昭和21-2-29", |_| true)),
            Some(Fault::Date)
        );
    }

    #[test]
    fn numbers_keys_and_measures_have_their_shape() {
        assert_eq!(fault(check_digits("n", "0001002872", 1, 15)), None);
        assert!(fault(check_digits("n", "０００１", 1, 15)).is_some());
        assert!(fault(check_digits("n", "1234567890123456", 1, 15)).is_some());
        assert!(fault(check_key("k", "a b")).is_some());
        assert!(fault(check_measure("m", "S-01")).is_none());
        assert!(fault(check_measure("m", "")).is_some());
    }
}
