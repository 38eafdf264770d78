//! All municipalities of the country at one instance, with nothing to do: memory, CPU, start.
//! One broker without replicas, as a machine of this size can carry them.
//! Must never measure a hub that is still opening municipalities.
//! Read next: `country.rs`, which writes them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use musubi_e2e::Hub;
use musubi_e2e::cluster::Cluster;

use super::super::{Scale, folder};
use crate::country::{Each, municipalities, wait_opened, write};
use crate::report::{Aim, Figure};
use crate::stage::{cpu_seconds, instance, seconds};

/// Municipalities of Japan.
const MUNICIPALITIES: usize = 1_741;
/// Systems of each that receive.
const SUBSCRIPTIONS: usize = 15;
/// What a hub does after its start is over by then: a look of every keeper.
const REST: Duration = Duration::from_secs(20);
/// CPU is counted for so long.
const WATCHED: Duration = Duration::from_secs(20);
const KIB: f64 = 1024.0;

/// Resident KiB, and the share of a core that is used, once the hub is at rest.
async fn at_rest(hub: &mut Hub) -> Result<(f64, f64)> {
    tokio::time::sleep(REST).await;
    let before = cpu_seconds(hub.process())?;
    tokio::time::sleep(WATCHED).await;
    let used = cpu_seconds(hub.process())? - before;
    let resident = hub.process().resident_bytes()? as f64 / KIB;
    Ok((resident, used / seconds(WATCHED) * 100.0))
}

pub(crate) async fn idle(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let cluster = Cluster::start(folder.path(), 1)?;
    let mut hub = instance(&cluster, folder.path(), "empty", SUBSCRIPTIONS).await?;
    let (empty, _) = at_rest(&mut hub).await?;
    hub.process().stop()?;
    let all = municipalities(scale.of(MUNICIPALITIES));
    let each = Each {
        subscriptions: SUBSCRIPTIONS,
        parked: 0,
    };
    let started = Instant::now();
    write(&cluster, &all, each).await?;
    println!("  written in {:.0} s", seconds(started.elapsed()));
    let subscriptions = (all.len() * SUBSCRIPTIONS) as f64;
    let mut rounds: [Vec<f64>; 4] = Default::default();
    // In the first round the hub writes the grants of every municipality; it is not counted.
    for round in 0..=scale.rounds {
        let started = Instant::now();
        let name = format!("hub-{round}");
        let mut hub = instance(&cluster, folder.path(), &name, SUBSCRIPTIONS).await?;
        let start = wait_opened(&mut hub, all.len(), started).await?;
        let (resident, share) = at_rest(&mut hub).await?;
        let stopping = Instant::now();
        hub.process().stop().context("stop the hub")?;
        let values = [
            (resident - empty) / subscriptions,
            seconds(start),
            share,
            seconds(stopping.elapsed()),
        ];
        println!("  round {round}: {values:.2?}, {resident:.0} KiB, empty {empty:.0} KiB");
        if round > 0 {
            for (all, value) in rounds.iter_mut().zip(values) {
                all.push(value);
            }
        }
    }
    let [memory, start, share, stop] = rounds;
    let name = format!(
        "{} municipalities × {SUBSCRIPTIONS} subscriptions, idle: memory of each subscription",
        all.len()
    );
    Ok(vec![
        Figure::new(name, "KiB", Aim::AtMost(32.0), memory),
        Figure::new("… start until all are open", "s", Aim::AtMost(20.0), start),
        Figure::new("… CPU of the hub at rest", "% of a core", Aim::None, share),
        Figure::new("… stop until all are given back", "s", Aim::None, stop),
    ])
}
