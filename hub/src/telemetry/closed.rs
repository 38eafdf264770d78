//! Keeps labels closed: what others wrote becomes a label only if it cannot be personal data.
//! Between the wire and every label.
//! Must never let digits through that could be a number of a person.
//! Read next: `telemetry/metrics.rs`.

use musubi_proto::google::rpc::{ErrorInfo, Status};
use musubi_proto::hub::v1::Outcome;
use prost::Message;

/// Longest stable reason.
const REASON_CHARS_MAX: usize = 48;
/// Longest 業務ID.
const SYSTEM_CHARS_MAX: usize = 3;
/// Digits in a row that a reason may have, as in `HTTP_503`.
const REASON_DIGITS_MAX: usize = 3;
/// Stands for everything that is not a stable word.
const OTHER: &str = "OTHER";

/// A stable reason as a label: capitals, underscores, few digits; `OTHER` for the rest.
pub(super) fn reason(text: &str) -> &str {
    let stable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fits = text.len() <= REASON_CHARS_MAX && digits <= REASON_DIGITS_MAX;
    if fits && text.chars().all(stable) {
        text
    } else {
        OTHER
    }
}

/// A 業務ID as a label.
pub(super) fn system(text: &str) -> &str {
    let fits = text.len() <= SYSTEM_CHARS_MAX && text.chars().all(|c| c.is_ascii_alphanumeric());
    if fits { text } else { OTHER }
}

/// 業務ID of a source `urn:jp:lg:<municipality>:system:<業務ID>`.
pub(super) fn system_of(source: &str) -> &str {
    source.rsplit(':').next().map_or(OTHER, system)
}

/// Reason in the details of a refusal; empty when there is none.
pub(super) fn reason_of(status: &Status) -> String {
    let details = status.details.iter();
    details
        .filter(|detail| detail.type_url.ends_with("/google.rpc.ErrorInfo"))
        .find_map(|detail| ErrorInfo::decode(detail.value.as_slice()).ok())
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// An event id as an attribute; `None` for what is not a UUID.
pub(super) fn event_id(id: &str) -> Option<String> {
    uuid::Uuid::try_parse(id).ok().map(|id| id.to_string())
}

/// Name of an outcome without its prefix.
pub(super) fn outcome(value: i32) -> &'static str {
    let name = Outcome::try_from(value).unwrap_or_default().as_str_name();
    name.strip_prefix("OUTCOME_").unwrap_or(name)
}
