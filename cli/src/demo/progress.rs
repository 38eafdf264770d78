//! What the demo shows while it runs: bars on a terminal, plain lines elsewhere.
//! Written to standard error, so that standard output holds the result alone.
//! Must never slow the demo down or hold it up.
//! Read next: `result.rs`.

use std::collections::BTreeMap;
use std::io::{IsTerminal, stderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

/// Time between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// Shows how far each part is.
#[derive(Debug, Clone)]
pub(crate) struct Progress {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    bars: Option<MultiProgress>,
    shown: BTreeMap<String, ProgressBar>,
    told: Instant,
    started: Instant,
}

/// How far one part is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    /// What it is.
    pub(crate) name: String,
    /// Done.
    pub(crate) done: u64,
    /// Of so many; 0 while it is not known.
    pub(crate) total: u64,
}

impl Progress {
    /// Bars on a terminal, lines elsewhere.
    pub(crate) fn new() -> Self {
        let bars = stderr().is_terminal().then(MultiProgress::new);
        let now = Instant::now();
        let inner = Inner {
            bars,
            shown: BTreeMap::new(),
            told: now,
            started: now,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// Tells something once.
    pub(crate) fn note(&self, text: &str) {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let line = format!("{:6.1} s  {text}", inner.started.elapsed().as_secs_f64());
        match &inner.bars {
            Some(bars) => {
                if bars.println(&line).is_err() {
                    eprintln!("{line}");
                }
            }
            None => eprintln!("{line}"),
        }
    }

    /// Shows how far all parts are.
    pub(crate) fn show(&self, steps: &[Step]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bars) = inner.bars.clone() {
            inner.shown.retain(|name, bar| {
                let goes_on = steps.iter().any(|step| step.name == *name);
                if !goes_on {
                    bar.finish_and_clear();
                }
                goes_on
            });
            for step in steps {
                let bar = inner.shown.entry(step.name.clone());
                let bar = bar.or_insert_with(|| bars.add(bar_of(&step.name)));
                bar.set_length(step.total.max(step.done));
                bar.set_position(step.done);
            }
            return;
        }
        if inner.told.elapsed() < LINE_EVERY {
            return;
        }
        inner.told = Instant::now();
        let parts: Vec<String> = steps.iter().map(|step| step.to_string()).collect();
        let seconds = inner.started.elapsed().as_secs_f64();
        eprintln!("{seconds:6.1} s  {}", parts.join(" · "));
    }

    /// Takes the bars away.
    pub(crate) fn clear(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        for bar in std::mem::take(&mut inner.shown).into_values() {
            bar.finish_and_clear();
        }
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.total {
            0 => write!(f, "{} {}", self.name, self.done),
            total => write!(f, "{} {}/{total}", self.name, self.done),
        }
    }
}

fn bar_of(name: &str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:24} [{bar:40}] {pos:>6}/{len:<6}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(0)
        .with_style(style.progress_chars("=> "))
        .with_prefix(name.to_owned())
}
