//! Where telemetry goes: lines to standard error, and everything by OTLP when `OTEL_*` says so.
//! Started before a command runs, flushed after it; hub and adapters only know the API.
//! Must never write to standard output, which belongs to the command, nor hold up the end for long.
//! Read next: `telemetry/otlp.rs`, `docs/telemetry.md`.

mod otlp;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use tokio::runtime::Runtime;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use crate::commands::Command;

/// Directives of the lines, as of `tracing_subscriber::EnvFilter`.
const FILTER_VARIABLE: &str = "MUSUBI_LOG";
/// Libraries that would write what passes through them at finer levels; they tell only what a
/// filter asks of them by name.
const QUIET: &str = "h2=info,hyper=info,tonic=info,tower=info,reqwest=info,sqlx=info";
/// `json` or `text`.
const FORMAT_VARIABLE: &str = "MUSUBI_LOG_FORMAT";
/// What the export itself says must not be exported: it would never end.
const NOT_EXPORTED: [&str; 6] = ["h2", "hyper", "tonic", "tower", "reqwest", "opentelemetry"];
/// Time that all exporters together have at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps telemetry open until the process ends.
#[derive(Debug)]
#[must_use]
pub(crate) struct Telemetry(otlp::Providers);

/// Starts telemetry for a command. What does not work is told once and left out: no command fails
/// because nobody listens to its telemetry.
pub(crate) fn start(command: &Command, runtime: &Runtime) -> Telemetry {
    // The exporters' channels belong to the runtime.
    let _entered = runtime.enter();
    let level = if command.is_service() { "info" } else { "warn" };
    let default = format!("{level},opentelemetry=warn");
    let directives = std::env::var(FILTER_VARIABLE).unwrap_or(default.clone());
    let lines = EnvFilter::try_new(format!("{QUIET},{directives}")).unwrap_or_else(|error| {
        tell(&format!(
            "{FILTER_VARIABLE} is not usable ({error}); it is `{default}` now"
        ));
        EnvFilter::new(&default)
    });
    let providers = command
        .service_name()
        .map(|service| otlp::start(&service))
        .unwrap_or_default();
    let exported = providers.logs.as_ref().map(|logs| {
        let mut filter = EnvFilter::new(lines.to_string());
        for target in NOT_EXPORTED {
            if let Ok(off) = format!("{target}=off").parse() {
                filter = filter.add_directive(off);
            }
        }
        OpenTelemetryTracingBridge::new(logs).with_filter(filter)
    });
    let fmt = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(false);
    let fmt = match std::env::var(FORMAT_VARIABLE).as_deref() {
        Ok("json") => fmt.json().flatten_event(true).boxed(),
        Ok("text") | Err(_) => fmt.boxed(),
        Ok(other) => {
            tell(&format!(
                "{FORMAT_VARIABLE} is `json` or `text`, not `{other}`"
            ));
            fmt.boxed()
        }
    };
    let registry = tracing_subscriber::registry()
        .with(fmt.with_filter(lines))
        .with(exported);
    if let Err(error) = registry.try_init() {
        tell(&format!("logging does not start: {error}"));
    }
    Telemetry(providers)
}

impl Telemetry {
    /// Hands over what is left, as far as the time allows. Called from the main thread, while the
    /// runtime still drives the exporters.
    pub(crate) fn shutdown(self) {
        let (ended, wait) = mpsc::channel();
        let tasks = self.0.shutdowns(FLUSH_TIMEOUT);
        let count = tasks.len();
        for task in tasks {
            let ended = ended.clone();
            thread::spawn(move || {
                if let Err(error) = task() {
                    tell(&format!("not all telemetry was handed over: {error}"));
                }
                // Nobody waits any more when the time was up.
                ended.send(()).unwrap_or_default();
            });
        }
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        for _ in 0..count {
            let left = deadline.saturating_duration_since(Instant::now());
            if wait.recv_timeout(left).is_err() {
                return tell("not all telemetry was handed over: the collector does not answer");
            }
        }
    }
}

/// Tells the operator what telemetry itself cannot log.
fn tell(text: &str) {
    eprintln!("musubi: telemetry: {text}");
}
