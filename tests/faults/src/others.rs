//! How fast a receiver is while something else is harmed, against the same without harm.
//! For rows whose acceptance is a ratio; rounds with and without harm take turns, and each is compared
//! with its neighbour.
//! Must never compare a round that began before everything was at rest.
//! Read next: `rows/adapter.rs`, `rows/vendor.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::wait_until;

use crate::load::Taker;
use crate::row::RowReport;
use crate::scene::{PATIENCE, Scene};

/// Rounds of each kind.
pub const ROUNDS: u32 = 7;
/// Residents of a round, and versions of each.
pub const SUBJECTS: u32 = 48;
/// Versions of each resident.
pub const VERSIONS: u32 = 5;
/// The system of the other receiver, and its product.
const SYSTEM: &str = "026";
const PRODUCT: &str = "test-pension";

/// Times of rounds.
#[derive(Debug, Default)]
pub struct Times {
    calm: Vec<Duration>,
    harmed: Vec<Duration>,
}

impl Times {
    /// Notes a round without harm and the one with it.
    pub fn add(&mut self, calm: Duration, harmed: Duration) {
        self.calm.push(calm);
        self.harmed.push(harmed);
    }

    /// How many times as long a round took under harm: the median over the pairs.
    fn ratio(&self) -> f64 {
        let pairs = self.calm.iter().zip(&self.harmed);
        let mut ratios: Vec<f64> = pairs
            .map(|(calm, harmed)| harmed.as_secs_f64() / calm.as_secs_f64().max(0.001))
            .collect();
        ratios.sort_by(f64::total_cmp);
        ratios.get(ratios.len() / 2).copied().unwrap_or_default()
    }

    /// Adds to a report what was measured, and a violation when it is more than `max` times.
    pub fn judge(&self, row: &str, max: f64, report: &mut RowReport) {
        let ratio = self.ratio();
        let spread = |times: &[Duration]| {
            let all: Vec<String> = times
                .iter()
                .map(|time| format!("{:.2}", time.as_secs_f64()))
                .collect();
            all.join(" ")
        };
        report.notes.push(format!(
            "others: {ratio:.2} × (at most {max:.2} ×); seconds a round without harm {}; with {}",
            spread(&self.calm),
            spread(&self.harmed)
        ));
        if ratio > max {
            let what = format!("{row}: the others take {ratio:.2} × as long");
            report.violations.push(what);
        }
    }
}

/// Another receiver of the same hub.
#[derive(Debug)]
pub struct Other {
    taker: Taker,
}

impl Other {
    /// Binds it and starts it.
    pub async fn start(scene: &Scene) -> Result<Self> {
        scene.client.bind(SYSTEM, PRODUCT).await?;
        let taker = Taker::start(scene.client.clone(), SYSTEM, PRODUCT);
        scene.client.wait_until_delivered(&[SYSTEM]).await?;
        Ok(Self { taker })
    }

    /// Publishes a round; the time until this receiver has all of it.
    pub async fn round(&self, scene: &mut Scene) -> Result<Duration> {
        let before = self.taker.effects();
        let first = scene.next_subject();
        let started = Instant::now();
        scene.publish(first..first + SUBJECTS, 1..=VERSIONS).await?;
        let all = before + (SUBJECTS * VERSIONS) as usize;
        wait_until(PATIENCE, "the other receiver", async || {
            let found = self.taker.effects();
            ensure!(found >= all, "{found} of {all}");
            Ok(true)
        })
        .await
        .context("a round")?;
        Ok(started.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_compared_and_more_than_allowed_is_a_violation() {
        let mut times = Times::default();
        let seconds = Duration::from_secs;
        times.add(seconds(2), seconds(9));
        times.add(seconds(7), seconds(3));
        times.add(seconds(2), seconds(3));
        let mut report = RowReport::default();
        times.judge("A5", 1.6, &mut report);
        assert!(report.violations.is_empty(), "{report:?}");
        times.judge("A5", 1.2, &mut report);
        assert_eq!(report.violations.len(), 1, "{report:?}");
    }
}
