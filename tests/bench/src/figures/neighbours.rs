//! Bad neighbours: one receiver is stopped, one slow, one rejects; what the healthy ones feel.
//! Two hubs with the same systems in turn: on one all are well, on the other three are not.
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
/// Stopped, slow, rejecting.
const BAD: [&[&str]; 3] = [&[], &["--delay-ms", "2000"], &["--reject-percent", "1"]];

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
    async fn start(folder: &std::path::Path, bad: bool) -> Result<Self> {
        let mut healthy = Vec::new();
        for number in 0..HEALTHY {
            healthy.push(Receiver::start(folder, &format!("healthy-{number}"), &[]).await?);
        }
        let mut others = Vec::new();
        for (number, manner) in BAD.iter().enumerate() {
            let manner = if bad { *manner } else { &[] };
            others.push(Receiver::start(folder, &format!("other-{number}"), manner).await?);
        }
        let mut town = Town::start(folder, HEALTHY + BAD.len()).await?;
        let to: Vec<_> = healthy.iter().map(Some).collect();
        town.serve(0, &to).await?;
        let to: Vec<_> = others.iter().map(Some).collect();
        town.serve(HEALTHY, &to).await?;
        if let Some(stopped) = others.first_mut().filter(|_| bad) {
            stopped.process.signal(Signal::Freeze)?;
        }
        Ok(Self {
            town,
            load: Load::new(PERSONS),
            healthy,
            others,
        })
    }

    /// Deliveries that all receivers but the stopped one have answered.
    async fn answered(&self) -> Result<u64> {
        let mut answered = 0;
        for receiver in self.healthy.iter().chain(self.others.iter().skip(1)) {
            let seen = receiver.seen().await?;
            answered += seen.applied + seen.rejected;
        }
        Ok(answered)
    }

    async fn round(&mut self, scale: Scale, well: bool) -> Result<Felt> {
        let events = scale.of(EVENTS).max(BATCH) / BATCH * BATCH;
        for receiver in &self.healthy {
            receiver.forget().await?;
        }
        let (cpu, answered) = (self.town.hub_cpu()?, self.answered().await?);
        let first = self.others.first().filter(|_| well);
        let of_first = match first {
            Some(first) => first.seen().await?.applied,
            None => 0,
        };
        let requests = self.load.requests(events / BATCH, BATCH)?;
        let started = Instant::now();
        publish_all(&self.town.channel, requests, CLIENTS).await?;
        for receiver in &self.healthy {
            receiver.wait_for(events as u64).await?;
        }
        let took = seconds(started.elapsed());
        if well {
            self.town.wait_delivered(HEALTHY + BAD.len()).await?;
        }
        let mut done = self.answered().await? - answered;
        if let Some(first) = first {
            done += first.seen().await?.applied - of_first;
        }
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
    let mut well = Side::start(&below(folder.path(), "well")?, false).await?;
    let mut bad = Side::start(&below(folder.path(), "bad")?, true).await?;
    let mut rounds = Vec::new();
    for round in 0..=scale.rounds {
        let pair = (
            well.round(scale, true).await?,
            bad.round(scale, false).await?,
        );
        if round > 0 {
            rounds.push(pair);
        }
    }
    // A frozen process ends only when it wakes.
    if let Some(stopped) = bad.others.first_mut() {
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
