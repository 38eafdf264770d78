//! Looks for personal data of a town in text that must hold none.
//! Knows the town's names, readings, addresses, numbers and dates of birth by its files.
//! Must never pass because it looked for too little: it counts what it looks for.
//! Read next: `tests/telemetry.rs`.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result};

/// Columns of names and addresses, in their own writing.
const WORDS: [&str; 27] = [
    "shimei",
    "uji_nihonjin",
    "na_nihonjin",
    "shimei_furigana",
    "kyuuji",
    "kyuuji_furigana",
    "shimei_gaikokujinkanji",
    "tsusho",
    "tsusho_furigana",
    "setainushi_shimei",
    "hittosha",
    "jusho_choaza",
    "jusho_banchigohyoki",
    "jusho_katagaki",
    "jusho_katagaki_furigana",
    "jusho_todofuken",
    "jusho_shikugunchosonmei",
    "honseki",
    "tennyumaejusho",
    "tenshutsusakijusho_yotei",
    "tenshutsusakijusho_kakutei",
    "idomaejusho_choaza",
    "idomaejusho_banchigohyoki",
    "idomaejusho_katagaki",
    "idomaejusho_todofuken",
    "idomaejusho_shikugunchosonmei",
    "idomaejusho_kokugaijusho",
];
/// Columns of numbers of persons, households and support measures.
const NUMBERS: [&str; 4] = [
    "atenabango",
    "setaibango",
    "idomaesetaibango",
    "shiensochibango",
];
/// Column of names in Latin letters.
const LATIN: &str = "shimei_gaikokujinromaji";
const BIRTH: &str = "seinengappi";
/// Shorter ones are also something else.
const NUMBER_DIGITS_MIN: usize = 6;
const LATIN_LETTERS_MIN: usize = 4;
/// 個人番号, wherever a file has one.
const INDIVIDUAL_NUMBER_DIGITS: usize = 12;

/// What must not be found.
#[derive(Debug, Default)]
pub struct Leaks {
    words: HashSet<String>,
    latin: HashSet<String>,
    numbers: HashSet<String>,
    dates: HashSet<String>,
}

