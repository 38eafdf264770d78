//! Rules on single values that the hub and the adapters must judge in the same way.
//! The hub applies them to what is published, adapters to what they capture.
//! They are pure: no I/O, no clock, no table from outside; a rule never repairs a value.
//! Read `rules/dates.rs` for flexible dates and eras, `rules/numbers.rs` for check digits.

mod characters;
mod dates;
mod eras;
mod notation;
mod numbers;

pub use characters::{
    has_bom, has_control_character, has_control_character_besides_newline, has_half_width_kana,
    is_full_width_text,
};
pub use dates::{Day, FlexibleDateError, NOTATION_CHARS_MAX, date_value, flexible_date};
pub use eras::{ERAS, Era, Wareki, era, to_wareki};
pub use numbers::{contains_my_number, municipality_code_valid};
