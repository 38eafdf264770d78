//! `musubi source`: which product captures the events of a source, under which epoch.
//! A later binding fences the earlier one's publishes.
//! Must never be run twice for one product without need: each run raises the epoch.
//! Read next: `bind.rs`, the same for receivers.

use anyhow::Result;
use clap::Subcommand;
use musubi_proto::hub::v1::BindSourceRequest;
use serde_json::json;

use super::Act;
use super::events::source_name;
use crate::client::{Access, Hub};
use crate::output::{print, print_json};

/// Sources of events.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Start, or take over, the capture of a source by a product's adapter
    Bind(BindArgs),
}

/// Arguments of `musubi source bind`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Example:\n  musubi source bind --municipality 142042 --source 001 \
--product tsubame --reason start"
)]
pub(crate) struct BindArgs {
    /// Source: 業務ID or full name
    #[arg(long, value_name = "SOURCE")]
    pub(crate) source: String,
    /// Product whose adapter captures
    #[arg(long, value_name = "NAME")]
    pub(crate) product: String,
    #[command(flatten)]
    pub(crate) act: Act,
}

impl SourceCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        let Self::Bind(args) = self;
        let hub = access.connect().await?;
        let epoch = bind(&args, &hub, &access.municipality()?).await?;
        if access.json {
            let (source, product) = (&args.source, &args.product);
            let document = json!({"source": source, "product": product, "captureEpoch": epoch});
            return print_json(&document);
        }
        print(&format!(
            "{} captures {} under epoch {epoch}\n",
            args.product, args.source
        ))
    }
}

/// Binds a source and returns the epoch.
pub(crate) async fn bind(args: &BindArgs, hub: &Hub, municipality: &str) -> Result<u64> {
    let request = BindSourceRequest {
        municipality: municipality.to_owned(),
        source: source_name(&args.source, municipality),
        product: args.product.clone(),
        operator: args.act.operator.clone(),
        reason: args.act.reason.clone(),
    };
    let what = format!("bind source {} to {}", args.source, args.product);
    let response = hub
        .admin()
        .bind_source(request)
        .await
        .map_err(hub.refused(what))?;
    Ok(response.into_inner().capture_epoch)
}
