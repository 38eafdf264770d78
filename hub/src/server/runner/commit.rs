//! Turns the engine's decisions into one delta, commits it, then sends the deliveries.
//! The last step of each round of a runner.
//! Must never send before the commit.
//! Read next: `store/delivery.rs`.

use std::sync::Arc;

use musubi_proto::crash;

use super::payload::Payload;
use super::{State, StepError};
use crate::clock::now_ms;
use crate::engine::{Answered, Decision, Delivery, Input, Origin, Parking, Refusal};
use crate::event::Stream;
use crate::store::{DeliveryDelta, Done, ParkedRow, ParkedState, Pause};
use crate::telemetry;

impl State {
    /// Commits what was decided and sends what was started, until nothing is decided any more.
    pub(super) async fn commit(&mut self) -> Result<(), StepError> {
        loop {
            let Some(session) = self.session.as_mut() else {
                return Ok(());
            };
            let decisions = std::mem::take(&mut session.decisions);
            let mut delta = self.delta();
            let deliveries = self.collect(decisions, &mut delta);
            self.move_cursors(&mut delta);
            if !delta.is_empty() {
                let cursors = delta.cursors.clone();
                let pause = delta.paused.clone();
                let replayed = self.of_replay(&delta);
                let parks = !delta.park.is_empty() || !delta.unpark.is_empty();
                crash::point("deliver.before_commit");
                self.shared.store.commit(delta).await?;
                crash::point("deliver.committed");
                self.count_replayed(replayed);
                if let (Some(pause), Some(binding)) = (pause, self.row.binding_mut()) {
                    binding.paused = pause;
                }
                if parks {
                    self.look_when_due().await?;
                }
                for (stream, cursor) in cursors {
                    match stream {
                        Stream::Live => self.row.live = cursor,
                        Stream::Bulk => self.row.bulk = cursor,
                    }
                }
            }
            // What was decided is stored; whoever owns the municipality sends it.
            if !deliveries.is_empty() && !self.shared.lease.holds() {
                return Err(StepError::NoLease);
            }
            if !self.send(deliveries).await {
                self.drop_session();
                return Ok(());
            }
            let Some(session) = self.session.as_mut() else {
                return Ok(());
            };
            if session.decisions.is_empty() {
                session.mark(Stream::Live);
                session.mark(Stream::Bulk);
                return Ok(());
            }
        }
    }

    fn collect(
        &self,
        decisions: Vec<Decision<Arc<Payload>>>,
        delta: &mut DeliveryDelta,
    ) -> Vec<Delivery<Arc<Payload>>> {
        let product = self
            .session
            .as_ref()
            .map(|s| s.product.clone())
            .unwrap_or_default();
        let mut deliveries = Vec::new();
        for decision in decisions {
            match decision {
                Decision::Deliver(delivery) => {
                    delta.runs_open.extend(delivery.new_run.clone());
                    deliveries.push(delivery);
                }
                Decision::Done {
                    work,
                    attempt,
                    outcome,
                    reason,
                    origin,
                } => {
                    if origin == Origin::Parked {
                        delta.unpark.push(work.key);
                    }
                    let done = Done {
                        key: work.key,
                        event_ids: work.payload.event_ids(),
                        attempt,
                        outcome,
                        reason,
                        at_ms: now_ms(),
                        product: product.clone(),
                    };
                    telemetry::delivered(&self.row, &done, &work.payload);
                    match origin {
                        Origin::Replay => delta.replayed.push(done),
                        Origin::Log | Origin::Parked => delta.done.push(done),
                    }
                }
                Decision::Park {
                    work,
                    attempt,
                    parking,
                } => {
                    let row = parked_row(&work, attempt, parking);
                    telemetry::parked(&self.row, &product, &row);
                    delta.park.push(row);
                }
                Decision::Attempts(key, attempts) => {
                    telemetry::retried(&self.row, &product, attempts);
                    delta.attempts.push((key, attempts));
                }
                Decision::RunClosed(run) => delta.runs_close.push(run),
                Decision::Paused(by, reason) => {
                    telemetry::paused(&self.row, &product, by, &reason);
                    delta.paused = Some(Some(Pause { by, reason }));
                }
            }
        }
        deliveries
    }

    fn move_cursors(&self, delta: &mut DeliveryDelta) {
        let Some(session) = &self.session else { return };
        for stream in Stream::ALL {
            let cursor = session.engine.cursor(stream);
            if cursor != self.row.cursor(stream) {
                delta.cursors.push((stream, cursor));
            }
        }
    }

    /// False when the adapter's stream is gone.
    async fn send(&mut self, deliveries: Vec<Delivery<Arc<Payload>>>) -> bool {
        if self.draining {
            // Decided and stored; the next start sends it.
            return true;
        }
        let now = self.now();
        for delivery in deliveries {
            let Some(session) = self.session.as_mut() else {
                return true;
            };
            let mut units = Vec::with_capacity(delivery.works.len());
            let mut refused = Vec::new();
            for work in &delivery.works {
                let projected = work.payload.project(
                    &self.shared,
                    &self.row.system,
                    &session.receiver,
                    session.mode,
                    work.key,
                );
                match projected {
                    Ok(unit) => units.push(unit),
                    Err(error) => refused.push((work.key, error.to_string())),
                }
            }
            if refused.is_empty() {
                if session
                    .send(&self.row, self.shared.owner_epoch, &delivery, units)
                    .await
                    .is_err()
                {
                    return false;
                }
                crash::point("deliver.sent");
                continue;
            }
            // What cannot be projected must not leave the hub; the subject waits for a human.
            let answers = refused
                .into_iter()
                .map(|(key, message)| {
                    let reason = "UNPROJECTABLE".to_owned();
                    let refusal = Refusal {
                        reason,
                        field: String::new(),
                        message,
                    };
                    (key, Answered::Rejected(refusal))
                })
                .collect();
            session.step(
                Input::Receipt {
                    delivery: delivery.number,
                    answers,
                },
                now,
            );
            session.step(Input::Credits(1), now);
        }
        true
    }
}

fn parked_row(
    work: &crate::engine::Work<Arc<Payload>>,
    attempts: u32,
    parking: Parking,
) -> ParkedRow {
    let at_ms = now_ms();
    let (state, due_ms, refusal) = match parking {
        Parking::Refused(refusal) => (ParkedState::Rejected, None, refusal),
        Parking::Waiting => (ParkedState::Waiting, None, Refusal::default()),
        Parking::Due(after_ms, refusal) => (ParkedState::Due, Some(at_ms + after_ms), refusal),
        Parking::Dead(refusal) => (ParkedState::Dead, None, refusal),
    };
    ParkedRow {
        key: work.key,
        subjects: work.subjects.clone(),
        state,
        reason: refusal.reason,
        field: refusal.field,
        message: refusal.message,
        attempts,
        at_ms,
        due_ms,
        revision: 1,
        position: work.payload.position,
        event_ids: work.payload.event_ids(),
        content: work.payload.sealed(),
    }
}
