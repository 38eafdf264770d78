//! `musubi replay`: what a subscription had, delivered once more.
//! For a product that lost something: by time, by position, by person, by event type.
//! Must never start anything in a dry run.
//! Read next: `parked.rs`, for what a product refuses.

use anyhow::{Context, Result};
use clap::Subcommand;
use musubi_proto::hub::v1::{
    ListReplaysRequest, ListReplaysResponse, Replay, ReplaySelection, StartReplayRequest,
    StopReplayRequest, Stream,
};
use prost_types::Timestamp;

use super::events::StreamName;
use super::{Act, DryRun, short_name, time_text};
use crate::client::Access;
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of};

/// Replays.
#[derive(Debug, Subcommand)]
pub(crate) enum ReplayCommand {
    /// Deliver what a subscription had once more, marked as replay
    ///
    /// Every option narrows. A product that has a unit says so: the keys are the old ones. Each
    /// person touched ends with the latest state.
    #[command(
        after_help = "Examples:\n  musubi replay start --subscription 142042/026 --from \
2026-11-23T00:00:00+09:00 --operator desk-1 --reason 'restored from its backup' --dry-run\n  musubi replay start --subscription 142042/026 --stream live \
--from-position 120 --to-position 480 --operator desk-1 --reason 'asked for by the vendor'\n  musubi replay start --subscription 142042/026 --subject \
0000000017 --repair --operator desk-1 --reason '外字を登録した'"
    )]
    Start(StartArgs),
    /// List replays, latest first
    List(ListArgs),
    /// Stop a replay
    Stop(StopArgs),
}

/// Arguments of `musubi replay start`.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("selection").multiple(true).required(true))]
pub(crate) struct StartArgs {
    /// Subscription, such as `142042/026`
    #[arg(long, value_name = "ID")]
    subscription: String,
    /// Published at this time or later (RFC 3339)
    #[arg(long, value_name = "TIME", group = "selection", value_parser = time)]
    from: Option<Timestamp>,
    /// Published before this time (RFC 3339)
    #[arg(long, value_name = "TIME", group = "selection", value_parser = time)]
    to: Option<Timestamp>,
    /// Stream of the log; both when it is left out, live where a position is given
    #[arg(long, value_enum, group = "selection")]
    stream: Option<StreamName>,
    /// First position of the log
    #[arg(long, value_name = "N", group = "selection")]
    from_position: Option<u64>,
    /// Last position of the log
    #[arg(long, value_name = "N", group = "selection")]
    to_position: Option<u64>,
    /// Only this person (宛名番号); can be given several times
    #[arg(long = "subject", value_name = "宛名番号", group = "selection")]
    subjects: Vec<String>,
    /// Only this type of event, by its full name; can be given several times
    #[arg(long = "type", value_name = "TYPE", group = "selection")]
    types: Vec<String>,
    /// Under new keys, and only the latest state of each person: for a product that took something
    /// over wrongly and would say now that it has it
    #[arg(long)]
    repair: bool,
    /// Only count; nothing is started
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    act: Act,
}

/// Arguments of `musubi replay list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
}

/// Arguments of `musubi replay stop`.
#[derive(Debug, clap::Args)]
pub(crate) struct StopArgs {
    /// The replay
    id: String,
    #[command(flatten)]
    dry: DryRun,
    #[command(flatten)]
    act: Act,
}

fn time(text: &str) -> Result<Timestamp, String> {
    let wrong = |_| "a time is written as 2026-11-24T00:00:00+09:00".to_owned();
    text.parse::<Timestamp>().map_err(wrong)
}

impl ReplayCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::Start(args) => start(args, access).await,
            Self::List(args) => list(&args, access).await,
            Self::Stop(args) => stop(args, access).await,
        }
    }
}

async fn start(args: StartArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let selection = ReplaySelection {
        stream: args.stream.map_or(0, |stream| Stream::from(stream).into()),
        from_position: args.from_position.unwrap_or(0),
        to_position: args.to_position.unwrap_or(0),
        from_time: args.from,
        to_time: args.to,
        subjects: args.subjects,
        types: args.types,
    };
    let what = format!("replay to `{}`", args.subscription);
    let request = StartReplayRequest {
        subscription: args.subscription,
        selection: Some(selection),
        repair: args.repair,
        dry_run: args.dry_run,
        operator: args.act.operator,
        reason: args.act.reason,
    };
    let started = hub.admin().start_replay(request).await;
    let started = started.map_err(hub.refused(what))?.into_inner();
    let replay = started
        .replay
        .context("the hub answered without the replay")?;
    if access.json {
        return print_replay(&replay);
    }
    let Replay {
        id,
        units,
        subjects,
        ..
    } = &replay;
    let line = match id.as_str() {
        "" => format!("{units} units of {subjects} persons would be delivered again\n"),
        id => format!("{id}: {units} units of {subjects} persons are delivered again\n"),
    };
    print(&line)
}

fn print_replay(replay: &Replay) -> Result<()> {
    let name = "musubi.hub.v1.Replay";
    print_json(&json_of(name, replay, Defaulted::Written)?)
}

async fn list(args: &ListArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let request = ListReplaysRequest {
        municipality: access.municipality()?,
        limit: args.limit,
    };
    let listed = hub.admin().list_replays(request).await;
    let replays = listed
        .map_err(hub.refused("list replays"))?
        .into_inner()
        .replays;
    if access.json {
        let name = "musubi.hub.v1.ListReplaysResponse";
        let response = ListReplaysResponse { replays };
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    let mut table = Table::new(&[
        "REPLAY",
        "SUBSCRIPTION",
        "STATE",
        "UNITS",
        "DELIVERED",
        "KNOWN",
        "PARKED",
        "STARTED",
        "OPERATOR",
        "REASON",
        "NOTE",
    ]);
    for replay in &replays {
        table.row(vec![
            replay.id.clone(),
            replay.subscription.clone(),
            short_name(replay.state().as_str_name(), "REPLAY_STATE_"),
            replay.units.to_string(),
            replay.delivered.to_string(),
            replay.known.to_string(),
            replay.parked.to_string(),
            time_text(replay.started_at.as_ref()),
            replay.operator.clone(),
            replay.reason.clone(),
            replay.note.clone(),
        ]);
    }
    print(&table.render())
}

async fn stop(args: StopArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let request = StopReplayRequest {
        municipality: access.municipality()?,
        id: args.id.clone(),
        operator: args.act.operator,
        reason: args.act.reason,
        dry_run: args.dry.dry_run,
    };
    let stopped = hub.admin().stop_replay(request).await;
    let stopped = stopped.map_err(hub.refused(format!("stop {}", args.id)))?;
    let replay = stopped
        .into_inner()
        .replay
        .context("the hub answered without the replay")?;
    if access.json {
        return print_replay(&replay);
    }
    let done = match args.dry.dry_run {
        true => "would be stopped",
        false => "is stopped",
    };
    print(&format!(
        "{} {done} after {} deliveries\n",
        replay.id, replay.delivered
    ))
}
