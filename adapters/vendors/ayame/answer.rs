//! Reads what Ayame answered, to a single change or to a line of a bulk request.
//! Pure: `deliver.rs` and `bulk.rs` hand in a status and a body.
//! It must never call an answer a success that lacks the body which the interface promises.
//! Read next: `bulk.rs`.

use musubi_adapter_sdk::{Answer, Refusal};
use serde::Deserialize;

use crate::connectors::checks::UNKNOWN_PERSON;
use crate::connectors::http::plain_name;
use crate::connectors::units;

/// What was sent, to be found again in the answer.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sent {
    /// A change of a person to this version.
    Change(u32),
    /// A measure in this version.
    Measure(u32),
}

/// Body of an answer (§5).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    #[serde(default)]
    result: String,
    version: Option<u32>,
    error: Option<Problem>,
    held_version: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    property: String,
}

/// The answer; `None` when it is none that the interface promises.
pub(super) fn read(status: u16, body: Body, sent: Sent) -> Option<Answer> {
    let (Sent::Change(version) | Sent::Measure(version)) = sent;
    match (status, body.result.as_str(), body.error) {
        (200, "applied", None) if body.version == Some(version) => Some(Answer::applied()),
        (200, "already_applied", None) if body.version == Some(version) => {
            Some(Answer::duplicate())
        }
        (404, "", Some(problem)) => {
            let promised = problem.code == "unknown_person" && matches!(sent, Sent::Change(_));
            promised.then(|| Answer::not_relevant(UNKNOWN_PERSON))
        }
        (409, "", Some(problem)) => {
            let code = match sent {
                Sent::Change(_) => "version_not_newer",
                Sent::Measure(_) => "measure_not_newer",
            };
            let held = body.held_version.filter(|_| problem.code == code)?;
            units::not_newer(held.into(), version.into())
        }
        (422, "", Some(problem)) => {
            let (code, property) = (plain_name(&problem.code), plain_name(&problem.property));
            let reason = code.to_uppercase();
            Some(Refusal::reject(&reason, &property, "Ayame refused the change").into())
        }
        _ => None,
    }
}
