//! Reads the results that Momiji wrote for a unit (§4).
//! Pure: `results.rs` fetches the rows, `deliver.rs` knows what was sent.
//! It must never call a unit done when a member has no result.
//! Read next: `results.rs`.

use musubi_adapter_sdk::{Answer, Refusal};

use super::translate::Member;
use crate::connectors::checks::UNKNOWN_PERSON;
use crate::connectors::http::plain_name;
use crate::connectors::units;

/// One row of `if_kekka`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResultRow {
    /// 行; 0 is the unit's own.
    pub(super) line: i64,
    /// 結果.
    pub(super) code: String,
    /// Offending column.
    pub(super) column: String,
    /// Version held after the unit.
    pub(super) held: Option<i64>,
}

/// The answer of a unit. The strongest of its members' answers counts: applied, then held
/// already, then a later version held, then unknown persons.
pub(super) fn read(rows: &[ResultRow], members: &[Member]) -> Answer {
    let Some(unit) = rows.iter().find(|row| row.line == 0) else {
        return unpromised();
    };
    match unit.code.as_str() {
        "00" => done(rows, members).unwrap_or_else(unpromised),
        "10" => refused(rows, unit),
        _ => unpromised(),
    }
}

/// The answer when the results stood there before this delivery wrote anything.
pub(super) fn read_former(rows: &[ResultRow], members: &[Member]) -> Answer {
    let answer = read(rows, members);
    if answer == Answer::applied() {
        Answer::duplicate()
    } else {
        answer
    }
}

fn done(rows: &[ResultRow], members: &[Member]) -> Option<Answer> {
    let mut strongest: Option<Answer> = None;
    for (line, member) in (1..).zip(members) {
        let row = rows.iter().find(|row| row.line == line)?;
        let answer = match row.code.as_str() {
            "00" => Answer::applied(),
            "02" => units::not_newer(row.held?, member.compared_version().into())?,
            "03" => Answer::not_relevant(UNKNOWN_PERSON),
            _ => return None,
        };
        if strongest
            .as_ref()
            .is_none_or(|former| strength(&answer) > strength(former))
        {
            strongest = Some(answer);
        }
    }
    strongest
}

fn strength(answer: &Answer) -> u8 {
    let order = [Answer::superseded(), Answer::duplicate(), Answer::applied()];
    order
        .iter()
        .zip(1..)
        .find(|(known, _)| *known == answer)
        .map_or(0, |(_, strength)| strength)
}

fn refused(rows: &[ResultRow], unit: &ResultRow) -> Answer {
    let first = rows
        .iter()
        .filter(|row| row.line > 0)
        .find(|row| row.code.starts_with('1'));
    let row = first.unwrap_or(unit);
    let reason = match row.code.as_str() {
        "11" => "TOO_LONG",
        "12" => "CHARACTER",
        "13" => "DATE",
        "14" => "CODE",
        "16" => "MISSING",
        _ => "FORM",
    };
    let message = format!("Momiji refused the unit at row {}", row.line);
    Refusal::reject(reason, &plain_name(&row.column), message).into()
}

fn unpromised() -> Answer {
    Answer::unknown(
        "UNPROMISED_ANSWER",
        "the results are not those that the interface promises",
    )
}
