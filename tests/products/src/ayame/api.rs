//! The REST interface of `ayame`: single changes, the bulk endpoint and reading back.
//! Between the socket and the ledger's writer.
//! It must never answer with success when the store failed.
//! Read next: `person.rs`.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::SqlitePool;

use super::person;
use crate::fields::{Fault, Refusal};
use crate::ledger::{self, Change, Entry, Outcome};
use crate::writer::Writer;

const BODY_BYTES_MAX: usize = 256 * 1024;
const BULK_BYTES_MAX: usize = 8 * 1024 * 1024;
const BULK_LINES_MAX: usize = 2000;
const PAGE_MAX: i64 = 1000;
const PAGE_DEFAULT: i64 = 200;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
}

/// All paths of the interface.
pub(super) fn router(state: Shared) -> Router {
    let bulk = post(bulk).layer(DefaultBodyLimit::max(BULK_BYTES_MAX));
    Router::new()
        .route("/v2/persons", get(list))
        .route("/v2/persons/{no}", get(find))
        .route("/v2/persons/{no}/changes", post(change))
        .route("/v2/persons/{no}/confidential/{measure}", put(confidential))
        .route("/v2/applied", get(applied))
        .route("/v2/applied/{key}", get(applied_entry))
        .route(
            "/v2/health",
            get(async || axum::Json(json!({"status": "ok"}))),
        )
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .route("/v2/bulk", bulk)
        .with_state(state)
}

/// One answer: a status and the body that goes with it.
struct Answer {
    status: StatusCode,
    body: Value,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        (self.status, axum::Json(self.body)).into_response()
    }
}

async fn change(
    State(shared): State<Shared>,
    Path(no): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let version = headers
        .get("if-version")
        .and_then(|value| value.to_str().ok());
    let version = version.and_then(|value| value.parse().ok()).unwrap_or(0);
    let change = person::object(&body).and_then(|body| person::record_change(&no, version, body));
    write(&shared, change, "version_not_newer").await
}

async fn confidential(
    State(shared): State<Shared>,
    Path((no, measure)): Path<(String, String)>,
    body: Bytes,
) -> Response {
    let change = person::object(&body).and_then(|body| person::measure_change(&no, &measure, body));
    write(&shared, change, "measure_not_newer").await
}

