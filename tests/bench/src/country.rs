//! Many municipalities with their subscriptions, written as hubs would have left them.
//! Written through the hub's own library: binding each by a call would take most of a run.
//! Must never leave a topic or a row that a hub would not have made.
//! Read next: `figures/cluster/idle.rs`, `figures/cluster/takeover.rs`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::{Hub, wait_until};
use musubi_hub::event::seal::Sealed;
use musubi_hub::event::{Municipality, Position, Pseudonyms, Stream};
use musubi_hub::log::kafka::{KafkaConfig, KafkaLog};
use musubi_hub::settings::BindingSettings;
use musubi_hub::store::postgres::{PgConfig, PgStore};
use musubi_hub::store::{
    BindingRow, BindingState, Cursor, DeliveryDelta, DeliveryStore, OutcomeTally, ParkedRow,
    ParkedState, SubscriptionRow, UnitKey,
};

use crate::adapter::PRODUCT;
use crate::stage::system;

/// Municipalities that are written at once.
const WRITING: usize = 16;
/// Longest wait for all of them to be open somewhere.
const OPEN_WITHIN: Duration = Duration::from_secs(300);
/// What an instance says when it has opened a municipality.
const BEGAN: &str = "owner.began";
/// Bytes of a parked unit.
const PARKED_BYTES: usize = 1_024;

/// So many codes of municipalities.
pub(crate) fn municipalities(count: usize) -> Vec<Municipality> {
    let codes = (10_000..1_000_000).map(|code| format!("{code:06}"));
    let valid = codes.filter_map(|code| Municipality::parse(&code));
    valid.take(count).collect()
}

/// What each municipality gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Each {
    pub(crate) subscriptions: usize,
    /// Parked subjects of its first subscription.
    pub(crate) parked: usize,
}

/// Makes the topics and the rows of some municipalities that nobody owns.
pub(crate) async fn write(cluster: &Cluster, all: &[Municipality], each: Each) -> Result<()> {
    let store = Arc::new(PgStore::open(PgConfig::new(&cluster.postgres.url("postgres"))).await?);
    let log = KafkaLog::open(
        KafkaConfig {
            replication: i32::try_from(cluster.kafka.count())?,
            allow_weak_topics: true,
            ..KafkaConfig::new(&cluster.kafka.brokers())
        },
        store.clone(),
    )
    .await?;
    let written = all.iter().map(|m| write_one(&log, &store, m, each));
    futures::stream::iter(written)
        .buffer_unordered(WRITING)
        .try_collect::<()>()
        .await?;
    store.close().await;
    Ok(())
}

async fn write_one(log: &KafkaLog, store: &PgStore, m: &Municipality, each: Each) -> Result<()> {
    let made = log.make_topics(m).await;
    made.with_context(|| format!("make the topics of {m}"))?;
    for number in 0..each.subscriptions {
        store.put_subscription(subscription(m, number)).await?;
    }
    if each.parked > 0 {
        let delta = DeliveryDelta {
            subscription: subscription(m, 0).id,
            owner_epoch: store.own(m).await?,
            cursors: vec![(Stream::Live, behind(each.parked))],
            park: (0..each.parked).map(|number| parked(m, number)).collect(),
            ..DeliveryDelta::default()
        };
        store.commit(delta).await?;
    }
    Ok(())
}

fn behind(units: usize) -> Cursor {
    Cursor {
        position: Position(1),
        sequence: units as u64 + 1,
    }
}

fn subscription(m: &Municipality, number: usize) -> SubscriptionRow {
    let system = system(number);
    SubscriptionRow {
        id: format!("{m}/{system}"),
        municipality: m.clone(),
        system,
        live: behind(0),
        bulk: behind(0),
        filled: true,
        until: None,
        closed: false,
        bindings: vec![BindingRow {
            product: PRODUCT.to_owned(),
            epoch: 1,
            state: BindingState::Serving,
            cut: None,
            paused: None,
            settings: BindingSettings::default(),
        }],
        tally: OutcomeTally::default(),
    }
}

fn parked(m: &Municipality, number: usize) -> ParkedRow {
    let pseudonyms = Pseudonyms::new([7; 32]);
    ParkedRow {
        key: UnitKey {
            stream: Stream::Live,
            sequence: number as u64 + 1,
            member: 0,
        },
        subjects: vec![pseudonyms.of(m, &format!("{number:010}"))],
        state: ParkedState::Rejected,
        reason: "UNMAPPABLE".to_owned(),
        field: "record.person".to_owned(),
        message: "a character that the product does not know".to_owned(),
        attempts: 1,
        at_ms: 1_700_000_000_000,
        due_ms: None,
        revision: 1,
        position: Position(1),
        event_ids: vec![format!("{m}-{number:010}")],
        content: Sealed::seal(vec![7; PARKED_BYTES]),
    }
}

/// Municipalities that an instance has opened since it started, each time counted.
pub(crate) fn opened(hub: &mut Hub) -> Result<usize> {
    Ok(hub.process().log_text()?.matches(BEGAN).count())
}

/// Waits until an instance has opened so many since it started; returns how long it took.
pub(crate) async fn wait_opened(hub: &mut Hub, count: usize, since: Instant) -> Result<Duration> {
    let what = format!("{count} municipalities to be open");
    wait_until(OPEN_WITHIN, &what, async || {
        hub.process().must_run()?;
        let opened = opened(hub)?;
        ensure!(opened >= count, "{opened} so far");
        Ok(true)
    })
    .await?;
    Ok(since.elapsed())
}
