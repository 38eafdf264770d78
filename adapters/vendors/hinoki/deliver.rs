//! Delivers runs of persons: a run's records go into one file, its answers come from its result.
//! The host calls it; `translate.rs` says what to write, `batch.rs` when.
//! It must never send what follows a person's record that cannot be expressed.
//! Read next: `batch.rs`.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Mode, Receipt, UnitScope};
use musubi_adapter_sdk::{Answer, Deliver, Refusal, Spec, Translate, async_trait, run_receipt};

use super::answer;
use super::batch::{Batch, Pace};
use super::folder::Folder;
use super::row::Row;
use super::translate::{Request, Translator};
use super::{Config, PRODUCT, SYSTEM};
use crate::connectors::checks;
use crate::connectors::units;
use crate::host::OpenError;

/// Longest key that Hinoki keeps.
const KEY_CHARS_MAX: usize = 60;

/// Records of one person's run that are written together; what follows comes in a later delivery.
const RUN_RECORDS_MAX: usize = 1_000;

/// The adapter.
#[derive(Debug)]
pub(super) struct Hinoki {
    spec: Spec,
    translator: Translator,
    batch: Batch,
}

/// What is to happen to one unit of a run.
enum Step {
    /// It is answered already.
    Answered(Answer),
    /// It is a record of this version.
    Record(u32),
}

impl Hinoki {
    pub(super) fn open(config: &Config) -> Result<Self, OpenError> {
        let spec = Spec {
            product: PRODUCT.to_owned(),
            system: SYSTEM.to_owned(),
            adapter_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Capabilities {
                unit_scope: UnitScope::Event.into(),
                runs: true,
                version_check: true,
                lookup: true,
                protection_flag: false,
                batch_units: config.batch_units.max(1),
                answer_within: config.answer_within(),
                idempotent: true,
            },
            in_flight_max: config.in_flight_max.max(1),
        };
        let translator = Translator::new(config.characters()?);
        let folder = Folder::new(&config.folder);
        let found = folder.recover().map_err(|cause| {
            let what = format!("the exchange folder `{}`", config.folder.display());
            OpenError::resource(PRODUCT, what, cause)
        })?;
        let pace = Pace {
            wait: config.file_wait(),
            records_max: config.records(),
            poll: config.poll(),
        };
        Ok(Self {
            spec,
            translator,
            batch: Batch::start(folder, found, pace),
        })
    }

    fn step(
        &self,
        unit: &DeliveredUnit,
        mode: Mode,
    ) -> Result<(Step, Option<(String, Row)>), Refusal> {
        let key = checks::key(unit, KEY_CHARS_MAX)?;
        Ok(match self.translator.translate(unit)? {
            Request::Nothing(reason) => (Step::Answered(Answer::not_relevant(reason)), None),
            Request::Record(_) if mode == Mode::Shadow => (Step::Answered(units::shadow()), None),
            Request::Record(row) => (Step::Record(row.version), Some((key.to_owned(), row))),
        })
    }

    /// The answers of one person's run up to the first unit that does not get through.
    async fn run(&self, units: &[&DeliveredUnit], mode: Mode) -> Vec<Answer> {
        let (mut steps, mut records) = (Vec::new(), Vec::new());
        for unit in units.iter().take(RUN_RECORDS_MAX) {
            match self.step(unit, mode) {
                Ok((step, record)) => {
                    steps.push(step);
                    records.extend(record);
                }
                Err(refusal) => {
                    steps.push(Step::Answered(refusal.into()));
                    break;
                }
            }
        }
        let outcomes = if records.is_empty() {
            Some(Vec::new())
        } else {
            self.batch.submit(records).await
        };
        let mut outcomes = outcomes.into_iter().flatten();
        let mut answers = Vec::with_capacity(steps.len());
        for step in steps {
            let answer = match step {
                Step::Answered(answer) => answer,
                Step::Record(version) => match outcomes.next() {
                    Some(outcome) => answer::read(&outcome, version),
                    // The rest of the run was not written.
                    None => break,
                },
            };
            let is_done = answer.is_done();
            answers.push(answer);
            if !is_done {
                break;
            }
        }
        answers
    }
}

/// The runs of a delivery, one a person: places of the units, in order.
fn runs(delivery: &Delivery) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut by_person: HashMap<&str, usize> = HashMap::new();
    for (place, unit) in delivery.units.iter().enumerate() {
        let events = unit.events.iter();
        let person = events.filter_map(|event| event.event.as_ref()).next();
        let person = person.map_or("", |event| event.subject.as_str());
        let run = *by_person.entry(person).or_insert(runs.len());
        if run == runs.len() {
            runs.push(Vec::new());
        }
        if let Some(places) = runs.get_mut(run) {
            places.push(place);
        }
    }
    runs
}

#[async_trait]
impl Deliver for Hinoki {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        let runs = runs(&delivery);
        let answered = runs.iter().map(async |places| {
            let units = places.iter().filter_map(|place| delivery.units.get(*place));
            let units: Vec<&DeliveredUnit> = units.collect();
            self.run(&units, delivery.mode()).await
        });
        let answered = join_all(answered).await;
        let mut answers: Vec<Answer> = delivery.units.iter().map(|_| not_reached()).collect();
        for (places, run) in runs.iter().zip(answered) {
            for (place, answer) in places.iter().zip(run) {
                if let Some(slot) = answers.get_mut(*place) {
                    *slot = answer;
                }
            }
        }
        run_receipt(&delivery, answers)
    }
}

/// A former unit of the same person did not get through, so this one was not written.
fn not_reached() -> Answer {
    let message = "a former unit of the person did not get through";
    Refusal::retry(Duration::ZERO, "NOT_REACHED", message).into()
}
