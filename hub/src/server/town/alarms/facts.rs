//! Gathers what the rules of alarms look at, from the store and from the runners.
//! Asked by each look.
//! Must never wait long for a runner: one that does not answer stands still.
//! Read next: `alarms/rules.rs`.

use std::collections::{HashMap, HashSet};

use super::super::Town;
use crate::alarms::{Facts, Kind, Name, Receiver, Standing};
use crate::clock::now_ms;
use crate::limits::{ALARM_ASK, FOLLOWED_EVENTS_MAX};
use crate::log::Concerns;
use crate::server::retention;
use crate::server::runner::Overview;
use crate::store::{Followed, Pile, RhythmRow, StoreError, SubscriptionRow};

/// Answers, cursors: what changes when anything moves.
type Mark = (u64, u64, u64);

/// The mark of a runner that does not answer.
const STUCK: Mark = (u64::MAX, 0, 0);

/// Work that waits, and since when nothing moved.
#[derive(Debug)]
pub(super) struct Still {
    since_ms: i64,
    mark: Mark,
}

impl Town {
    /// What is known now.
    pub(super) async fn facts(
        &self,
        before: &Standing,
        still: &mut HashMap<String, Still>,
    ) -> Result<Facts, StoreError> {
        let mut rows = self.rows().await?;
        rows.retain(|row| !row.closed);
        let ends = self.ends().await;
        let asked = rows.iter().map(|row| {
            let overview = self.overview(row.clone(), ends);
            tokio::time::timeout(ALARM_ASK, overview)
        });
        let overviews = futures::future::join_all(asked).await;
        let mut measures = self.open_measures(&rows).await?;
        let ids: Vec<String> = rows.iter().map(|row| row.id.clone()).collect();
        let mut piles = self.commons.store.piles(&ids).await?;
        let mut receivers = Vec::with_capacity(rows.len());
        let now = now_ms();
        for (row, known) in rows.into_iter().zip(overviews) {
            let piles = piles.remove(&row.id).unwrap_or_default();
            let binding = row.binding();
            let hours = binding.map(|binding| binding.settings.check().unwrap_or_default());
            let mut receiver = Receiver {
                paused: binding.and_then(|binding| binding.paused.clone()),
                closed: hours.is_some_and(|hours| !hours.open_at(now)),
                refused: piles.refused,
                dead: piles.dead,
                measures_ms: measures.remove(&row.id).unwrap_or_default(),
                ..Receiver::default()
            };
            match known {
                Ok(Some(known)) => {
                    receiver.attached = !known.attached.is_empty();
                    receiver.put_off = put_off(&known, piles.due.count, before);
                    receiver.still = stands_still(&known, &receiver, before, still);
                }
                // It has ended: the hub stops, or the subscription is no more.
                Ok(None) => {}
                // It is stuck itself: nothing moves there either.
                Err(_) => {
                    receiver.attached = true;
                    receiver.still = goes_on(&row.id, (1, STUCK), before, still);
                }
            }
            receiver.subscription = row.id;
            receivers.push(receiver);
        }
        still.retain(|id, _| receivers.iter().any(|of| of.subscription == *id));
        let concerns = match &self.commons.concerned {
            Some(log) => log.concerns(&self.municipality).await,
            None => Concerns::default(),
        };
        Ok(Facts {
            receivers,
            concerns,
            held: self.commons.store.held_piles(&self.municipality).await?,
            rhythms: self.rhythms().await?,
            disk_full_since_ms: self.commons.room.refused_since_ms(),
            log_held: retention::held(&self.commons, &self.municipality).await?,
        })
    }

