//! Check digits: 個人番号 that must not be in a text, and 全国地方公共団体コード.
//! The hub refuses a text that holds a 個人番号; adapters judge before they publish.
//! The digits that were found never leave this module.
//! Read `rules.rs` next.

const MY_NUMBER_DIGITS: usize = 12;
const MUNICIPALITY_CODE_DIGITS: usize = 6;
const PREFECTURES: std::ops::RangeInclusive<u32> = 1..=47;

/// True when the text holds twelve digits that can be a 個人番号.
///
/// Digits may be half-width or full-width, with spaces and hyphens of any kind between them. Twelve
/// digits count when no further digit stands directly before or after them and the check digit
/// is right. About one in ten of other twelve-digit numbers is taken for a 個人番号 too.
#[must_use]
pub fn contains_my_number(text: &str) -> bool {
    if text.chars().filter_map(digit).count() < MY_NUMBER_DIGITS {
        return false;
    }
    let mut before_is_digit = false;
    for (start, character) in text.char_indices() {
        let is_digit = digit(character).is_some();
        if is_digit
            && !before_is_digit
            && text
                .get(start..)
                .and_then(leading_digits)
                .is_some_and(my_number_valid)
        {
            return true;
        }
        before_is_digit = is_digit;
    }
    false
}

/// True when the text is six half-width digits with a known prefecture and the right check digit.
#[must_use]
pub fn municipality_code_valid(code: &str) -> bool {
    if code.len() != MUNICIPALITY_CODE_DIGITS {
        return false;
    }
    let mut digits = [0; MUNICIPALITY_CODE_DIGITS];
    for (place, character) in digits.iter_mut().zip(code.chars()) {
        match character.to_digit(10) {
            Some(value) => *place = value,
            None => return false,
        }
    }
    let [d1, d2, d3, d4, d5, check] = digits;
    let sum = 6 * d1 + 5 * d2 + 4 * d3 + 3 * d4 + 2 * d5;
    PREFECTURES.contains(&(10 * d1 + d2)) && check == (11 - sum % 11) % 10
}

// The first twelve digits of a text that begins with a digit, when the twelfth ends its run.
fn leading_digits(text: &str) -> Option<[u32; MY_NUMBER_DIGITS]> {
    let mut digits = [0; MY_NUMBER_DIGITS];
    let mut found = 0;
    for character in text.chars() {
        match (digit(character), digits.get_mut(found)) {
            (Some(value), Some(place)) => {
                *place = value;
                found += 1;
            }
            (Some(_), None) => return None,
            (None, None) => break,
            (None, Some(_)) if is_separator(character) => {}
            (None, Some(_)) => return None,
        }
    }
    (found == MY_NUMBER_DIGITS).then_some(digits)
}

// The check digit is 11 minus the weighted sum modulo 11, or 0 when the remainder is 0 or 1. The
// weights of the eleven digits are, from the right, 2 to 7 and 2 to 6.
fn my_number_valid(digits: [u32; MY_NUMBER_DIGITS]) -> bool {
    const WEIGHTS: [u32; MY_NUMBER_DIGITS - 1] = [6, 5, 4, 3, 2, 7, 6, 5, 4, 3, 2];
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| digit * weight)
        .sum();
    let remainder = sum % 11;
    let check = if remainder <= 1 { 0 } else { 11 - remainder };
    digits.last() == Some(&check)
}

fn digit(character: char) -> Option<u32> {
    match character {
        '0'..='9' => Some(u32::from(character) - u32::from('0')),
        '０'..='９' => Some(u32::from(character) - u32::from('０')),
        _ => None,
    }
}

fn is_separator(character: char) -> bool {
    matches!(
        character,
        ' ' | '\t' | '\u{a0}' | '\u{2000}'..='\u{200b}' | '\u{202f}' | '\u{3000}' // spaces
        | '-' | '\u{ad}' | '\u{2010}'..='\u{2015}' | '\u{2043}' | '\u{2212}' | '\u{2500}'
        | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' // hyphens, dashes and minus signs
        | '\u{30fc}' | '\u{ff70}' | '\u{30a0}' // kana marks typed in place of a hyphen
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn my_number_is_found_however_it_is_written() {
        for text in [
            "123456789018",
            "１２３４５６７８９０１８",
            "番号は123456789018です",
            "1234 5678 9018",
            "１２３４　５６７８　９０１８",
            "1234-5678-9018",
            "１２３４－５６７８－９０１８",
            "１２３４‐５６７８―９０１８",
            "１２３４−５６７８ー９０１８",
            "1234 - 5678 - 9018",
            "1 2 3 4 5 6 7 8 9 0 1 8",
            "１2３4５6７8９0１8",
            "248-0001 123456789018",
            "123456789018 9",
            "〒2480001、123456789018",
        ] {
            assert!(contains_my_number(text), "{text}");
        }
    }

    #[test]
    fn other_digits_are_not_a_my_number() {
        for text in [
            "",
            "見本町１丁目２番３号",
            "123456789017",
            "12345678901",
            "1234567890181",
            "9123456789018",
            "９123456789018",
            "1234/5678/9018",
            "1234.5678.9018",
            "1234番5678号9018",
            "2026-03-01",
            "0467-23-3000",
        ] {
            assert!(!contains_my_number(text), "{text}");
        }
    }

    #[test]
    fn one_wrong_digit_of_a_my_number_is_noticed() {
        let right = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 8];
        assert!(my_number_valid(right));
        for place in 0..MY_NUMBER_DIGITS {
            for value in (0..10).filter(|value| *value != right[place]) {
                let mut wrong = right;
                wrong[place] = value;
                assert!(!my_number_valid(wrong), "{wrong:?}");
            }
        }
    }

    #[test]
    fn municipality_codes_are_judged_by_prefecture_and_check_digit() {
        for (code, expected) in [
            ("142042", true),
            ("011002", true),
            ("131016", true),
            ("141003", true),
            ("472018", true),
            ("142043", false),
            ("142024", false),
            ("482013", false),
            ("000001", false),
            ("14204", false),
            ("1420420", false),
            ("14204x", false),
            ("１４２０４２", false),
            ("１４", false),
            ("", false),
        ] {
            assert_eq!(municipality_code_valid(code), expected, "{code}");
        }
    }
}
