//! FetchMissed: a receiver with a gap in its numbers asks for what it misses.
//! Behind `DeliveryService.FetchMissed`.
//! Must never answer for a sequence that was not given yet.
//! Read next: `server/runner/missed.rs`.

use musubi_proto::hub::v1::{FetchMissedRequest, FetchMissedResponse, UnitScope};
use tonic::Code;

use crate::event::Stream;
use crate::limits::{PAGE_DEFAULT, PAGE_MAX};
use crate::project::Receiver;
use crate::server::runner::{Missed, MissedAsk, Overview, missed};
use crate::server::status::Failure;
use crate::server::town::{Town, subscription_id};

/// A page of what a subscription had.
pub(super) async fn fetch(
    town: &Town,
    request: &FetchMissedRequest,
) -> Result<FetchMissedResponse, Failure> {
    let stream = Stream::from_wire(request.stream);
    let overview = bound(town, request).await?;
    let row = overview.row.clone();
    let (last, scope) = given(town, &overview, stream).await?;
    let (from, to) = range(request, last)?;
    let size = match request.page_size as usize {
        0 => PAGE_DEFAULT,
        size => size.min(PAGE_MAX),
    };
    let end = to.min(from.saturating_add(size as u64 - 1));
    let complete_up_to = row.cursor(stream).sequence.saturating_sub(1);
    let ask = MissedAsk {
        row,
        stream,
        sequences: from..=end,
        scope,
        receiver: Receiver {
            holds_protection_flag: request.protection_flag,
        },
    };
    let found = missed(town.shared(), ask).await.map_err(|error| {
        let error: &dyn std::error::Error = &error;
        tracing::error!(error, "reading what a receiver misses failed");
        Failure {
            retry_ms: 1_000,
            ..Failure::new(
                Code::Unavailable,
                "STORE_FAILED",
                "the hub's log or store does not answer; ask again",
            )
        }
    })?;
    match found {
        Missed::Units(units) => Ok(FetchMissedResponse {
            units,
            next_sequence: if end < to { end + 1 } else { 0 },
            complete_up_to,
        }),
        Missed::Gone { sequence, first } => Err(out_of_range(
            "from_sequence",
            format!(
                "the hub has unit {sequence} no longer; fetch from {first} on, and what came \
                 before from a snapshot"
            ),
        )),
    }
}

/// The subscription that serves or fills the product, as for Attach.
async fn bound(town: &Town, request: &FetchMissedRequest) -> Result<Overview, Failure> {
    let own = subscription_id(&town.municipality, &request.system);
    let filling = format!("{own}~");
    let of_product = |overview: &Overview| {
        let row = &overview.row;
        let binding = row.binding();
        (row.id == own || row.id.starts_with(&filling))
            && !row.closed
            && binding.is_some_and(|binding| binding.product == request.product)
    };
    let found = town.overviews().await.into_iter().find(of_product);
    found.ok_or_else(|| {
        let message = format!(
            "`{}` is not bound to system `{}` now",
            request.product, request.system
        );
        Failure::new(Code::FailedPrecondition, "NOT_BOUND", message).field("product")
    })
}

/// The last sequence that was given, and how units are taken. Without an adapter, what ended
/// ahead of the cursor was given.
async fn given(
    town: &Town,
    overview: &Overview,
    stream: Stream,
) -> Result<(u64, UnitScope), Failure> {
    if let Some(([live, bulk], scope)) = overview.given {
        return Ok((if stream == Stream::Live { live } else { bulk }, scope));
    }
    let ahead = town.shared().store.ahead(&overview.row.id).await?;
    let of_stream = ahead.iter().filter(|key| key.stream == stream);
    let last = of_stream.map(|key| key.sequence).max().unwrap_or(0);
    let done = overview.row.cursor(stream).sequence.saturating_sub(1);
    Ok((last.max(done), UnitScope::Event))
}

/// The sequences that are asked for. From the next one on, there is nothing yet.
fn range(request: &FetchMissedRequest, last: u64) -> Result<(u64, u64), Failure> {
    let from = request.from_sequence.max(1);
    let to = match request.to_sequence {
        0 => last,
        to => to,
    };
    if to > last {
        let message = format!("the last sequence given is {last}");
        return Err(out_of_range("to_sequence", message));
    }
    if from > last + 1 {
        let message = format!("the last sequence given is {last}");
        return Err(out_of_range("from_sequence", message));
    }
    if request.to_sequence > 0 && from > to {
        let message = format!("the range ends before {from}");
        return Err(out_of_range("to_sequence", message));
    }
    Ok((from, to))
}

fn out_of_range(field: &str, message: String) -> Failure {
    Failure::new(Code::OutOfRange, "SEQUENCE_RANGE", message).field(field)
}
