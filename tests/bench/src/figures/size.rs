//! How the hub grows: with subscriptions, with events that wait, with the length of its log.
//! A long log is written through the hub's own library, as the hub would have written it.
//! Must never measure a hub that has not come to rest.
//! Read next: `report.rs`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::hub::{MUNICIPALITY, PATIENCE};
use musubi_e2e::process::Signal;
use musubi_e2e::wait_until;
use musubi_hub::event::seal::Sealed;
use musubi_hub::event::{Municipality, Pseudonyms, Stream, Unit};
use musubi_hub::log::sqlite::SqliteLog;
use musubi_hub::log::{Attributes, EventLog, NewRecord, RecordKind};
use musubi_hub::publish::candidate::Candidate;
use musubi_hub::store::sqlite::SqliteStore;
use musubi_hub::store::{Placed, PublishDelta, PublishStore, VersionOf};
use prost::Message;

use super::{Scale, below, folder};
use crate::load::{Load, PAYLOAD_BYTES, publish, publish_all};
use crate::report::{Aim, Figure};
use crate::stage::{Receiver, Town, bytes_below, seconds};

const PERSONS: u64 = 100_000;
const BATCH: usize = 100;
const CLIENTS: usize = 4;
const MANY: usize = 200;
/// Deliveries of a round, whatever the number of subscriptions.
const FANOUT_DELIVERIES: usize = 20_000;
const DISK_EVENTS: usize = 50_000;
const MIB: f64 = 1024.0 * 1024.0;

/// Microseconds of the hub's CPU for each delivery, without what the publish itself costs.
async fn cpu_per_delivery(
    town: &mut Town,
    systems: usize,
    load: &mut Load,
    events: usize,
) -> Result<f64> {
    let requests = load.requests(events.div_ceil(BATCH), BATCH.min(events))?;
    let deliveries = requests.iter().map(|r| r.units.len()).sum::<usize>() * systems;
    let before = town.hub_cpu()?;
    publish_all(&town.channel, requests, CLIENTS).await?;
    town.wait_delivered(systems).await?;
    Ok((town.hub_cpu()? - before) * 1e6 / deliveries as f64)
}

pub(crate) async fn fanout(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let mut none = Town::start(&below(folder.path(), "none")?, 1).await?;
    let mut one = Town::start(&below(folder.path(), "one")?, 1).await?;
    one.serve(0, &[None]).await?;
    let mut many = Town::start(&below(folder.path(), "many")?, MANY).await?;
    many.serve(0, &[None; MANY]).await?;
    let mut loads = [Load::new(PERSONS), Load::new(PERSONS), Load::new(PERSONS)];
    let (few, full) = (
        scale.of(FANOUT_DELIVERIES) / MANY,
        scale.of(FANOUT_DELIVERIES) / 4,
    );
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for round in 0..=scale.rounds {
        // What publishing alone costs is taken off both sides.
        let publish = cpu_per_delivery(&mut none, 1, &mut loads[0], full).await?;
        let of_one = cpu_per_delivery(&mut one, 1, &mut loads[1], full).await? - publish;
        let of_many = cpu_per_delivery(&mut many, MANY, &mut loads[2], few).await?;
        let of_many = of_many - publish / MANY as f64;
        if round > 0 {
            for (all, value) in rounds.iter_mut().zip([of_many / of_one, of_one, of_many]) {
                all.push(value);
            }
        }
    }
    let [ratio, one, many] = rounds;
    Ok(vec![
        Figure::new(
            "200 subscriptions: CPU of the hub per delivery / with one",
            "×",
            Aim::AtMost(1.1),
            ratio,
        ),
        Figure::new("… with one", "µs", Aim::None, one),
        Figure::new("… with 200", "µs", Aim::None, many),
    ])
}

async fn publish_many(town: &Town, load: &mut Load, events: usize) -> Result<()> {
    // In parts, so that the requests themselves do not fill the machine's memory.
    for part in 0..events.div_ceil(10_000) {
        let rest = events - part * 10_000;
        let requests = load.requests(rest.min(10_000).div_ceil(BATCH), BATCH)?;
        publish_all(&town.channel, requests, CLIENTS).await?;
    }
    Ok(())
}

pub(crate) async fn memory(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let mut without = Town::start(&below(folder.path(), "without")?, 1).await?;
    let with_folder = below(folder.path(), "with")?;
    let mut stopped = Receiver::start(&with_folder, "stopped", &[]).await?;
    let mut with = Town::start(&with_folder, 1).await?;
    with.serve(0, &[Some(&stopped)]).await?;
    stopped.process.signal(Signal::Freeze)?;
    publish_many(&without, &mut Load::new(PERSONS), scale.events).await?;
    publish_many(&with, &mut Load::new(PERSONS), scale.events).await?;
    let waiting = with.client()?.subscriptions().await?;
    let waiting = waiting.first().map_or(0, |s| s.lag);
    ensure!(
        waiting as usize + 2_000 > scale.events,
        "only {waiting} events wait"
    );
    let resident = |town: &mut Town| town.hub.process().resident_bytes();
    let (with, without) = (resident(&mut with)?, resident(&mut without)?);
    stopped.process.signal(Signal::Wake)?;
    let (with, without) = (with as f64 / MIB, without as f64 / MIB);
    let name = format!(
        "memory with {} events waiting for a stopped receiver",
        scale.events
    );
    Ok(vec![
        Figure::new(name, "MiB", Aim::AtMost(96.0), vec![with]),
        Figure::new(
            "… more than without the receiver",
            "MiB",
            Aim::AtMost(16.0),
            vec![with - without],
        ),
    ])
}

