//! The look for what is wrong: has the facts judged, says what appeared and went.
//! Run once in a named period for each municipality, and whenever an operator asks.
//! Must never write on the way of an event, nor say the same alarm twice.
//! Read next: `server/town/alarms/facts.rs`, `alarms.rs`, `store/alarms.rs`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

use super::Town;
use crate::alarms::{self, Alarm, Kind, Name, Standing};
use crate::clock::now_ms;
use crate::event::Municipality;
use crate::limits::{ALARM_LOOKS, ALARM_PERIOD};
use crate::store::{StandingRow, StoreError};
use crate::telemetry;

use facts::Still;

mod facts;

/// What the looks keep between them.
#[derive(Debug, Default)]
pub(super) struct Looks {
    /// One look at a time.
    last: tokio::sync::Mutex<Last>,
    /// When each source was heard since the last look, in milliseconds since 1970.
    heard: Mutex<HashMap<String, i64>>,
}

impl Looks {
    fn heard(&self) -> MutexGuard<'_, HashMap<String, i64>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Last {
    /// What stood; `None` before the first look of this process.
    standing: Option<Standing>,
    /// Subscriptions with work at which nothing moved.
    still: HashMap<String, Still>,
}

/// Who looks: what is sent and published needs the store more.
static LOOKING: Semaphore = Semaphore::const_new(ALARM_LOOKS);

/// Looks until the hub stops.
pub(crate) fn watch(town: Arc<Town>) {
    let tasks = town.commons.tasks.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(ALARM_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = town.commons.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            // It is never closed.
            let _turn = LOOKING.acquire().await;
            if let Err(error) = town.alarms().await {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "alarms were not looked for");
            }
        }
    });
}

impl Town {
    /// The alarms that stand now. What appeared and what went since the last look is said once.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn alarms(&self) -> Result<Vec<Alarm>, StoreError> {
        let mut last = self.looks.last.lock().await;
        if last.standing.is_none() {
            last.standing = Some(self.stored_alarms().await?);
        }
        let Last { standing, still } = &mut *last;
        let before = standing.get_or_insert_default();
        let facts = self.facts(before, still).await?;
        let now = alarms::standing(&facts, &self.commons.alarm_limits, before, now_ms());
        let (new, gone) = alarms::changes(before, &now);
        telemetry::alarms(&self.municipality, &now, &new, &gone);
        let full = facts.disk_full_since_ms.is_some();
        if !new.is_empty() || !gone.is_empty() || full {
            self.note(&now).await;
        }
        let alarms = now.values().cloned().collect();
        *before = now;
        Ok(alarms)
    }

    /// Notes that a source published something.
    pub(crate) fn heard(&self, source: &str) {
        let mut heard = self.looks.heard();
        match heard.get_mut(source) {
            Some(at_ms) => *at_ms = now_ms(),
            None => drop(heard.insert(source.to_owned(), now_ms())),
        }
    }

    /// Keeps what stands for the next process; while the disk is full, this is also how it is
    /// found to have room again.
    async fn note(&self, now: &Standing) {
        let tried_ms = now_ms();
        let store = &self.commons.store;
        let rows = now.values().map(row_of).collect();
        match store.put_standing(&self.municipality, rows).await {
            Ok(()) => self.commons.room.written(tried_ms),
            // They stand all the same; only a restart would take them for new.
            Err(error) => {
                if let StoreError::Full { .. } = error {
                    self.commons.room.refused(tried_ms);
                }
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "alarms were not noted");
            }
        }
    }

    /// What stood when the former process looked last.
    async fn stored_alarms(&self) -> Result<Standing, StoreError> {
        let rows = self.commons.store.standing(&self.municipality).await?;
        Ok(rows.into_iter().filter_map(alarm_of).collect())
    }
}

/// Place of a municipality's alarm among those of all.
pub(crate) fn place(m: &Municipality, kind: i32, subscription: &str, source: &str) -> String {
    format!("{m}|{kind:04}|{subscription}|{source}")
}

fn row_of(alarm: &Alarm) -> StandingRow {
    StandingRow {
        kind: alarm.name.kind as i32,
        subscription: alarm.name.subscription.clone(),
        source: alarm.name.source.clone(),
        since_ms: alarm.since_ms,
    }
}

fn alarm_of(row: StandingRow) -> Option<(Name, Alarm)> {
    let name = Name {
        kind: Kind::try_from(row.kind).ok()?,
        subscription: row.subscription,
        source: row.source,
    };
    let alarm = Alarm {
        name: name.clone(),
        reason: String::new(),
        count: 0,
        since_ms: row.since_ms,
    };
    Some((name, alarm))
}
