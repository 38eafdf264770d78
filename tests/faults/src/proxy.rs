//! A proxy that harms what passes: late, slow, in pieces, cut, reset, held back or swallowed.
//! Stands between source and hub, hub and adapter, adapter and product; switched while it runs.
//! Must never keep more than a few buffers of what it holds back: the sender feels it.
//! Read next: `network.rs`, which sets it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::dice::Dice;

const BUFFER_BYTES: usize = 8 * 1024;
/// Buffers that one direction of one connection keeps at most.
const BUFFERS: usize = 16;

/// What happens to bytes of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Passage {
    /// They pass.
    #[default]
    Open,
    /// They wait, as behind a partition: TCP sends them again once it has healed.
    Held,
    /// They are gone, without a word; a connection that lost some never recovers.
    Swallowed,
}

/// How one direction of every connection behaves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    /// What happens to bytes.
    pub passage: Passage,
    /// How late they are.
    pub latency: Duration,
    /// How much later or earlier than that, at most.
    pub jitter: Duration,
    /// How many pass in a second; 0 is no limit.
    pub bytes_per_second: u64,
    /// In pieces of how many bytes; 0 is as they come.
    pub slice_bytes: usize,
    /// After how many bytes of a connection it is reset; 0 is never.
    pub cut_after_bytes: u64,
}

impl Link {
    /// The ways in which a line is bad without being down, each with its name.
    #[must_use]
    pub fn bad() -> [(&'static str, Self); 4] {
        let late = Self {
            latency: Duration::from_millis(200),
            jitter: Duration::from_millis(150),
            ..Self::default()
        };
        let slow = Self {
            bytes_per_second: 8_000,
            ..Self::default()
        };
        let sliced = Self {
            slice_bytes: 1,
            ..Self::default()
        };
        let cut = Self {
            cut_after_bytes: 60_000,
            ..Self::default()
        };
        [
            ("late", late),
            ("slow", slow),
            ("sliced", sliced),
            ("cut", cut),
        ]
    }

    /// Bytes wait.
    pub fn held() -> Self {
        Self::passage(Passage::Held)
    }

    /// Bytes are gone.
    pub fn swallowed() -> Self {
        Self::passage(Passage::Swallowed)
    }

    fn passage(passage: Passage) -> Self {
        Self {
            passage,
            ..Self::default()
        }
    }
}

/// Both directions: to the target, and back from it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Links {
    /// To the target.
    pub there: Link,
    /// From the target.
    pub back: Link,
}

impl Links {
    /// The same in both directions.
    pub fn both(link: Link) -> Self {
        Self {
            there: link,
            back: link,
        }
    }
}

