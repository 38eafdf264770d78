//! Rules of the agreed forms.
//! They run on small tables of their own, so that a vendor's table can change.
//! Nothing here may depend on what one converter happens to do.
//! Read next: `../cp932.rs`.

use super::*;

const GAIJI: &str = "unicode,cp932,note\nU+20BB7,F040,x\nU+845B U+E0100,F041,x\n";
const SUBSTITUTION: &str = "from,to,note\nU+8FBB U+E0101,U+8FBB,x\nU+301C,U+FF5E,x\n\
    U+000A,U+3000,x\nU+30AB U+3099,U+30AC,x\n";
const KANA: &str = "zenkaku,hankaku,note\nU+30AB,U+FF76,x\nU+30AC,U+FF76 U+FF9E,x\n\
    U+3000,U+0020,x\n";

fn tables() -> Cp932 {
    Cp932::read(GAIJI, SUBSTITUTION, KANA).unwrap()
}

#[test]
fn the_longest_agreed_form_counts() {
    for (text, bytes) in [
        ("", &b""[..]),
        ("あ", &[0x82, 0xa0]),
        ("\u{20bb7}", &[0xf0, 0x40]),
        ("葛\u{e0100}", &[0xf0, 0x41]),
        ("葛", &[0x8a, 0x8b]),
        ("辻\u{e0101}", &[0x92, 0xd2]),
        ("髙", &[0xfb, 0xfc]),
        ("①", &[0x87, 0x40]),
        ("〜～", &[0x81, 0x60, 0x81, 0x60]),
        ("方\n離", &[0x95, 0xfb, 0x81, 0x40, 0x97, 0xa3]),
    ] {
        assert_eq!(tables().full_width(text).as_deref(), Ok(bytes), "{text:?}");
    }
}

#[test]
fn what_nobody_agreed_to_has_no_form() {
    for text in [
        "葛\u{e0101}",
        "辻\u{e0100}",
        "𠀋",
        "\u{2212}",
        "¥",
        "‾",
        "‖",
        "か\u{3099}",
        "\u{e000}",
        "\u{10de92}",
        "A",
        "ｶ",
        " ",
        "\t",
        "?\u{fffd}",
    ] {
        assert_eq!(tables().full_width(text), Err(NoAgreedForm), "{text:?}");
    }
}

#[test]
fn kana_become_half_width_after_the_agreed_replacements() {
    for (text, bytes) in [
        ("カガ　Ａ", &[0xb6, 0xb6, 0xde, 0x20, 0x41][..]),
        ("カ\u{3099}〜", &[0xb6, 0xde, 0x7e]),
        ("ｶA", &[0xb6, 0x41]),
    ] {
        assert_eq!(tables().half_width(text).as_deref(), Ok(bytes), "{text:?}");
    }
    for text in ["漢", "キ", "\u{e000}", "\u{7f}"] {
        assert_eq!(tables().half_width(text), Err(NoAgreedForm), "{text:?}");
    }
}

#[test]
fn a_mixed_text_keeps_its_widths() {
    let mixed = tables().mixed("あA1-ｶ\n\u{20bb7}").unwrap();
    assert_eq!(
        mixed,
        [0x82, 0xa0, b'A', b'1', b'-', 0xb6, 0x81, 0x40, 0xf0, 0x40]
    );
    for text in ["\t", "\u{2212}", "¥", "\u{e000}"] {
        assert_eq!(tables().mixed(text), Err(NoAgreedForm), "{text:?}");
    }
}

#[test]
fn every_written_text_reads_back() {
    for code in 0x80_u32..0x3_0000 {
        let Some(character) = char::from_u32(code) else {
            continue;
        };
        let Ok(bytes) = double_byte(character) else {
            continue;
        };
        assert_eq!(
            SHIFT_JIS.decode_without_bom_handling(&bytes).0,
            character.to_string()
        );
    }
}

#[test]
fn a_table_with_a_bad_line_is_refused() {
    for (gaiji, substitution) in [
        ("h\nU+20BB7,8140,x", SUBSTITUTION),
        ("h\nU+20BB7,F040,x\nU+20BB7,F041,x", SUBSTITUTION),
        ("h\n20BB7,F040,x", SUBSTITUTION),
        (GAIJI, "h\nU+301C,U+10000,x"),
        (GAIJI, "h\nU+301C,,x"),
    ] {
        assert!(Cp932::read(gaiji, substitution, KANA).is_err());
    }
}
