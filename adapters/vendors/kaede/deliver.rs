//! Sends one request to Kaede and reads its answer.
//! The host calls it; `translate.rs` says what to send.
//! It must never call an answer a success that lacks the body which the interface promises.
//! Read next: `tests.rs`.

use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Receipt, UnitScope};
use musubi_adapter_sdk::{Answer, Deliver, Refusal, Spec, async_trait, receipt};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::translate::{Request, Translator};
use super::{Config, PRODUCT, SYSTEM};
use crate::connectors::checks::{self, NO_PERSON, UNKNOWN_PERSON};
use crate::connectors::http::{Http, Reply, plain_name, unpromised};
use crate::connectors::units;
use crate::host::OpenError;

/// Longest key that Kaede keeps.
const KEY_CHARS_MAX: usize = 100;

/// The adapter.
#[derive(Debug)]
pub(super) struct Kaede {
    spec: Spec,
    http: Http,
}

impl Kaede {
    pub(super) fn new(config: &Config) -> Result<Self, OpenError> {
        let spec = Spec {
            product: PRODUCT.to_owned(),
            system: SYSTEM.to_owned(),
            adapter_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Capabilities {
                unit_scope: UnitScope::Event.into(),
                runs: false,
                version_check: true,
                lookup: true,
                protection_flag: true,
                idempotent: true,
                ..Capabilities::default()
            },
            in_flight_max: config.in_flight_max.max(1),
        };
        Ok(Self {
            spec,
            http: Http::open(PRODUCT, &config.address, config.limits())?,
        })
    }

    async fn send(
        &self,
        unit: &DeliveredUnit,
        request: Request,
        ask_first: bool,
    ) -> Result<Answer, Refusal> {
        let key = checks::key(unit, KEY_CHARS_MAX)?;
        let (method, segments, body, kind) = match request {
            Request::Nothing => return Ok(Answer::not_relevant(NO_PERSON)),
            Request::Person {
                person,
                creates,
                version,
                body,
            } => {
                let method = if creates { Method::PUT } else { Method::PATCH };
                (
                    method,
                    vec![person],
                    Value::from(body),
                    Kind::Record { version },
                )
            }
            Request::Measure {
                person,
                measure,
                version,
                ended,
            } => {
                let segments = vec![person, "hogo".to_owned(), measure];
                let body = json!({ "han": version, "shuryo": ended });
                (Method::PUT, segments, body, Kind::Measure { version })
            }
        };
        if ask_first {
            match self.http.knows(&["api", "jisseki", key], "key", key).await {
                Ok(false) => {}
                Ok(true) => return Ok(Answer::duplicate()),
                Err(answer) => return Ok(answer),
            }
        }
        let path = ["api", "nozeisha"]
            .into_iter()
            .chain(segments.iter().map(String::as_str));
        let request = self
            .http
            .request(method, &path.collect::<Vec<_>>())
            .header("Idempotency-Key", key)
            .json(&body);
        Ok(match self.http.send(request).await {
            Ok(reply) => read(&reply, kind),
            Err(answer) => answer,
        })
    }
}

#[async_trait]
impl Deliver for Kaede {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        let answer = match units::single(&delivery, &Translator) {
            Ok((unit, request)) => {
                let sent = self.send(unit, request, delivery.outcome_unknown).await;
                sent.into()
            }
            Err(answer) => answer,
        };
        receipt(&delivery, answer)
    }
}

/// What was sent, to be found again in the answer.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Record { version: u32 },
    Measure { version: u32 },
}

/// §4.
fn read(reply: &Reply, kind: Kind) -> Answer {
    match reply.status {
        200 | 201 => reply
            .json()
            .and_then(|done| success(reply.status, &done, kind)),
        400 => reply.json().map(|error: Failure| refused(&error.error)),
        404 => reply
            .json()
            .and_then(|error: Failure| unknown_person(&error.error, kind)),
        409 => reply.json().and_then(|error: Failure| older(&error, kind)),
        _ => None,
    }
    .unwrap_or_else(|| unpromised(reply.status))
}

#[derive(Debug, Deserialize)]
struct Success {
    kekka: String,
    rireki: Option<u32>,
    han: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Failure {
    error: Problem,
    hoji_rireki: Option<u32>,
    hoji_han: Option<u32>,
}

#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    komoku: String,
}

fn success(status: u16, done: &Success, kind: Kind) -> Option<Answer> {
    let same = match kind {
        Kind::Record { version } => done.rireki == Some(version),
        // A repeat tells the number under the one name or under the other.
        Kind::Measure { version } => done.han.or(done.rireki) == Some(version),
    };
    match (status, done.kekka.as_str()) {
        _ if !same => None,
        (201, "TOROKU") | (200, "KOSHIN") => Some(Answer::applied()),
        (200, "SUMI") => Some(Answer::duplicate()),
        _ => None,
    }
}

fn refused(problem: &Problem) -> Answer {
    let message = "Kaede refused the request";
    Refusal::reject(
        &plain_name(&problem.code),
        &plain_name(&problem.komoku),
        message,
    )
    .into()
}

fn unknown_person(problem: &Problem, kind: Kind) -> Option<Answer> {
    let promised = problem.code == "MITOROKU" && matches!(kind, Kind::Record { .. });
    promised.then(|| Answer::not_relevant(UNKNOWN_PERSON))
}

fn older(failure: &Failure, kind: Kind) -> Option<Answer> {
    let (held, sent) = match (failure.error.code.as_str(), kind) {
        ("FURUI_RIREKI", Kind::Record { version }) => (failure.hoji_rireki?, version),
        ("FURUI_HAN", Kind::Measure { version }) => (failure.hoji_han?, version),
        _ => return None,
    };
    units::not_newer(held.into(), sent.into())
}
