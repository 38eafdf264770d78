//! Writes the units of a delivery for Momiji and waits for their results.
//! The host calls it; `translate.rs` says what to write.
//! It must never write a unit a second time: a former result counts.
//! Read next: `tables.rs`.

use futures::future::join_all;
use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Mode, Receipt, UnitScope};
use musubi_adapter_sdk::{Answer, Deliver, Spec, async_trait, run_receipt};

use super::answer;
use super::results::{Results, Unreadable};
use super::tables::{Tables, Unit, Written};
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
                batch_units: config.batch_units.max(1),
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

    /// Writes what is to be written in one transaction, then waits for the result of each unit.
    async fn send(&self, units: &[Unit<'_>]) -> Vec<Answer> {
        let written = self.tables.write(units).await;
        let waits = units
            .iter()
            .zip(written)
            .map(async |(unit, written)| match written {
                Ok(Written::Processed(rows)) => answer::read_former(&rows, unit.members),
                Ok(Written::Waiting) => match self.results.watch(unit.key).result().await {
                    Ok(rows) => answer::read(&rows, unit.members),
                    Err(Unreadable) => {
                        Answer::unknown("RESULT_UNREADABLE", "the results cannot be read now")
                    }
                },
                Err(answer) => answer,
            });
        join_all(waits).await
    }
}

/// The key and member rows of a unit. `Err` is its answer when nothing is to be written.
fn step(unit: &DeliveredUnit, mode: Mode) -> Result<(&str, Vec<Member>), Answer> {
    let members = units::request(unit, mode, &Translator)?;
    if members.is_empty() {
        return Err(Answer::not_relevant(NO_PERSON));
    }
    Ok((checks::key(unit, KEY_CHARS_MAX)?, members))
}

#[async_trait]
impl Deliver for Momiji {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        let mode = delivery.mode();
        let steps: Vec<_> = delivery.units.iter().map(|unit| step(unit, mode)).collect();
        let numbered = delivery.units.iter().zip(&steps);
        let units: Vec<Unit<'_>> = numbered
            .filter_map(|(unit, step)| {
                let (key, members) = step.as_ref().ok()?;
                let number = i64::try_from(unit.sequence).unwrap_or(i64::MAX);
                Some(Unit {
                    key,
                    number,
                    members,
                })
            })
            .collect();
        let answers = self.send(&units).await;
        run_receipt(&delivery, units::in_places(steps, answers))
    }
}
