//! Acts of operators, as operators see them.
//! Behind `AdminService.ListActs`; the acts themselves are recorded where they happen.
//! Must never show more of a unit than its name.
//! Read next: `store/acts.rs`.

use musubi_proto::hub::v1::{Act, ListActsRequest, ListActsResponse};

use super::page;
use crate::clock::timestamp;
use crate::server::hub::Hub;
use crate::server::status::{Failure, invalid};
use crate::server::town::Town;
use crate::store::ActRow;

/// An act as on the wire.
pub(super) fn wire(row: &ActRow) -> Act {
    let act = &row.act;
    Act {
        number: row.number,
        at: Some(timestamp(act.at_ms)),
        operator: act.operator.clone(),
        reason: act.reason.clone(),
        kind: act.kind,
        subscription: act.subscription.clone(),
        target: act.target.clone(),
        units: row.units,
        subjects: act.subjects,
        note: act.note.clone(),
    }
}

/// A page of acts.
pub(super) async fn list(
    hub: &Hub,
    town: &Town,
    request: &ListActsRequest,
) -> Result<ListActsResponse, Failure> {
    let below = match request.page_token.as_str() {
        "" => 0,
        token => token.parse().map_err(|_| {
            let message = "send the token of the former page, or nothing";
            invalid("page_token", message)
        })?,
    };
    let size = page(request.page_size);
    let store = &hub.commons.store;
    let rows = store.acts(&town.municipality, below, size).await?;
    let next_page_token = match rows.last() {
        Some(last) if rows.len() == size => last.number.to_string(),
        _ => String::new(),
    };
    Ok(ListActsResponse {
        acts: rows.iter().map(wire).collect(),
        next_page_token,
    })
}
