//! The processes of a measurement: hub, adapter, receivers and floor, each with its own account.
//! Every figure sets them up anew in a folder of its own.
//! Must never measure a process together with another one's work.
//! Read next: `figures.rs`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::process::musubi;
use musubi_e2e::wait::wait_for_text;
use musubi_e2e::{Client, Hub, Process, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

use crate::adapter::PRODUCT;
use crate::receiver::Seen;

/// Clock ticks of `/proc` in a second.
const TICKS: f64 = 100.0;
/// The paths of a move within the town that are granted, as a tax office gets them.
const GRANTED: &str = "record.person; record.address; record.address_since; record.household; \
     record.head; record.relationship; record.protection; ward_change; ward_from; ward_to; \
     household_changed; whole_or_part; joined_existing_household";

/// CPU that a process has used so far, in seconds.
pub(crate) fn cpu_seconds(process: &Process) -> Result<f64> {
    cpu_seconds_of(process.pid())
}

/// The same by the id of a process.
pub(crate) fn cpu_seconds_of(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    // The name in brackets may hold anything; user and system time are the 12th and 13th behind it.
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: Vec<f64> = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse().ok())
        .collect();
    Ok(ticks.iter().sum::<f64>() / TICKS)
}

pub(crate) fn channel(address: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint.tcp_nodelay(true).connect_lazy())
}

/// This program under another of its commands.
fn again(arguments: &[String]) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    Ok(command)
}

async fn start_told(
    name: &str,
    folder: &Path,
    mut arguments: Vec<String>,
) -> Result<(Process, SocketAddr)> {
    let told = folder.join(format!("{name}.address"));
    arguments.push("--address-file".to_owned());
    arguments.push(told.display().to_string());
    let mut process = Process::spawn(name, again(&arguments)?, folder)?;
    match wait_for_text(PATIENCE, &told).await {
        Ok(address) => Ok((process, address.parse()?)),
        Err(error) => {
            process.must_run()?;
            Err(error)
        }
    }
}

/// A receiving product.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
}

impl Receiver {
    pub(crate) async fn start(folder: &Path, name: &str, manner: &[&str]) -> Result<Self> {
        let mut arguments = vec!["receiver".to_owned()];
        arguments.extend(manner.iter().map(|&word| word.to_owned()));
        let (process, address) = start_told(name, folder, arguments).await?;
        Ok(Self { process, address })
    }

    pub(crate) async fn seen(&self) -> Result<Seen> {
        self.ask("/seen").await
    }

    /// What it has seen; it begins anew.
    pub(crate) async fn forget(&self) -> Result<Seen> {
        self.ask("/forget").await
    }

    async fn ask(&self, path: &str) -> Result<Seen> {
        let mut stream = TcpStream::connect(self.address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: receiver\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("the receiver ended the connection");
            }
            let text = String::from_utf8_lossy(&answer);
            if let Some((_, body)) = text.split_once("\r\n\r\n")
                && let Ok(seen) = serde_json::from_str(body)
            {
                return Ok(seen);
            }
        }
    }

    /// Waits until it has applied or refused so many since it was asked to forget.
    pub(crate) async fn wait_for(&self, events: u64) -> Result<()> {
        let what = format!("{events} events at a receiver");
        wait_until(PATIENCE, &what, async || {
            let seen = self.seen().await?;
            if seen.applied + seen.rejected < events {
                bail!("{seen:?}");
            }
            Ok(true)
        })
        .await
    }
}

/// A floor process.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) process: Process,
    pub(crate) channel: Channel,
}

impl Floor {
    pub(crate) async fn start(folder: &Path, receivers: &[&Receiver]) -> Result<Self> {
        let file = folder.join("floor.log").display().to_string();
        Self::start_on(folder, receivers, ["--file".to_owned(), file]).await
    }

    /// The same over brokers.
    pub(crate) async fn over(
        cluster: &Cluster,
        folder: &Path,
        receivers: &[&Receiver],
    ) -> Result<Self> {
        let brokers = cluster.kafka.brokers();
        Self::start_on(folder, receivers, ["--brokers".to_owned(), brokers]).await
    }

    async fn start_on(folder: &Path, receivers: &[&Receiver], on: [String; 2]) -> Result<Self> {
        let mut arguments = vec!["floor".to_owned()];
        arguments.extend(on);
        for receiver in receivers {
            arguments.push("--receiver".to_owned());
            arguments.push(receiver.address.to_string());
        }
        let (process, address) = start_told("floor", folder, arguments).await?;
        Ok(Self {
            process,
            channel: channel(&address.to_string())?,
        })
    }
}

/// A hub with systems that are granted the bench's events.
#[derive(Debug)]
pub(crate) struct Town {
    pub(crate) hub: Hub,
    pub(crate) channel: Channel,
    pub(crate) folder: PathBuf,
    adapters: Vec<Process>,
}

/// 業務ID of the bench's n-th system.
pub(crate) fn system(number: usize) -> String {
    format!("{:03}", 500 + number)
}

