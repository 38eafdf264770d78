//! Durable ingest: events that are acknowledged after a sync, a second.
//! Hub and floor take the same requests of the same clients; nobody receives anything.
//! Must never count an event that was not acknowledged.
//! Read next: `figures/deliver.rs`.

use std::time::Instant;

use anyhow::Result;
use prost::Message;
use tonic::transport::Channel;

use super::{Scale, below, folder};
use crate::disk::write_batches;
use crate::load::{Load, publish_all, request};
use crate::report::{Aim, Figure};
use crate::stage::{Floor, Town, seconds};

/// Clients of batches, each with one request under way.
pub(super) const BATCH_CLIENTS: usize = 8;
pub(super) const BATCH: usize = 100;
pub(super) const SINGLE_CLIENTS: usize = 64;
/// Requests of a round.
pub(super) const BATCHES: usize = 200;
pub(super) const SINGLES: usize = 4_000;
pub(super) const PERSONS: u64 = 100_000;

/// Events a second of one round.
pub(super) async fn rate(
    channel: &Channel,
    load: &mut Load,
    of: (usize, usize, usize),
) -> Result<f64> {
    let (requests, units, clients) = of;
    let made = load.requests(requests, units)?;
    let started = Instant::now();
    publish_all(channel, made, clients).await?;
    Ok((requests * units) as f64 / seconds(started.elapsed()))
}

pub(crate) async fn run(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let town = Town::start(&below(folder.path(), "hub")?, 1).await?;
    let floor = Floor::start(&below(folder.path(), "floor")?, &[]).await?;
    let (mut to_hub, mut to_floor) = (Load::new(PERSONS), Load::new(PERSONS));
    let bare_batch = request(Load::new(PERSONS).events(BATCH)?).encode_to_vec();
    let batches = (scale.of(BATCHES), BATCH, BATCH_CLIENTS);
    let singles = (scale.of(SINGLES), 1, SINGLE_CLIENTS);
    let mut rounds: [Vec<f64>; 5] = Default::default();
    // The first round opens files and connections and is not counted.
    for round in 0..=scale.rounds {
        let bare = write_batches(&folder.path().join("bare"), &bare_batch, batches.0 as u32)?;
        let measured = [
            (batches.0 * BATCH) as f64 / seconds(bare),
            rate(&floor.channel, &mut to_floor, batches).await?,
            rate(&town.channel, &mut to_hub, batches).await?,
            rate(&floor.channel, &mut to_floor, singles).await?,
            rate(&town.channel, &mut to_hub, singles).await?,
        ];
        if round > 0 {
            for (all, value) in rounds.iter_mut().zip(measured) {
                all.push(value);
            }
        }
    }
    let [bare, floor_batches, hub_batches, floor_singles, hub_singles] = rounds;
    let ratio = |over: &[f64], under: &[f64]| over.iter().zip(under).map(|(a, b)| a / b).collect();
    Ok(vec![
        Figure::new(
            "ingest in batches of 100: hub / floor",
            "×",
            Aim::AtLeast(0.6),
            ratio(&hub_batches, &floor_batches),
        ),
        Figure::new(
            "ingest one by one, 64 clients: hub / floor",
            "×",
            Aim::AtLeast(0.6),
            ratio(&hub_singles, &floor_singles),
        ),
        Figure::new(
            "the floor's ingest in batches / bare write and sync",
            "×",
            Aim::AtLeast(0.8),
            ratio(&floor_batches, &bare),
        ),
        Figure::new("… batches, hub", "events/s", Aim::None, hub_batches),
        Figure::new("… batches, floor", "events/s", Aim::None, floor_batches),
        Figure::new(
            "… batches, bare write and sync",
            "events/s",
            Aim::None,
            bare,
        ),
        Figure::new("… one by one, hub", "events/s", Aim::None, hub_singles),
        Figure::new("… one by one, floor", "events/s", Aim::None, floor_singles),
    ])
}
