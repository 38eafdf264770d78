//! The lines of a cluster, each with a proxy: to the instances, the brokers and the database.
//! Made before what they lead to, which has to tell their addresses.
//! Must never let two instances share a line: one of them alone is cut off.
//! Read next: `proxy.rs`, `stand.rs`, `rows/cluster/lines.rs`.

use std::path::Path;

use anyhow::{Context, Result};
use musubi_e2e::cluster::{Addresses, Cluster};
use musubi_e2e::{Client, Hub};

use crate::proxy::{Links, Proxy};

/// What can be harmed of them at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// Between publishers and all instances.
    Source,
    /// Between receivers and all instances.
    Adapter,
    /// Between the instances; also that of a receiver which one of them sent to another.
    Instances,
    /// Between one instance and all brokers.
    Brokers(usize),
    /// Between all instances and all brokers.
    AllBrokers,
    /// Between one instance and the database.
    Database(usize),
    /// Between all instances and the database.
    AllDatabase,
}

/// The lines of one instance.
#[derive(Debug)]
struct Own {
    source: Proxy,
    adapter: Proxy,
    /// What the instance tells the others.
    told: Proxy,
    brokers: Vec<Proxy>,
    database: Proxy,
}

/// All lines.
#[derive(Debug)]
pub struct Lines {
    instances: Vec<Own>,
}

impl Lines {
    /// Makes the lines of so many instances and brokers, and starts all of these.
    pub async fn start(
        folder: &Path,
        brokers: usize,
        instances: usize,
        seed: u64,
    ) -> Result<(Self, Cluster, Vec<Hub>)> {
        let mut lines = Self {
            instances: Vec::new(),
        };
        for place in 0..instances as u64 {
            let own = Own::ahead(brokers, seed.wrapping_add(place)).await?;
            lines.instances.push(own);
        }
        let ways = lines.instances.iter().map(Own::broker_addresses);
        let cluster = Cluster::start_with_ways(folder, brokers, ways.collect())?;
        let mut hubs = Vec::new();
        for (place, own) in lines.instances.iter().enumerate() {
            for (proxy, broker) in own.brokers.iter().zip(cluster.kafka.way(place)) {
                proxy.lead_to(&broker);
            }
            let database = format!("127.0.0.1:{}", cluster.postgres.port());
            own.database.lead_to(&database);
            let url = cluster.postgres.url("postgres");
            let addresses = Addresses {
                brokers: own.broker_addresses().join(","),
                database: url.replace(&database, own.database.address()),
                own: Some(own.told.url()),
            };
            let hub = cluster
                .hub_by(&format!("instance-{place}"), &addresses)
                .await?;
            for proxy in [&own.source, &own.adapter, &own.told] {
                proxy.lead_to(hub.address());
            }
            hubs.push(hub);
        }
        Ok((lines, cluster, hubs))
    }

    /// A client of all instances, as publishers have it.
    pub fn source(&self) -> Result<Client> {
        let urls = self.instances.iter().map(|own| own.source.url());
        Client::of(&urls.collect::<Vec<_>>())
    }

    /// The same as receivers have it.
    pub fn adapter(&self) -> Result<Client> {
        let urls = self.instances.iter().map(|own| own.adapter.url());
        Client::of(&urls.collect::<Vec<_>>())
    }

    /// The same of a receiver that knows one instance.
    pub fn adapter_at(&self, place: usize) -> Result<Client> {
        let own = self.instances.get(place).context("no such instance")?;
        Client::new(&own.adapter.url())
    }

    /// Changes how a line behaves.
    pub fn set(&self, line: Line, links: Links) -> Result<()> {
        let proxies = self.of(line)?;
        proxies.iter().for_each(|proxy| proxy.set(links));
        Ok(())
    }

    /// Resets every connection of a line that stands.
    pub fn reset(&self, line: Line) -> Result<()> {
        self.of(line)?.iter().for_each(|proxy| proxy.reset());
        Ok(())
    }

    fn of(&self, line: Line) -> Result<Vec<&Proxy>> {
        let all = self.instances.iter();
        let one = |place: usize| self.instances.get(place).context("no such instance");
        Ok(match line {
            Line::Source => all.map(|own| &own.source).collect(),
            Line::Adapter => all.map(|own| &own.adapter).collect(),
            Line::Instances => all.map(|own| &own.told).collect(),
            Line::Brokers(place) => one(place)?.brokers.iter().collect(),
            Line::AllBrokers => all.flat_map(|own| &own.brokers).collect(),
            Line::Database(place) => vec![&one(place)?.database],
            Line::AllDatabase => all.map(|own| &own.database).collect(),
        })
    }
}

impl Own {
    async fn ahead(count: usize, seed: u64) -> Result<Self> {
        let mut brokers = Vec::new();
        for _ in 0..count {
            brokers.push(Proxy::ahead(seed).await?);
        }
        Ok(Self {
            source: Proxy::ahead(seed).await?,
            adapter: Proxy::ahead(seed).await?,
            told: Proxy::ahead(seed).await?,
            brokers,
            database: Proxy::ahead(seed).await?,
        })
    }

    fn broker_addresses(&self) -> Vec<String> {
        let addresses = self.brokers.iter().map(Proxy::address);
        addresses.map(str::to_owned).collect()
    }
}
