//! An instance is killed: how soon after the end of its lease another one serves what it owned.
//! Two instances over three brokers; each owns half, with parked subjects in every municipality.
//! Must never count from anything but the end of the lease, as the database tells it.
//! Read next: `country.rs`.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::{Hub, wait_until};
use musubi_hub::event::Municipality;
use musubi_hub::store::Owners;
use musubi_hub::store::postgres::{PgConfig, PgStore};
use musubi_proto::hub::v1::ListParkedRequest;

use super::super::{Scale, folder};
use super::ingest::BROKERS;
use crate::country::{Each, municipalities, opened, wait_opened, write};
use crate::report::{Aim, Figure};
use crate::stage::{instance, seconds};

/// Municipalities that change hands.
const TAKEN_OVER: usize = 64;
/// Subjects that are parked in them, together.
const PARKED: usize = 10_000;
/// Subscriptions of each.
const SUBSCRIPTIONS: usize = 15;

/// Those that an instance owns by its lease.
async fn owned(store: &PgStore, all: &[Municipality], hub: &Hub) -> Result<Vec<Municipality>> {
    let mut owned = Vec::new();
    for m in all {
        let owner = store.owner_of(m).await?;
        if owner.is_some_and(|owner| owner.holds && owner.address == hub.url()) {
            owned.push(m.clone());
        }
    }
    Ok(owned)
}

/// Waits until two instances share all equally, and all are open.
async fn wait_shared(store: &PgStore, all: &[Municipality], hubs: &[Hub; 2]) -> Result<()> {
    wait_until(PATIENCE, "two instances to share", async || {
        let counts = [
            owned(store, all, &hubs[0]).await?.len(),
            owned(store, all, &hubs[1]).await?.len(),
        ];
        ensure!(counts == [TAKEN_OVER; 2], "{counts:?}");
        Ok(true)
    })
    .await
}

async fn parked(hub: &Hub, m: &Municipality, system: &str) -> Result<usize> {
    let request = ListParkedRequest {
        municipality: m.as_str().to_owned(),
        system: system.to_owned(),
        page_size: 1_000,
        ..ListParkedRequest::default()
    };
    let listed = hub.client()?.admin().list_parked(request).await?;
    Ok(listed.into_inner().parked.len())
}

/// Kills the first; returns the seconds from the end of its lease, and from the kill, until the
/// second has opened all.
async fn kill(store: &PgStore, one: &Municipality, hubs: &mut [Hub; 2]) -> Result<[f64; 2]> {
    let before = opened(&mut hubs[1])?;
    hubs[0].process().kill()?;
    let killed = Instant::now();
    let lease = async {
        wait_until(PATIENCE, "the lease to end", async || {
            let owner = store.owner_of(one).await?;
            Ok(owner.is_none_or(|owner| !owner.holds))
        })
        .await?;
        anyhow::Ok(Instant::now())
    };
    let open = wait_opened(&mut hubs[1], before + TAKEN_OVER, killed);
    let (ended, open) = tokio::join!(lease, open);
    let (ended, open) = (ended?, open?);
    let lease = ended.saturating_duration_since(killed);
    Ok([seconds(open) - seconds(lease), seconds(open)])
}

pub(crate) async fn takeover(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let cluster = Cluster::start(folder.path(), BROKERS)?;
    let all = municipalities(TAKEN_OVER * 2);
    let each = Each {
        subscriptions: SUBSCRIPTIONS,
        parked: PARKED.div_ceil(TAKEN_OVER),
    };
    write(&cluster, &all, each).await?;
    let store = PgStore::open(PgConfig::new(&cluster.postgres.url("postgres"))).await?;
    let start = async |name: &str| instance(&cluster, folder.path(), name, SUBSCRIPTIONS).await;
    let mut hubs = [start("first").await?, start("second").await?];
    let mut rounds: [Vec<f64>; 2] = Default::default();
    // In the first round the hubs write the grants; it is not counted.
    for round in 0..=scale.rounds {
        wait_shared(&store, &all, &hubs).await?;
        let lost = owned(&store, &all, &hubs[0]).await?;
        let one = lost.first().context("the first owns nothing")?;
        let took = kill(&store, one, &mut hubs).await?;
        println!("  round {round}: {took:.2?}");
        let system = crate::stage::system(0);
        let mut found = 0;
        for m in &lost {
            found += parked(&hubs[1], m, &system).await?;
        }
        ensure!(found >= PARKED, "only {found} parked subjects are there");
        // The next round kills the other one.
        hubs[0].restart().await?;
        hubs.swap(0, 1);
        if round > 0 {
            for (all, value) in rounds.iter_mut().zip(took) {
                all.push(value);
            }
        }
    }
    let [after_lease, after_kill] = rounds;
    let name = format!(
        "takeover of {TAKEN_OVER} municipalities with {PARKED} parked subjects, after the lease"
    );
    Ok(vec![
        Figure::new(name, "s", Aim::AtMost(3.0), after_lease),
        Figure::new("… after the kill", "s", Aim::None, after_kill),
    ])
}
