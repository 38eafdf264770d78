//! What an operator does to one subscription: retry, skip, stop, resume; or what it would do.
//! Asked by the admin edge; each act and what it changes are one commit.
//! Must never touch a unit that is in the lanes, nor one that changed since it was looked at.
//! Read next: `server/runner/parked.rs`.

use std::collections::HashSet;

use musubi_proto::hub::v1::{ActKind, Outcome};

use super::State;
use super::parked::groups;
use crate::clock::now_ms;
use crate::engine::Input;
use crate::event::Subject;
use crate::limits::{PAGE_DEFAULT, RETRY_UNITS_MAX};
use crate::store::{
    DeliveryDelta, Done, NewAct, ParkedFilter, ParkedRow, ParkedState, Pause, PausedBy, StoreError,
    UnitKey,
};

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Repair {
    /// Deliver one parked unit again, with all that hangs together with it.
    Retry(UnitKey),
    /// Deliver all refused units again; with a reason, only those refused for it.
    RetryAll(Option<String>),
    /// End one parked unit without delivering it.
    Skip(UnitKey),
    /// Replace an event of one parked unit. Only planned here: a control record orders it.
    Edit(UnitKey),
    /// Send nothing more.
    Stop,
    /// Go on.
    Resume,
}

/// An act, or its dry run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairAsk {
    /// What.
    pub what: Repair,
    /// Who.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// Revision that the operator saw; 0 when he does not say.
    pub revision: u64,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What an act did, or would do.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RepairReport {
    /// Units that it concerned: first the one that was named, then in the order of delivery.
    pub units: Vec<ParkedRow>,
    /// Units that go to the product because of it.
    pub freed: u64,
    /// How many subjects.
    pub subjects: u64,
    /// There was more than one act takes.
    pub more: bool,
}

