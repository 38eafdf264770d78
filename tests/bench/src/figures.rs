//! The figures of the bench, one function each, in a folder of its own that is gone afterwards.
//! Every round does the same work on the hub and on what it is held against, one after the other.
//! Must never keep a number of an earlier run: what is printed was measured now.
//! Read next: `figures/ingest.rs`.

use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::disk;
use crate::report::{Aim, Figure};

mod cluster;
mod deliver;
mod ingest;
mod neighbours;
mod size;

/// A figure or a family of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Name {
    /// Durable ingest against the floor, in batches and one by one
    Ingest,
    /// Publishing over three brokers and a database against a bare producer
    ClusterIngest,
    /// CPU for deliveries to three receivers over brokers and a database
    ClusterCpu,
    /// One, two and four instances: CPU of a delivery
    ClusterInstances,
    /// All municipalities of the country at one instance, idle: memory and start
    ClusterIdle,
    /// An instance is killed: when another one serves what it owned
    ClusterTakeover,
    /// Publish to applied at 500 a second
    Latency,
    /// CPU for deliveries to three receivers
    Cpu,
    /// 30 % of requests answered with 503
    Busy,
    /// A stopped, a slow and a rejecting receiver beside healthy ones
    Neighbours,
    /// One subscription against 200
    Fanout,
    /// Memory with events waiting for a stopped receiver
    Memory,
    /// Bytes on the disk for each event
    Disk,
    /// Start with a long log to the first acknowledged publish
    Start,
}

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scale {
    /// Rounds.
    pub(crate) rounds: u32,
    /// The work of a round is divided by this.
    pub(crate) share: usize,
    /// Events that wait, or lie in the log.
    pub(crate) events: usize,
}

impl Scale {
    /// Work of a round.
    fn of(self, full: usize) -> usize {
        (full / self.share).max(1)
    }
}

/// Measures what is named, or all.
pub(crate) async fn run(only: &[Name], scale: Scale) -> Result<()> {
    let mut figures = Vec::new();
    let folder = folder()?;
    println!("machine: {}", machine());
    let before = disk::syncs_per_second(folder.path())?;
    for name in Name::value_variants() {
        if !only.is_empty() && !only.contains(name) {
            continue;
        }
        let started = std::time::Instant::now();
        let measured = measure(*name, scale).await;
        let measured = measured.with_context(|| format!("measure {name:?}"))?;
        for figure in &measured {
            println!("{figure}");
        }
        println!("  {name:?} took {:.0} s", started.elapsed().as_secs_f64());
        figures.extend(measured);
    }
    let after = disk::syncs_per_second(folder.path())?;
    let syncs = vec![before, after];
    figures.push(Figure::new("the disk's syncs", "/s", Aim::None, syncs));
    println!("\n| figure | aim | median (lowest–highest) | |\n|---|---|---|---|");
    for figure in &figures {
        println!("{figure}");
    }
    Ok(())
}

async fn measure(name: Name, scale: Scale) -> Result<Vec<Figure>> {
    match name {
        Name::Ingest => ingest::run(scale).await,
        Name::ClusterIngest => cluster::ingest(scale).await,
        Name::ClusterCpu => deliver::cpu_over_kafka(scale, cluster::BROKERS).await,
        Name::ClusterInstances => cluster::instances(scale).await,
        Name::ClusterIdle => cluster::idle(scale).await,
        Name::ClusterTakeover => cluster::takeover(scale).await,
        Name::Latency => deliver::latency(scale).await,
        Name::Cpu => deliver::cpu(scale).await,
        Name::Busy => deliver::busy(scale).await,
        Name::Neighbours => neighbours::run(scale).await,
        Name::Fanout => size::fanout(scale).await,
        Name::Memory => size::memory(scale).await,
        Name::Disk => size::disk(scale).await,
        Name::Start => size::start(scale).await,
    }
}

fn folder() -> Result<tempfile::TempDir> {
    Ok(tempfile::Builder::new().prefix("musubi-bench-").tempdir()?)
}

/// A folder for one side of a measurement.
fn below(folder: &Path, name: &str) -> Result<std::path::PathBuf> {
    let below = folder.join(name);
    std::fs::create_dir_all(&below)?;
    Ok(below)
}

fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = processors
        .lines()
        .filter_map(|line| line.strip_prefix("model name"));
    let models: Vec<&str> = models
        .map(|rest| rest.trim_start_matches([' ', '\t', ':']))
        .collect();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kibibytes = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kb| kb.parse::<u64>().ok());
    format!(
        "{} × {}, {} GiB",
        models.len(),
        models.first().unwrap_or(&"unknown processor"),
        kibibytes.unwrap_or_default() / (1024 * 1024)
    )
}
