//! Parked units for operators.
//! Behind `AdminService.ListParked` and `GetParked`.
//! Must never show more of a unit than its receiver would get.
//! Read next: `server/runner/parked.rs`.

use std::collections::BTreeMap;

use musubi_proto::hub::v1::{
    GetParkedResponse, ListParkedRequest, ListParkedResponse, Mode, ParkedState as WireState,
    ParkedUnit,
};
use prost::Message;

use super::{page, subscriptions_of, unreadable};
use crate::clock::{now_ms, timestamp};
use crate::event::{Stream, Subject, Unit};
use crate::limits::PAGE_DEFAULT;
use crate::project::Receiver;
use crate::server::hub::Hub;
use crate::server::runner::Payload;
use crate::server::status::{Failure, invalid, not_found};
use crate::server::town::Town;
use crate::store::{ParkedFilter, ParkedRow, ParkedState, UnitKey};

/// A parked unit as on the wire.
pub(super) fn wire(subscription: &str, row: &ParkedRow) -> ParkedUnit {
    let state = match row.state {
        ParkedState::Rejected => WireState::Rejected,
        ParkedState::Waiting => WireState::Waiting,
        ParkedState::Due => WireState::Due,
        ParkedState::Dead => WireState::Dead,
    };
    ParkedUnit {
        subscription: subscription.to_owned(),
        sequence: row.key.sequence,
        subjects: row
            .subjects
            .iter()
            .map(|subject| subject.0.clone())
            .collect(),
        state: state as i32,
        reason: row.reason.clone(),
        field: row.field.clone(),
        message: row.message.clone(),
        attempts: row.attempts,
        parked_at: Some(timestamp(row.at_ms)),
        event_ids: row.event_ids.clone(),
        stream: row.key.stream.wire(),
        member: row.key.member,
        due_at: row.due_ms.map(timestamp),
        revision: row.revision,
    }
}

fn token(subscription: &str, key: UnitKey) -> String {
    format!(
        "{subscription}|{}|{}|{}",
        key.stream.number(),
        key.sequence,
        key.member
    )
}

fn parse_token(token: &str) -> Option<(String, UnitKey)> {
    let mut parts = token.split('|');
    let subscription = parts.next()?.to_owned();
    let stream = Stream::from_number(parts.next()?.parse().ok()?);
    let sequence = parts.next()?.parse().ok()?;
    let member = parts.next()?.parse().ok()?;
    Some((
        subscription,
        UnitKey {
            stream,
            sequence,
            member,
        },
    ))
}

fn filter(request: &ListParkedRequest) -> Result<ParkedFilter, Failure> {
    let mut states = Vec::new();
    for state in request.states() {
        states.push(match state {
            WireState::Rejected => ParkedState::Rejected,
            WireState::Waiting => ParkedState::Waiting,
            WireState::Due => ParkedState::Due,
            WireState::Dead => ParkedState::Dead,
            WireState::Unspecified => return Err(invalid("states", "name states that there are")),
        });
    }
    if states.len() != request.states.len() {
        return Err(invalid("states", "name states that there are"));
    }
    let text = |text: &String| Some(text.clone()).filter(|text| !text.is_empty());
    let before_ms = match &request.older_than {
        None => None,
        Some(age) if age.seconds < 0 => {
            return Err(invalid("older_than", "an age is not negative"));
        }
        Some(age) => Some(now_ms().saturating_sub(age.seconds.saturating_mul(1_000))),
    };
    Ok(ParkedFilter {
        states,
        reason: text(&request.reason),
        subject: text(&request.subject).map(Subject),
        before_ms,
    })
}

/// A page of parked units, subscription by subscription.
pub(super) async fn list(
    hub: &Hub,
    town: &Town,
    request: &ListParkedRequest,
) -> Result<ListParkedResponse, Failure> {
    let size = page(request.page_size);
    let mut after = match request.page_token.as_str() {
        "" => None,
        text => Some(parse_token(text).ok_or_else(|| {
            invalid(
                "page_token",
                "send the token of the former page, or nothing",
            )
        })?),
    };
    let filter = filter(request)?;
    let mut response = ListParkedResponse::default();
    for subscription in subscriptions_of(town, &town.overviews().await, &request.system) {
        let from = match &after {
            Some((last, _)) if subscription < *last => continue,
            Some((last, key)) if subscription == *last => Some(*key),
            _ => None,
        };
        after = None.or(after.filter(|(last, _)| subscription < *last));
        let room = size - response.parked.len();
        let rows = hub
            .commons
            .store
            .find_parked(&subscription, &filter, from, room)
            .await?;
        response
            .parked
            .extend(rows.iter().map(|row| wire(&subscription, row)));
        if response.parked.len() == size {
            response.next_page_token = rows
                .last()
                .map_or(String::new(), |row| token(&subscription, row.key));
            break;
        }
    }
    Ok(response)
}

/// One parked unit, as its receiver would get it.
pub(super) async fn get(
    hub: &Hub,
    town: &Town,
    subscription: &str,
    key: UnitKey,
) -> Result<GetParkedResponse, Failure> {
    let name = format!("{subscription} {}", key.sequence);
    let missing = || not_found("parked unit", &name);
    let row = hub
        .commons
        .store
        .parked_unit(subscription, key)
        .await?
        .ok_or_else(missing)?;
    let bytes = row
        .content
        .clone()
        .open()
        .map_err(|_| unreadable("parked unit"))?;
    let unit = Unit::decode(&bytes[..]).map_err(|_| unreadable("parked unit"))?;
    let shared = town.shared();
    let grants = shared.grants.borrow().latest().cloned();
    let grants = grants.ok_or_else(missing)?;
    let group = unit.events.first().and_then(|event| event.group.as_ref());
    let group_size = group.map_or(1, |group| group.size);
    let payload = Payload {
        events: unit.events,
        position: row.position,
        group_size,
        grants,
        replay: None,
    };
    let system = subscription.split(['/', '~']).nth(1).unwrap_or_default();
    // An operator sees it as a product without the protection flag would: no address at all.
    let receiver = Receiver {
        holds_protection_flag: false,
    };
    let unit = payload
        .project(shared, system, &receiver, Mode::Live, key)
        .map_err(|_| unreadable("parked unit"))?;
    let store = &hub.commons.store;
    let mut history = Vec::new();
    for id in &row.event_ids {
        let rows = store.history(&town.municipality, id).await?;
        let here = rows.iter().filter(|row| row.subscription == subscription);
        history.extend(here.map(super::cases::receipt));
    }
    let acts = store.acts_on(subscription, key).await?;
    Ok(GetParkedResponse {
        parked: Some(wire(subscription, &row)),
        unit: Some(unit),
        history,
        acts: acts.iter().map(super::acts::wire).collect(),
        followers: followers(hub, subscription, &row).await?,
    })
}

/// What is parked behind a unit in the lanes of its subjects: one page.
async fn followers(
    hub: &Hub,
    subscription: &str,
    row: &ParkedRow,
) -> Result<Vec<ParkedUnit>, Failure> {
    let mut behind = BTreeMap::new();
    for subject in &row.subjects {
        let store = &hub.commons.store;
        let rows = store
            .parked(subscription, Some(subject), Some(row.key), PAGE_DEFAULT)
            .await?;
        behind.extend(rows.into_iter().map(|row| (row.key, row)));
    }
    let rows = behind.values().take(PAGE_DEFAULT);
    Ok(rows.map(|row| wire(subscription, row)).collect())
}
