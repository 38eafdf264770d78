//! One, two, four instances that share the same municipalities and the same work.
//! On few cores they do not get faster; what is shown is that a delivery costs the same.
//! Must never publish by way of an instance that passes it on: that has a cost of its own.
//! Read next: `country.rs`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use musubi_e2e::cluster::Cluster;
use musubi_e2e::{Hub, Process, wait_until};
use musubi_hub::event::Municipality;
use musubi_hub::store::Owners;
use musubi_hub::store::postgres::{PgConfig, PgStore};
use musubi_proto::hub::v1::ListSubscriptionsRequest;

use super::super::{Scale, folder};
use crate::country::{Each, municipalities, write};
use crate::load::{Load, of_municipality, publish_all};
use crate::needs::Needs;
use crate::report::{Aim, Figure};
use crate::stage::{adapter, channel, cpu_seconds, instance, seconds, system};

const SIZES: [usize; 3] = [1, 2, 4];
/// Municipalities: each of four instances gets one.
const MUNICIPALITIES: usize = 4;
/// Subscriptions of each.
const SUBSCRIPTIONS: usize = 3;
const PERSONS: u64 = 5_000;
const BATCH: usize = 100;
const CLIENTS: usize = 2;
/// Events of a round, over all municipalities.
const EVENTS: usize = 8_000;
/// Longest wait for instances to share, and for a round to be delivered.
const PATIENCE: Duration = Duration::from_secs(120);

/// The stage: what stays, whatever the number of instances.
struct Setting {
    cluster: Cluster,
    folder: tempfile::TempDir,
    store: PgStore,
    towns: Vec<(Municipality, Load)>,
    hubs: Vec<Hub>,
    started: usize,
    adapters: Vec<Process>,
}

impl Setting {
    async fn start() -> Result<Self> {
        let folder = folder()?;
        let cluster = Cluster::start(folder.path(), 1)?;
        let all = municipalities(MUNICIPALITIES);
        let each = Each {
            subscriptions: SUBSCRIPTIONS,
            parked: 0,
        };
        write(&cluster, &all, each).await?;
        let store = PgStore::open(PgConfig::new(&cluster.postgres.url("postgres"))).await?;
        let towns = all.into_iter().map(|m| (m, Load::new(PERSONS)));
        let mut setting = Self {
            store,
            towns: towns.collect(),
            hubs: Vec::new(),
            started: 0,
            adapters: Vec::new(),
            cluster,
            folder,
        };
        setting.become_of_size(1).await?;
        let urls = setting.hubs.iter().map(Hub::url).collect::<Vec<_>>();
        for (m, _) in &setting.towns {
            let systems: Vec<String> = (0..SUBSCRIPTIONS).map(system).collect();
            let place = setting.folder.path();
            let adapter = adapter(place, &urls.join(","), m.as_str(), &systems)?;
            setting.adapters.push(adapter);
        }
        Ok(setting)
    }

    /// Starts or ends instances until there are so many, each with its share.
    async fn become_of_size(&mut self, size: usize) -> Result<()> {
        while self.hubs.len() > size {
            let last = self.hubs.pop();
            last.context("an instance")?.process().stop()?;
        }
        while self.hubs.len() < size {
            let name = format!("instance-{}", self.started);
            self.started += 1;
            let hub = instance(&self.cluster, self.folder.path(), &name, SUBSCRIPTIONS).await?;
            self.hubs.push(hub);
        }
        wait_until(PATIENCE, "the instances to share", async || {
            let owners = self.owners().await?;
            for hub in &self.hubs {
                let own = owners.iter().filter(|owner| **owner == hub.url()).count();
                ensure!(own == MUNICIPALITIES / size, "{own} at {}", hub.url());
            }
            Ok(true)
        })
        .await
    }

