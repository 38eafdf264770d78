//! From publish to a receiver's answer: age at a steady rate, CPU, and a receiver that is busy.
//! Hub with its adapter on one side, the floor on the other, with receivers of their own.
//! Must never end a round before every receiver has everything.
//! Read next: `figures/neighbours.rs`.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use musubi_e2e::cluster::Cluster;
use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Scale, below, folder};
use crate::load::{Load, publish, publish_all};
use crate::receiver::Seen;
use crate::report::{Aim, Figure};
use crate::stage::{Floor, Receiver, Town, cpu_seconds, seconds};

const PERSONS: u64 = 5_000;
const BATCH: usize = 100;
const CLIENTS: usize = 4;
/// Events a second at the steady rate.
pub(super) const STEADY: u32 = 500;
const STEADY_EVENTS: usize = 2_500;
const CPU_EVENTS: usize = 10_000;
const CPU_RECEIVERS: usize = 3;
const BUSY_EVENTS: usize = 2_000;
/// The time of a round is taken when so many of ten are applied: the last ones wait for the hub's
/// doubled retries, which say nothing of its rate.
const BUSY_TENTHS: usize = 9;

/// Publishes one event each 2 ms, whatever the answers take.
pub(super) async fn publish_steadily(
    channel: &Channel,
    load: &mut Load,
    events: usize,
) -> Result<()> {
    let requests = load.requests(events, 1)?;
    let mut beat = tokio::time::interval(Duration::from_secs(1) / STEADY);
    let mut publishing = JoinSet::new();
    for request in requests {
        beat.tick().await;
        publishing.spawn(publish(channel.clone(), request));
    }
    while let Some(published) = publishing.join_next().await {
        published??;
    }
    Ok(())
}

async fn steady_p99(
    channel: &Channel,
    load: &mut Load,
    receiver: &Receiver,
    events: usize,
) -> Result<Seen> {
    receiver.forget().await?;
    publish_steadily(channel, load, events).await?;
    receiver.wait_for(events as u64).await?;
    receiver.seen().await
}

pub(crate) async fn latency(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let (hub, floor) = (below(folder.path(), "hub")?, below(folder.path(), "floor")?);
    let of_hub = Receiver::start(&hub, "receiver", &[]).await?;
    let of_floor = Receiver::start(&floor, "receiver", &[]).await?;
    let mut town = Town::start(&hub, 1).await?;
    town.serve(0, &[Some(&of_hub)]).await?;
    let floor = Floor::start(&floor, &[&of_floor]).await?;
    let (mut to_hub, mut to_floor) = (Load::new(PERSONS), Load::new(PERSONS));
    let events = scale.of(STEADY_EVENTS);
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for round in 0..=scale.rounds {
        let floor = steady_p99(&floor.channel, &mut to_floor, &of_floor, events).await?;
        let hub = steady_p99(&town.channel, &mut to_hub, &of_hub, events).await?;
        if round > 0 {
            let values = [hub.p99_us, floor.p99_us, hub.median_us, floor.median_us];
            for (all, value) in rounds.iter_mut().zip(values) {
                all.push(value as f64 / 1_000.0);
            }
        }
    }
    let [hub, floor, hub_median, floor_median] = rounds;
    let ratio = hub.iter().zip(&floor).map(|(hub, floor)| hub / floor);
    Ok(vec![
        Figure::new(
            "publish → applied at 500/s, p99: hub / floor",
            "×",
            Aim::AtMost(2.0),
            ratio.collect(),
        ),
        Figure::new("… p99, hub", "ms", Aim::None, hub),
        Figure::new("… p99, floor", "ms", Aim::None, floor),
        Figure::new("… median, hub", "ms", Aim::None, hub_median),
        Figure::new("… median, floor", "ms", Aim::None, floor_median),
    ])
}

async fn receivers(folder: &std::path::Path, manner: &[&str]) -> Result<Vec<Receiver>> {
    let mut all = Vec::new();
    for number in 0..CPU_RECEIVERS {
        all.push(Receiver::start(folder, &format!("receiver-{number}"), manner).await?);
    }
    Ok(all)
}

async fn through(
    channel: &Channel,
    load: &mut Load,
    receivers: &[Receiver],
    events: usize,
    tenths: usize,
) -> Result<Duration> {
    for receiver in receivers {
        receiver.forget().await?;
    }
    let requests = load.requests(events / BATCH, BATCH)?;
    let started = Instant::now();
    publish_all(channel, requests, CLIENTS).await?;
    let all = events / BATCH * BATCH;
    for receiver in receivers {
        receiver.wait_for((all * tenths / 10) as u64).await?;
    }
    let took = started.elapsed();
    for receiver in receivers {
        receiver.wait_for(all as u64).await?;
    }
    Ok(took)
}

pub(crate) async fn cpu(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let (hub, floor) = (below(folder.path(), "hub")?, below(folder.path(), "floor")?);
    let of_hub = receivers(&hub, &[]).await?;
    let of_floor = receivers(&floor, &[]).await?;
    let mut town = Town::start(&hub, CPU_RECEIVERS).await?;
    let to: Vec<_> = of_hub.iter().map(Some).collect();
    town.serve(0, &to).await?;
    let to: Vec<_> = of_floor.iter().collect();
    let floor = Floor::start(&floor, &to).await?;
    let name = "CPU of deliveries to three HTTP receivers: hub and adapter / floor";
    let sides = (town, of_hub, floor, of_floor);
    cpu_beside(scale, sides, name, Aim::AtMost(2.0)).await
}

