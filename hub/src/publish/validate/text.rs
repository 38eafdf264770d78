//! Rules on one text of a payload or an envelope.
//! Used by the other two files of validation.
//! Must never look at who wrote it: the same text is judged the same way everywhere.
//! Read next: `payload.rs`.

use musubi_proto::rules;

use super::{Fault, Reason};
use crate::schema::FieldShape;

/// Endings of names of fields that hold an identifier or a code, never free text.
const IDENTIFIER_ENDINGS: [&str; 6] = ["_id", "_ids", "_code", "_hash", "_token", "_hint"];
const IDENTIFIERS: [&str; 3] = ["atenabango", "setaibango", "reference"];
/// A 個人番号 has twelve digits, so a shorter text holds none.
const MY_NUMBER_CHARS: usize = 12;

/// Reads a text and judges its characters and its length; 0 is no limit.
pub(super) fn read(bytes: &[u8], chars_max: usize) -> Result<&str, Fault> {
    let text = std::str::from_utf8(bytes)
        .map_err(|_| Fault::new(Reason::UndecodablePayload, "a text must be UTF-8"))?;
    check(text, chars_max)?;
    Ok(text)
}

/// Judges a text's characters and its length; 0 is no limit.
pub(super) fn check(text: &str, chars_max: usize) -> Result<(), Fault> {
    if rules::has_control_character_besides_newline(text) {
        let message = "a text must not have control characters other than newlines";
        return Err(Fault::new(Reason::InvalidField, message));
    }
    if rules::has_bom(text) {
        return Err(Fault::new(
            Reason::InvalidField,
            "a text must not have a byte order mark",
        ));
    }
    // No text has more characters than bytes.
    if chars_max != 0 && text.len() > chars_max && text.chars().count() > chars_max {
        return Err(Fault::new(
            Reason::TextTooLong,
            "the text has more characters than its item",
        ));
    }
    Ok(())
}

/// Refuses what can be a 個人番号.
pub(super) fn check_my_number(text: &str) -> Result<(), Fault> {
    if text.len() >= MY_NUMBER_CHARS && rules::contains_my_number(text) {
        let message = "twelve digits of the text can be a 個人番号, which must not be here";
        return Err(Fault::new(Reason::MyNumberInText, message));
    }
    Ok(())
}

/// True for a field in which anybody may write anything.
pub(super) fn is_free(field: &FieldShape) -> bool {
    let short = field.max_chars != 0 && (field.max_chars as usize) < MY_NUMBER_CHARS;
    !short
        && !IDENTIFIERS.contains(&field.name.as_str())
        && !IDENTIFIER_ENDINGS
            .iter()
            .any(|ending| field.name.ends_with(ending))
}
