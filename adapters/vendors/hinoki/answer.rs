//! Reads the result record that Hinoki wrote for one record (§4).
//! Pure: `folder.rs` reads the file, `deliver.rs` makes receipts of it.
//! It must never take an unknown code for a success.
//! Read next: `batch.rs`.

use std::time::Duration;

use musubi_adapter_sdk::{Answer, Refusal};

use super::row::column_name;
use crate::connectors::checks::UNKNOWN_PERSON;
use crate::connectors::units;

/// Wait after the exchange folder could not be used.
const FOLDER_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What became of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Hinoki wrote a result.
    Result {
        /// 結果コード.
        code: String,
        /// 項目番号.
        column: String,
        /// 保持履歴番号.
        held: Option<i64>,
    },
    /// The record did not get into the folder.
    NotWritten,
    /// The result file is damaged or does not fit the request.
    Unreadable,
}

/// The answer to a record of this version.
pub(super) fn read(outcome: &Outcome, version: u32) -> Answer {
    let (code, column, held) = match outcome {
        Outcome::Result { code, column, held } => (code.as_str(), column.as_str(), *held),
        Outcome::NotWritten => {
            let message = "the exchange folder cannot be written";
            return Refusal::retry(FOLDER_RETRY_AFTER, "EXCHANGE_FOLDER", message).into();
        }
        Outcome::Unreadable => {
            return Answer::unknown("RESULT_UNREADABLE", "the result file is not readable");
        }
    };
    match code {
        "00" => Answer::applied(),
        "01" => Answer::duplicate(),
        "02" => held
            .and_then(|held| units::not_newer(held, version.into()))
            .unwrap_or_else(|| unpromised(code)),
        "03" => Answer::not_relevant(UNKNOWN_PERSON),
        "05" => retry("NOT_REACHED", "an earlier record of the person was refused"),
        "10" => refused("CHARACTER", column),
        "11" => refused("TOO_LONG", column),
        "12" => refused("WIDTH", column),
        "13" => refused("DATE", column),
        "14" => refused("CODE", column),
        "15" => refused("FORM", column),
        "16" => refused("MISSING", column),
        "90" => retry("FILE_NAME_USED", "the file's name was used before"),
        "91" => retry("FILE_DAMAGED", "the file arrived damaged"),
        "92" => Refusal::pause("CONFIGURATION", "the file has too many records").into(),
        _ => unpromised(code),
    }
}

fn retry(reason: &str, message: &str) -> Answer {
    Refusal::retry(Duration::ZERO, reason, message).into()
}

fn refused(reason: &str, column: &str) -> Answer {
    Refusal::reject(reason, column_name(column), "Hinoki refused the record").into()
}

fn unpromised(code: &str) -> Answer {
    let digits: String = code.chars().filter(char::is_ascii_digit).take(2).collect();
    let message = format!("result `{digits}` is none that the interface promises");
    Answer::unknown("UNPROMISED_ANSWER", message)
}