/// An act was refused; nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// No such unit is parked.
    #[error("there is no such parked unit")]
    Missing,
    /// It is not what the operator saw.
    #[error("the unit has revision {now} by now; look at it again")]
    Changed {
        /// Its revision now.
        now: u64,
    },
    /// It is on its way to the product.
    #[error("the subject is being delivered again; wait for its outcome")]
    UnderWay,
    /// The binding runs.
    #[error("`{0}` is not stopped")]
    NotStopped(String),
    /// An operator stopped it before.
    #[error("`{0}` is stopped already")]
    Stopped(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl State {
    /// Carries out an act, or says what it would do.
    pub(super) async fn repair(&mut self, ask: &RepairAsk) -> Result<RepairReport, RepairError> {
        match &ask.what {
            Repair::Retry(key) => self.retry_one(*key, ask).await,
            Repair::RetryAll(reason) => self.retry_all(reason.clone(), ask).await,
            Repair::Skip(key) => self.skip(*key, ask).await,
            Repair::Edit(key) => self.plan_edit(*key, ask).await,
            Repair::Stop => self.stop(ask).await,
            Repair::Resume => self.resume_binding(ask).await,
        }
    }

    /// The unit of an act, as long as it is what the operator saw.
    async fn named(&self, key: UnitKey, ask: &RepairAsk) -> Result<ParkedRow, RepairError> {
        let row = self.shared.store.parked_unit(&self.row.id, key).await?;
        let row = row.ok_or(RepairError::Missing)?;
        if ask.revision > 0 && ask.revision != row.revision {
            return Err(RepairError::Changed { now: row.revision });
        }
        Ok(row)
    }

    /// Everything that hangs together with these subjects, in order of delivery.
    pub(super) async fn together(
        &self,
        subjects: &[Subject],
        seen: &mut HashSet<Subject>,
    ) -> Result<Vec<ParkedRow>, StoreError> {
        let mut rows = Vec::new();
        for subject in subjects {
            rows.extend(self.connected(subject.clone(), seen).await?);
        }
        rows.sort_by_key(|row| super::parked::turn(row.key));
        rows.dedup_by_key(|row| row.key);
        Ok(rows)
    }

    pub(super) fn under_way(&self, rows: &[ParkedRow]) -> bool {
        let Some(session) = &self.session else {
            return false;
        };
        rows.iter().any(|row| session.engine.holds(row.key))
    }

    async fn retry_one(
        &mut self,
        key: UnitKey,
        ask: &RepairAsk,
    ) -> Result<RepairReport, RepairError> {
        let row = self.named(key, ask).await?;
        let rows = self.together(&row.subjects, &mut HashSet::new()).await?;
        if self.under_way(&rows) || !rows.iter().any(needs_word) {
            return Err(RepairError::UnderWay);
        }
        let target = unit_name(&self.row.id, key);
        Ok(self.retry(rows, target, false, ask).await?)
    }

    async fn retry_all(
        &mut self,
        reason: Option<String>,
        ask: &RepairAsk,
    ) -> Result<RepairReport, RepairError> {
        let target = match &reason {
            Some(reason) => format!("{} {reason}", self.row.id),
            None => self.row.id.clone(),
        };
        let filter = ParkedFilter {
            states: vec![ParkedState::Rejected, ParkedState::Dead, ParkedState::Due],
            reason,
            ..ParkedFilter::default()
        };
        let (mut rows, mut seen, mut after) = (Vec::new(), HashSet::new(), None);
        let mut more = false;
        'pages: loop {
            let store = &self.shared.store;
            let page = store
                .find_parked(&self.row.id, &filter, after, PAGE_DEFAULT)
                .await?;
            let Some(last) = page.last() else { break };
            after = Some(last.key);
            for row in page {
                if rows.len() >= RETRY_UNITS_MAX {
                    more = true;
                    break 'pages;
                }
                let found = self.together(&row.subjects, &mut seen).await?;
                if !self.under_way(&found) {
                    rows.extend(found);
                }
            }
        }
        rows.sort_by_key(|row| super::parked::turn(row.key));
        Ok(self.retry(rows, target, more, ask).await?)
    }

    async fn retry(
        &mut self,
        rows: Vec<ParkedRow>,
        target: String,
        more: bool,
        ask: &RepairAsk,
    ) -> Result<RepairReport, StoreError> {
        let report = RepairReport {
            freed: rows.len() as u64,
            subjects: subjects_of(&rows).len() as u64,
            units: rows.clone(),
            more,
        };
        if ask.dry_run || rows.is_empty() {
            return Ok(report);
        }
        // What nothing refused holds any more goes on, also after a restart. The schedule of its
        // retries begins anew.
        let mut delta = self.act(ActKind::Retry, target, &rows, ask);
        for row in rows.iter().filter(|row| needs_word(row)) {
            delta.attempts.push((row.key, 0));
            delta.park.push(ParkedRow {
                state: ParkedState::Waiting,
                due_ms: None,
                ..row.clone()
            });
        }
        self.shared.store.commit(delta).await?;
        self.look_when_due().await?;
        self.bring_back(rows);
        Ok(report)
    }

    async fn skip(&mut self, key: UnitKey, ask: &RepairAsk) -> Result<RepairReport, RepairError> {
        let row = self.named(key, ask).await?;
        let mut rows = self.together(&row.subjects, &mut HashSet::new()).await?;
        if self.under_way(&rows) {
            return Err(RepairError::UnderWay);
        }
        rows.retain(|other| other.key != key);
        let gone = {
            let left = subjects_of(&rows);
            let gone = row
                .subjects
                .iter()
                .filter(|subject| !left.contains(subject));
            gone.cloned().collect::<Vec<Subject>>()
        };
        let freed = groups(rows)
            .into_iter()
            .filter(|group| !group.iter().any(needs_word));
        let freed: Vec<ParkedRow> = freed.flatten().collect();
        let report = RepairReport {
            units: vec![row.clone()],
            freed: freed.len() as u64,
            subjects: row.subjects.len() as u64,
            more: false,
        };
        if ask.dry_run {
            return Ok(report);
        }
        let named = std::slice::from_ref(&row);
        let mut delta = self.act(ActKind::Skip, unit_name(&self.row.id, key), named, ask);
        let binding = self.row.binding();
        let done = Done {
            key,
            event_ids: row.event_ids,
            attempt: row.attempts,
            outcome: Outcome::Skipped as i32,
            reason: "BY_OPERATOR".to_owned(),
            at_ms: now_ms(),
            product: binding
                .map(|binding| binding.product.clone())
                .unwrap_or_default(),
        };
        crate::telemetry::closed(&self.row, &done);
        delta.done.push(done);
        delta.unpark.push(key);
        self.shared.store.commit(delta).await?;
        self.look_when_due().await?;
        let now = self.now();
        if let Some(session) = self.session.as_mut() {
            session.step(Input::Unparked(gone), now);
        }
        self.bring_back(freed);
        Ok(report)
    }

    /// What a correction would do: the unit, and what goes to the product then.
    async fn plan_edit(&self, key: UnitKey, ask: &RepairAsk) -> Result<RepairReport, RepairError> {
        let row = self.named(key, ask).await?;
        let rows = self.together(&row.subjects, &mut HashSet::new()).await?;
        if self.under_way(&rows) {
            return Err(RepairError::UnderWay);
        }
        let mut others = rows.iter().filter(|other| other.key != key);
        let held_up = others.any(needs_word);
        Ok(RepairReport {
            freed: if held_up { 0 } else { rows.len() as u64 },
            subjects: row.subjects.len() as u64,
            units: vec![row],
            more: false,
        })
    }

    async fn stop(&mut self, ask: &RepairAsk) -> Result<RepairReport, RepairError> {
        let paused = self.row.binding().and_then(|b| b.paused.as_ref());
        if paused.is_some_and(|pause| pause.by == PausedBy::Operator) {
            return Err(RepairError::Stopped(self.row.id.clone()));
        }
        let pause = Pause {
            by: PausedBy::Operator,
            reason: ask.reason.clone(),
        };
        self.pause(ActKind::Stop, Some(pause), ask).await
    }

    async fn resume_binding(&mut self, ask: &RepairAsk) -> Result<RepairReport, RepairError> {
        if self.row.binding().is_none_or(|b| b.paused.is_none()) {
            return Err(RepairError::NotStopped(self.row.id.clone()));
        }
        self.pause(ActKind::Resume, None, ask).await
    }

    async fn pause(
        &mut self,
        kind: ActKind,
        pause: Option<Pause>,
        ask: &RepairAsk,
    ) -> Result<RepairReport, RepairError> {
        if !ask.dry_run {
            let delta = DeliveryDelta {
                paused: Some(pause.clone()),
                ..self.act(kind, self.row.id.clone(), &[], ask)
            };
            self.shared.store.commit(delta).await?;
            if let Some(binding) = self.row.binding_mut() {
                binding.paused.clone_from(&pause);
            }
            let now = self.now();
            if let Some(session) = self.session.as_mut() {
                session.set_stopped(pause.is_some(), now);
            }
        }
        Ok(RepairReport::default())
    }

    fn act(
        &self,
        kind: ActKind,
        target: String,
        rows: &[ParkedRow],
        ask: &RepairAsk,
    ) -> DeliveryDelta {
        let act = NewAct {
            subscription: self.row.id.clone(),
            target,
            units: rows.iter().map(|row| row.key).collect(),
            subjects: subjects_of(rows).len() as u64,
            ..NewAct::now(kind as i32, &ask.operator, &ask.reason)
        };
        DeliveryDelta {
            act: Some(act),
            ..self.delta()
        }
    }
}

/// Waits for more than the units before it.
fn needs_word(row: &ParkedRow) -> bool {
    row.state != ParkedState::Waiting
}

fn subjects_of(rows: &[ParkedRow]) -> HashSet<&Subject> {
    rows.iter().flat_map(|row| &row.subjects).collect()
}

/// Name of a parked unit in acts.
fn unit_name(subscription: &str, key: UnitKey) -> String {
    let UnitKey {
        stream,
        sequence,
        member,
    } = key;
    format!("{subscription} {} {sequence}/{member}", stream.name())
}
