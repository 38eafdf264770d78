//! The history in months: a table of its own for the outcomes of each, so that an old one can go.
//! Under the commit of deltas, which has the months made that it writes into.
//! Must never drop a month that holds an outcome.
//! Read next: `store/postgres/schema.sql` (`history_month`), `store/postgres/retention.rs`.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::Row;

use crate::event::Municipality;
use crate::store::postgres::PgStore;
use crate::store::postgres::rows::key_of;
use crate::store::postgres::session::{Trouble, retried};
use crate::store::{DeliveryDelta, HistoryRow, StoreError};

/// PostgreSQL's code for a row that no table of the history takes.
const NO_MONTH: &str = "23514";

/// Months whose tables are known to be there, each from its first millisecond to behind its last.
#[derive(Debug, Default)]
pub(in crate::store::postgres) struct Months(Mutex<Vec<Range<i64>>>);

impl Months {
    fn known(&self) -> MutexGuard<'_, Vec<Range<i64>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first time of an outcome that falls into a month whose table is not known to be there.
    fn unknown(&self, deltas: &[&DeliveryDelta]) -> Option<i64> {
        let known = self.known();
        let mut times = deltas.iter().flat_map(|delta| {
            let done = delta.done.iter().chain(&delta.replayed);
            let parked = delta.park.iter().map(|row| row.at_ms);
            done.map(|done| done.at_ms).chain(parked)
        });
        times.find(|at| !known.iter().any(|month| month.contains(at)))
    }
}

/// True when a month's table went away behind this store's back: another instance found it empty.
pub(super) fn lacks_month(trouble: &Trouble) -> bool {
    let Trouble::Sql(error) = trouble else {
        return false;
    };
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some(NO_MONTH)
}

impl PgStore {
    /// Sees to it that the months are there that deltas write into, each with the one behind it.
    pub(super) async fn make_months(&self, deltas: &[&DeliveryDelta]) -> Result<(), Trouble> {
        while let Some(at_ms) = self.months.unknown(deltas) {
            let mut session = self.begin().await?;
            let row = session
                .query("SELECT m.from_ms, m.to_ms, history_month(m.to_ms) FROM history_month($1) m")
                .bind(at_ms)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            self.months.known().push(row.get(0)..row.get(1));
        }
        Ok(())
    }

    /// Asks again for every month before it is written into.
    pub(in crate::store::postgres) fn forget_months(&self) {
        self.months.known().clear();
    }

    /// Delivery steps of one event.
    pub(super) async fn history_of(
        &self,
        m: &Municipality,
        event_id: &str,
    ) -> Result<Vec<HistoryRow>, StoreError> {
        retried!(self, "reading a history", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT * FROM history WHERE municipality = $1 AND event_id = $2
                     ORDER BY number",
                )
                .bind(m.as_str())
                .bind(event_id)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let steps = rows.iter().map(|row| HistoryRow {
                subscription: row.get("subscription"),
                product: row.get("product"),
                key: key_of(row),
                attempt: row.get::<i64, _>("attempt") as u32,
                outcome: row.get::<i64, _>("outcome") as i32,
                reason: row.get("reason"),
                at_ms: row.get("at_ms"),
            });
            Ok::<_, Trouble>(steps.collect())
        })
    }
}
