//! Which characters a text holds.
//! Callers decide which rule an item is under, by the type of the item (X or N).
//! Nothing here changes or normalises a text: compatibility ideographs and variation selectors
//! are part of a name. Read `rules.rs` next.

/// True when no character of the text is half-width, which type N items require.
///
/// ASCII and half-width forms count as half-width. Control characters have no width and are
/// judged by [`has_control_character`]; the empty text is full-width.
#[must_use]
pub fn is_full_width_text(text: &str) -> bool {
    !text.chars().any(is_half_width)
}

/// True when the text holds half-width katakana or their punctuation.
#[must_use]
pub fn has_half_width_kana(text: &str) -> bool {
    text.chars().any(is_half_width_kana)
}

/// True when the text holds a control character, a newline included.
#[must_use]
pub fn has_control_character(text: &str) -> bool {
    text.chars().any(is_control)
}

/// True when the text holds a control character that is not part of a newline (LF or CR LF).
#[must_use]
pub fn has_control_character_besides_newline(text: &str) -> bool {
    let mut after_carriage_return = false;
    for character in text.chars() {
        let newline = character == '\n';
        if after_carriage_return && !newline {
            return true;
        }
        after_carriage_return = character == '\r';
        if is_control(character) && !newline && !after_carriage_return {
            return true;
        }
    }
    after_carriage_return
}

/// True when a byte order mark stands anywhere in the text.
#[must_use]
pub fn has_bom(text: &str) -> bool {
    text.contains('\u{feff}')
}

fn is_half_width(character: char) -> bool {
    matches!(character, ' '..='~' | '\u{a0}' | '\u{ffe8}'..='\u{ffee}')
        || is_half_width_kana(character)
}

fn is_half_width_kana(character: char) -> bool {
    matches!(character, '\u{ff61}'..='\u{ff9f}')
}

// Line and paragraph separators break a line as a control character would.
fn is_control(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_width_text_has_no_half_width_character() {
        for (text, expected) in [
            ("", true),
            ("見本　花子", true),
            ("ＳＭＩＴＨ　ＡＮＮＡ", true),
            ("カ\u{3099}", true),
            ("葛\u{e0100}飾", true),
            ("\u{10de92}", true),
            ("一階\n二階", true),
            ("見本 花子", false),
            ("SMITH", false),
            ("ｶﾅ", false),
            ("ビル,１", false),
        ] {
            assert_eq!(is_full_width_text(text), expected, "{text:?}");
        }
    }

    #[test]
    fn half_width_kana_is_found_and_full_width_kana_is_not() {
        assert!(has_half_width_kana("サﾞ"));
        assert!(has_half_width_kana("｡"));
        assert!(!has_half_width_kana("サザ。Ａ"));
    }

    #[test]
    fn control_characters_are_found_with_and_without_newlines() {
        for (text, any, besides_newline) in [
            ("", false, false),
            ("方書", false, false),
            ("一\n二", true, false),
            ("一\r\n二", true, false),
            ("一\r二", true, true),
            ("一\r", true, true),
            ("一\r\r\n二", true, true),
            ("一\t二", true, true),
            ("\0", true, true),
            ("\u{1b}", true, true),
            ("\u{7f}", true, true),
            ("\u{85}", true, true),
            ("\u{2028}", true, true),
        ] {
            assert_eq!(has_control_character(text), any, "{text:?}");
            assert_eq!(
                has_control_character_besides_newline(text),
                besides_newline,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_byte_order_mark_is_found_anywhere() {
        assert!(has_bom("\u{feff}見本"));
        assert!(has_bom("見\u{feff}本"));
        assert!(!has_bom("見本"));
    }
}
