//! A parked event gives way to its correction, in the same place of its subject's lane.
//! Ordered by a control record of the log; applied once, also when the record is read again.
//! Must never replace what is not what the operator saw: the revision decides.
//! Read next: `server/admin_service/edit.rs`.

use std::collections::HashSet;

use musubi_proto::crash;
use musubi_proto::hub::v1::Outcome;
use prost::Message;

use super::{Shared, State};
use crate::clock::now_ms;
use crate::event::seal::Sealed;
use crate::event::{Event, Position, Stream, Unit};
use crate::publish::candidate::Candidate;
use crate::store::{
    DeliveryDelta, Done, NewAct, ParkedRow, ParkedState, Placed, PublishDelta, StoreError, UnitKey,
};

/// The reason with which a corrected event ends, before the id of its correction.
pub(super) const CORRECTED: &str = "CORRECTED_BY";

/// What a control record orders.
#[derive(Clone, Debug)]
pub struct EditOrder {
    /// Subscription.
    pub subscription: String,
    /// The parked unit.
    pub key: UnitKey,
    /// Its revision, as the operator saw it.
    pub revision: u64,
    /// Event that gives way.
    pub event_id: String,
    /// Its correction.
    pub event: Event,
    /// Position of the control record in live.
    pub at: Position,
    /// The act, to be recorded with the change.
    pub act: NewAct,
}

impl State {
    /// Applies an order, and lets the subject go on when nothing refused is left in it. False when
    /// the unit is not what the operator saw.
    pub(super) async fn edit(&mut self, order: &EditOrder) -> Result<bool, StoreError> {
        let Some(row) = self
            .shared
            .store
            .parked_unit(&self.row.id, order.key)
            .await?
        else {
            return Ok(false);
        };
        let rows = self.together(&row.subjects, &mut HashSet::new()).await?;
        if self.under_way(&rows) || !apply(&self.shared, order).await? {
            return Ok(false);
        }
        self.look_when_due().await?;
        let rows = self.together(&row.subjects, &mut HashSet::new()).await?;
        if rows.iter().all(|row| row.state == ParkedState::Waiting) {
            self.bring_back(rows);
        }
        Ok(true)
    }
}

/// Applies an order to the store alone; once, because the act raises the revision.
pub async fn apply(shared: &Shared, order: &EditOrder) -> Result<bool, StoreError> {
    let store = &shared.store;
    let row = store.parked_unit(&order.subscription, order.key).await?;
    let Some(corrected) = row.and_then(|row| corrected(row, order)) else {
        return Ok(false);
    };
    // The new id is known before it counts, so that a crash between leaves no nameless event.
    let m = &shared.municipality;
    store.commit_publish(m, placed(shared, order)).await?;
    crash::point("edit.placed");
    let mut delta = DeliveryDelta {
        subscription: order.subscription.clone(),
        owner_epoch: shared.owner_epoch,
        act: Some(order.act.clone()),
        ..DeliveryDelta::default()
    };
    delta.done.push(Done {
        key: order.key,
        event_ids: vec![order.event_id.clone()],
        attempt: corrected.attempts,
        outcome: Outcome::Skipped as i32,
        reason: format!("{CORRECTED} {}", order.event.id),
        at_ms: now_ms(),
        product: String::new(),
    });
    delta.park.push(corrected);
    store.commit(delta).await?;
    Ok(true)
}

/// The unit with the correction in place of its event; `None` when it is another one by now.
fn corrected(row: ParkedRow, order: &EditOrder) -> Option<ParkedRow> {
    if row.revision != order.revision {
        return None;
    }
    let bytes = row.content.clone().open().ok()?;
    let mut unit = Unit::decode(&bytes[..]).ok()?;
    let mut events = unit.events.iter_mut();
    let event = events.find(|event| event.id == order.event_id)?;
    event.clone_from(&order.event);
    let event_ids = unit.events.iter().map(|event| event.id.clone()).collect();
    Some(ParkedRow {
        state: ParkedState::Waiting,
        due_ms: None,
        event_ids,
        content: Sealed::seal(unit.encode_to_vec()),
        ..row
    })
}

/// Places the correction in the index, at the record that ordered it.
fn placed(shared: &Shared, order: &EditOrder) -> PublishDelta {
    let m = &shared.municipality;
    let unit = Unit {
        events: vec![order.event.clone()],
    };
    let candidate = Candidate::new(&shared.pseudonyms, m, unit, None, String::new(), now_ms());
    let placed = candidate.events.into_iter().map(|event| Placed {
        source: order.event.source.clone(),
        claim: event.claim,
        stream: Stream::Live,
        position: order.at,
    });
    PublishDelta {
        placed: placed.collect(),
        ..PublishDelta::default()
    }
}
