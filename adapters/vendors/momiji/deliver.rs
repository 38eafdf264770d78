//! Writes one unit for Momiji and waits for its results.
//! The host calls it; `translate.rs` says what to write.
//! It must never write a unit a second time: a former result counts.
//! Read next: `tables.rs`.

use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Receipt, UnitScope};
use musubi_adapter_sdk::{Answer, Deliver, Refusal, Spec, async_trait, receipt};

use super::answer;
use super::results::{Results, Unreadable};
use super::tables::{Tables, Written};
use super::translate::{Member, Translator};
use super::{Config, PRODUCT, SYSTEM};
use crate::connectors::checks::{self, NO_PERSON};
use crate::connectors::units;
use crate::host::OpenError;

/// Longest key that Momiji keeps.
const KEY_CHARS_MAX: usize = 100;

/// The adapter.
#[derive(Debug)]
pub(super) struct Momiji {
    spec: Spec,
    tables: Tables,
    results: Results,
}

impl Momiji {
    pub(super) fn new(config: &Config) -> Result<Self, OpenError> {
        let spec = Spec {
            product: PRODUCT.to_owned(),
            system: SYSTEM.to_owned(),
            adapter_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Capabilities {
                unit_scope: UnitScope::Group.into(),
                runs: false,
                version_check: true,
                lookup: true,
                protection_flag: true,
                idempotent: true,
                ..Capabilities::default()
            },
            in_flight_max: config.in_flight_max.max(1),
        };
        let tables = Tables::new(config)?;
        let results = Results::start(tables.clone(), config.poll());
        Ok(Self {
            spec,
            tables,
            results,
        })
    }

    async fn send(&self, unit: &DeliveredUnit, members: &[Member]) -> Result<Answer, Refusal> {
        if members.is_empty() {
            return Ok(Answer::not_relevant(NO_PERSON));
        }
        let key = checks::key(unit, KEY_CHARS_MAX)?;
        let number = i64::try_from(unit.sequence).unwrap_or(i64::MAX);
        Ok(match self.tables.write(key, number, members).await {
            Ok(Written::Processed(rows)) => answer::read_former(&rows, members),
            Ok(Written::Waiting) => match self.results.watch(key).result().await {
                Ok(rows) => answer::read(&rows, members),
                Err(Unreadable) => {
                    Answer::unknown("RESULT_UNREADABLE", "the results cannot be read now")
                }
            },
            Err(answer) => answer,
        })
    }
}

#[async_trait]
impl Deliver for Momiji {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        let answer = match units::single(&delivery, &Translator) {
            Ok((unit, members)) => self.send(unit, &members).await.into(),
            Err(answer) => answer,
        };
        receipt(&delivery, answer)
    }
}