/// An instance of a cluster, in a folder of its own.
pub(crate) async fn instance(
    cluster: &Cluster,
    folder: &Path,
    name: &str,
    systems: usize,
) -> Result<Hub> {
    let place = vec!["--config".into(), cluster.config()?.into()];
    start_hub(&folder.join(name), systems, place).await
}

/// A hub whose systems are granted the bench's events.
async fn start_hub(folder: &Path, systems: usize, mut place: Vec<OsString>) -> Result<Hub> {
    let grants = folder.join("grants");
    std::fs::create_dir_all(&grants)?;
    for number in 0..systems.max(1) {
        let system = system(number);
        let table = format!(
            "event,receiver,purpose_ja,legal_basis,population,granted,protected_person_rule\n\
             musubi.standard.resident.v1.ResidentMovedWithin,{system},測定,測定,all,{GRANTED},P1+P2\n"
        );
        std::fs::write(grants.join(format!("{system}.csv")), table)?;
    }
    let mut command = musubi()?;
    command.arg("serve");
    place.extend(["--grants".into(), grants.into()]);
    Hub::start_at(folder, command, place).await
}

/// An adapter process of a municipality, which applies at once.
pub(crate) fn adapter(folder: &Path, hubs: &str, m: &str, systems: &[String]) -> Result<Process> {
    let mut arguments = vec!["adapter".to_owned(), "--hub".to_owned(), hubs.to_owned()];
    arguments.extend(["--municipality".to_owned(), m.to_owned()]);
    for system in systems {
        arguments.extend(["--serve".to_owned(), system.clone()]);
    }
    Process::spawn(&format!("adapter-{m}"), again(&arguments)?, folder)
}

impl Town {
    /// Starts a hub on a data folder; `systems` are granted and none is bound yet.
    pub(crate) async fn start(folder: &Path, systems: usize) -> Result<Self> {
        let place = vec!["--data".into(), folder.join("hub").into()];
        Self::start_at(folder, systems, place).await
    }

    /// The same as an instance of a cluster.
    pub(crate) async fn over(cluster: &Cluster, folder: &Path, systems: usize) -> Result<Self> {
        let place = vec!["--config".into(), cluster.config()?.into()];
        Self::start_at(folder, systems, place).await
    }

    async fn start_at(folder: &Path, systems: usize, place: Vec<OsString>) -> Result<Self> {
        let hub = start_hub(folder, systems, place).await?;
        Ok(Self {
            channel: channel(hub.address())?,
            hub,
            folder: folder.to_owned(),
            adapters: Vec::new(),
        })
    }

    pub(crate) fn client(&self) -> Result<Client> {
        self.hub.client()
    }

    /// Binds systems, each with its receiver, and starts one adapter process for them.
    pub(crate) async fn serve(&mut self, first: usize, to: &[Option<&Receiver>]) -> Result<()> {
        let client = self.client()?;
        let mut arguments = vec!["adapter".to_owned(), "--hub".to_owned(), self.hub.url()];
        for (number, receiver) in to.iter().enumerate() {
            let system = system(first + number);
            client.bind(&system, PRODUCT).await?;
            arguments.push("--serve".to_owned());
            arguments.push(match receiver {
                Some(receiver) => format!("{system}={}", receiver.address),
                None => system,
            });
        }
        let name = format!("adapter-{first}");
        let adapter = Process::spawn(&name, again(&arguments)?, &self.folder)?;
        self.adapters.push(adapter);
        wait_until(PATIENCE, "the adapters to attach", async || {
            let attached = client.subscriptions().await?;
            let attached = attached
                .iter()
                .filter(|s| s.bindings.iter().any(|b| b.attached));
            Ok(attached.count() >= first + to.len())
        })
        .await
    }

    /// CPU of the hub alone.
    pub(crate) fn hub_cpu(&mut self) -> Result<f64> {
        cpu_seconds(self.hub.process())
    }

    /// CPU of hub and adapters: what stands against the floor.
    pub(crate) fn cpu(&mut self) -> Result<f64> {
        let mut seconds = self.hub_cpu()?;
        for adapter in &self.adapters {
            seconds += cpu_seconds(adapter)?;
        }
        Ok(seconds)
    }

    /// Waits until the first systems have nothing left.
    pub(crate) async fn wait_delivered(&self, systems: usize) -> Result<()> {
        let client = self.client()?;
        let named: Vec<String> = (0..systems).map(system).collect();
        wait_until(PATIENCE * 5, "all to be delivered", async || {
            let all = client.subscriptions().await?;
            let mut own = all.iter().filter(|s| named.contains(&s.system));
            Ok(own.all(|s| s.lag == 0 && s.in_flight == 0))
        })
        .await
    }
}

/// Bytes of a folder's files.
pub(crate) fn bytes_below(folder: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        bytes += if about.is_dir() {
            bytes_below(&entry.path())?
        } else {
            about.len()
        };
    }
    Ok(bytes)
}

/// Seconds of a duration.
pub(crate) fn seconds(duration: Duration) -> f64 {
    duration.as_secs_f64()
}
