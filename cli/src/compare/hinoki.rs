//! ひのき国民年金 as its manual describes it: a ledger in CP932, 和暦 as digits, 25 columns.
//! Reads the ledger and the journal, and says what they must show and who must wait.
//! Must never decode the ledger: it is compared byte for byte.
//! Read next: `characters.rs`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::characters::Characters;
use super::dates::{INDEFINITE, NoForm, era_day};
use super::fact::{Fact, Facts};
use super::fold::Person;
use super::kaede::code;
use super::{Product, Shown, State, flatten};

/// Columns 7 to 25 with their longest form in bytes.
const COLUMNS: &[(&str, usize)] = &[
    ("氏名カナ", 200),
    ("氏名", 200),
    ("通称カナ", 200),
    ("通称", 200),
    ("性別", 1),
    ("生年月日", 7),
    ("生年月日不詳表記", 144),
    ("国籍区分", 1),
    ("郵便番号", 7),
    ("住所１", 64),
    ("住所２", 340),
    ("住所３", 600),
    ("住定年月日", 7),
    ("住定年月日不詳表記", 144),
    ("世帯主宛名番号", 15),
    ("在留情報", 8),
    ("状態", 1),
    ("状態年月日", 7),
    ("状態年月日不詳表記", 144),
];

/// The pension product that is replaced.
#[derive(Debug, Clone)]
pub(crate) struct Hinoki {
    characters: Characters,
}

impl Hinoki {
    /// With the vendor's tables as built into the program.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self {
            characters: Characters::built_in()?,
        })
    }

    /// Columns 7 to 25 of a person; an error names the first one without a form.
    fn columns(&self, facts: &Facts) -> Result<Vec<Vec<u8>>, NoForm> {
        let get = |fact: Fact| facts.get(&fact).map_or("", String::as_str);
        let wide = |text: &str| self.characters.wide(text).ok_or(NoForm { what: "text" });
        let kana = |text: &str| {
            self.characters
                .narrow(text)
                .ok_or(NoForm { what: "reading" })
        };
        let joined = |one, two| wide(&[get(one), get(two)].concat());
        let date = |fact| digits(get(fact));
        let ascii = |text: &str| text.as_bytes().to_vec();
        let columns = vec![
            kana(get(Fact::Kana))?,
            full(wide(get(Fact::Name))?)?,
            kana(get(Fact::AliasKana))?,
            full(wide(get(Fact::Alias))?)?,
            ascii(code(
                facts.get(&Fact::Sex).map(String::as_str),
                &[("1", "1"), ("2", "2")],
                "0",
            )),
            ascii(&date(Fact::Birth)?),
            full(wide(get(Fact::BirthNote))?)?,
            ascii(code(
                facts.get(&Fact::Kind).map(String::as_str),
                &[("1", "0")],
                "1",
            )),
            ascii(get(Fact::Postcode)),
            joined(Fact::Prefecture, Fact::City)?,
            joined(Fact::Town, Fact::Lot)?,
            wide(get(Fact::Building))?,
            ascii(&date(Fact::Since)?),
            full(wide(get(Fact::SinceNote))?)?,
            ascii(get(Fact::Head)),
            ascii(&stay(facts)?),
            ascii(code(
                facts.get(&Fact::State).map(String::as_str),
                &[("2", "1"), ("3", "2"), ("9", "3")],
                "0",
            )),
            ascii(&date(Fact::StateOn)?),
            full(wide(get(Fact::StateOnNote))?)?,
        ];
        let fits = columns
            .iter()
            .zip(COLUMNS)
            .all(|(bytes, (_, longest))| bytes.len() <= *longest);
        if fits {
            Ok(columns)
        } else {
            Err(NoForm { what: "length" })
        }
    }
}

impl Product for Hinoki {
    fn holds_protection(&self) -> bool {
        false
    }

    fn cannot_hold(&self, given: &Facts) -> bool {
        self.columns(given).is_err()
    }

    fn expected(&self, person: &Person) -> Result<Value, NoForm> {
        let columns = self.columns(&person.facts)?;
        Ok(object(columns.iter().map(Vec::as_slice)))
    }
}

