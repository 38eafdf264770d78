//! CP932 with the user-defined codes of the municipality's 外字 table.
//! `row.rs` reads columns with it, `export.rs` writes them.
//! It must never replace a character: bytes without agreed meaning are refused.
//! Read next: `adapters/vendors/hinoki/tables/gaiji.csv`, the table that the vendor publishes.

use std::collections::HashSet;

use encoding_rs::SHIFT_JIS;

use crate::fields::{Fault, Refusal};

const GAIJI: &str = include_str!("../../../../adapters/vendors/hinoki/tables/gaiji.csv");
/// First code point that Windows gives to the user-defined codes F040, F041, …
const USER_FIRST: u32 = 0xE000;
const USER_LAST: u32 = 0xE757;
/// User-defined codes in one row of CP932 (second byte 40–7E, 80–FC).
const USER_PER_ROW: u32 = 188;

/// Width that a column takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    /// Double-byte characters only.
    Full,
    /// Half-width kana and ASCII only.
    Half,
    /// Both.
    Mixed,
}

/// The character set of the product.
#[derive(Debug)]
pub(super) struct Charset {
    declared: HashSet<u32>,
}

impl Charset {
    /// Reads the 外字 table.
    pub(super) fn load() -> anyhow::Result<Self> {
        let mut declared = HashSet::new();
        for record in csv::Reader::from_reader(GAIJI.as_bytes()).into_records() {
            let record = record?;
            let code = u16::from_str_radix(record.get(1).unwrap_or_default(), 16)?;
            let user = user_char(code.to_be_bytes());
            declared.insert(user.ok_or_else(|| anyhow::anyhow!("`{code:04X}` is no user code"))?);
        }
        Ok(Self { declared })
    }

    /// Reads a column; user-defined codes become the private code points that Windows gives them.
    pub(super) fn decode(&self, item: &str, bytes: &[u8], width: Width) -> Result<String, Refusal> {
        let refuse = |fault, detail: String| Err(Refusal::new(fault, item, detail));
        let Some(text) = SHIFT_JIS.decode_without_bom_handling_and_without_replacement(bytes)
        else {
            return refuse(Fault::Character, "invalid bytes".to_owned());
        };
        for c in text.chars() {
            let code = u32::from(c);
            if c.is_control() {
                return refuse(Fault::Character, format!("control character U+{code:04X}"));
            }
            if is_user(code) && !self.declared.contains(&code) {
                return refuse(
                    Fault::Character,
                    format!("U+{code:04X} is not in the 外字 table"),
                );
            }
            let half = c.is_ascii() || ('\u{FF61}'..='\u{FF9F}').contains(&c);
            let fits = match width {
                Width::Full => !half,
                Width::Half => half,
                Width::Mixed => true,
            };
            if !fits {
                return refuse(Fault::Width, format!("U+{code:04X} has the wrong width"));
            }
        }
        Ok(text.into_owned())
    }
}

/// Writes text that `decode` read.
pub(super) fn encode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut buffer = [0; 4];
    for c in text.chars() {
        let code = u32::from(c);
        if is_user(code) {
            bytes.extend(user_bytes(code - USER_FIRST));
        } else {
            bytes.extend_from_slice(&SHIFT_JIS.encode(c.encode_utf8(&mut buffer)).0);
        }
    }
    bytes
}

fn is_user(code: u32) -> bool {
    (USER_FIRST..=USER_LAST).contains(&code)
}

fn user_char([lead, trail]: [u8; 2]) -> Option<u32> {
    let column = match trail {
        0x40..=0x7E => trail - 0x40,
        0x80..=0xFC => trail - 0x41,
        _ => return None,
    };
    let row = lead.checked_sub(0xF0).filter(|row| *row < 10)?;
    Some(USER_FIRST + u32::from(row) * USER_PER_ROW + u32::from(column))
}

fn user_bytes(offset: u32) -> [u8; 2] {
    let (row, column) = (offset / USER_PER_ROW, offset % USER_PER_ROW);
    let trail = if column < 0x3F {
        column + 0x40
    } else {
        column + 0x41
    };
    // Ten rows of 188 codes: both values fit their byte.
    [
        0xF0 + u8::try_from(row).unwrap_or(0),
        u8::try_from(trail).unwrap_or(0x40),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8], width: Width) -> Option<Fault> {
        let charset = Charset::load().unwrap();
        charset
            .decode("8", bytes, width)
            .err()
            .map(|refusal| refusal.fault)
    }

    #[test]
    fn every_double_byte_code_is_read_and_written_back_or_refused() {
        let charset = Charset {
            declared: (USER_FIRST..=USER_LAST).collect(),
        };
        let mut read = 0;
        for lead in 0x81..=0xFC_u8 {
            for trail in 0x40..=0xFC_u8 {
                let Ok(text) = charset.decode("8", &[lead, trail], Width::Full) else {
                    continue;
                };
                let written = encode(&text);
                assert_eq!(charset.decode("8", &written, Width::Full).unwrap(), text);
                if (0xF0..=0xF9).contains(&lead) {
                    assert_eq!(written, [lead, trail]);
                }
                read += 1;
            }
        }
        assert!(read > 9_000, "{read}");
    }

    #[test]
    fn only_declared_user_codes_are_taken() {
        assert_eq!(fault(&[0xF0, 0x40], Width::Full), None);
        assert_eq!(fault(&[0xF0, 0x80], Width::Full), Some(Fault::Character));
        assert_eq!(fault(&[0xF9, 0xFC], Width::Full), Some(Fault::Character));
    }

    #[test]
    fn what_the_published_tables_name_can_be_written() {
        let folder = "../../adapters/vendors/hinoki/tables";
        let code_points = |text: &str| -> String {
            let number = |point: &str| u32::from_str_radix(point.trim_start_matches("U+"), 16);
            text.split(' ')
                .map(|point| char::from_u32(number(point).unwrap()).unwrap())
                .collect()
        };
        let charset = Charset::load().unwrap();
        for (file, width) in [("substitution.csv", Width::Full), ("kana.csv", Width::Half)] {
            let mut sources = HashSet::new();
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join(folder)
                .join(file);
            for record in csv::Reader::from_path(path).unwrap().records() {
                let record = record.unwrap();
                let to = code_points(&record[1]);
                assert_eq!(charset.decode("8", &encode(&to), width).unwrap(), to);
                assert!(
                    sources.insert(code_points(&record[0])),
                    "{file}: {}",
                    &record[0]
                );
            }
        }
    }

    #[test]
    fn broken_bytes_control_characters_and_wrong_widths_are_refused() {
        assert_eq!(fault(&[0x93], Width::Full), Some(Fault::Character));
        assert_eq!(fault(&[0xFD, 0x40], Width::Mixed), Some(Fault::Character));
        assert_eq!(fault(b"a\nb", Width::Mixed), Some(Fault::Character));
        assert_eq!(fault(&[0x80], Width::Mixed), Some(Fault::Character));
        assert_eq!(fault(b"A", Width::Full), Some(Fault::Width));
        assert_eq!(fault(&[0xB1], Width::Full), Some(Fault::Width));
        assert_eq!(fault(&[0x83, 0x41], Width::Half), Some(Fault::Width));
        assert_eq!(fault(&[0xB1, b' ', b'('], Width::Half), None);
        // The second byte 5C of 表 is no backslash.
        assert_eq!(fault(&[0x95, 0x5C], Width::Full), None);
    }
}
