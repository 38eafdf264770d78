//! What gRPC answers, as HTTP says it: JSON, problem details (RFC 9457), status codes.
//! Between the EventService and the HTTP client.
//! Must never add to what gRPC says, nor leave a fact out.
//! Read next: `server/status.rs`, where the facts come from.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use musubi_proto::google::rpc::{BadRequest, ErrorInfo, RetryInfo, Status as RpcStatus};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Accepted, Held, UnitAnswer};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

/// The one table from a gRPC code to an HTTP status.
fn status_of(code: Code) -> StatusCode {
    match code {
        Code::Ok => StatusCode::OK,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::AlreadyExists | Code::Aborted => StatusCode::CONFLICT,
        Code::FailedPrecondition => StatusCode::PRECONDITION_FAILED,
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        Code::Unimplemented => StatusCode::NOT_IMPLEMENTED,
        Code::Internal | Code::Unknown | Code::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A refusal.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) reason: String,
    pub(super) field: String,
    message: String,
    retry_ms: u64,
}

impl Problem {
    pub(super) fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            reason: reason.to_owned(),
            field: String::new(),
            message: message.into(),
            retry_ms: 0,
        }
    }

    /// The same, naming an attribute or a field.
    pub(super) fn field(mut self, field: &str) -> Self {
        field.clone_into(&mut self.field);
        self
    }

    /// An attribute is wrong.
    pub(super) fn invalid(attribute: &str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "INVALID_FIELD", message).field(attribute)
    }

    /// A refusal of the EventService.
    pub(super) fn of(rpc: &RpcStatus) -> Self {
        let info: Option<ErrorInfo> = detail(rpc, "google.rpc.ErrorInfo");
        let field: Option<BadRequest> = detail(rpc, "google.rpc.BadRequest");
        let field = field.and_then(|bad| bad.field_violations.into_iter().next());
        let retry: Option<RetryInfo> = detail(rpc, "google.rpc.RetryInfo");
        let retry = retry.and_then(|retry| retry.retry_delay);
        Self {
            status: status_of(Code::from(rpc.code)),
            reason: info.unwrap_or_default().reason,
            field: field.map_or_else(String::new, |field| within_unit(&field.field)),
            message: rpc.message.clone(),
            retry_ms: retry.map_or(0, millis),
        }
    }

    /// A call that failed as a whole.
    pub(super) fn of_call(status: &Status) -> Self {
        let bare = RpcStatus {
            code: status.code() as i32,
            message: status.message().to_owned(),
            ..RpcStatus::default()
        };
        match RpcStatus::decode(status.details()) {
            Ok(rpc) if !rpc.details.is_empty() => Self::of(&rpc),
            _ => Self::of(&bare),
        }
    }

    fn json(&self) -> Value {
        let page = match self.reason.as_str() {
            "" => "about:blank".to_owned(),
            reason => format!("docs/errors/{reason}.md"),
        };
        let mut problem = json!({
            "type": page,
            "status": self.status.as_u16(),
            "detail": self.message,
            "reason": self.reason,
        });
        if !self.field.is_empty() {
            problem["field"] = json!(self.field);
        }
        if self.retry_ms > 0 {
            problem["retry_after_ms"] = json!(self.retry_ms);
        }
        problem
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.json())).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem);
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.retry_ms > 0 {
            headers.insert(RETRY_AFTER, self.retry_ms.div_ceil(1_000).into());
        }
        response
    }
}

fn detail<M: Message + Default>(rpc: &RpcStatus, name: &str) -> Option<M> {
    let mut details = rpc.details.iter();
    let found = details.find(|detail| detail.type_url.ends_with(name))?;
    M::decode(&found.value[..]).ok()
}

fn millis(delay: prost_types::Duration) -> u64 {
    std::time::Duration::try_from(delay)
        .ok()
        .and_then(|delay| delay.as_millis().try_into().ok())
        .unwrap_or(0)
}

/// The field as the pages of the reasons name it: the place of the answer names the unit.
fn within_unit(field: &str) -> String {
    let below = field
        .strip_prefix("units[")
        .and_then(|rest| rest.split_once("].unit."));
    below.map_or(field, |(_, below)| below).to_owned()
}

/// What became of a unit.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Kept {
    /// Durable.
    Accepted(Accepted),
    /// Waits in the hub.
    Held(Held),
}

/// The answer to a unit.
pub(super) fn read(answer: UnitAnswer) -> Result<Kept, Problem> {
    match answer.answer {
        Some(Answer::Accepted(accepted)) => Ok(Kept::Accepted(accepted)),
        Some(Answer::Held(held)) => Ok(Kept::Held(held)),
        Some(Answer::Refused(rpc)) => Err(Problem::of(&rpc)),
        None => Err(Problem::of(&RpcStatus {
            code: Code::Internal as i32,
            ..RpcStatus::default()
        })),
    }
}

/// The answer to a request: one event that is refused refuses it, a batch is answered unit by unit.
pub(super) fn response(batch: bool, answers: &[Result<Kept, Problem>]) -> Response {
    if !batch && let Some(Err(problem)) = answers.first() {
        return problem.clone().into_response();
    }
    let held = |answer: &Result<Kept, Problem>| matches!(answer, Ok(Kept::Held(_)));
    let status = if !batch && answers.iter().any(held) {
        StatusCode::ACCEPTED
    } else {
        StatusCode::OK
    };
    let answers: Vec<Value> = answers.iter().map(json_of).collect();
    (status, Json(json!({ "answers": answers }))).into_response()
}

fn json_of(answer: &Result<Kept, Problem>) -> Value {
    match answer {
        Ok(Kept::Accepted(accepted)) => json!({"accepted": {
            "position": accepted.position,
            "duplicate": accepted.duplicate,
        }}),
        Ok(Kept::Held(held)) => json!({"held": {"held_id": held.held_id, "rule": held.rule}}),
        Err(problem) => json!({"refused": problem.json()}),
    }
}