fn object<'a>(columns: impl Iterator<Item = &'a [u8]>) -> Value {
    let named: Map<String, Value> = COLUMNS
        .iter()
        .zip(columns)
        .map(|((name, _), bytes)| ((*name).to_owned(), json!(hex(bytes))))
        .collect();
    Value::Object(named)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A column that takes full-width characters only.
fn full(bytes: Vec<u8>) -> Result<Vec<u8>, NoForm> {
    let mut rest = bytes.iter();
    while let Some(byte) = rest.next() {
        if matches!(byte, 0x00..=0x80 | 0xa0..=0xdf) {
            return Err(NoForm {
                what: "half-width text",
            });
        }
        rest.next();
    }
    Ok(bytes)
}

fn digits(date: &str) -> Result<String, NoForm> {
    if date.is_empty() {
        return Ok(String::new());
    }
    let day = era_day(date)?;
    Ok(format!(
        "{}{:02}{:02}{:02}",
        day.digit, day.year, day.month, day.day
    ))
}

fn stay(facts: &Facts) -> Result<String, NoForm> {
    let Some(category) = facts.get(&Fact::ForeignCategory) else {
        return Ok(String::new());
    };
    let until = facts.get(&Fact::StayUntil).map_or("", String::as_str);
    let until = match until {
        "" => "0000000".to_owned(),
        INDEFINITE => "9999999".to_owned(),
        date => digits(date)?,
    };
    Ok(format!("{category}{until}"))
}

/// The ledger as exported, with the number of journal records that it includes.
#[derive(Debug)]
pub(crate) struct Ledger {
    /// Everybody.
    pub(crate) state: State,
    /// 実績: journal records that it includes.
    pub(crate) included: u64,
}

/// Reads the exported ledger; `None` while there is none, or while it is being replaced.
pub(crate) fn read_ledger(folder: &Path) -> Result<Option<Ledger>> {
    let manifest = folder.join("daicho.mf");
    let Ok(before) = fs::read_to_string(&manifest) else {
        return Ok(None);
    };
    let Ok(bytes) = fs::read(folder.join("daicho.csv")) else {
        return Ok(None);
    };
    let entry = |key: &str| {
        before
            .lines()
            .find_map(|line| line.trim().strip_prefix(key)?.strip_prefix('='))
    };
    let seal = hex(&Sha256::digest(&bytes));
    if entry("SHA256") != Some(seal.as_str()) {
        return Ok(None);
    }
    let included = entry("JISSEKI")
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    let state = parse_ledger(&bytes)?;
    if entry("KENSU").and_then(|count| count.parse().ok()) != Some(state.len()) {
        bail!(
            "the ledger has {} records, not as many as its manifest says",
            state.len()
        );
    }
    Ok(Some(Ledger { state, included }))
}

/// Reads the records of a ledger.
pub(crate) fn parse_ledger(bytes: &[u8]) -> Result<State> {
    let mut state = State::new();
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(bytes);
    for record in reader.byte_records() {
        let record = record.context("the ledger is no CSV")?;
        if record.len() != COLUMNS.len() + 2 {
            bail!("a record of the ledger has {} columns", record.len());
        }
        let text = |index: usize| String::from_utf8_lossy(&record[index]).into_owned();
        let version = text(1).parse().unwrap_or(0);
        let fields = flatten(&object(record.iter().skip(2)));
        state.insert(text(0), Shown { version, fields });
    }
    Ok(state)
}

/// 宛名番号 and 履歴番号 of each applied record, in order.
pub(crate) fn read_journal(folder: &Path) -> Result<Vec<(String, u32)>> {
    let path = folder.join("journal.csv");
    let Ok(bytes) = fs::read(&path) else {
        return Ok(Vec::new());
    };
    let text = String::from_utf8_lossy(&bytes);
    // A last line without its end is not complete yet.
    let complete = text
        .rsplit_once("\r\n")
        .map_or("", |(complete, _)| complete);
    complete
        .split("\r\n")
        .filter(|line| !line.is_empty())
        .map(|line| {
            let columns: Vec<&str> = line.split(',').collect();
            match columns.as_slice() {
                [_, _, person, version, ..] => {
                    Ok(((*person).to_owned(), version.parse().unwrap_or(0)))
                }
                _ => bail!("a record of `{}` has too few columns", path.display()),
            }
        })
        .collect()
}
