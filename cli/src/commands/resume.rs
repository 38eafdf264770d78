//! `musubi resume`: what an operator, the hub or an adapter stopped goes on.
//! Everything that waited is delivered in order.
//! Must never be run before the cause is gone: the hub stopped it for a reason (`musubi subscriptions`).
//! Read next: `stop.rs`.

use anyhow::Result;
use musubi_proto::hub::v1::ResumeRequest;

use super::stop::{Which, show};
use crate::client::Access;

/// Arguments of `musubi resume`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Examples:\n  musubi resume --municipality 142042 --system 026 --reason '賦課が済んだ'\n  musubi \
resume --all --reason '調査が済んだ'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
pub(crate) async fn run(Args { which }: Args, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let (what, dry_run) = (which.what("resume"), which.dry.dry_run);
    let request = ResumeRequest {
        municipality: access.municipality()?,
        system: which.system.unwrap_or_default(),
        all: which.all,
        operator: which.act.operator,
        reason: which.act.reason,
        dry_run,
    };
    let answer = hub.admin().resume(request).await;
    let resumed = answer.map_err(hub.refused(what))?.into_inner();
    let words = ["goes on", "would go on"];
    show(access, dry_run, &resumed.subscriptions, words)
}
