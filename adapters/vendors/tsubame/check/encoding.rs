//! Rules on bytes and characters that no item may break.
//! The first rules after the number of items: nothing else reads a field before them.
//! It must never let a control character on, save a newline in an address.
//! Read next: `content.rs`.

use musubi_proto::rules::{has_bom, has_control_character, has_control_character_besides_newline};

use super::Violation;
use crate::vendors::tsubame::columns::{Column, Content};

/// Checks the bytes of one item.
pub(super) fn check(column: &Column, bytes: &[u8]) -> Result<(), Violation> {
    let broken =
        |rule: &'static str, message: &'static str| Err(Violation::new(rule, column.name, message));
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => {
            let rest = bytes.get(error.valid_up_to()..).unwrap_or_default();
            return match rest {
                [0xED, 0xA0..=0xBF, ..] => broken(
                    "SURROGATE_UTF8",
                    "the item holds surrogates written as UTF-8",
                ),
                _ if error.error_len().is_none() => {
                    broken("TRUNCATED_UTF8", "the item ends inside a character")
                }
                _ => broken("INVALID_UTF8", "the item is not UTF-8"),
            };
        }
    };
    if text.contains('\0') {
        return broken("NUL_CHARACTER", "the item holds a NUL character");
    }
    let controls = match column.content {
        Content::Lines => has_control_character_besides_newline(text),
        _ => has_control_character(text),
    };
    if controls {
        return broken("CONTROL_CHARACTER", "the item holds a control character");
    }
    if has_bom(text) {
        return broken("BOM_IN_THE_MIDDLE", "the item holds U+FEFF");
    }
    Ok(())
}
