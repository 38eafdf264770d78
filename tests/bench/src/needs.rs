//! What brokers and database need for the hub's work: their CPU, and what they write.
//! Beside the figures of the hub, for `docs/scale.md`.
//! Must never take the bytes of an index for those of events.
//! Read next: `figures/deliver.rs`.

use std::path::Path;

use anyhow::{Context, Result};
use musubi_e2e::cluster::Cluster;

use crate::report::{Aim, Figure};
use crate::stage::cpu_seconds_of;

/// In the database's own words: its size, what it wrote ahead, its transactions.
const ASK: &str = "SELECT pg_database_size('postgres'), pg_current_wal_lsn() - '0/0', xact_commit \
     FROM pg_stat_database WHERE datname = 'postgres'";

/// What was needed up to a moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Needs {
    brokers_s: f64,
    database_s: f64,
    topics: f64,
    database: f64,
    ahead: f64,
    commits: f64,
}

impl Needs {
    pub(crate) fn of(cluster: &Cluster) -> Result<Self> {
        let cpu = |pids: Vec<u32>| pids.into_iter().map(cpu_seconds_of).sum::<Result<f64>>();
        let answer = cluster.postgres.ask("postgres", ASK)?;
        let numbers: Vec<f64> = answer
            .trim()
            .split('|')
            .map(str::parse)
            .collect::<Result<_, _>>()?;
        let number = |place: usize| numbers.get(place).copied().context("three numbers");
        let mut database = vec![cluster.postgres.pid()];
        database.extend(children(cluster.postgres.pid())?);
        Ok(Self {
            brokers_s: cpu(cluster.kafka.pids())?,
            database_s: cpu(database)?,
            topics: records_below(cluster.kafka.folder())? as f64 / cluster.kafka.count() as f64,
            database: number(0)?,
            ahead: number(1)?,
            commits: number(2)?,
        })
    }

    /// For each delivery, and for each event, since an earlier moment.
    pub(crate) fn since(self, before: Self, deliveries: f64, events: f64) -> Vec<Figure> {
        let figure = |name: &str, unit, value: f64| Figure::new(name, unit, Aim::None, vec![value]);
        let micros = |now: f64, then: f64| (now - then) * 1e6 / deliveries;
        vec![
            figure(
                "… all brokers",
                "s/million",
                micros(self.brokers_s, before.brokers_s),
            ),
            figure(
                "… the database",
                "s/million",
                micros(self.database_s, before.database_s),
            ),
            figure(
                "… commits in the database",
                "/delivery",
                (self.commits - before.commits) / deliveries,
            ),
            figure(
                "… the database grew by",
                "B/delivery",
                (self.database - before.database) / deliveries,
            ),
            figure(
                "… it wrote ahead",
                "B/delivery",
                (self.ahead - before.ahead) / deliveries,
            ),
            figure(
                "… a topic of the hub, on one broker",
                "B/event",
                (self.topics - before.topics) / events,
            ),
        ]
    }
}

/// Bytes of the records of the hub's topics.
fn records_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && (name.starts_with("node-") || name.starts_with("musubi.")) {
            bytes += records_below(&path)?;
        } else if name.ends_with(".log") && folder.to_string_lossy().contains("/musubi.") {
            bytes += path.metadata()?.len();
        }
    }
    Ok(bytes)
}

/// Processes that a process has started.
fn children(of: u32) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has ended meanwhile has no parent any more.
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let fields = stat.rsplit(')').next().unwrap_or_default();
        if fields.split_whitespace().nth(1) == Some(&of.to_string()) {
            found.push(pid);
        }
    }
    Ok(found)
}
