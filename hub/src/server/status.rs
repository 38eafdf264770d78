//! The one table from what failed to a gRPC status with a stable reason and the field.
//! Used by all edges.
//! Must never put a value of a payload into a text.
//! Read next: `docs/errors/`.

use std::time::Duration;

use musubi_proto::google::rpc::{
    BadRequest, ErrorInfo, RetryInfo, Status as RpcStatus, bad_request,
};
use prost::Message;
use prost_types::Any;
use tonic::{Code, Status};

use super::gate::overloaded;
use crate::event::Municipality;
use crate::limits::{DISK_FULL_RETRY, NO_OWNER_RETRY, OVERLOAD_RETRY, RECEIPT_TEXT_CHARS_MAX};
use crate::log::LogError;
use crate::publish::sequencer::PublishError;
use crate::store::StoreError;

/// Domain of all reasons.
const DOMAIN: &str = "musubi";

/// An error for a caller.
#[derive(Clone, Debug)]
pub struct Failure {
    /// gRPC code.
    pub code: Code,
    /// Stable reason.
    pub reason: String,
    /// Offending field; empty when none.
    pub field: String,
    /// Text.
    pub message: String,
    /// When to try again, in milliseconds; 0 when it makes no sense.
    pub retry_ms: u64,
    /// Address of the instance that can do it; empty when none is named.
    pub address: String,
}

impl Failure {
    /// An error without a field.
    pub fn new(code: Code, reason: &str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.to_owned(),
            field: String::new(),
            message: message.into(),
            retry_ms: 0,
            address: String::new(),
        }
    }

    /// The municipality is served by another instance, or by none for a moment.
    pub fn not_owner(m: &Municipality, address: Option<String>) -> Self {
        let message = match &address {
            Some(address) => format!("`{m}` is served by the instance at {address}"),
            None => format!("`{m}` is changing hands; ask again after a moment"),
        };
        Self {
            retry_ms: millis(NO_OWNER_RETRY),
            address: address.unwrap_or_default(),
            ..Self::new(Code::Unavailable, "NOT_OWNER", message)
        }
    }

    /// Another instance does not say what it knows.
    pub fn instance_silent(address: &str) -> Self {
        let message = format!(
            "the instance at {address} does not answer, and what it owns would be missing; ask \
             again when another one has taken over, or name a municipality"
        );
        Self {
            retry_ms: millis(NO_OWNER_RETRY),
            ..Self::new(Code::Unavailable, "INSTANCE_SILENT", message)
        }
    }

    /// The same, naming a field.
    #[must_use]
    pub fn field(mut self, field: &str) -> Self {
        self.field = field.to_owned();
        self
    }

    /// The same, with its field standing within another.
    #[must_use]
    pub fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }

    /// As `google.rpc.Status`, for the answer to one unit.
    pub fn rpc(&self) -> RpcStatus {
        let named = !self.address.is_empty();
        let address = named.then(|| ("address".to_owned(), self.address.clone()));
        let mut details = vec![any(
            "google.rpc.ErrorInfo",
            &ErrorInfo {
                reason: self.reason.clone(),
                domain: DOMAIN.to_owned(),
                metadata: address.into_iter().collect(),
            },
        )];
        if !self.field.is_empty() {
            let violation = bad_request::FieldViolation {
                field: self.field.clone(),
                description: self.message.clone(),
                ..bad_request::FieldViolation::default()
            };
            details.push(any(
                "google.rpc.BadRequest",
                &BadRequest {
                    field_violations: vec![violation],
                },
            ));
        }
        if self.retry_ms > 0 {
            let delay = prost_types::Duration {
                seconds: i64::try_from(self.retry_ms / 1_000).unwrap_or(i64::MAX),
                nanos: i32::try_from((self.retry_ms % 1_000) * 1_000_000).unwrap_or(0),
            };
            details.push(any(
                "google.rpc.RetryInfo",
                &RetryInfo {
                    retry_delay: Some(delay),
                },
            ));
        }
        RpcStatus {
            code: self.code as i32,
            message: self.message.clone(),
            details,
        }
    }
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        let rpc = failure.rpc();
        Status::with_details(failure.code, failure.message, rpc.encode_to_vec().into())
    }
}

fn any(name: &str, message: &impl Message) -> Any {
    Any {
        type_url: format!("type.googleapis.com/{name}"),
        value: message.encode_to_vec(),
    }
}

