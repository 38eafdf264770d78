//! Text for products that hold CP932: agreed forms only, or none.
//! Used by translations; the tables belong to the vendor and the municipality.
//! It must never write `?`, 〓 or a lookalike that nobody agreed to.
//! Read next: `cp932/tests.rs`.
//!
//! At each place the longest match counts, first of 外字 (one user-defined code), then of 代替文字
//! (another text). Any other character must have a code of its own: a converter that maps it to
//! one that reads back as something else is not followed.

use std::collections::HashMap;

use encoding_rs::SHIFT_JIS;

/// The text holds something without agreed form, or of the wrong width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoAgreedForm;

/// A line of a table that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of table `{table}` is not usable")]
pub(crate) struct TableError {
    /// Name of the table.
    pub(crate) table: &'static str,
    /// Line, counted from 1 with the header.
    pub(crate) line: usize,
}

/// The agreed forms of one product.
#[derive(Debug)]
pub(crate) struct Cp932 {
    gaiji: Longest<[u8; 2]>,
    substitution: Longest<String>,
    kana: Longest<String>,
}

impl Cp932 {
    /// Reads the tables of 外字 (`unicode,cp932`), 代替文字 (`from,to`) and 半角カナ
    /// (`zenkaku,hankaku`).
    pub(crate) fn read(gaiji: &str, substitution: &str, kana: &str) -> Result<Self, TableError> {
        let agreed = Self {
            gaiji: Longest::read("gaiji", gaiji, user_code)?,
            substitution: Longest::read("substitution", substitution, code_points)?,
            kana: Longest::read("kana", kana, code_points)?,
        };
        let unusable = agreed
            .substitution
            .entries
            .values()
            .any(|to| agreed.direct(to).is_err());
        if unusable {
            return Err(TableError {
                table: "substitution",
                line: 0,
            });
        }
        Ok(agreed)
    }

    /// A full-width text in double-byte codes.
    pub(crate) fn full_width(&self, text: &str) -> Result<Vec<u8>, NoAgreedForm> {
        self.encode(text, |character| double_byte(character).map(Vec::from))
    }

    /// A text that may hold half-width characters beside full-width ones.
    pub(crate) fn mixed(&self, text: &str) -> Result<Vec<u8>, NoAgreedForm> {
        self.encode(text, |character| {
            single_byte(character)
                .map(|byte| vec![byte])
                .or_else(|_| double_byte(character).map(Vec::from))
        })
    }

    /// A full-width kana text in half-width codes.
    pub(crate) fn half_width(&self, text: &str) -> Result<Vec<u8>, NoAgreedForm> {
        let agreed = self.substitution.replace(text);
        let narrow = self.kana.replace(&agreed);
        narrow
            .chars()
            .map(|character| single_byte(narrow_ascii(character)))
            .collect()
    }

    fn encode(
        &self,
        text: &str,
        other: impl Fn(char) -> Result<Vec<u8>, NoAgreedForm>,
    ) -> Result<Vec<u8>, NoAgreedForm> {
        let characters: Vec<char> = text.chars().collect();
        let mut bytes = Vec::with_capacity(characters.len() * 2);
        let mut rest = characters.as_slice();
        while let Some(first) = rest.first() {
            let gaiji = self.gaiji.longest(rest);
            let agreed = self.substitution.longest(rest);
            rest = match (gaiji, agreed) {
                (Some((code, length)), agreed) if agreed.is_none_or(|(_, more)| more <= length) => {
                    bytes.extend_from_slice(code);
                    &rest[length..]
                }
                (_, Some((to, length))) => {
                    bytes.extend(self.direct(to)?);
                    &rest[length..]
                }
                _ => {
                    bytes.extend(other(*first)?);
                    &rest[1..]
                }
            };
        }
        Ok(bytes)
    }

    fn direct(&self, text: &str) -> Result<Vec<u8>, NoAgreedForm> {
        let mut bytes = Vec::new();
        for character in text.chars() {
            match self.gaiji.longest(&[character]) {
                Some((code, _)) => bytes.extend_from_slice(code),
                None => bytes.extend(double_byte(character)?),
            }
        }
        Ok(bytes)
    }
}

