//! What went wrong, in one line that says what failed, for which thing, and what to do next.
//! Every command ends here when it does not succeed; the exit status comes from here too.
//! Must never print a payload, a token or a chain of technical causes without their thing.
//! Read next: `client.rs`.

use std::error::Error;
use std::fmt;

use musubi_proto::google::rpc::{BadRequest, ErrorInfo, Status as RpcStatus};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// Exit status: refused by the hub, or a check failed.
pub(crate) const EXIT_REFUSED: u8 = 1;
/// Exit status: wrong usage or configuration.
pub(crate) const EXIT_USAGE: u8 = 2;
/// Exit status: the hub cannot be reached.
pub(crate) const EXIT_UNREACHABLE: u8 = 3;
/// Exit status: took longer than allowed.
pub(crate) const EXIT_TIMEOUT: u8 = 4;
/// Exit status: stopped by Ctrl-C.
pub(crate) const EXIT_INTERRUPTED: u8 = 130;

/// The exit codes, for `--help`.
pub(crate) const EXIT_CODES: &str = "Exit status:
  0    done
  1    refused by the hub, not found, or a check failed
  2    wrong usage or configuration
  3    the hub cannot be reached
  4    took longer than allowed
  5    the disk failed under the hub, which stopped itself
  130  stopped by Ctrl-C";

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The hub, or a check, said no.
    Refused(String),
    /// The hub said no, with details for programs.
    Answered(String, Details),
    /// The command line or the configuration cannot be used.
    Usage(String),
    /// The hub is not there.
    Unreachable(String),
    /// It took too long.
    Timeout(String),
    /// The user stopped it.
    Interrupted,
}

impl Failure {
    /// Exit status of the process.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Answered(..) => EXIT_REFUSED,
            Self::Usage(_) => EXIT_USAGE,
            Self::Unreachable(_) => EXIT_UNREACHABLE,
            Self::Timeout(_) => EXIT_TIMEOUT,
            Self::Interrupted => EXIT_INTERRUPTED,
        }
    }

    /// A configuration that cannot be used, with its causes.
    pub(crate) fn usage(error: &anyhow::Error) -> Self {
        Self::Usage(one_line(error))
    }

    /// A refusal of the hub; `what` is what was asked, such as "show event `…`".
    pub(crate) fn from_status(what: &str, hub: &str, status: &Status) -> Self {
        let details = Details::of(status);
        let broken = matches!(
            status.code(),
            Code::Unavailable | Code::Unknown | Code::Cancelled
        );
        if broken && details.reason.is_empty() {
            return Self::Unreachable(unreachable_line(what, hub));
        }
        let line = refusal_line(what, status.code(), status.message(), &details);
        match status.code() {
            Code::DeadlineExceeded => Self::Timeout(line),
            _ => Self::Answered(line, details),
        }
    }

    /// As the document that `--json` promises.
    pub(crate) fn json(&self) -> Value {
        let mut error = json!({"message": self.to_string(), "exit": self.exit_code()});
        if let Self::Answered(_, details) = self {
            if !details.reason.is_empty() {
                error["reason"] = json!(details.reason);
            }
            if let Some((field, _)) = details.fields.first() {
                error["field"] = json!(field);
            }
        }
        json!({"ok": false, "error": error})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(line)
            | Self::Answered(line, _)
            | Self::Usage(line)
            | Self::Unreachable(line)
            | Self::Timeout(line) => f.write_str(line),
            Self::Interrupted => f.write_str("stopped"),
        }
    }
}

impl Error for Failure {}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        match error.downcast::<Failure>() {
            Ok(failure) => failure,
            Err(error) => Self::Refused(one_line(&error)),
        }
    }
}

/// A chain of causes in one line.
pub(crate) fn one_line(error: &anyhow::Error) -> String {
    format!("{error:#}").replace(['\n', '\r'], " ")
}

/// The line for a hub that is not there.
pub(crate) fn unreachable_line(what: &str, hub: &str) -> String {
    format!(
        "{what} failed: no hub answers at {hub}; start one with `musubi serve`, or name it with \
         --hub"
    )
}

/// What the details of a refusal say.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Details {
    /// Stable reason.
    pub(crate) reason: String,
    /// Offending fields with what is wrong with each.
    pub(crate) fields: Vec<(String, String)>,
    /// True when the hub says when to ask again.
    pub(crate) again: bool,
}

impl Details {
    /// Details of a gRPC status.
    pub(crate) fn of(status: &Status) -> Self {
        RpcStatus::decode(status.details())
            .map_or_else(|_| Self::default(), |rich| Self::read(&rich))
    }