pub(crate) async fn disk(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let mut town = Town::start(&below(folder.path(), "hub")?, 1).await?;
    let events = scale.of(DISK_EVENTS).div_ceil(BATCH) * BATCH;
    publish_many(&town, &mut Load::new(PERSONS), events).await?;
    // The hub ends in order, so that the write-ahead logs are folded in.
    town.hub.process().stop()?;
    let data = town.folder.join("hub");
    let per_event = |bytes: u64| bytes as f64 / (events * PAYLOAD_BYTES) as f64;
    let file = |name: &str| std::fs::metadata(data.join(name)).map_or(0, |about| about.len());
    Ok(vec![
        Figure::new(
            "disk per event of 1 KiB",
            "× payload",
            Aim::AtMost(1.3),
            vec![per_event(bytes_below(&data)?)],
        ),
        Figure::new(
            "… log",
            "× payload",
            Aim::None,
            vec![per_event(file("log.sqlite"))],
        ),
        Figure::new(
            "… event index",
            "× payload",
            Aim::None,
            vec![per_event(file("store.sqlite"))],
        ),
    ])
}

/// Writes events as the hub would have, many in one transaction.
async fn write_log(data: &Path, events: usize) -> Result<()> {
    std::fs::create_dir_all(data)?;
    let key = [7; 32];
    let log = SqliteLog::open(&data.join("log.sqlite")).await?;
    let store = SqliteStore::open(&data.join("store.sqlite")).await?;
    let m = Municipality::parse(MUNICIPALITY).context("the bench's municipality")?;
    let pseudonyms = Pseudonyms::new(key);
    let mut load = Load::strangers(1);
    let mut left = events;
    while left > 0 {
        let units: Vec<_> = load
            .events(left.min(10_000))?
            .into_iter()
            .map(|event| Unit {
                events: vec![event],
            })
            .map(|unit| Candidate::new(&pseudonyms, &m, unit, None, String::new(), 1_000))
            .collect();
        left -= units.len();
        let events: Vec<_> = units.into_iter().flat_map(|unit| unit.events).collect();
        let source = events.first().map(|one| one.event.source.clone());
        let source = source.unwrap_or_default();
        let records = events.iter().map(|one| NewRecord {
            kind: RecordKind::Event,
            key: one.event.id.clone(),
            sealed: Sealed::seal(one.event.encode_to_vec()),
            attributes: Attributes::default(),
        });
        let positions = log.append(&m, Stream::Live, records.collect()).await?;
        let mut delta = PublishDelta::default();
        for (one, position) in events.into_iter().zip(positions) {
            delta.versions.push(VersionOf {
                source: source.clone(),
                subject: one.claim.subject.clone(),
                version: one.claim.version,
            });
            delta.tail = vec![(Stream::Live, position.after())];
            delta.placed.push(Placed {
                source: source.clone(),
                claim: one.claim,
                stream: Stream::Live,
                position,
            });
        }
        store.commit_publish(&m, delta).await?;
    }
    log.close().await;
    store.close().await;
    std::fs::write(data.join("pseudonym.key"), key)?;
    Ok(())
}

pub(crate) async fn start(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let place = below(folder.path(), "hub")?;
    write_log(&place.join("hub"), scale.events).await?;
    // Persons that nobody knows yet, so that the first version is right.
    let mut load = Load::strangers(scale.events as u64 + 1);
    let mut took = Vec::new();
    for _ in 0..=scale.rounds {
        let mut request = load.requests(1, 1)?;
        let request = request.pop().context("a request")?;
        took.push(first_publish(&place, request).await?);
    }
    let name = format!(
        "start with {} events in the log to the first acknowledged publish",
        scale.events
    );
    Ok(vec![Figure::new(
        name,
        "s",
        Aim::AtMost(0.5),
        took.split_off(1),
    )])
}

async fn first_publish(
    place: &Path,
    request: musubi_proto::hub::v1::PublishRequest,
) -> Result<f64> {
    let started = Instant::now();
    let mut town = Town::start(place, 1).await?;
    let what = "the first publish";
    wait_until(PATIENCE, what, async || {
        publish(town.channel.clone(), request.clone()).await?;
        Ok(true)
    })
    .await?;
    let took: Duration = started.elapsed();
    town.hub.process().stop()?;
    Ok(seconds(took))
}
