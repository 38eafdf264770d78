//! Sends one change to Ayame, or the changes of a batch in one bulk request, and reads the answers.
//! The host calls it; `translate.rs` says what to send, `bulk.rs` sends many together.
//! It must never send again what the product's journal has, where it is asked before.
//! Read next: `bulk.rs`.

use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Mode, Receipt, UnitScope};
use musubi_adapter_sdk::{Answer, Deliver, Spec, async_trait, run_receipt};
use reqwest::Method;
use serde_json::Value;

use super::answer::{self, Sent};
use super::bulk::{self, LINES_MAX, Line};
use super::translate::{
    Request::{self, Change},
    Translator,
};
use super::{Config, PRODUCT, SYSTEM};
use crate::connectors::checks::{self, NO_PERSON};
use crate::connectors::http::{Http, unpromised};
use crate::connectors::json::Object;
use crate::connectors::units;
use crate::host::OpenError;

/// Longest key that Ayame keeps.
const KEY_CHARS_MAX: usize = 100;

/// The adapter.
#[derive(Debug)]
pub(super) struct Ayame {
    spec: Spec,
    http: Http,
}

impl Ayame {
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
                batch_units: config.batch_units.clamp(1, LINES_MAX),
                idempotent: true,
                ..Capabilities::default()
            },
            in_flight_max: config.in_flight_max.max(1),
        };
        let http = Http::open(PRODUCT, &config.address, config.limits())?;
        Ok(Self { spec, http })
    }

    /// One unit alone: asked for by its key first when an earlier attempt may have had its effect.
    async fn alone(&self, unit: &DeliveredUnit, delivery: &Delivery) -> Answer {
        let step = match step(unit, delivery.mode()) {
            Ok(step) => step,
            Err(answer) => return answer,
        };
        if delivery.outcome_unknown {
            let key = unit.idempotency_key.as_str();
            let path = ["v2", "applied", key];
            match self.http.knows(&path, "changeId", key).await {
                Ok(false) => {}
                Ok(true) => return Answer::duplicate(),
                Err(answer) => return answer,
            }
        }
        self.one(step).await
    }

    /// Changes of several persons in one request. An unknown one is simply in it again: Ayame
    /// asks its journal for the key of each line.
    async fn together(&self, units: &[DeliveredUnit], mode: Mode) -> Vec<Answer> {
        let mut steps = Vec::with_capacity(units.len());
        for unit in units {
            steps.push(match step(unit, mode) {
                Ok(Change {
                    person,
                    version,
                    body,
                }) => Ok(line(person, version, body)),
                // The hub sends protection by itself; if not, it still goes first.
                Ok(measure) => Err(self.one(measure).await),
                Err(answer) => Err(answer),
            });
        }
        let lines: Vec<&Line> = steps.iter().flatten().collect();
        let answers = bulk::send(&self.http, &lines).await;
        units::in_places(steps, answers)
    }

    async fn one(&self, request: Request) -> Answer {
        let (request, sent) = match request {
            Request::Nothing => return Answer::not_relevant(NO_PERSON),
            Change {
                person,
                version,
                body,
            } => {
                let path = ["v2", "persons", &person, "changes"];
                let request = self.http.request(Method::POST, &path);
                let request = request.header("If-Version", version);
                (request.json(&Value::from(body)), Sent::Change(version))
            }
            Request::Measure {
                person,
                measure,
                version,
                body,
            } => {
                let path = ["v2", "persons", &person, "confidential", &measure];
                let request = self.http.request(Method::PUT, &path);
                (request.json(&Value::from(body)), Sent::Measure(version))
            }
        };
        match self.http.send(request).await {
            Ok(reply) => reply
                .json()
                .and_then(|body| answer::read(reply.status, body, sent))
                .unwrap_or_else(|| unpromised(reply.status)),
            Err(answer) => answer,
        }
    }
}

/// The request of a unit with its key as the change's id. `Err` is its answer when nothing is to
/// be sent.
fn step(unit: &DeliveredUnit, mode: Mode) -> Result<Request, Answer> {
    let mut request = units::request(unit, mode, &Translator)?;
    let key = checks::key(unit, KEY_CHARS_MAX)?;
    match &mut request {
        Request::Nothing => return Err(Answer::not_relevant(NO_PERSON)),
        Change { body, .. } | Request::Measure { body, .. } => body.put("changeId", key),
    }
    Ok(request)
}

fn line(person: String, version: u32, mut body: Object) -> Line {
    body.put("no", person.as_str());
    body.put("ifVersion", version);
    Line {
        text: Value::from(body).to_string(),
        person,
        version,
    }
}

#[async_trait]
impl Deliver for Ayame {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        let answers = match delivery.units.as_slice() {
            [unit] => vec![self.alone(unit, &delivery).await],
            units => self.together(units, delivery.mode()).await,
        };
        run_receipt(&delivery, answers)
    }
}