/// A running proxy; dropping it ends every connection.
#[derive(Debug)]
pub struct Proxy {
    address: String,
    target: watch::Sender<String>,
    links: watch::Sender<Links>,
    resets: watch::Sender<u64>,
    accepted: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback and passes everything to `target`, a `host:port`.
    pub async fn start(target: &str, seed: u64) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("listen for the proxy")?;
        let address = listener.local_addr()?.to_string();
        let links = watch::Sender::new(Links::default());
        let resets = watch::Sender::new(0);
        let accepted = Arc::new(AtomicU64::new(0));
        let target = watch::Sender::new(target.to_owned());
        let wire = Wire {
            target: target.subscribe(),
            links: links.subscribe(),
            resets: resets.subscribe(),
            seed,
        };
        let task = tokio::spawn(accept(listener, wire, Arc::clone(&accepted)));
        Ok(Self {
            address,
            target,
            links,
            resets,
            accepted,
            task,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same for clients of HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A proxy of what is not there yet: its address is known first. Until `lead_to` nobody gets
    /// through.
    pub async fn ahead(seed: u64) -> Result<Self> {
        Self::start("", seed).await
    }

    /// Where new connections lead to from now on.
    pub fn lead_to(&self, target: &str) {
        self.target.send_replace(target.to_owned());
    }

    /// Changes how every connection behaves, also those that stand.
    pub fn set(&self, links: Links) {
        self.links.send_replace(links);
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.set(Links::default());
    }

    /// Resets every connection that stands.
    pub fn reset(&self) {
        self.resets.send_modify(|count| *count += 1);
    }

    /// Connections taken so far.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Clone)]
struct Wire {
    target: watch::Receiver<String>,
    links: watch::Receiver<Links>,
    resets: watch::Receiver<u64>,
    seed: u64,
}

async fn accept(listener: TcpListener, wire: Wire, accepted: Arc<AtomicU64>) {
    // Its end ends every connection with it.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let number = accepted.fetch_add(1, Ordering::Relaxed);
        let wire = Wire {
            seed: wire.seed.wrapping_add(number),
            ..wire.clone()
        };
        connections.spawn(connection(client, wire));
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, until both directions have ended or it is reset.
async fn connection(client: TcpStream, mut wire: Wire) {
    wire.resets.mark_unchanged();
    let target = wire.target.borrow().clone();
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    if client
        .set_nodelay(true)
        .and(server.set_nodelay(true))
        .is_err()
    {
        return;
    }
    let (client_in, mut client_out) = client.into_split();
    let (server_in, mut server_out) = server.into_split();
    let there = pump(client_in, &mut server_out, &wire, |links| links.there);
    let back = pump(server_in, &mut client_out, &wire, |links| links.back);
    let mut resets = wire.resets.clone();
    let whole = tokio::select! {
        ended = async { tokio::try_join!(there, back) } => ended.is_ok(),
        _ = resets.changed() => false,
    };
    if !whole {
        abandon(client_out);
        abandon(server_out);
    }
}

/// Ends a connection by a reset instead of an orderly end.
fn abandon(half: OwnedWriteHalf) {
    // A socket that is gone already needs none.
    if half.as_ref().set_zero_linger().is_ok() {
        half.forget();
    }
}

/// The connection is to be reset.
struct Cut;

async fn pump(
    from: OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    wire: &Wire,
    side: fn(&Links) -> Link,
) -> Result<(), Cut> {
    let (queue, waiting) = mpsc::channel(BUFFERS);
    let link = wire.links.clone();
    tokio::try_join!(
        read(from, queue, link.clone(), side, Dice::new(wire.seed)),
        write(to, waiting, link, side)
    )?;
    Ok(())
}

type Buffer = (Instant, Vec<u8>);

async fn read(
    mut from: OwnedReadHalf,
    queue: mpsc::Sender<Buffer>,
    links: watch::Receiver<Links>,
    side: fn(&Links) -> Link,
    mut dice: Dice,
) -> Result<(), Cut> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut due = Instant::now();
    loop {
        let length = from.read(&mut buffer).await.map_err(|_| Cut)?;
        if length == 0 {
            return Ok(());
        }
        let link = side(&links.borrow());
        let spread = u64::try_from(link.jitter.as_millis()).unwrap_or(0);
        let jitter = Duration::from_millis(dice.below(2 * spread + 1));
        // Nothing overtakes: a stream stays in order.
        due = due.max(Instant::now() + (link.latency + jitter).saturating_sub(link.jitter));
        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
        if queue.send((due, bytes)).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    to: &mut OwnedWriteHalf,
    mut waiting: mpsc::Receiver<Buffer>,
    mut links: watch::Receiver<Links>,
    side: fn(&Links) -> Link,
) -> Result<(), Cut> {
    let mut passed = 0;
    while let Some((due, bytes)) = waiting.recv().await {
        sleep_until(due).await;
        let mut left = VecDeque::from(bytes);
        while !left.is_empty() {
            let opened = links.wait_for(|links| side(links).passage != Passage::Held);
            let link = opened.await.map(|links| side(&links)).map_err(|_| Cut)?;
            if link.passage == Passage::Swallowed {
                // No end, no reset: the rest of this connection is silence.
                while waiting.recv().await.is_some() {}
                return std::future::pending().await;
            }
            let size = match link.slice_bytes {
                0 => left.len(),
                slice => slice.min(left.len()),
            };
            let piece: Vec<u8> = left.drain(..size).collect();
            passed += piece.len() as u64;
            if link.cut_after_bytes > 0 && passed > link.cut_after_bytes {
                return Err(Cut);
            }
            let micros = (piece.len() as u64 * 1_000_000).checked_div(link.bytes_per_second);
            if let Some(micros) = micros {
                sleep(Duration::from_micros(micros)).await;
            }
            to.write_all(&piece).await.map_err(|_| Cut)?;
        }
    }
    // An end is held back like a byte.
    let opened = links.wait_for(|links| side(links).passage != Passage::Held);
    if opened
        .await
        .is_ok_and(|links| side(&links).passage == Passage::Swallowed)
    {
        return std::future::pending().await;
    }
    to.shutdown().await.map_err(|_| Cut)
}