impl From<PublishError> for Failure {
    fn from(error: PublishError) -> Self {
        if error.is_full() {
            return disk_full();
        }
        match &error {
            PublishError::Overloaded(m) => overloaded(
                &format!("`{m}` has too many publishes waiting"),
                OVERLOAD_RETRY,
            ),
            PublishError::Fenced { .. } => {
                Failure::new(Code::FailedPrecondition, "FENCED", error.to_string())
                    .field("capture_epoch")
            }
            PublishError::Store(inner) => store_failure(inner),
            PublishError::Log(LogError::Damaged { .. }) => {
                Failure::new(Code::DataLoss, "RECORD_DAMAGED", error.to_string())
            }
            PublishError::Append(_)
            | PublishError::Log(_)
            | PublishError::DiskFull(_)
            | PublishError::Stopped => Failure {
                retry_ms: 200,
                ..Failure::new(
                    Code::Unavailable,
                    "NOT_DURABLE",
                    "the unit may or may not be stored; publish it again with the same id",
                )
            },
        }
    }
}

impl From<LogError> for Failure {
    fn from(error: LogError) -> Self {
        let text: &dyn std::error::Error = &error;
        match &error {
            LogError::Trimmed { .. } => {
                Failure::new(Code::OutOfRange, "POSITION_TRIMMED", error.to_string())
            }
            LogError::Damaged { .. } => {
                tracing::error!(error = text, "the log is damaged");
                Failure::new(Code::DataLoss, "RECORD_DAMAGED", error.to_string())
            }
            LogError::NotOwned(_) | LogError::TakenOver { .. } => {
                Failure::new(Code::Unavailable, "NOT_OWNER", error.to_string())
            }
            LogError::WeakTopic(_) => {
                Failure::new(Code::FailedPrecondition, "TOPIC_WEAK", error.to_string())
            }
            LogError::ReplacedTopic { .. } => {
                tracing::error!(error = text, "a topic of the log was replaced");
                Failure::new(Code::DataLoss, "TOPIC_REPLACED", error.to_string())
            }
            LogError::Backend { .. } | LogError::Incarnation(_) => {
                tracing::error!(error = text, "reading the log for a caller failed");
                Failure {
                    retry_ms: 1_000,
                    ..Failure::new(
                        Code::Unavailable,
                        "LOG_FAILED",
                        "the hub's log does not answer; try again",
                    )
                }
            }
        }
    }
}

fn millis(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)
}

/// There is no room; nothing that was acknowledged is lost.
fn disk_full() -> Failure {
    let message = "there is no room on the hub's disk; make room, then send it again with the \
                   same id";
    Failure {
        retry_ms: millis(DISK_FULL_RETRY),
        ..Failure::new(Code::ResourceExhausted, "DISK_FULL", message)
    }
}

fn store_failure(error: &StoreError) -> Failure {
    let text: &dyn std::error::Error = error;
    tracing::error!(error = text, "a store operation failed");
    match error {
        StoreError::Fenced(_) | StoreError::Leased { .. } => Failure {
            retry_ms: millis(NO_OWNER_RETRY),
            ..Failure::new(Code::Unavailable, "NOT_OWNER", error.to_string())
        },
        StoreError::Full { .. } => disk_full(),
        StoreError::Backend { .. } => Failure {
            retry_ms: 1_000,
            ..Failure::new(
                Code::Unavailable,
                "STORE_FAILED",
                "the hub's store does not answer; publish again with the same id",
            )
        },
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        store_failure(&error)
    }
}

/// Something does not exist.
pub fn not_found(what: &str, name: &str) -> Failure {
    Failure::new(
        Code::NotFound,
        "NOT_FOUND",
        format!("there is no {what} `{name}`"),
    )
}

/// Checks that an act says who does it and why.
pub fn who_and_why(operator: &str, reason: &str) -> Result<(), Failure> {
    for (field, text, what) in [
        ("operator", operator, "say who does it"),
        ("reason", reason, "say why"),
    ] {
        let length = text.chars().count();
        if text.trim().is_empty() || length > RECEIPT_TEXT_CHARS_MAX {
            let message = format!("{what}, in at most {RECEIPT_TEXT_CHARS_MAX} characters");
            return Err(invalid(field, &message));
        }
    }
    Ok(())
}

/// A field of a request is wrong.
pub fn invalid(field: &str, message: &str) -> Failure {
    Failure::new(Code::InvalidArgument, "INVALID_FIELD", message).field(field)
}