impl Leaks {
    /// Reads all files of a town.
    pub fn of_town(folder: &Path) -> Result<Self> {
        let mut leaks = Self::default();
        let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "csv") {
                leaks
                    .add(&path)
                    .with_context(|| format!("read {}", path.display()))?;
            }
        }
        Ok(leaks)
    }

    /// Numbers of: names and addresses, names in Latin letters, numbers, dates of birth.
    pub fn counts(&self) -> [usize; 4] {
        [
            self.words.len(),
            self.latin.len(),
            self.numbers.len(),
            self.dates.len(),
        ]
    }

    /// Dates that the run itself may write, such as today's.
    pub fn allow_date(&mut self, date: &str) {
        self.dates.remove(date);
        self.dates.remove(&date.replace('-', ""));
        self.dates.remove(&date.replace('-', "/"));
    }

    fn add(&mut self, path: &Path) -> Result<()> {
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_path(path)?;
        let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        for record in reader.byte_records() {
            let record = record?;
            for (column, value) in columns.iter().zip(&record) {
                // Some rows are broken on purpose, also in their bytes.
                self.add_value(column, &String::from_utf8_lossy(value));
            }
        }
        Ok(())
    }

    fn add_value(&mut self, column: &str, value: &str) {
        let value = value.trim();
        for number in value.split(|c: char| !c.is_ascii_digit()) {
            if number.len() == INDIVIDUAL_NUMBER_DIGITS {
                self.numbers.insert(number.to_owned());
            }
        }
        if WORDS.contains(&column) {
            let parts = value.split(['　', ' ']).chain([value]);
            self.words
                .extend(parts.filter(|part| is_japanese(part)).map(str::to_owned));
        } else if column == LATIN {
            let parts = value
                .split(' ')
                .filter(|part| part.len() >= LATIN_LETTERS_MIN);
            self.latin.extend(parts.map(str::to_ascii_uppercase));
        } else if NUMBERS.contains(&column) && value.len() >= NUMBER_DIGITS_MIN {
            self.numbers.insert(value.to_owned());
            let short = value.trim_start_matches('0');
            if short.len() >= NUMBER_DIGITS_MIN {
                self.numbers.insert(short.to_owned());
            }
        } else if column == BIRTH && value.len() == 10 {
            let forms = [
                value.to_owned(),
                value.replace('-', ""),
                value.replace('-', "/"),
            ];
            self.dates.extend(forms);
        }
    }

    /// Everything of the town that stands in a text.
    pub fn found_in(&self, text: &str) -> Vec<String> {
        // What is exported repeats itself a thousand times: each piece is looked at once.
        let part = |byte: u8| !byte.is_ascii() || byte.is_ascii_alphanumeric();
        let apart = |byte: &u8| !part(*byte) && !matches!(byte, b'.' | b'-' | b'/');
        let pieces: HashSet<&[u8]> = text.as_bytes().split(apart).collect();
        let pieces: Vec<_> = pieces.into_iter().map(String::from_utf8_lossy).collect();
        self.found_in_pieces(&pieces.join(" "))
    }

    fn found_in_pieces(&self, text: &str) -> Vec<String> {
        let mut found = HashSet::new();
        let runs: HashSet<&str> = text.split(|c: char| c.is_ascii()).collect();
        for run in runs.into_iter().filter(|run| is_japanese(run)) {
            let hits = self.words.iter().filter(|word| run.contains(word.as_str()));
            found.extend(hits.cloned());
        }
        // A number inside a longer one, in an id or behind a point is another number.
        let tokens: HashSet<&str> = text
            .split(|c: char| !c.is_ascii_alphanumeric() && c != '.')
            .collect();
        for token in tokens {
            let token = token.trim_end_matches('.');
            if self.numbers.contains(token) || self.dates.contains(token) {
                found.insert(token.to_owned());
            }
        }
        let dates: HashSet<&str> = text
            .split(|c: char| !c.is_ascii_digit() && c != '-' && c != '/')
            .collect();
        found.extend(
            dates
                .into_iter()
                .filter(|date| self.dates.contains(*date))
                .map(str::to_owned),
        );
        let words: HashSet<String> = text
            .split(|c: char| !c.is_ascii_alphabetic())
            .filter(|word| word.len() >= LATIN_LETTERS_MIN)
            .map(str::to_ascii_uppercase)
            .collect();
        found.extend(words.into_iter().filter(|word| self.latin.contains(word)));
        let mut found: Vec<String> = found.into_iter().collect();
        found.sort();
        found
    }
}

fn is_japanese(text: &str) -> bool {
    !text.is_empty() && text.chars().any(|c| !c.is_ascii() && c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::town::town;

    #[test]
    fn what_is_planted_is_found_and_ids_are_not_taken_for_numbers() {
        let leaks = Leaks::of_town(&town()).unwrap();
        let counts = leaks.counts();
        assert!(counts.into_iter().all(|count| count > 20), "{counts:?}");
        for planted in [
            "error=\"the person 0001000012 is unknown\"",
            "subject=1000012,",
            "name: StringValue(\"田中　優奈\")",
            "タナカ",
            "{\"address\":\"神奈川県鎌倉市山崎\"}",
            "born 2006-10-19T00:00",
            "20061019",
            "household=50000028.",
        ] {
            assert!(!leaks.found_in(planted).is_empty(), "{planted}");
        }
        for clean in [
            "id=9e3edc3e-64a1-5f66-912b-144454561acc trace=9e3edc3e64a15f66912b144454561acc",
            "sum: 0.1000012, time_unix_nano: 1795500654293852000",
            "outcome=\"APPLIED\" reason=\"UNKNOWN_PERSON\"",
        ] {
            assert_eq!(leaks.found_in(clean), Vec::<String>::new(), "{clean}");
        }
    }
}
