//! The look for what is wrong: gathers the facts, has them judged, says what appeared and went.
//! Run once in a named period for each municipality, and whenever an operator asks.
//! Must never write on the way of an event, nor wait for a runner that does not answer.
//! Read next: `alarms.rs`, `store/alarms.rs`.

use std::sync::Arc;

use super::Town;
use crate::alarms::{self, Alarm, Facts, Kind, Name, Receiver, Standing};
use crate::clock::now_ms;
use crate::event::Municipality;
use crate::limits::{ALARM_ASK, ALARM_PERIOD};
use crate::server::runner::Overview;
use crate::store::{StandingRow, StoreError};
use crate::telemetry;

/// What stood at the last look; `None` before the first of this process.
pub(super) type Last = tokio::sync::Mutex<Option<Standing>>;

/// Looks until the hub stops.
pub(crate) fn watch(town: Arc<Town>) {
    tokio::spawn(async move {
        let mut ticks = tokio::time::interval(ALARM_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = town.commons.stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
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
        let mut last = self.last_alarms.lock().await;
        let before = match last.take() {
            Some(before) => before,
            None => self.stored_alarms().await?,
        };
        let facts = match self.facts().await {
            Ok(facts) => facts,
            Err(error) => {
                *last = Some(before);
                return Err(error);
            }
        };
        let now = alarms::standing(&facts, &before, now_ms());
        let (new, gone) = alarms::changes(&before, &now);
        telemetry::alarms(&self.municipality, &now, &new, &gone);
        if !new.is_empty() || !gone.is_empty() {
            let rows = now.values().map(row_of).collect();
            let noted = self.commons.store.put_standing(&self.municipality, rows);
            if let Err(error) = noted.await {
                // They stand all the same; only a restart would take them for new.
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "alarms were not noted");
            }
        }
        let alarms = now.values().cloned().collect();
        *last = Some(now);
        Ok(alarms)
    }

    async fn facts(&self) -> Result<Facts, StoreError> {
        let asked = tokio::time::timeout(ALARM_ASK, self.overviews()).await;
        let overviews = asked.unwrap_or_else(|_| {
            tracing::warn!("the runners did not answer in time; alarms may be missing");
            Vec::new()
        });
        let mut facts = Facts::default();
        for row in self.rows().await? {
            if row.closed {
                continue;
            }
            let known = overviews.iter().find(|overview| overview.row.id == row.id);
            let receiver = self.receiver(&row.id, known).await?;
            facts.receivers.push(Receiver {
                paused: row.binding().and_then(|binding| binding.paused.clone()),
                ..receiver
            });
        }
        Ok(facts)
    }

    async fn receiver(&self, id: &str, _known: Option<&Overview>) -> Result<Receiver, StoreError> {
        let piles = self.commons.store.piles(id).await?;
        Ok(Receiver {
            subscription: id.to_owned(),
            refused: piles.refused,
            dead: piles.dead,
            ..Receiver::default()
        })
    }

    /// What stood when the former process looked last.
    async fn stored_alarms(&self) -> Result<Standing, StoreError> {
        let rows = self.commons.store.standing(&self.municipality).await?;
        Ok(rows.into_iter().filter_map(alarm_of).collect())
    }
}

/// Name of a municipality's alarm among those of all.
pub(crate) fn place(m: &Municipality, alarm: &Alarm) -> String {
    let Name {
        kind,
        subscription,
        source,
    } = &alarm.name;
    format!("{m}|{:04}|{subscription}|{source}", *kind as i32)
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
