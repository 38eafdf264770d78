//! Text in the form of ひのき: CP932 with its 外字, its agreed substitutions, half-width kana.
//! Read from the vendor's tables on its own.
//! Must never replace a character that no table names.
//! Read next: `hinoki.rs`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};
use encoding_rs::SHIFT_JIS;

use super::table;

/// Longest sequence that a table can replace, in characters.
const SEQUENCE_MAX: usize = 4;

/// What a sequence of characters becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    /// Bytes of the 外字 slot.
    Slot(Vec<u8>),
    /// Other characters.
    Text(String),
}

/// The vendor's tables.
#[derive(Debug, Clone)]
pub(crate) struct Characters {
    wide: HashMap<String, Form>,
    kana: HashMap<String, Form>,
}

impl Characters {
    /// The tables as built into the program.
    pub(crate) fn built_in() -> Result<Self> {
        Self::parse(
            include_str!("../../../adapters/vendors/hinoki/tables/gaiji.csv"),
            include_str!("../../../adapters/vendors/hinoki/tables/substitution.csv"),
            include_str!("../../../adapters/vendors/hinoki/tables/kana.csv"),
        )
    }

    /// Reads the tables.
    pub(crate) fn parse(gaiji: &str, substitution: &str, kana: &str) -> Result<Self> {
        let substitution = pairs(substitution, "from", "to").context("substitution.csv")?;
        let mut wide: HashMap<String, Form> = HashMap::new();
        for (from, to) in &substitution {
            wide.insert(from.clone(), Form::Text(points(to)?));
        }
        for (from, slot) in pairs(gaiji, "unicode", "cp932").context("gaiji.csv")? {
            let code = u16::from_str_radix(&slot, 16).with_context(|| format!("slot {slot}"))?;
            wide.insert(from, Form::Slot(code.to_be_bytes().to_vec()));
        }
        let mut narrow = HashMap::new();
        for (from, to) in pairs(kana, "zenkaku", "hankaku").context("kana.csv")? {
            narrow.insert(from, Form::Text(points(&to)?));
        }
        Ok(Self { wide, kana: narrow })
    }

    /// Bytes of a text in CP932; `None` when a character has no agreed form.
    pub(crate) fn wide(&self, text: &str) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for part in split(text, &self.wide) {
            match part {
                Part::Form(Form::Slot(slot)) => bytes.extend(slot),
                Part::Form(Form::Text(text)) => bytes.extend(exact(text)?),
                Part::Plain(text) => bytes.extend(exact(text)?),
            }
        }
        Some(bytes)
    }

    /// Bytes of a reading in half-width kana; `None` when a character has no agreed form.
    pub(crate) fn narrow(&self, text: &str) -> Option<Vec<u8>> {
        let composed: String = split(text, &self.wide)
            .into_iter()
            .map(|part| match part {
                Part::Form(Form::Text(to)) => to.as_str(),
                Part::Form(Form::Slot(_)) => "\u{fffd}",
                Part::Plain(text) => text,
            })
            .collect();
        let mut bytes = Vec::new();
        for part in split(&composed, &self.kana) {
            match part {
                Part::Form(Form::Text(text)) => bytes.extend(exact(text)?),
                Part::Form(Form::Slot(_)) => return None,
                Part::Plain(text) => bytes.push(half(text)?),
            }
        }
        Some(bytes)
    }
}

/// A full-width sign of ASCII, or ASCII itself, as one byte.
fn half(text: &str) -> Option<u8> {
    let point = text.chars().next().map(u32::from)?;
    let point = match point {
        0xff01..=0xff5e => point - 0xfee0,
        other => other,
    };
    match point {
        0x20..=0x7e => u8::try_from(point).ok(),
        // A half-width kana as it is.
        0xff61..=0xff9f => u8::try_from(point - 0xff61 + 0xa1).ok(),
        _ => None,
    }
}

/// Bytes of a text that CP932 holds exactly: it must come back as it was.
fn exact(text: &str) -> Option<Vec<u8>> {
    let (bytes, _, unmappable) = SHIFT_JIS.encode(text);
    if unmappable {
        return None;
    }
    let (back, _, malformed) = SHIFT_JIS.decode(&bytes);
    (!malformed && back == text).then(|| bytes.into_owned())
}

enum Part<'a> {
    Form(&'a Form),
    Plain(&'a str),
}

/// Splits a text into the longest sequences of a table and single characters.
fn split<'a>(text: &'a str, table: &'a HashMap<String, Form>) -> Vec<Part<'a>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let ends = rest
            .char_indices()
            .map(|(at, c)| at + c.len_utf8())
            .take(SEQUENCE_MAX);
        let ends: Vec<usize> = ends.collect();
        let found = ends.iter().rev().find_map(|end| {
            let (head, tail) = rest.split_at(*end);
            table.get(head).map(|form| (form, tail))
        });
        let (part, tail) = match found {
            Some((form, tail)) => (Part::Form(form), tail),
            None => {
                let (head, tail) = rest.split_at(ends[0]);
                (Part::Plain(head), tail)
            }
        };
        parts.push(part);
        rest = tail;
    }
    parts
}

/// Reads two columns; the first one is turned into characters.
fn pairs(text: &str, from: &str, to: &str) -> Result<Vec<(String, String)>> {
    table::read(text.as_bytes(), &[from, to])?
        .iter()
        .map(|row| Ok((points(row.get(from))?, row.get(to).to_owned())))
        .collect()
}

/// Turns `U+845B U+E0100` into characters.
fn points(text: &str) -> Result<String> {
    text.split_whitespace()
        .map(|point| {
            let Some(hex) = point.strip_prefix("U+") else {
                bail!("`{point}` is no code point");
            };
            u32::from_str_radix(hex, 16)
                .ok()
                .and_then(char::from_u32)
                .with_context(|| format!("`{point}` is no code point"))
        })
        .collect()
}