/// The same over brokers and a database, against a floor that consumes, posts and commits.
pub(crate) async fn cpu_over_kafka(scale: Scale, brokers: usize) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let cluster = Cluster::start(folder.path(), brokers)?;
    let (hub, floor) = (below(folder.path(), "hub")?, below(folder.path(), "floor")?);
    let of_hub = receivers(&hub, &[]).await?;
    let of_floor = receivers(&floor, &[]).await?;
    let mut town = Town::over(&cluster, &hub, CPU_RECEIVERS).await?;
    let to: Vec<_> = of_hub.iter().map(Some).collect();
    town.serve(0, &to).await?;
    let to: Vec<_> = of_floor.iter().collect();
    let floor = Floor::over(&cluster, &floor, &to).await?;
    let name = "CPU of deliveries over Kafka to three HTTP receivers: hub and adapter / bare \
                producer and consumer";
    let sides = (town, of_hub, floor, of_floor);
    cpu_beside(scale, sides, name, Aim::AtMost(1.5)).await
}

type Sides = (Town, Vec<Receiver>, Floor, Vec<Receiver>);

async fn cpu_beside(
    scale: Scale,
    (mut town, of_hub, floor, of_floor): Sides,
    name: &str,
    aim: Aim,
) -> Result<Vec<Figure>> {
    let (mut to_hub, mut to_floor) = (Load::new(PERSONS), Load::new(PERSONS));
    let events = scale.of(CPU_EVENTS).max(BATCH);
    let millions = (events / BATCH * BATCH * CPU_RECEIVERS) as f64 / 1e6;
    let mut rounds: [Vec<f64>; 5] = Default::default();
    for round in 0..=scale.rounds {
        let before = cpu_seconds(&floor.process)?;
        let floor_took = through(&floor.channel, &mut to_floor, &of_floor, events, 10).await?;
        let of_floor = (cpu_seconds(&floor.process)? - before) / millions;
        let (before, hub_before) = (town.cpu()?, town.hub_cpu()?);
        let hub_took = through(&town.channel, &mut to_hub, &of_hub, events, 10).await?;
        town.wait_delivered(CPU_RECEIVERS).await?;
        let of_both = (town.cpu()? - before) / millions;
        let of_hub = (town.hub_cpu()? - hub_before) / millions;
        if round > 0 {
            let rate = |took: Duration| millions * 1e6 / seconds(took);
            let values = [of_both, of_floor, of_hub, rate(hub_took), rate(floor_took)];
            for (all, value) in rounds.iter_mut().zip(values) {
                all.push(value);
            }
        }
    }
    let [both, floor, hub, hub_rate, floor_rate] = rounds;
    let ratio = both.iter().zip(&floor).map(|(both, floor)| both / floor);
    Ok(vec![
        Figure::new(name, "×", aim, ratio.collect()),
        Figure::new("… hub and adapter", "s/million", Aim::None, both),
        Figure::new("… the hub alone", "s/million", Aim::None, hub),
        Figure::new("… floor", "s/million", Aim::None, floor),
        Figure::new("… rate, hub", "deliveries/s", Aim::None, hub_rate),
        Figure::new("… rate, floor", "deliveries/s", Aim::None, floor_rate),
    ])
}

pub(crate) async fn busy(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let (hub, floor) = (below(folder.path(), "hub")?, below(folder.path(), "floor")?);
    let manner = ["--busy-percent", "30", "--delay-ms", "1"];
    let of_hub = [Receiver::start(&hub, "receiver", &manner).await?];
    let of_floor = [Receiver::start(&floor, "receiver", &manner).await?];
    let mut town = Town::start(&hub, 1).await?;
    town.serve(0, &[Some(&of_hub[0])]).await?;
    let floor = Floor::start(&floor, &[&of_floor[0]]).await?;
    let (mut to_hub, mut to_floor) = (Load::new(PERSONS), Load::new(PERSONS));
    let events = scale.of(BUSY_EVENTS).max(BATCH);
    let count = (events / BATCH * BATCH) as f64;
    let mut rounds: [Vec<f64>; 4] = Default::default();
    for round in 0..=scale.rounds {
        let floor_took = through(
            &floor.channel,
            &mut to_floor,
            &of_floor,
            events,
            BUSY_TENTHS,
        )
        .await?;
        let hub_took = through(&town.channel, &mut to_hub, &of_hub, events, BUSY_TENTHS).await?;
        town.wait_delivered(1).await?;
        let seen = of_hub[0].seen().await?;
        ensure!(seen.busy > 0, "the receiver was never busy");
        if round > 0 {
            let missing = count - seen.applied as f64;
            let wrong = (seen.repeated + seen.disordered) as f64 + missing;
            let rate = |took: Duration| count * BUSY_TENTHS as f64 / 10.0 / seconds(took);
            let (hub, floor) = (rate(hub_took), rate(floor_took));
            for (all, value) in rounds.iter_mut().zip([hub / floor, wrong, hub, floor]) {
                all.push(value);
            }
        }
    }
    let [ratio, wrong, hub, floor] = rounds;
    // The worst round counts.
    let wrong = vec![wrong.into_iter().fold(0.0, f64::max)];
    Ok(vec![
        Figure::new(
            "30 % answered 503, rate of the first nine in ten: hub / floor",
            "×",
            Aim::AtLeast(0.8),
            ratio,
        ),
        Figure::new(
            "… repeated, out of order or missing",
            "events",
            Aim::AtMost(0.0),
            wrong,
        ),
        Figure::new("… hub", "events/s", Aim::None, hub),
        Figure::new("… floor", "events/s", Aim::None, floor),
    ])
}
