//! The subcommands of `musubi`, each in a file of its own.
//! Each asks the hub one thing, or starts one process, and prints the answer.
//! Must never wait without a limit, nor print a payload in a table.
//! Read next: `commands/serve.rs`, `commands/adapter.rs`, then the operator's commands.

pub(crate) mod acts;
pub(crate) mod adapter;
pub(crate) mod alarms;
pub(crate) mod backup;
pub(crate) mod bind;
pub(crate) mod case;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod held;
pub(crate) mod migrate;
pub(crate) mod parked;
pub(crate) mod replay;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod serve;
pub(crate) mod settings;
pub(crate) mod source;
pub(crate) mod stop;
pub(crate) mod subscriptions;

use anyhow::Result;
use clap::Subcommand;
use musubi_products::ProductCommand;
use prost_types::Timestamp;
use tokio_util::sync::CancellationToken;

use crate::client::Access;
use crate::{demo, parent};

/// What `musubi` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Play 60 days of a town: registry, tax, pension, insurance, and a swap on the way
    Demo(demo::Args),
    /// Run the hub
    Serve(serve::Args),
    /// Copy a hub's data folder while the hub runs
    Backup(backup::Args),
    /// Make a data folder of a backup, and say what it lacks
    Restore(restore::Args),
    /// Look at a deployment, and say what to change
    Doctor(doctor::Args),
    /// Take a stopped hub's data folder over into a cluster
    Migrate(migrate::Args),
    /// Run adapters
    #[command(subcommand)]
    Adapter(adapter::AdapterCommand),
    /// Publish events and read them back
    #[command(subcommand)]
    Events(events::EventsCommand),
    /// List the subscriptions: who receives what, and how far it is
    Subscriptions(subscriptions::Args),
    /// Bind a product to a system, or swap the one that serves it now
    Bind(bind::Args),
    /// How bindings are served: concurrency, rate, batches, opening hours
    #[command(subcommand)]
    Settings(settings::SettingsCommand),
    /// Sources of events
    #[command(subcommand)]
    Source(source::SourceCommand),
    /// List what is wrong now, since when, and what to do next
    Alarms(alarms::Args),
    /// Units that the hub holds because a row broke a rule
    #[command(subcommand)]
    Held(held::HeldCommand),
    /// Units that a product refused, with all that waits behind them
    #[command(subcommand)]
    Parked(parked::ParkedCommand),
    /// Stop the delivery to one system, or to all
    Stop(stop::Args),
    /// Let a stopped system go on, or all of them
    Resume(resume::Args),
    /// What a product had, delivered once more
    #[command(subcommand)]
    Replay(replay::ReplayCommand),
    /// What operators did, with who and why
    #[command(subcommand)]
    Acts(acts::ActsCommand),
    /// The life of one event or of all events of one person
    #[command(subcommand)]
    Case(case::CaseCommand),
    /// Run a stand-in product
    #[command(subcommand, hide = true)]
    Product(ProductCommand),
}

impl Command {
    /// True for a process that serves until it is stopped.
    pub(crate) fn is_service(&self) -> bool {
        matches!(self, Self::Serve(_) | Self::Adapter(_) | Self::Product(_))
    }

    /// Name under which telemetry is exported; `None` for a command that exports none.
    pub(crate) fn service_name(&self) -> Option<String> {
        match self {
            Self::Serve(_) => Some("musubi-hub".to_owned()),
            Self::Adapter(command) => command
                .product()
                .map(|product| format!("musubi-adapter-{product}")),
            _ => None,
        }
    }

    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::Demo(args) => Box::pin(demo::run(args, access)).await,
            Self::Serve(args) => Box::pin(serve::run(args)).await,
            Self::Backup(args) => Box::pin(backup::run(args, access)).await,
            Self::Restore(args) => Box::pin(restore::run(args, access)).await,
            Self::Doctor(args) => Box::pin(doctor::run(args, access)).await,
            Self::Migrate(args) => Box::pin(migrate::run(args, access)).await,
            Self::Adapter(command) => Box::pin(command.run(access)).await,
            Self::Events(command) => command.run(access).await,
            Self::Subscriptions(args) => subscriptions::run(args, access).await,
            Self::Bind(args) => bind::run(args, access).await,
            Self::Settings(command) => command.run(access).await,
            Self::Source(command) => command.run(access).await,
            Self::Alarms(args) => alarms::run(args, access).await,
            Self::Held(command) => command.run(access).await,
            Self::Parked(command) => command.run(access).await,
            Self::Stop(args) => stop::run(args, access).await,
            Self::Resume(args) => resume::run(args, access).await,
            Self::Replay(command) => command.run(access).await,
            Self::Acts(command) => command.run(access).await,
            Self::Case(command) => command.run(access).await,
            Self::Product(command) => {
                // A product keeps its promises through any end, so it is simply left.
                tokio::select! {
                    ended = Box::pin(command.run()) => ended,
                    () = stopped() => Ok(()),
                }
            }
        }
    }
}

/// Who does it and why: kept in the hub's record of the act.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Act {
    /// Who does it
    #[arg(long, env = "USER", value_name = "NAME")]
    pub(crate) operator: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
}

/// Whether an act is only said, and not done.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DryRun {
    /// Say what would be done, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Reads an age such as `90s`, `30m`, `2h` or `3d`.
pub(crate) fn age(text: &str) -> Result<prost_types::Duration, String> {
    let wrong = || "an age is a number with s, m, h or d, such as 2h".to_owned();
    let unit = text.chars().last().ok_or_else(wrong)?;
    let number = text.strip_suffix(unit).unwrap_or_default();
    let number: i64 = number.parse().map_err(|_| wrong())?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(wrong()),
    };
    let seconds = number.checked_mul(seconds).filter(|all| *all >= 0);
    let seconds = seconds.ok_or_else(wrong)?;
    Ok(prost_types::Duration { seconds, nanos: 0 })
}

/// A token that is cancelled by Ctrl-C or by the signal to terminate.
pub(crate) fn until_stopped() -> CancellationToken {
    let token = CancellationToken::new();
    let stop = token.clone();
    tokio::spawn(async move {
        stopped().await;
        stop.cancel();
    });
    token
}

/// Returns at Ctrl-C or at the signal to terminate.
pub(crate) async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};

    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
        () = parent::gone() => {}
    }
}

/// A time for people: UTC to the second.
pub(crate) fn time_text(time: Option<&Timestamp>) -> String {
    time.map(|time| {
        Timestamp {
            seconds: time.seconds,
            nanos: 0,
        }
        .to_string()
    })
    .unwrap_or_default()
}

/// A time for people, of seconds since 1970; a dash when there is none.
pub(crate) fn seconds_text(seconds: i64) -> String {
    match seconds {
        0 => "-".to_owned(),
        seconds => Timestamp { seconds, nanos: 0 }.to_string(),
    }
}

/// Name of an enum value without its prefix, in lower case.
pub(crate) fn short_name(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix)
        .unwrap_or(name)
        .to_ascii_lowercase()
}

/// Name of an event type without its package.
pub(crate) fn short_type(event_type: &str) -> &str {
    event_type.rsplit('.').next().unwrap_or(event_type)
}
