//! Sends one change to Ayame and reads its answer.
//! The host calls it; `translate.rs` says what to send, `bulk.rs` sends many together.
//! It must never delay a protection or a live change for the sake of a bulk request.
//! Read next: `bulk.rs`.

use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Mode, Receipt, UnitScope};
use musubi_adapter_sdk::{Answer, Deliver, Refusal, Spec, async_trait, receipt};
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use super::answer::{self, Sent};
use super::bulk::{Bulk, Line};
use super::translate::{Request, Translator};
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
    bulk: Bulk,
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
                idempotent: true,
                ..Capabilities::default()
            },
            in_flight_max: config.in_flight_max.max(1),
        };
        let http = Http::open(PRODUCT, &config.address, config.limits())?;
        let bulk = Bulk::start(http.clone(), config.bulk_wait());
        Ok(Self { spec, http, bulk })
    }

    async fn send(
        &self,
        unit: &DeliveredUnit,
        request: Request,
        mode: Mode,
    ) -> Result<Answer, Refusal> {
        let key = checks::key(unit, KEY_CHARS_MAX)?;
        Ok(match request {
            Request::Nothing => Answer::not_relevant(NO_PERSON),
            Request::Change {
                person,
                version,
                mut body,
            } => {
                body.put("changeId", key);
                if mode == Mode::Backfill {
                    self.bulk.submit(line(person, version, body)).await
                } else {
                    let path = ["v2", "persons", &person, "changes"];
                    let request = self.http.request(Method::POST, &path);
                    let request = request
                        .header("If-Version", version)
                        .json(&Value::from(body));
                    self.one(request, Sent::Change(version)).await
                }
            }
            Request::Measure {
                person,
                measure,
                version,
                mut body,
            } => {
                body.put("changeId", key);
                let path = ["v2", "persons", &person, "confidential", &measure];
                let request = self
                    .http
                    .request(Method::PUT, &path)
                    .json(&Value::from(body));
                self.one(request, Sent::Measure(version)).await
            }
        })
    }

    async fn one(&self, request: RequestBuilder, sent: Sent) -> Answer {
        match self.http.send(request).await {
            Ok(reply) => reply
                .json()
                .and_then(|body| answer::read(reply.status, body, sent))
                .unwrap_or_else(|| unpromised(reply.status)),
            Err(answer) => answer,
        }
    }
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
        let answer = match units::single(&delivery, &Translator) {
            Ok((unit, request)) => self.send(unit, request, delivery.mode()).await.into(),
            Err(answer) => answer,
        };
        receipt(&delivery, answer)
    }
}
