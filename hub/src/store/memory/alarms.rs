//! The roles of alarms and of rhythms in memory.
//! Used in tests and simulations.
//! Must never find another pile than the store in SQLite.
//! Read next: `store/contract/alarms.rs`.

use std::collections::HashMap;

use async_trait::async_trait;
use musubi_proto::hub::v1::Outcome;

use super::MemoryStore;
use crate::event::Municipality;
use crate::publish::source_rules::GAP;
use crate::store::{
    AlarmStore, DeliveryStore, Followed, HeldFilter, HeldPile, HeldState, NewAct, ParkedRow,
    ParkedState, Pile, Piles, PublishStore, RhythmRow, RhythmStore, StandingRow, StoreError,
};

/// What is noted of alarms.
#[derive(Debug, Default)]
pub(super) struct Alarmed {
    standing: HashMap<Municipality, Vec<StandingRow>>,
    followed: HashMap<Municipality, Vec<Followed>>,
    rhythms: HashMap<Municipality, Vec<RhythmRow>>,
}

impl Alarmed {
    pub(super) fn follow(&mut self, m: &Municipality, events: Vec<Followed>) {
        let followed = self.followed.entry(m.clone()).or_default();
        for event in events {
            if followed.iter().all(|known| known.id != event.id) {
                followed.push(event);
            }
        }
    }
}

#[async_trait]
impl AlarmStore for MemoryStore {
    async fn piles(&self, subscriptions: &[String]) -> Result<HashMap<String, Piles>, StoreError> {
        let mut all = HashMap::new();
        for subscription in subscriptions {
            let rows = self.parked(subscription, None, None, usize::MAX).await?;
            let piles = Piles {
                refused: parked_pile(&rows, ParkedState::Rejected),
                dead: parked_pile(&rows, ParkedState::Dead),
                due: parked_pile(&rows, ParkedState::Due),
            };
            if piles != Piles::default() {
                all.insert(subscription.clone(), piles);
            }
        }
        Ok(all)
    }

    async fn held_piles(&self, m: &Municipality) -> Result<Vec<HeldPile>, StoreError> {
        let (rows, _) = self.list_held(m, HeldFilter::Open, "", usize::MAX).await?;
        let mut sources: Vec<&str> = rows.iter().map(|row| row.held.source.as_str()).collect();
        sources.sort_unstable();
        sources.dedup();
        let mut piles = Vec::new();
        for source in sources {
            for refused in [true, false] {
                let of_pile = rows.iter().map(|row| &row.held).filter(|held| {
                    let gap = held.state == HeldState::Waiting && held.rule == GAP;
                    held.source == source
                        && match refused {
                            true => held.state == HeldState::Refused,
                            false => gap,
                        }
                });
                let pile = pile(of_pile.map(|held| (held.held_ms, held.rule.as_str())));
                if pile.count > 0 {
                    let source = source.to_owned();
                    piles.push(HeldPile {
                        source,
                        refused,
                        pile,
                    });
                }
            }
        }
        Ok(piles)
    }

    async fn standing(&self, m: &Municipality) -> Result<Vec<StandingRow>, StoreError> {
        let state = self.lock();
        let mut rows = state.alarmed.standing.get(m).cloned().unwrap_or_default();
        rows.sort();
        Ok(rows)
    }

    async fn put_standing(
        &self,
        m: &Municipality,
        rows: Vec<StandingRow>,
    ) -> Result<(), StoreError> {
        self.lock().alarmed.standing.insert(m.clone(), rows);
        Ok(())
    }

    async fn followed(&self, m: &Municipality, limit: usize) -> Result<Vec<Followed>, StoreError> {
        let state = self.lock();
        let mut events = state.alarmed.followed.get(m).cloned().unwrap_or_default();
        events.sort_by(|a, b| (a.at_ms, &a.id).cmp(&(b.at_ms, &b.id)));
        events.truncate(limit);
        Ok(events)
    }

    async fn open_followed(
        &self,
        m: &Municipality,
        subscription: &str,
        limit: usize,
    ) -> Result<Vec<Followed>, StoreError> {
        let rows = self.subscriptions(m).await?;
        let Some(row) = rows.into_iter().find(|row| row.id == subscription) else {
            return Ok(Vec::new());
        };
        let parked = self.parked(subscription, None, None, usize::MAX).await?;
        let mut open = Vec::new();
        for event in self.followed(m, usize::MAX).await? {
            let history = self.history(m, &event.id).await?;
            let ended = history.iter().any(|row| {
                row.subscription == subscription && row.outcome != Outcome::Rejected as i32
            });
            let unread = row.cursor(event.stream).position <= event.position;
            let lies = parked.iter().any(|row| row.event_ids.contains(&event.id));
            if !ended && (unread || lies) {
                open.push(event);
            }
        }
        open.truncate(limit);
        Ok(open)
    }

    async fn unfollow(&self, m: &Municipality, ids: &[String]) -> Result<(), StoreError> {
        if let Some(events) = self.lock().alarmed.followed.get_mut(m) {
            events.retain(|event| !ids.contains(&event.id));
        }
        Ok(())
    }
}

#[async_trait]
impl RhythmStore for MemoryStore {
    async fn rhythms(&self, m: &Municipality) -> Result<Vec<RhythmRow>, StoreError> {
        let state = self.lock();
        let mut rows = state.alarmed.rhythms.get(m).cloned().unwrap_or_default();
        rows.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(rows)
    }

    async fn put_rhythm(
        &self,
        m: &Municipality,
        row: RhythmRow,
        act: NewAct,
    ) -> Result<(), StoreError> {
        let mut state = self.lock();
        let rows = state.alarmed.rhythms.entry(m.clone()).or_default();
        rows.retain(|known| known.source != row.source);
        if row.rhythm_ms > 0 {
            rows.push(row);
        }
        state.acted.record(m, act);
        Ok(())
    }

    async fn heard(&self, m: &Municipality, times: &[(String, i64)]) -> Result<(), StoreError> {
        let mut state = self.lock();
        let rows = state.alarmed.rhythms.entry(m.clone()).or_default();
        for (source, at_ms) in times {
            let row = rows.iter_mut().find(|row| row.source == *source);
            if let Some(row) = row {
                row.heard_ms = row.heard_ms.max(*at_ms);
            }
        }
        Ok(())
    }
}

fn parked_pile(rows: &[ParkedRow], state: ParkedState) -> Pile {
    let of_state = rows.iter().filter(|row| row.state == state);
    pile(of_state.map(|row| (row.at_ms, row.reason.as_str())))
}

fn pile<'a>(units: impl Iterator<Item = (i64, &'a str)>) -> Pile {
    let units: Vec<_> = units.collect();
    let oldest = units.iter().min_by_key(|(at_ms, _)| *at_ms);
    oldest.map_or_else(Pile::default, |(oldest_ms, reason)| Pile {
        count: units.len() as u64,
        oldest_ms: *oldest_ms,
        reason: (*reason).to_owned(),
    })
}