/// The double-byte code of a character, when the code reads back as the same character.
fn double_byte(character: char) -> Result<[u8; 2], NoAgreedForm> {
    let mut buffer = [0; 4];
    let text = character.encode_utf8(&mut buffer);
    let (bytes, _, unmappable) = SHIFT_JIS.encode(text);
    let code: [u8; 2] = (*bytes).try_into().map_err(|_| NoAgreedForm)?;
    // A user-defined code is agreed by the table of 外字 alone.
    if unmappable || is_user_defined(code) {
        return Err(NoAgreedForm);
    }
    let (back, broken) = SHIFT_JIS.decode_without_bom_handling(&code);
    if broken || back != *text {
        return Err(NoAgreedForm);
    }
    Ok(code)
}

/// The single-byte code of a half-width character.
fn single_byte(character: char) -> Result<u8, NoAgreedForm> {
    let code = u32::from(character);
    let byte = match code {
        0x20..=0x7e => code,
        0xff61..=0xff9f => code - 0xff61 + 0xa1,
        _ => return Err(NoAgreedForm),
    };
    u8::try_from(byte).map_err(|_| NoAgreedForm)
}

/// Full-width ASCII as ASCII; any other character as it is.
fn narrow_ascii(character: char) -> char {
    match u32::from(character) {
        code @ 0xff01..=0xff5e => char::from_u32(code - 0xff01 + 0x21).unwrap_or(character),
        _ => character,
    }
}

fn is_user_defined(code: [u8; 2]) -> bool {
    (0xf0..=0xf9).contains(&code[0])
}

fn user_code(text: &str) -> Option<[u8; 2]> {
    let number = u16::from_str_radix(text, 16).ok()?;
    Some(number.to_be_bytes()).filter(|code| text.len() == 4 && is_user_defined(*code))
}

/// Reads `U+8FBB U+E0101`.
fn code_points(text: &str) -> Option<String> {
    let read =
        |point: &str| char::from_u32(u32::from_str_radix(point.strip_prefix("U+")?, 16).ok()?);
    let read: Option<String> = text.split_whitespace().map(read).collect();
    read.filter(|read| !read.is_empty())
}

/// Forms by sequences of characters, of which the longest counts.
#[derive(Debug)]
struct Longest<T> {
    entries: HashMap<Vec<char>, T>,
    length_max: usize,
}

impl<T> Longest<T> {
    fn read(
        table: &'static str,
        text: &str,
        form: impl Fn(&str) -> Option<T>,
    ) -> Result<Self, TableError> {
        let mut found = Self {
            entries: HashMap::new(),
            length_max: 0,
        };
        let lines = text
            .lines()
            .enumerate()
            .skip(1)
            .filter(|(_, line)| !line.is_empty());
        for (index, line) in lines {
            let unusable = || TableError {
                table,
                line: index + 1,
            };
            let mut columns = line.splitn(3, ',');
            let (from, to) = (columns.next().unwrap_or(""), columns.next().unwrap_or(""));
            let from: Vec<char> = code_points(from).ok_or_else(unusable)?.chars().collect();
            found.length_max = found.length_max.max(from.len());
            if found
                .entries
                .insert(from, form(to).ok_or_else(unusable)?)
                .is_some()
            {
                return Err(unusable());
            }
        }
        Ok(found)
    }

    fn longest(&self, text: &[char]) -> Option<(&T, usize)> {
        let longest = self.length_max.min(text.len());
        (1..=longest)
            .rev()
            .find_map(|length| self.entries.get(&text[..length]).map(|form| (form, length)))
    }
}

impl Longest<String> {
    fn replace(&self, text: &str) -> String {
        let characters: Vec<char> = text.chars().collect();
        let mut rest = characters.as_slice();
        let mut replaced = String::with_capacity(text.len());
        while let Some(first) = rest.first() {
            if let Some((form, length)) = self.longest(rest) {
                replaced.push_str(form);
                rest = &rest[length..];
            } else {
                replaced.push(*first);
                rest = &rest[1..];
            }
        }
        replaced
    }
}

#[cfg(test)]
mod tests;
