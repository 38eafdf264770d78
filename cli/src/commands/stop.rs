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
    after_help = "Nothing more is sent until `musubi resume`, also after a restart of hub or adapter. What is \
under way at the product may still be answered; everything else waits in order.\n\nExamples:\n  \
musubi stop --municipality 142042 --system 026 --reason '当初賦課の間'\n  musubi stop --all --reason \
'調査中'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

/// Which systems, on whose word; for `musubi stop` and `musubi resume`.
#[derive(Debug, Clone, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(super) struct Which {
    /// System: 業務ID, three digits
    #[arg(long, value_name = "業務ID", group = "which")]
    pub(super) system: Option<String>,
    /// All systems of the municipality
    #[arg(long, group = "which")]
    pub(super) all: bool,
    #[command(flatten)]
    pub(super) act: Act,
    #[command(flatten)]
    pub(super) dry: DryRun,
}

impl Which {
    /// What is done, for an error.
    pub(super) fn what(&self, verb: &str) -> String {
        match &self.system {
            Some(system) => format!("{verb} system {system}"),
            None => format!("{verb} all systems"),
        }
    }
}

/// Prints each subscription with what was done, or would be done.
pub(super) fn show(
    access: &Access,
    dry_run: bool,
    subscriptions: &[String],
    [done, would]: [&str; 2],
) -> Result<()> {
    if access.json {
        return print_json(&json!({"subscriptions": subscriptions, "dryRun": dry_run}));
    }
    let word = if dry_run { would } else { done };
    subscriptions
        .iter()
        .try_for_each(|id| print(&format!("{id} {word}\n")))
}

/// Runs it.
pub(crate) async fn run(Args { which }: Args, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let (what, dry_run) = (which.what("stop"), which.dry.dry_run);
    let request = StopRequest {
        municipality: access.municipality()?,
        system: which.system.unwrap_or_default(),
        all: which.all,
        operator: which.act.operator,
        reason: which.act.reason,
        dry_run,
    };
    let answer = hub.admin().stop(request).await;
    let stopped = answer.map_err(hub.refused(what))?.into_inner();
    let words = ["is stopped", "would be stopped"];
    show(access, dry_run, &stopped.subscriptions, words)
}
