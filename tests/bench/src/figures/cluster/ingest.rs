//! What a hub over three brokers and a database costs, against a program that only produces.
//! Hub and program send the same bytes with the same promise: all replicas in sync, in order, once.
//! Must never count an event that was not acknowledged.
//! Read next: `figures/ingest.rs`.

use std::time::Instant;

use anyhow::{Context, Result};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use musubi_e2e::cluster::Cluster;
use prost::Message;
use rdkafka::producer::{FutureProducer, FutureRecord};

use super::super::ingest::{BATCH, BATCH_CLIENTS, BATCHES, PERSONS, SINGLE_CLIENTS, SINGLES, rate};
use super::super::{Scale, below, folder};
use crate::floor::kafka::{TOPIC, producer};
use crate::load::Load;
use crate::report::{Aim, Figure};
use crate::stage::{Town, seconds};

pub(in super::super) const BROKERS: usize = 3;

/// A program that produces and does nothing else.
struct Bare(FutureProducer);

impl Bare {
    async fn start(brokers: &str) -> Result<Self> {
        Ok(Self(producer(brokers).await?))
    }

    /// Events a second of one round with so many under way.
    async fn rate(
        &self,
        load: &mut Load,
        (requests, units, clients): (usize, usize, usize),
    ) -> Result<f64> {
        let events = load.events(requests * units)?;
        let events: Vec<Vec<u8>> = events.iter().map(Message::encode_to_vec).collect();
        let started = Instant::now();
        let mut under_way = FuturesUnordered::new();
        for event in &events {
            if under_way.len() >= clients * units {
                acknowledged(under_way.next().await)?;
            }
            let record: FutureRecord<'_, (), [u8]> = FutureRecord::to(TOPIC).payload(event);
            let sent = self.0.send_result(record);
            under_way.push(sent.map_err(|(error, _)| error)?);
        }
        while !under_way.is_empty() {
            acknowledged(under_way.next().await)?;
        }
        Ok(events.len() as f64 / seconds(started.elapsed()))
    }
}

type Delivered = Result<
    rdkafka::producer::future_producer::OwnedDeliveryResult,
    futures::channel::oneshot::Canceled,
>;

fn acknowledged(delivered: Option<Delivered>) -> Result<()> {
    let delivered = delivered.context("nothing is under way")??;
    delivered.map(|_| ()).map_err(|(error, _)| error.into())
}

/// Publishing through the hub against producing the same bytes.
pub(crate) async fn ingest(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let cluster = Cluster::start(folder.path(), BROKERS)?;
    let town = Town::over(&cluster, &below(folder.path(), "hub")?, 1).await?;
    let bare = Bare::start(&cluster.kafka.brokers()).await?;
    let (mut to_hub, mut to_bare) = (Load::new(PERSONS), Load::new(PERSONS));
    let batches = (scale.of(BATCHES), BATCH, BATCH_CLIENTS);
    let singles = (scale.of(SINGLES), 1, SINGLE_CLIENTS);
    let mut rounds: [Vec<f64>; 4] = Default::default();
    // The first round makes topics and connections and is not counted.
    for round in 0..=scale.rounds {
        let measured = [
            bare.rate(&mut to_bare, batches).await?,
            rate(&town.channel, &mut to_hub, batches).await?,
            bare.rate(&mut to_bare, singles).await?,
            rate(&town.channel, &mut to_hub, singles).await?,
        ];
        if round > 0 {
            for (all, value) in rounds.iter_mut().zip(measured) {
                all.push(value);
            }
        }
    }
    let [bare_batches, hub_batches, bare_singles, hub_singles] = rounds;
    let ratio = |over: &[f64], under: &[f64]| over.iter().zip(under).map(|(a, b)| a / b).collect();
    Ok(vec![
        Figure::new(
            "publish over Kafka in batches of 100: hub / bare producer",
            "×",
            Aim::AtLeast(0.6),
            ratio(&hub_batches, &bare_batches),
        ),
        Figure::new(
            "publish over Kafka one by one, 64 clients: hub / bare producer",
            "×",
            Aim::AtLeast(0.6),
            ratio(&hub_singles, &bare_singles),
        ),
        Figure::new("hub over Kafka, batches", "/s", Aim::None, hub_batches),
        Figure::new("hub over Kafka, one by one", "/s", Aim::None, hub_singles),
    ])
}