    /// Details of a status inside an answer.
    pub(crate) fn read(status: &RpcStatus) -> Self {
        let mut details = Self::default();
        for any in &status.details {
            let name = any.type_url.rsplit('/').next().unwrap_or("");
            match name {
                "google.rpc.ErrorInfo" => {
                    if let Ok(info) = ErrorInfo::decode(any.value.as_slice()) {
                        details.reason = info.reason;
                    }
                }
                "google.rpc.BadRequest" => {
                    if let Ok(bad) = BadRequest::decode(any.value.as_slice()) {
                        let violations = bad.field_violations.into_iter();
                        details
                            .fields
                            .extend(violations.map(|at| (at.field, at.description)));
                    }
                }
                "google.rpc.RetryInfo" => details.again = true,
                _ => {}
            }
        }
        details
    }
}

/// One line about a refusal: what, the reason, the field, what to do.
pub(crate) fn refusal_line(what: &str, code: Code, message: &str, details: &Details) -> String {
    let reason = match details.reason.as_str() {
        "" => format!("{code:?}"),
        reason => reason.to_owned(),
    };
    let mut line = format!("{what} failed: {reason}: {message}");
    for (field, description) in &details.fields {
        line.push_str(&format!(" (field `{field}`"));
        if !description.is_empty() && description != message {
            line.push_str(&format!(": {description}"));
        }
        line.push(')');
    }
    if let Some(next) = next_step(code) {
        line.push_str("; ");
        line.push_str(next);
    }
    line.replace(['\n', '\r'], " ")
}

fn next_step(code: Code) -> Option<&'static str> {
    Some(match code {
        Code::NotFound => "look it up with a `list` command, and check --municipality",
        Code::InvalidArgument => "correct it and send it again",
        Code::Unauthenticated => "name a file with a valid token with --token-file",
        Code::PermissionDenied => "use a token with that right, or check --municipality",
        Code::ResourceExhausted => "send it again later, or in smaller parts",
        Code::Aborted | Code::Unavailable => "try again",
        Code::Unimplemented => "the hub is older than this program; use the same version",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use prost_types::Any;

    use super::*;

    fn any(name: &str, message: &impl Message) -> Any {
        let type_url = format!("type.googleapis.com/{name}");
        Any {
            type_url,
            value: message.encode_to_vec(),
        }
    }

    #[test]
    fn a_refusal_names_reason_field_and_next_step_in_one_line() {
        let info = ErrorInfo {
            reason: "PAYLOAD_UNDECODABLE".into(),
            ..ErrorInfo::default()
        };
        let bad = BadRequest {
            field_violations: vec![musubi_proto::google::rpc::bad_request::FieldViolation {
                field: "units[0].unit.events[0].data".into(),
                description: "the payload is cut off".into(),
                ..Default::default()
            }],
        };
        let rich = RpcStatus {
            code: Code::InvalidArgument as i32,
            message: "the event cannot be read".into(),
            details: vec![
                any("google.rpc.ErrorInfo", &info),
                any("google.rpc.BadRequest", &bad),
            ],
        };
        let bytes = rich.encode_to_vec().into();
        let status = Status::with_details(Code::InvalidArgument, "the event cannot be read", bytes);
        let failure = Failure::from_status("publish `x.json`", "http://hub", &status);
        assert_eq!(failure.exit_code(), EXIT_REFUSED);
        assert_eq!(
            failure.to_string(),
            "publish `x.json` failed: PAYLOAD_UNDECODABLE: the event cannot be read (field \
             `units[0].unit.events[0].data`: the payload is cut off); correct it and send it again"
        );
        let document = failure.json();
        assert_eq!(document["ok"], false);
        assert_eq!(document["error"]["exit"], 1);
        assert_eq!(document["error"]["reason"], "PAYLOAD_UNDECODABLE");
        assert_eq!(document["error"]["field"], "units[0].unit.events[0].data");
    }

    #[test]
    fn a_hub_that_is_not_there_has_its_own_exit_status() {
        let failure = Failure::from_status("list", "http://hub", &Status::unavailable("refused"));
        assert_eq!(failure.exit_code(), EXIT_UNREACHABLE);
        assert!(failure.to_string().contains("musubi serve"));
    }

    #[test]
    fn a_failure_that_travelled_as_a_cause_keeps_its_exit_status() {
        let error = anyhow::Error::new(Failure::Timeout("too long".into()));
        assert_eq!(Failure::from(error).exit_code(), EXIT_TIMEOUT);
    }
}
