//! The life of an event, from its file to each product's answer (P9).
//! Behind `AdminService.GetCase`.
//! Must never show payloads or a 宛名番号.
//! Read next: `store/publish.rs`, `store/delivery.rs`.

use std::collections::HashSet;

use musubi_proto::hub::v1::{ActKind, Case, CaseStep, GetCaseRequest, GetCaseResponse, Outcome};

use super::page;
use crate::clock::timestamp;
use crate::event::Stream;
use crate::limits::PAGE_MAX;
use crate::server::hub::Hub;
use crate::server::runner::Overview;
use crate::server::status::{Failure, not_found};
use crate::server::town::Town;
use crate::store::{ActRow, HistoryRow, IndexedEvent, ParkedRow, ParkedState};

fn step(at_ms: i64, step: &str, detail: String) -> CaseStep {
    CaseStep {
        at: Some(timestamp(at_ms)),
        step: step.to_owned(),
        detail,
        ..CaseStep::default()
    }
}

/// Cases of an event id, or of a subject by its 宛名番号.
pub(super) async fn get(
    hub: &Hub,
    town: &Town,
    request: &GetCaseRequest,
) -> Result<GetCaseResponse, Failure> {
    let m = &town.municipality;
    let store = &hub.commons.store;
    let name = &request.event_or_subject;
    let events = match store.find_event(m, name).await? {
        Some(event) => vec![event],
        None => {
            let subject = hub.commons.pseudonyms.of(m, name);
            store
                .events_of(m, &subject, page(request.events_max))
                .await?
        }
    };
    if events.is_empty() {
        // The name may be a 宛名番号: it is not repeated.
        return Err(not_found("event or subject", "(as given)"));
    }
    let mut cases = Vec::with_capacity(events.len());
    for event in events {
        cases.push(case(hub, town, event).await?);
    }
    Ok(GetCaseResponse { cases })
}

async fn case(hub: &Hub, town: &Town, event: IndexedEvent) -> Result<Case, Failure> {
    let claim = &event.claim;
    let mut steps = Vec::new();
    if !claim.file.is_empty() {
        let place = format!("file {} record {}", claim.file, claim.line);
        steps.push(step(claim.published_ms, "captured", place));
    }
    let source = format!("by {}", event.source);
    steps.push(step(claim.published_ms, "published", source));
    if let Some((stream, position)) = event.at {
        let mut place = format!("{} {}", stream.name(), position.0);
        let bounds = hub.commons.log.bounds(&town.municipality, stream).await?;
        if position < bounds.first {
            place.push_str("; trimmed since: its payload is gone");
        }
        steps.push(step(claim.published_ms, "appended", place));
    }
    let history = hub
        .commons
        .store
        .history(&town.municipality, &claim.id)
        .await?;
    let mut routed = HashSet::new();
    for row in history {
        if routed.insert((row.subscription.clone(), row.key)) {
            let place = format!("sequence {}", row.key.sequence);
            steps.push(CaseStep {
                subscription: row.subscription.clone(),
                ..step(row.at_ms, "routed", place)
            });
        }
        let receipt = receipt(&row);
        if row.attempt > 0 {
            steps.push(CaseStep {
                step: "attempted".to_owned(),
                outcome: Outcome::Unspecified as i32,
                detail: String::new(),
                ..receipt.clone()
            });
        }
        steps.push(receipt);
    }
    let lying = parked_rows(hub, town, &event).await?;
    routed.extend(
        lying
            .iter()
            .map(|(overview, row)| (overview.row.id.clone(), row.key)),
    );
    for (subscription, key) in routed {
        let acts = hub.commons.store.acts_on(&subscription, key).await?;
        steps.extend(acts.iter().map(act_step));
    }
    steps.extend(lying.iter().map(parked_step));
    steps.sort_by_key(|step| step.at.as_ref().map(|at| (at.seconds, at.nanos)));
    Ok(Case {
        event_id: claim.id.clone(),
        r#type: claim.event_type.clone(),
        subject: claim.subject.0.clone(),
        subject_version: claim.version,
        position: event.at.map_or(0, |(_, position)| position.0),
        stream: event.at.map_or(0, |(stream, _)| Stream::wire(stream)),
        steps,
    })
}

/// What a product answered, or how the hub ended it.
pub(super) fn receipt(row: &HistoryRow) -> CaseStep {
    CaseStep {
        product: row.product.clone(),
        attempt: row.attempt,
        outcome: row.outcome,
        subscription: row.subscription.clone(),
        ..step(row.at_ms, "receipt", row.reason.clone())
    }
}

fn act_step(row: &ActRow) -> CaseStep {
    let act = &row.act;
    let kind = ActKind::try_from(act.kind).unwrap_or_default();
    let kind = kind.as_str_name().trim_start_matches("ACT_KIND_");
    let note = match act.note.as_str() {
        "" => String::new(),
        note => format!(" ({note})"),
    };
    let who = &act.operator;
    let detail = format!("{} by {who}: {}{note}", kind.to_lowercase(), act.reason);
    CaseStep {
        subscription: act.subscription.clone(),
        ..step(act.at_ms, "act", detail)
    }
}

/// Where an event lies parked.
async fn parked_rows(
    hub: &Hub,
    town: &Town,
    event: &IndexedEvent,
) -> Result<Vec<(Overview, ParkedRow)>, Failure> {
    let mut found = Vec::new();
    for overview in town.overviews().await {
        let subject = Some(&event.claim.subject);
        let store = &hub.commons.store;
        let rows = store
            .parked(&overview.row.id, subject, None, PAGE_MAX)
            .await?;
        let of_event = |row: &ParkedRow| row.event_ids.contains(&event.claim.id);
        let rows = rows.into_iter().filter(of_event);
        found.extend(rows.map(|row| (overview.clone(), row)));
    }
    Ok(found)
}

fn parked_step((overview, row): &(Overview, ParkedRow)) -> CaseStep {
    let state = match row.state {
        ParkedState::Waiting => "waits behind a parked unit, or to go on".to_owned(),
        ParkedState::Rejected | ParkedState::Due | ParkedState::Dead => {
            format!("{} {}", row.reason, row.field)
        }
    };
    CaseStep {
        subscription: overview.row.id.clone(),
        product: overview.attached.clone(),
        attempt: row.attempts,
        outcome: match row.state {
            ParkedState::Rejected | ParkedState::Dead => Outcome::Rejected as i32,
            ParkedState::Due => Outcome::Retry as i32,
            ParkedState::Waiting => Outcome::Unspecified as i32,
        },
        ..step(row.at_ms, "parked", state)
    }
}
