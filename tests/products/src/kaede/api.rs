//! The REST interface of `kaede`: paths, statuses and error bodies.
//! Between the socket and the ledger's writer.
//! It must never answer with success when the store failed.
//! Read next: `person.rs`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch, put};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::SqlitePool;

use super::person::{self, Unknown};
use crate::fields::{Fault, Refusal};
use crate::ledger::{self, Change, Entry, Outcome};
use crate::writer::Writer;

const BODY_BYTES_MAX: usize = 64 * 1024;
const PAGE_MAX: i64 = 1000;
const PAGE_DEFAULT: i64 = 200;

/// What the handlers share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) writer: Writer,
    pub(super) readers: SqlitePool,
    pub(super) flaky: u64,
    pub(super) seed: u64,
    pub(super) requests: Arc<AtomicU64>,
}

/// All paths of the interface.
pub(super) fn router(state: Shared) -> Router {
    Router::new()
        .route("/api/nozeisha", get(list))
        .route(
            "/api/nozeisha/{no}",
            put(register).merge(patch(update)).get(find),
        )
        .route("/api/nozeisha/{no}/hogo/{measure}", put(protect))
        .route("/api/jisseki", get(journal))
        .route("/api/jisseki/{key}", get(journal_entry))
        .route(
            "/api/kenko",
            get(async || axum::Json(json!({"jotai": "OK"}))),
        )
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(state)
}

async fn register(
    State(shared): State<Shared>,
    Path(no): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parse = |key| person::record_change(key, &no, &body, Unknown::Register);
    write(&shared, &headers, parse, Subject::Record).await
}

async fn update(
    State(shared): State<Shared>,
    Path(no): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parse = |key| person::record_change(key, &no, &body, Unknown::Refuse);
    write(&shared, &headers, parse, Subject::Record).await
}

async fn protect(
    State(shared): State<Shared>,
    Path((no, measure)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let parse = |key| person::measure_change(key, &no, &measure, &body);
    write(&shared, &headers, parse, Subject::Measure).await
}

#[derive(Clone, Copy)]
enum Subject {
    Record,
    Measure,
}

async fn write(
    shared: &Shared,
    headers: &HeaderMap,
    parse: impl FnOnce(String) -> Result<Change, Refusal>,
    subject: Subject,
) -> Response {
    if busy(shared) {
        let headers = [(header::RETRY_AFTER, "1")];
        return (StatusCode::SERVICE_UNAVAILABLE, headers).into_response();
    }
    if !is_json(headers) {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let key = headers
        .get("idempotency-key")
        .and_then(|value| value.to_str().ok());
    let change = match person::key(key) {
        Ok(key) => parse(key),
        Err(refusal) => return refused("KEY", &refusal),
    };
    let change = match change {
        Ok(change) => change,
        Err(refusal) => return refused(fault_code(refusal.fault), &refusal),
    };
    match shared.writer.apply_one(change).await {
        Ok(outcome) => answer(outcome, subject),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// Decides from the seed and the number of the request, so that a run can be repeated.
fn busy(shared: &Shared) -> bool {
    let count = shared.requests.fetch_add(1, Ordering::Relaxed);
    shared.flaky > 0 && scramble(shared.seed ^ scramble(count)).is_multiple_of(shared.flaky)
}

fn scramble(value: u64) -> u64 {
    let mut mixed = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|value| value.trim().eq_ignore_ascii_case("application/json"))
}

fn answer(outcome: Outcome, subject: Subject) -> Response {
    let (name, older, held_name) = match subject {
        Subject::Record => ("rireki", "FURUI_RIREKI", "hojiRireki"),
        Subject::Measure => ("han", "FURUI_HAN", "hojiHan"),
    };
    match outcome {
        Outcome::Created { version } => {
            let body = json!({"kekka": "TOROKU", name: version});
            (StatusCode::CREATED, axum::Json(body)).into_response()
        }
        Outcome::Applied { version } => {
            axum::Json(json!({"kekka": "KOSHIN", name: version})).into_response()
        }
        Outcome::Ahead { version } => {
            let body = json!({"kekka": "KOSHIN", name: version, "mitoroku": true});
            axum::Json(body).into_response()
        }
        Outcome::Already { version } => {
            axum::Json(json!({"kekka": "SUMI", name: version})).into_response()
        }
        Outcome::NotNewer { held } => {
            let error = json!({"code": older, "setsumei": "what is held is as new or newer"});
            let body = json!({"error": error, held_name: held});
            (StatusCode::CONFLICT, axum::Json(body)).into_response()
        }
        Outcome::Unknown => unknown("no such person"),
        Outcome::Refused(refusal) => refused(fault_code(refusal.fault), &refusal),
    }
}

fn fault_code(fault: Fault) -> &'static str {
    match fault {
        Fault::Malformed | Fault::UnknownItem | Fault::Width => "KEISHIKI",
        Fault::Missing => "HISSU",
        Fault::TooLong => "NAGASA",
        Fault::Character => "MOJI",
        Fault::Date => "HIZUKE",
        Fault::Value => "KODO",
    }
}

fn refused(code: &str, refusal: &Refusal) -> Response {
    let error = json!({"code": code, "komoku": refusal.item, "setsumei": refusal.detail});
    (StatusCode::BAD_REQUEST, axum::Json(json!({"error": error}))).into_response()
}

fn unknown(detail: &str) -> Response {
    let error = json!({"code": "MITOROKU", "setsumei": detail});
    (StatusCode::NOT_FOUND, axum::Json(json!({"error": error}))).into_response()
}

#[derive(Deserialize)]
struct Page {
    after: Option<String>,
    limit: Option<i64>,
}

impl Page {
    fn limit(&self) -> i64 {
        self.limit.unwrap_or(PAGE_DEFAULT).clamp(1, PAGE_MAX)
    }
}

async fn list(State(shared): State<Shared>, Query(page): Query<Page>) -> Response {
    let limit = page.limit();
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::persons(&mut conn, page.after.as_deref().unwrap_or(""), limit).await
    };
    match read.await {
        Ok(persons) => {
            let full = i64::try_from(persons.len()).is_ok_and(|count| count == limit);
            let next = persons
                .last()
                .filter(|_| full)
                .map(|person| person.no.clone());
            let persons: Vec<Value> = persons.into_iter().map(person::show).collect();
            axum::Json(json!({"nozeisha": persons, "tsugi": next})).into_response()
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
        Ok(None) => unknown("no such person"),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn journal(State(shared): State<Shared>, Query(page): Query<Page>) -> Response {
    let limit = page.limit();
    let after = page.after.as_deref().unwrap_or("0").parse().unwrap_or(0);
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::journal(&mut conn, after, limit).await
    };
    match read.await {
        Ok(entries) => {
            let full = i64::try_from(entries.len()).is_ok_and(|count| count == limit);
            let next = entries.last().filter(|_| full).map(|entry| entry.seq);
            let entries: Vec<Value> = entries.into_iter().map(show_entry).collect();
            axum::Json(json!({"jisseki": entries, "tsugi": next})).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn journal_entry(State(shared): State<Shared>, Path(key): Path<String>) -> Response {
    let read = async {
        let mut conn = shared.readers.acquire().await?;
        ledger::find_key(&mut conn, &key).await
    };
    match read.await {
        Ok(Some(entry)) => axum::Json(show_entry(entry)).into_response(),
        Ok(None) => unknown("no such key"),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn show_entry(entry: Entry) -> Value {
    json!({
        "renban": entry.seq,
        "key": entry.key,
        "atenabango": entry.no,
        "rireki": entry.version,
        "sochi": entry.measure,
    })
}