async fn write(shared: &Shared, change: Result<Change, Refusal>, older: &str) -> Response {
    let change = match change {
        Ok(change) => change,
        Err(refusal) => return refused(&refusal).into_response(),
    };
    match shared.writer.apply_one(change).await {
        Ok(outcome) => answer(outcome, older).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn bulk(State(shared): State<Shared>, body: Bytes) -> Response {
    let lines = body.strip_suffix(b"\n").unwrap_or(&body);
    let mut answers: Vec<(Value, Option<Answer>)> = Vec::new();
    let mut changes = Vec::new();
    for line in lines.split(|byte| *byte == b'\n') {
        if answers.len() == BULK_LINES_MAX {
            return StatusCode::PAYLOAD_TOO_LARGE.into_response();
        }
        match bulk_line(line) {
            (no, Ok(change)) => {
                changes.push(change);
                answers.push((no, None));
            }
            (no, Err(refusal)) => answers.push((no, Some(refused(&refusal)))),
        }
    }
    let Ok(outcomes) = shared.writer.apply(changes).await else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let mut outcomes = outcomes.into_iter();
    let mut text = String::new();
    for (index, (no, refusal)) in answers.into_iter().enumerate() {
        let found = refusal.or_else(|| {
            outcomes
                .next()
                .map(|outcome| answer(outcome, "version_not_newer"))
        });
        let Some(mut found) = found else {
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        found.body["line"] = json!(index + 1);
        found.body["no"] = no;
        found.body["status"] = json!(found.status.as_u16());
        text.push_str(&found.body.to_string());
        text.push('\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], text).into_response()
}

fn bulk_line(line: &[u8]) -> (Value, Result<Change, Refusal>) {
    let mut body = match person::object(line) {
        Ok(body) => body,
        Err(refusal) => return (Value::Null, Err(refusal)),
    };
    let no = body.remove("no").unwrap_or(Value::Null);
    let version = body
        .remove("ifVersion")
        .as_ref()
        .and_then(Value::as_i64)
        .unwrap_or(0);
    let change = person::record_change(no.as_str().unwrap_or_default(), version, body);
    (no, change)
}

fn answer(outcome: Outcome, older: &str) -> Answer {
    let applied = |body| Answer {
        status: StatusCode::OK,
        body,
    };
    match outcome {
        Outcome::Created { version } | Outcome::Applied { version } => {
            applied(json!({"result": "applied", "version": version}))
        }
        Outcome::Ahead { version } => {
            applied(json!({"result": "applied", "version": version, "pending": true}))
        }
        Outcome::Already { version } => {
            applied(json!({"result": "already_applied", "version": version}))
        }
        Outcome::NotNewer { held } => {
            let error = json!({"code": older, "detail": "what is held is as new or newer"});
            let body = json!({"error": error, "heldVersion": held});
            Answer {
                status: StatusCode::CONFLICT,
                body,
            }
        }
        Outcome::Unknown => not_found("unknown_person"),
        Outcome::Refused(refusal) => refused(&refusal),
    }
}

fn refused(refusal: &Refusal) -> Answer {
    let code = match refusal.fault {
        Fault::Malformed | Fault::Width => "malformed",
        Fault::Missing => "missing",
        Fault::TooLong => "too_long",
        Fault::Character => "bad_character",
        Fault::Date => "bad_date",
        Fault::Value => "bad_value",
        Fault::UnknownItem => "unknown_property",
    };
    let error = json!({"code": code, "property": refusal.item, "detail": refusal.detail});
    Answer {
        status: StatusCode::UNPROCESSABLE_ENTITY,
        body: json!({"error": error}),
    }
}

fn not_found(code: &str) -> Answer {
    let body = json!({"error": {"code": code, "detail": "not found"}});
    Answer {
        status: StatusCode::NOT_FOUND,
        body,
    }
}

#[derive(Deserialize)]
struct Page {
    cursor: Option<String>,
    after: Option<i64>,
    size: Option<i64>,
}

impl Page {
    fn size(&self) -> i64 {
        self.size.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}

async fn list(State(shared): State<Shared>, Query(page): Query<Page>) -> Response {
    let size = page.size();
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::persons(&mut conn, page.cursor.as_deref().unwrap_or(""), size).await
    };
    match read.await {
        Ok(persons) => {
            let full = i64::try_from(persons.len()).is_ok_and(|count| count == size);
            let next = persons
                .last()
                .filter(|_| full)
                .map(|person| person.no.clone());
            let items: Vec<Value> = persons.into_iter().map(person::show).collect();
            axum::Json(json!({"items": items, "next": next})).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn find(State(shared): State<Shared>, Path(no): Path<String>) -> Response {
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::find_person(&mut conn, &no).await
    };
    match read.await {
        Ok(Some(person)) => axum::Json(person::show(person)).into_response(),
        Ok(None) => not_found("unknown_person").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn applied(State(shared): State<Shared>, Query(page): Query<Page>) -> Response {
    let size = page.size();
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::journal(&mut conn, page.after.unwrap_or(0), size).await
    };
    match read.await {
        Ok(entries) => {
            let full = i64::try_from(entries.len()).is_ok_and(|count| count == size);
            let next = entries.last().filter(|_| full).map(|entry| entry.seq);
            let items: Vec<Value> = entries.into_iter().map(show_entry).collect();
            axum::Json(json!({"items": items, "next": next})).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn applied_entry(State(shared): State<Shared>, Path(key): Path<String>) -> Response {
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::find_key(&mut conn, &key).await
    };
    match read.await {
        Ok(Some(entry)) => axum::Json(show_entry(entry)).into_response(),
        Ok(None) => not_found("unknown_change").into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn show_entry(entry: Entry) -> Value {
    json!({
        "seq": entry.seq,
        "changeId": entry.key,
        "no": entry.no,
        "version": entry.version,
        "measure": entry.measure,
    })
}
