//! Bad neighbours: one receiver is stopped, one slow, one rejects; what the healthy ones feel.
//! Two hubs in turn: one with three healthy systems, one with two, a rejecting and two bad ones.
//! Must never count a bad receiver's deliveries for the healthy ones.
//! Read next: `figures/size.rs`.

use std::time::Instant;

use anyhow::Result;
use musubi_e2e::process::Signal;

use super::deliver::{STEADY, publish_steadily};
use super::{Scale, below, folder};
use crate::load::{Load, publish_all};
use crate::report::{Aim, Figure};
use crate::stage::{Receiver, Town, seconds};

const PERSONS: u64 = 5_000;
const BATCH: usize = 100;
const CLIENTS: usize = 4;
const EVENTS: usize = 5_000;
const STEADY_SECONDS: usize = 4;
const HEALTHY: usize = 2;
/// The healthy and the one that rejects: they answer everything, on both sides.
const ANSWERING: usize = HEALTHY + 1;
/// Beside the healthy ones where all are well.
const WELL: [&[&str]; 1] = [&[]];
/// Beside the healthy ones otherwise: rejecting, slow, and one to be stopped.
const BAD: [&[&str]; 3] = [&["--reject-percent", "1"], &["--delay-ms", "2000"], &[]];

struct Side {
    town: Town,
    load: Load,
    healthy: Vec<Receiver>,
    others: Vec<Receiver>,
}

#[derive(Clone, Copy)]
struct Felt {
    /// CPU of the hub for each delivery that was answered, in microseconds.
    cpu_us: f64,
    rate: f64,
    p99_ms: f64,
}

impl Side {
    async fn start(folder: &std::path::Path, beside: &[&[&str]]) -> Result<Self> {
        let mut healthy = Vec::new();
        for number in 0..HEALTHY {
            healthy.push(Receiver::start(folder, &format!("healthy-{number}"), &[]).await?);
        }
        let mut others = Vec::new();
        for (number, manner) in beside.iter().enumerate() {
            others.push(Receiver::start(folder, &format!("other-{number}"), manner).await?);
        }
        let mut town = Town::start(folder, HEALTHY + beside.len()).await?;
        let to: Vec<_> = healthy.iter().map(Some).collect();
        town.serve(0, &to).await?;
        let to: Vec<_> = others.iter().map(Some).collect();
        town.serve(HEALTHY, &to).await?;
        Ok(Self {
            town,
            load: Load::new(PERSONS),
            healthy,
            others,
        })
    }

    /// Deliveries that were answered for good.
    async fn answered(&self) -> Result<u64> {
        let mut answered = 0;
        // A stopped receiver is not asked: it would not say.
        for receiver in self.healthy.iter().chain(self.others.iter().take(2)) {
            let seen = receiver.seen().await?;
            answered += seen.applied + seen.rejected;
        }
        Ok(answered)
    }

    async fn applied(&self) -> Result<Vec<u64>> {
        let mut applied = Vec::new();
        for receiver in &self.healthy {
            applied.push(receiver.seen().await?.applied);
        }
        Ok(applied)
    }

    async fn round(&mut self, scale: Scale) -> Result<Felt> {
        let events = scale.of(EVENTS).max(BATCH) / BATCH * BATCH;
        let (cpu, answered) = (self.town.hub_cpu()?, self.answered().await?);
        let of_healthy: Vec<u64> = self.applied().await?;
        let requests = self.load.requests(events / BATCH, BATCH)?;
        let started = Instant::now();
        publish_all(&self.town.channel, requests, CLIENTS).await?;
        for (receiver, before) in self.healthy.iter().zip(of_healthy) {
            receiver.wait_for(before + events as u64).await?;
        }
        let took = seconds(started.elapsed());
        self.town.wait_delivered(ANSWERING).await?;
        let done = self.answered().await? - answered;
        let cpu_us = (self.town.hub_cpu()? - cpu) * 1e6 / done as f64;
        let steady = scale.of(STEADY_SECONDS * STEADY as usize);
        for receiver in &self.healthy {
            receiver.forget().await?;
        }
        publish_steadily(&self.town.channel, &mut self.load, steady).await?;
        let mut p99_ms: f64 = 0.0;
        for receiver in &self.healthy {
            receiver.wait_for(steady as u64).await?;
            p99_ms = p99_ms.max(receiver.seen().await?.p99_us as f64 / 1_000.0);
        }
        Ok(Felt {
            cpu_us,
            rate: events as f64 / took,
            p99_ms,
        })
    }
}

pub(crate) async fn run(scale: Scale) -> Result<Vec<Figure>> {
    let folder = folder()?;
    let mut well = Side::start(&below(folder.path(), "well")?, &WELL).await?;
    let mut bad = Side::start(&below(folder.path(), "bad")?, &BAD).await?;
    if let Some(stopped) = bad.others.last_mut() {
        stopped.process.signal(Signal::Freeze)?;
    }
    let mut rounds = Vec::new();
    for round in 0..=scale.rounds {
        let pair = (well.round(scale).await?, bad.round(scale).await?);
        if round > 0 {
            rounds.push(pair);
        }
    }
    // A frozen process ends only when it wakes.
    if let Some(stopped) = bad.others.last_mut() {
        stopped.process.signal(Signal::Wake)?;
    }
    let ratio = |of: fn(&Felt) -> f64| {
        rounds
            .iter()
            .map(|(well, bad)| of(bad) / of(well))
            .collect()
    };
    let plain = |of: fn(&Felt) -> f64| rounds.iter().map(|(_, bad)| of(bad)).collect();
    Ok(vec![
        Figure::new(
            "bad neighbours: CPU of the hub per answered delivery, with / without",
            "×",
            Aim::AtMost(1.1),
            ratio(|felt| felt.cpu_us),
        ),
        Figure::new(
            "bad neighbours: rate of the healthy, with / without",
            "×",
            Aim::AtLeast(0.97),
            ratio(|felt| felt.rate),
        ),
        Figure::new(
            "bad neighbours: p99 of the healthy at 500/s, with / without",
            "×",
            Aim::AtMost(1.25),
            ratio(|felt| felt.p99_ms),
        ),
        Figure::new(
            "… rate of the healthy, with",
            "events/s",
            Aim::None,
            plain(|felt| felt.rate),
        ),
        Figure::new(
            "… p99 of the healthy, with",
            "ms",
            Aim::None,
            plain(|felt| felt.p99_ms),
        ),
    ])
}
