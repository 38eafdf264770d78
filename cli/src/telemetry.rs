//! Where log lines go: to standard error, one line each, filtered by `RUST_LOG`.
//! Started before a command runs and closed after it.
//! Must never write to standard output, which belongs to the command.
//! Read next: `commands.rs`.

use tracing_subscriber::EnvFilter;

use crate::commands::Command;

/// Keeps telemetry open until the process ends.
#[derive(Debug)]
pub(crate) struct Telemetry;

/// Starts telemetry for a command.
pub(crate) fn start(command: &Command) -> Telemetry {
    let level = if command.is_service() { "info" } else { "warn" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    if let Err(error) = started {
        eprintln!("musubi: logging does not start: {error}");
    }
    Telemetry
}
