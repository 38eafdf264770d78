//! `musubi resume`: what an operator, the hub or an adapter stopped goes on.
//! Everything that waited is delivered in order.
//! Must never be run before the cause is gone: the hub stopped it for a reason (`musubi subscriptions`).
//! Read next: `stop.rs`.

use anyhow::Result;
use musubi_proto::hub::v1::ResumeRequest;
use serde_json::json;

use super::{Act, DryRun};
use crate::client::Access;
use crate::output::{print, print_json};

/// Arguments of `musubi resume`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    group(clap::ArgGroup::new("which").required(true)),
    after_help = "Examples:\n  musubi resume --municipality 142042 --system 026 --reason '賦課が済んだ'\n  musubi \
resume --all --reason '調査が済んだ'"
)]
pub(crate) struct Args {
    /// System: 業務ID, three digits
    #[arg(long, value_name = "業務ID", group = "which")]
    system: Option<String>,
    /// All systems of the municipality that are stopped
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
        Some(system) => format!("resume system {system}"),
        None => "resume all systems".to_owned(),
    };
    let request = ResumeRequest {
        municipality: access.municipality()?,
        system: args.system.unwrap_or_default(),
        all: args.all,
        operator: args.act.operator,
        reason: args.act.reason,
        dry_run: args.dry.dry_run,
    };
    let answer = hub.admin().resume(request).await;
    let subscriptions = answer
        .map_err(hub.refused(what))?
        .into_inner()
        .subscriptions;
    if access.json {
        let dry_run = args.dry.dry_run;
        return print_json(&json!({"subscriptions": subscriptions, "dryRun": dry_run}));
    }
    let word = match args.dry.dry_run {
        true => "would go on",
        false => "goes on",
    };
    subscriptions
        .iter()
        .try_for_each(|id| print(&format!("{id} {word}\n")))
}
