//! `musubi source`: which product captures a source's events, and how long it may be silent.
//! A later binding fences the earlier one's publishes.
//! Must never be run twice for one product without need: each run raises the epoch.
//! Read next: `bind.rs`, the same for receivers.

use anyhow::Result;
use clap::Subcommand;
use musubi_proto::hub::v1::{BindSourceRequest, SetSourceRhythmRequest};
use prost_types::Duration;
use serde_json::json;

use super::events::source_name;
use super::{Act, age};
use crate::client::{Access, Hub};
use crate::output::{print, print_json};
use crate::payload::{Defaulted, json_of};

/// Sources of events.
#[derive(Debug, Subcommand)]
pub(crate) enum SourceCommand {
    /// Start, or take over, the capture of a source by a product's adapter
    Bind(BindArgs),
    /// Say how long a source may be silent before it alarms
    #[command(
        after_help = "The capture goes on. Without a rhythm a source may be silent for \
ever.\n\nExamples:\n  musubi source rhythm --source 001 --every 24h --reason 'nightly files'\n  \
musubi source rhythm --source 001 --none --reason 'no files over New Year'"
    )]
    Rhythm(RhythmArgs),
}

/// Arguments of `musubi source rhythm`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RhythmArgs {
    /// Source: 業務ID or full name
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// Longest silence, such as 90m, 24h or 3d
    #[arg(long, value_name = "AGE", value_parser = age, required_unless_present = "none")]
    every: Option<Duration>,
    /// No rhythm any more
    #[arg(long, conflicts_with = "every")]
    none: bool,
    #[command(flatten)]
    act: Act,
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
        match self {
            Self::Bind(args) => args.run(access).await,
            Self::Rhythm(args) => args.run(access).await,
        }
    }
}

impl BindArgs {
    async fn run(self, access: &Access) -> Result<()> {
        let args = self;
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

impl RhythmArgs {
    async fn run(self, access: &Access) -> Result<()> {
        let hub = access.connect().await?;
        let municipality = access.municipality()?;
        let request = SetSourceRhythmRequest {
            source: source_name(&self.source, &municipality),
            municipality,
            rhythm: self.every,
            operator: self.act.operator,
            reason: self.act.reason,
        };
        let what = format!("set the rhythm of source {}", self.source);
        let answer = hub.admin().set_source_rhythm(request).await;
        let answer = answer.map_err(hub.refused(what))?.into_inner();
        if access.json {
            let name = "musubi.hub.v1.SetSourceRhythmResponse";
            return print_json(&json_of(name, &answer, Defaulted::Written)?);
        }
        let text = |rhythm: &Option<Duration>| match rhythm {
            None => "none".to_owned(),
            Some(rhythm) => format!("{} s", rhythm.seconds),
        };
        print(&format!(
            "{}: rhythm {}, before {}\n",
            self.source,
            text(&answer.after),
            text(&answer.before)
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