    async fn owners(&self) -> Result<Vec<String>> {
        let asked = self.towns.iter().map(async |(m, _)| {
            let owner = self.store.owner_of(m).await?;
            let owner = owner.filter(|owner| owner.holds);
            anyhow::Ok(owner.context("nobody owns it")?.address)
        });
        try_join_all(asked).await
    }

    fn cpu(&mut self) -> Result<f64> {
        let hubs = self.hubs.iter_mut();
        hubs.map(|hub| cpu_seconds(hub.process())).sum()
    }

    /// Waits until every subscription has its adapter, and nothing left.
    async fn wait_at_rest(&self) -> Result<()> {
        let client = self.hubs.first().context("an instance")?.client()?;
        for (m, _) in &self.towns {
            wait_until(PATIENCE, "all to be delivered", async || {
                let request = ListSubscriptionsRequest {
                    municipality: m.as_str().to_owned(),
                };
                let listed = client.admin().list_subscriptions(request).await?;
                let all = listed.into_inner().subscriptions;
                let mut own = all.iter();
                Ok(own.all(|s| {
                    s.lag == 0 && s.in_flight == 0 && s.bindings.iter().any(|b| b.attached)
                }))
            })
            .await?;
        }
        Ok(())
    }

    /// Microseconds of all instances' CPU for each delivery, with what its publish costs; and what
    /// brokers and database needed.
    async fn per_delivery(&mut self, events: usize) -> Result<(f64, Vec<Figure>)> {
        self.wait_at_rest().await?;
        let owners = self.owners().await?;
        let each = (events / MUNICIPALITIES).div_ceil(BATCH);
        let mut publishing = Vec::new();
        for ((m, load), owner) in self.towns.iter_mut().zip(owners) {
            let mut requests = load.requests(each, BATCH)?;
            for request in &mut requests {
                of_municipality(request, m.as_str());
            }
            let address = owner.trim_start_matches("http://");
            publishing.push((channel(address)?, requests));
        }
        let needed = Needs::of(&self.cluster)?;
        let before = self.cpu()?;
        let started = std::time::Instant::now();
        let publishing = publishing
            .into_iter()
            .map(async |(channel, requests)| publish_all(&channel, requests, CLIENTS).await);
        try_join_all(publishing).await?;
        self.wait_at_rest().await?;
        let took = started.elapsed();
        let events = (each * BATCH * MUNICIPALITIES) as f64;
        let deliveries = events * SUBSCRIPTIONS as f64;
        let used = self.cpu()? - before;
        let rate = deliveries / seconds(took);
        println!("  {} instances: {rate:.0} deliveries/s", self.hubs.len());
        let needs = Needs::of(&self.cluster)?.since(needed, deliveries, events);
        Ok((used * 1e6 / deliveries, needs))
    }
}

pub(crate) async fn instances(scale: Scale) -> Result<Vec<Figure>> {
    let mut setting = Setting::start().await?;
    let mut rounds: [Vec<f64>; 3] = Default::default();
    let mut needs = Vec::new();
    for round in 0..=scale.rounds {
        for (size, all) in SIZES.into_iter().zip(&mut rounds) {
            setting.become_of_size(size).await?;
            let (cost, needed) = setting.per_delivery(scale.of(EVENTS)).await?;
            if size == 1 {
                needs = needed;
            }
            if round > 0 {
                all.push(cost);
            }
        }
    }
    let [one, two, four] = rounds;
    let beside_one = |more: &[f64]| more.iter().zip(&one).map(|(a, b)| a / b).collect();
    let mut figures = vec![
        Figure::new(
            "two instances: CPU of a delivery / with one",
            "×",
            Aim::AtMost(1.1),
            beside_one(&two),
        ),
        Figure::new(
            "four instances: CPU of a delivery / with one",
            "×",
            Aim::AtMost(1.1),
            beside_one(&four),
        ),
        Figure::new("… one", "µs", Aim::None, one),
        Figure::new("… two", "µs", Aim::None, two),
        Figure::new("… four", "µs", Aim::None, four),
    ];
    figures.extend(needs);
    Ok(figures)
}
