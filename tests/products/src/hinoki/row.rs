//! One record of a request file: 25 columns, a mask, and what they change.
//! `night.rs` hands in the bytes; the change goes to the ledger.
//! It must never touch a column whose mask is 0.
//! Read next: `text.rs` for the characters.

use std::str;

use csv::ByteRecord;

use super::text::{Charset, Width};
use crate::calendar;
use crate::fields::{Fault, Refusal, check_day, check_digits};
use crate::ledger::{Change, Doc};

/// First and last column that the mask speaks of.
pub(super) const FIRST: usize = 7;
pub(super) const LAST: usize = 25;
const KEY_MAX: usize = 60;
const STATE: usize = 23;
/// Each date column and the column of its wording.
const DATES: [(usize, usize); 3] = [(12, 13), (19, 20), (24, 25)];
const NEEDED: [usize; 3] = [11, 12, 14];

enum Column {
    Text(Width, usize),
    Digits(usize, usize),
    Code(&'static [u8]),
    Date,
    Stay,
}

fn column(number: usize) -> Column {
    match number {
        7 | 9 => Column::Text(Width::Half, 200),
        8 | 10 => Column::Text(Width::Full, 200),
        11 => Column::Code(b"012"),
        12 | 19 | 24 => Column::Date,
        14 => Column::Code(b"01"),
        15 => Column::Digits(7, 7),
        16 => Column::Text(Width::Mixed, 64),
        17 => Column::Text(Width::Mixed, 340),
        18 => Column::Text(Width::Mixed, 600),
        21 => Column::Digits(1, 15),
        22 => Column::Stay,
        STATE => Column::Code(b"0123"),
        _ => Column::Text(Width::Full, 144),
    }
}

/// The name under which a column is kept.
pub(super) fn item(number: usize) -> String {
    number.to_string()
}

/// The sender's key, empty when it cannot be read.
pub(super) fn key(record: &ByteRecord) -> String {
    let key = record.get(1).unwrap_or_default();
    let printable = key
        .iter()
        .all(|byte| (0x21..=0x7E).contains(byte) && *byte != b',');
    if printable && key.len() <= KEY_MAX {
        String::from_utf8_lossy(key).into_owned()
    } else {
        String::new()
    }
}

/// The person's number, empty when it cannot be read.
pub(super) fn person(record: &ByteRecord) -> String {
    let no = record
        .get(3)
        .and_then(|no| str::from_utf8(no).ok())
        .unwrap_or_default();
    if check_digits("4", no, 1, 15).is_ok() {
        no.to_owned()
    } else {
        String::new()
    }
}

/// Reads one record.
pub(super) fn change(
    charset: &Charset,
    record: &ByteRecord,
    number: usize,
) -> Result<Change, Refusal> {
    if record.len() != LAST {
        let detail = format!("{} columns instead of {LAST}", record.len());
        return Err(Refusal::new(Fault::Malformed, "", detail));
    }
    if record.get(0) != Some(format!("{number:06}").as_bytes()) {
        return Err(malformed(1, "行番号 does not follow"));
    }
    let key = key(record);
    if key.is_empty() {
        return Err(malformed(2, "1 to 60 printable ASCII characters"));
    }
    let operation = ascii(record, 3)?;
    if !["10", "20", "30"].contains(&operation) {
        return Err(Refusal::new(Fault::Value, "3", "10, 20 or 30"));
    }
    let no = ascii(record, 4)?;
    check_digits("4", no, 1, 15)?;
    check_digits("5", ascii(record, 5)?, 1, 5)?;
    let version = ascii(record, 5)?.parse().unwrap_or(0);
    if version < 1 {
        return Err(malformed(5, "1 to 99999"));
    }
    let (sets, clears) = columns(charset, record, operation)?;
    let edit = Box::new(move |held: Option<Doc>| merge(held, sets, &clears));
    let (no, create) = (no.to_owned(), operation == "10");
    Ok(Change::Record {
        key,
        no,
        version,
        create,
        edit,
        seen: Vec::new(),
    })
}

type Sets = Vec<(usize, String)>;

fn columns(
    charset: &Charset,
    record: &ByteRecord,
    operation: &str,
) -> Result<(Sets, Vec<usize>), Refusal> {
    let mask = ascii(record, 6)?.as_bytes();
    if mask.len() != LAST - FIRST + 1 {
        return Err(malformed(6, "19 characters"));
    }
    let worded = |column: usize| mask.get(column - FIRST) == Some(&b'1');
    let (mut sets, mut clears) = (Vec::new(), Vec::new());
    for (number, mark) in (FIRST..=LAST).zip(mask) {
        let bytes = record.get(number - 1).unwrap_or_default();
        if *mark != b'0' && operation == "30" && number < STATE {
            return Err(malformed(6, "状態変更 takes the columns 23 to 25 only"));
        }
        match mark {
            b'0' | b'2' if !bytes.is_empty() => {
                return Err(malformed(number, "a column that is not set must be empty"));
            }
            b'0' => {}
            b'1' if bytes.is_empty() => {
                return Err(malformed(number, "a column that is set must not be empty"));
            }
            b'1' => sets.push((number, value(charset, number, bytes, worded)?)),
            b'2' if NEEDED.contains(&number) || number == STATE => {
                return Err(Refusal::new(
                    Fault::Missing,
                    item(number),
                    "cannot be cleared",
                ));
            }
            b'2' => clears.push(number),
            _ => return Err(malformed(6, "0, 1 or 2")),
        }
    }
    Ok((sets, clears))
}

fn value(
    charset: &Charset,
    number: usize,
    bytes: &[u8],
    worded: impl Fn(usize) -> bool,
) -> Result<String, Refusal> {
    let item = item(number);
    if let Column::Text(width, max) = column(number) {
        if bytes.len() > max {
            let detail = format!("{} bytes, max {max}", bytes.len());
            return Err(Refusal::new(Fault::TooLong, item, detail));
        }
        return charset.decode(&item, bytes, width);
    }
    let text = charset.decode(&item, bytes, Width::Mixed)?;
    match column(number) {
        Column::Digits(min, max) => check_digits(&item, &text, min, max)?,
        Column::Code(codes) => {
            if bytes.len() != 1 || !codes.contains(&bytes[0]) {
                return Err(Refusal::new(Fault::Value, item, "no such code"));
            }
        }
        Column::Date => {
            let wording = DATES.iter().find(|(date, _)| *date == number);
            let worded = wording.is_some_and(|(_, wording)| worded(*wording));
            check_day(&item, calendar::parse_wareki_digits(&text), worded)?;
        }
        Column::Stay => check_stay(&item, &text)?,
        Column::Text(..) => {}
    }
    Ok(text)
}

fn check_stay(item: &str, text: &str) -> Result<(), Refusal> {
    let Some((category, date)) = text.split_at_checked(1).filter(|_| text.len() == 8) else {
        return Err(Refusal::new(Fault::Malformed, item, "one digit and a date"));
    };
    if !("1"..="6").contains(&category) {
        return Err(Refusal::new(Fault::Value, item, "no such 区分"));
    }
    if date == "0000000" || date == "9999999" {
        return Ok(());
    }
    check_day(item, calendar::parse_wareki_digits(date), false)
}

fn merge(held: Option<Doc>, sets: Sets, clears: &[usize]) -> Result<Doc, Refusal> {
    let mut doc = match held {
        Some(held) => held,
        None => {
            let given = |number: &usize| sets.iter().any(|(set, _)| set == number);
            if let Some(number) = NEEDED.iter().find(|number| !given(number)) {
                return Err(Refusal::new(
                    Fault::Missing,
                    item(*number),
                    "needed at 新規登録",
                ));
            }
            Doc::from_iter([(item(STATE), "0".into())])
        }
    };
    for number in clears {
        doc.remove(&item(*number));
    }
    for (number, value) in sets {
        doc.insert(item(number), value.into());
    }
    for (date, wording) in DATES {
        if let Some(text) = doc.get(&item(date)).and_then(|held| held.as_str()) {
            let worded = doc.contains_key(&item(wording));
            check_day(&item(date), calendar::parse_wareki_digits(text), worded)?;
        }
    }
    Ok(doc)
}

fn ascii(record: &ByteRecord, number: usize) -> Result<&str, Refusal> {
    let bytes = record.get(number - 1).unwrap_or_default();
    str::from_utf8(bytes)
        .ok()
        .filter(|text| text.is_ascii())
        .ok_or_else(|| malformed(number, "ASCII only"))
}

fn malformed(number: usize, detail: &str) -> Refusal {
    Refusal::new(Fault::Malformed, item(number), detail)
}
