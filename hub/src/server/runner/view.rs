//! What an operator sees of a subscription.
//! Asked by the admin edge.
//! Must never hold personal data.
//! Read next: `server/admin_service.rs`.

use super::{Health, State};
use crate::event::{Position, Stream};
use crate::store::SubscriptionRow;
use musubi_proto::hub::v1::UnitScope;

/// State of a subscription.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Row, with bindings and counts.
    pub row: SubscriptionRow,
    /// Product that is attached now; empty when none is.
    pub attached: String,
    /// Deliveries that wait for a receipt.
    pub in_flight: u64,
    /// Log positions (live and bulk) before which something is not done.
    pub lag: u64,
    /// Deliverables in memory.
    pub open: u64,
    /// How the receiver answered.
    pub health: Health,
    /// Last sequences (live and bulk) that were given, and how units are taken; `None` when no
    /// adapter is attached.
    pub given: Option<([u64; 2], UnitScope)>,
}

impl State {
    /// Adds to the row, as it stands in the store, what only the runner knows.
    pub(super) fn overview(&self, row: SubscriptionRow, ends: [Position; 2]) -> Overview {
        let behind =
            |stream, end: Position| end.0.saturating_sub(self.row.cursor(stream).position.0);
        let lags = Stream::ALL.into_iter().zip(ends);
        let lag = lags.map(|(stream, end)| behind(stream, end)).sum();
        Overview {
            row,
            attached: self
                .session
                .as_ref()
                .map(|s| s.product.clone())
                .unwrap_or_default(),
            in_flight: self
                .session
                .as_ref()
                .map_or(0, |s| s.engine.leased() as u64),
            lag,
            open: self.session.as_ref().map_or(0, |s| s.engine.open() as u64),
            health: self.health.clone(),
            given: self.session.as_ref().map(|session| {
                let last = |stream| session.engine.frontier(stream).sequence.saturating_sub(1);
                (Stream::ALL.map(last), session.scope)
            }),
        }
    }
}