    /// The sources' rhythms, once it is noted what was heard.
    async fn rhythms(&self) -> Result<Vec<RhythmRow>, StoreError> {
        let (m, store) = (&self.municipality, &self.commons.store);
        let mut rows = store.rhythms(m).await?;
        let heard = std::mem::take(&mut *self.looks.heard());
        let of_row = |row: &mut RhythmRow| {
            let at_ms = *heard.get(&row.source)?;
            row.heard_ms = row.heard_ms.max(at_ms);
            Some((row.source.clone(), at_ms))
        };
        let times: Vec<_> = rows.iter_mut().filter_map(of_row).collect();
        if !times.is_empty()
            && let Err(error) = store.heard(m, &times).await
        {
            let mut heard = self.looks.heard();
            for (source, at_ms) in times {
                heard.entry(source).or_insert(at_ms);
            }
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "it was not noted which sources were heard");
        }
        Ok(rows)
    }

    /// When each support measure was accepted that has no outcome yet, by subscription. Those that
    /// have one everywhere are followed no more.
    async fn open_measures(
        &self,
        rows: &[SubscriptionRow],
    ) -> Result<HashMap<String, Vec<i64>>, StoreError> {
        let (m, store) = (&self.municipality, &self.commons.store);
        let followed = store.followed(m, FOLLOWED_EVENTS_MAX).await?;
        let mut measures = HashMap::new();
        if followed.is_empty() {
            return Ok(measures);
        }
        let mut open_somewhere = HashSet::new();
        // A product that is being filled shows nothing to anybody yet.
        for row in rows.iter().filter(|row| !row.is_filling()) {
            let open = store.open_followed(m, &row.id, FOLLOWED_EVENTS_MAX).await?;
            let concerning = open.into_iter().filter(|event| self.concerns(row, event));
            let concerning: Vec<Followed> = concerning.collect();
            let times = concerning.iter().map(|event| event.at_ms).collect();
            measures.insert(row.id.clone(), times);
            open_somewhere.extend(concerning.into_iter().map(|event| event.id));
        }
        let ended = followed.into_iter().map(|event| event.id);
        let ended: Vec<String> = ended.filter(|id| !open_somewhere.contains(id)).collect();
        if !ended.is_empty()
            && let Err(error) = store.unfollow(m, &ended).await
        {
            // The next look tries again; a full disk must not hide what is wrong.
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "events that ended are followed on");
        }
        Ok(measures)
    }

    /// True when a system is granted an event.
    fn concerns(&self, row: &SubscriptionRow, event: &Followed) -> bool {
        let grants = self.shared.grants.borrow();
        let table = grants.at(event.stream, event.position);
        table.is_some_and(|table| table.grant(&row.system, &event.event_type).is_some())
    }
}

/// Since when a subscription stood under one of these kinds.
fn stood(before: &Standing, subscription: &str, kinds: &[Kind]) -> Option<i64> {
    let mut alarms = kinds
        .iter()
        .filter_map(|kind| before.get(&Name::of(*kind, subscription)));
    alarms.next().map(|alarm| alarm.since_ms)
}

/// What the receiver puts off, as long as anything waits. A process that has no answer yet goes by
/// what stood before it.
fn put_off(known: &Overview, due: u64, before: &Standing) -> Pile {
    let health = &known.health;
    let since_ms = match health.answers {
        0 => stood(before, &known.row.id, &[Kind::ReceiverDown]),
        _ => health.put_off_since_ms,
    };
    match since_ms {
        Some(oldest_ms) if known.open > 0 || known.lag > 0 || due > 0 => Pile {
            count: health.put_off.max(1),
            oldest_ms,
            reason: health.reason.clone(),
        },
        _ => Pile::default(),
    }
}

/// Work that waits while nothing moves. Once it stands still, it goes on to until something moves.
fn stands_still(
    known: &Overview,
    receiver: &Receiver,
    before: &Standing,
    still: &mut HashMap<String, Still>,
) -> Pile {
    let row = &known.row;
    let count = known.open.max(known.lag);
    if count == 0 || receiver.paused.is_some() || receiver.closed {
        still.remove(&row.id);
        return Pile::default();
    }
    let mark = (
        known.health.answers,
        row.live.position.0,
        row.bulk.position.0,
    );
    goes_on(&row.id, (count, mark), before, still)
}

fn goes_on(
    subscription: &str,
    (count, mark): (u64, Mark),
    before: &Standing,
    still: &mut HashMap<String, Still>,
) -> Pile {
    // The first look of a process goes on from what stood before it.
    let stood = || stood(before, subscription, &[Kind::Stalled, Kind::AdapterAway]);
    let entry = still
        .entry(subscription.to_owned())
        .or_insert_with(|| Still {
            since_ms: stood().unwrap_or_else(now_ms),
            mark,
        });
    if entry.mark != mark {
        *entry = Still {
            since_ms: now_ms(),
            mark,
        };
    }
    Pile {
        count,
        oldest_ms: entry.since_ms,
        reason: String::new(),
    }
}
