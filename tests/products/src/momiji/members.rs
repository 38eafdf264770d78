//! One member row of a unit: what it asks for, judged without the ledger.
//! `units.rs` reads the rows here and hands them to `ledger.rs`.
//! It must never look at a column that `koshin_komoku` does not name.
//! Read next: `ledger.rs`.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::columns::{self, COLUMNS};
use crate::fields::{Fault, Field, Refusal, check_digits, check_measure};

const VERSION_MAX: i64 = 99_999;

/// A member row.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) gyo: i64,
    pub(super) kojin_no: Option<String>,
    pub(super) action: Result<Action, Refusal>,
}

/// What a row asks for.
#[derive(Debug)]
pub(super) enum Action {
    /// TOROKU and HENKO.
    Record {
        no: String,
        create: bool,
        version: i64,
        sets: Vec<Set>,
        seen: Vec<String>,
    },
    /// HOGO.
    Measure {
        no: String,
        measure: String,
        version: i64,
        ended: bool,
    },
}

/// One written column; `None` clears it.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) field: &'static Field,
    pub(super) value: Option<String>,
}

impl Action {
    /// The items that a new person needs and that this row does not give.
    pub(super) fn missing(&self) -> Option<&'static Field> {
        let Self::Record { sets, .. } = self else {
            return None;
        };
        let given = |field: &&Field| sets.iter().any(|set| set.field.name == field.name);
        COLUMNS.iter().find(|field| field.needed && !given(field))
    }
}

/// Reads a row.
pub(super) fn read(row: &AnyRow) -> sqlx::Result<Member> {
    let raw = Raw {
        shori: row.try_get("shori")?,
        kojin_no: row.try_get("kojin_no")?,
        rireki: row.try_get("rireki")?,
        koshin_komoku: row.try_get("koshin_komoku")?,
        sochi_no: row.try_get("sochi_no")?,
        sochi_han: row.try_get("sochi_han")?,
        sochi_shuryo: row.try_get("sochi_shuryo")?,
        sochi_tsuika: row.try_get("sochi_tsuika")?,
    };
    let mut values = Vec::with_capacity(COLUMNS.len());
    for field in &COLUMNS {
        let value: Option<String> = row.try_get(field.name)?;
        values.push((field.name, value));
    }
    let gyo = row.try_get("gyo")?;
    let kojin_no = raw.kojin_no.clone();
    Ok(Member {
        gyo,
        kojin_no,
        action: judge(raw, values),
    })
}

struct Raw {
    shori: Option<String>,
    kojin_no: Option<String>,
    rireki: Option<i64>,
    koshin_komoku: Option<String>,
    sochi_no: Option<String>,
    sochi_han: Option<i64>,
    sochi_shuryo: Option<i64>,
    sochi_tsuika: Option<String>,
}

type Values = Vec<(&'static str, Option<String>)>;

fn judge(raw: Raw, values: Values) -> Result<Action, Refusal> {
    let no = raw.kojin_no.unwrap_or_default();
    check_digits("kojin_no", &no, 1, 15)?;
    let create = match raw.shori.as_deref() {
        Some("TOROKU") => true,
        Some("HENKO") => false,
        Some("HOGO") => {
            let measure = raw.sochi_no.unwrap_or_default();
            check_measure("sochi_no", &measure)?;
            let version = number("sochi_han", raw.sochi_han, 1, VERSION_MAX)?;
            let ended = number("sochi_shuryo", raw.sochi_shuryo, 0, 1)? == 1;
            return Ok(Action::Measure {
                no,
                measure,
                version,
                ended,
            });
        }
        _ => {
            return Err(Refusal::new(
                Fault::Malformed,
                "shori",
                "TOROKU, HENKO or HOGO",
            ));
        }
    };
    let version = number("rireki", raw.rireki, 1, VERSION_MAX)?;
    let sets = sets(raw.koshin_komoku.as_deref().unwrap_or_default(), values)?;
    let mut seen = Vec::new();
    for measure in list(raw.sochi_tsuika.as_deref().unwrap_or_default()) {
        check_measure("sochi_tsuika", measure)?;
        seen.push(measure.to_owned());
    }
    Ok(Action::Record {
        no,
        create,
        version,
        sets,
        seen,
    })
}

fn sets(names: &str, mut values: Values) -> Result<Vec<Set>, Refusal> {
    let mut sets: Vec<Set> = Vec::new();
    for name in list(names) {
        let field = columns::find(name)
            .filter(|field| sets.iter().all(|set| set.field.name != field.name))
            .ok_or_else(|| Refusal::new(Fault::UnknownItem, "koshin_komoku", name.to_owned()))?;
        let value = values.iter_mut().find(|(column, _)| *column == name);
        sets.push(Set {
            field,
            value: value.and_then(|(_, value)| value.take()),
        });
    }
    let worded = |name: &str| {
        sets.iter()
            .any(|set| set.field.name == name && set.value.is_some())
    };
    for set in &sets {
        match &set.value {
            Some(value) => set.field.check(value, worded)?,
            None => set.field.check_clear()?,
        }
    }
    Ok(sets)
}

fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').filter(|item| !item.is_empty())
}

fn number(item: &str, value: Option<i64>, min: i64, max: i64) -> Result<i64, Refusal> {
    value
        .filter(|value| (min..=max).contains(value))
        .ok_or_else(|| Refusal::new(Fault::Malformed, item, format!("{min} to {max}")))
}
