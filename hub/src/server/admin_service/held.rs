//! Held units for operators.
//! Behind `AdminService.ListHeld` and `GetHeld`.
//! Must never put rows into a list.
//! Read next: `publish/source_rules.rs`.

use musubi_proto::hub::v1::{
    GetHeldResponse, HeldState as WireState, HeldUnit, ListHeldRequest, ListHeldResponse,
    RefusedUnit,
};
use prost::Message;

use super::{page, unreadable};
use crate::clock::timestamp;
use crate::event::Unit;
use crate::server::hub::Hub;
use crate::server::status::{Failure, not_found};
use crate::server::town::Town;
use crate::store::{HeldFilter, HeldKind, HeldRow, HeldState};

fn wire(row: &HeldRow) -> HeldUnit {
    let held = &row.held;
    let state = match held.state {
        HeldState::Refused => WireState::Refused,
        HeldState::Waiting => WireState::Waiting,
        HeldState::Corrected => WireState::Corrected,
        HeldState::Released => WireState::Released,
    };
    HeldUnit {
        id: row.id.clone(),
        source: held.source.clone(),
        key: held.key.clone(),
        state: state as i32,
        rule: held.rule.clone(),
        file: held.file.clone(),
        line: held.line,
        item: held.item.clone(),
        message: held.message.clone(),
        rows: held.rows,
        held_at: Some(timestamp(held.held_ms)),
        subjects: held
            .subjects
            .iter()
            .map(|(subject, _)| subject.0.clone())
            .collect(),
        corrected_by: row.corrected_by.clone(),
    }
}

/// A page of held units.
pub(super) async fn list(
    hub: &Hub,
    town: &Town,
    request: &ListHeldRequest,
) -> Result<ListHeldResponse, Failure> {
    let filter = match request.state() {
        WireState::Unspecified => HeldFilter::Open,
        WireState::Refused => HeldFilter::State(HeldState::Refused),
        WireState::Waiting => HeldFilter::State(HeldState::Waiting),
        WireState::Corrected => HeldFilter::State(HeldState::Corrected),
        WireState::Released => HeldFilter::State(HeldState::Released),
    };
    let size = page(request.page_size);
    let store = &hub.commons.store;
    let (rows, total) = store
        .list_held(&town.municipality, filter, &request.page_token, size)
        .await?;
    let next_page_token = match rows.last() {
        Some(last) if rows.len() == size => last.id.clone(),
        _ => String::new(),
    };
    Ok(ListHeldResponse {
        held: rows.iter().map(wire).collect(),
        next_page_token,
        total,
    })
}

/// One held unit with its content.
pub(super) async fn get(hub: &Hub, town: &Town, id: &str) -> Result<GetHeldResponse, Failure> {
    let row = hub.commons.store.held(&town.municipality, id).await?;
    let row = row.ok_or_else(|| not_found("held unit", id))?;
    let mut response = GetHeldResponse {
        held: Some(wire(&row)),
        ..GetHeldResponse::default()
    };
    let bytes = row
        .held
        .content
        .open()
        .map_err(|_| unreadable("held unit"))?;
    match row.held.kind {
        HeldKind::Rows => {
            let unit = RefusedUnit::decode(&bytes[..]).map_err(|_| unreadable("held unit"))?;
            response.rows = unit.rows.into_iter().map(|row| row.row).collect();
        }
        HeldKind::Events => {
            let unit = Unit::decode(&bytes[..]).map_err(|_| unreadable("held unit"))?;
            response.events = unit.events;
        }
    }
    Ok(response)
}
