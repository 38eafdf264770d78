//! `musubi stop`: nothing more is sent to a system until an operator resumes it.
//! Other systems go on; publishing goes on; what is under way may still be answered.
//! Must never drop what waits: it is delivered after `musubi resume`.
//! Read next: `resume.rs`.

use anyhow::Result;
use musubi_proto::hub::v1::StopRequest;
use serde_json::json;

use super::{Act, DryRun};
use crate::client::Access;
use crate::output::{print, print_json};

/// Arguments of `musubi stop`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group(clap::ArgGroup::new("which").required(true)),
    after_help = "Nothing more is sent until `musubi resume`, also after a restart of hub or adapter. What is \
under way at the product may still be answered; everything else waits in order.\n\nExamples:\n  \
musubi stop --municipality 142042 --system 026 --reason '当初賦課の間'\n  musubi stop --all --reason \
'調査中'"
)]
pub(crate) struct Args {
    /// System: 業務ID, three digits
    #[arg(long, value_name = "業務ID", group = "which")]
    system: Option<String>,
    /// All systems of the municipality
    #[arg(long, group = "which")]
    all: bool,
    #[command(flatten)]
    act: Act,
    #[command(flatten)]
    dry: DryRun,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let what = match &args.system {
        Some(system) => format!("stop system {system}"),
        None => "stop all systems".to_owned(),
    };
    let request = StopRequest {
        municipality: access.municipality()?,
        system: args.system.unwrap_or_default(),
        all: args.all,
        operator: args.act.operator,
        reason: args.act.reason,
        dry_run: args.dry.dry_run,
    };
    let answer = hub.admin().stop(request).await;
    let subscriptions = answer
        .map_err(hub.refused(what))?
        .into_inner()
        .subscriptions;
    if access.json {
        let dry_run = args.dry.dry_run;
        return print_json(&json!({"subscriptions": subscriptions, "dryRun": dry_run}));
    }
    let word = match args.dry.dry_run {
        true => "would be stopped",
        false => "is stopped",
    };
    subscriptions
        .iter()
        .try_for_each(|id| print(&format!("{id} {word}\n")))
}
