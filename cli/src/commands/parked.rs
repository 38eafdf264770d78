//! `musubi parked`: units that a product refused, with all that waits behind them.
//! A clerk repairs the cause, then `retry` delivers the subject's units again, in order.
//! Must never drop a unit.
//! Read next: `case.rs`.

use anyhow::{Context, Result};
use clap::Subcommand;
use musubi_proto::hub::v1::{
    GetParkedRequest, ListParkedRequest, ListParkedResponse, ParkedUnit, RetryParkedRequest, Stream,
};
use serde_json::{Value, json};

use super::events::StreamName;
use super::{Act, short_name, time_text};
use crate::client::{Access, Hub};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of, json_of_event};

const PAGE: u32 = 500;

/// Parked units.
#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List parked units
    #[command(after_help = "Example:\n  musubi parked list --municipality 142042 --system 026")]
    List(ListArgs),
    /// Show one parked unit as its receiver would get it (personal data)
    Show(UnitArgs),
    /// Deliver a parked subject's units again, in order
    #[command(
        after_help = "Examples:\n  musubi parked retry --subscription 142042/026 --sequence \
17\n  musubi parked retry --subscription 142042/026 --all --reason '外字を登録した'"
    )]
    Retry(RetryArgs),
}

/// Arguments of `musubi parked list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this system
    #[arg(long, value_name = "業務ID")]
    system: Option<String>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// Names one parked unit.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UnitArgs {
    /// Subscription, such as `142042/026`
    #[arg(long, value_name = "ID")]
    subscription: String,
    /// Sequence of the unit within the subscription
    #[arg(long, value_name = "N")]
    sequence: u64,
    /// Member of the unit; 0 is the whole
    #[arg(long, default_value_t = 0, value_name = "N")]
    member: u32,
    /// Stream of the sequence
    #[arg(long, value_enum, default_value_t = StreamName::Live)]
    stream: StreamName,
}

/// Arguments of `musubi parked retry`.
#[derive(Debug, clap::Args)]
pub(crate) struct RetryArgs {
    /// Subscription, such as `142042/026`
    #[arg(long, value_name = "ID")]
    subscription: String,
    /// Sequence of one of the subject's parked units
    #[arg(
        long,
        value_name = "N",
        required_unless_present = "all",
        conflicts_with = "all"
    )]
    sequence: Option<u64>,
    /// All parked subjects of the subscription
    #[arg(long)]
    all: bool,
    /// Member of the unit; 0 is the whole
    #[arg(long, default_value_t = 0, value_name = "N")]
    member: u32,
    /// Stream of the sequence
    #[arg(long, value_enum, default_value_t = StreamName::Live)]
    stream: StreamName,
    #[command(flatten)]
    act: Act,
}

impl ParkedCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::List(args) => list(&args, access).await,
            Self::Show(args) => show(&args, access).await,
            Self::Retry(args) => retry(&args, access).await,
        }
    }
}

async fn list(args: &ListArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let system = args.system.as_deref().unwrap_or("");
    let parked = all(&hub, &access.municipality()?, system, args.limit).await?;
    if access.json {
        let response = ListParkedResponse {
            parked,
            next_page_token: String::new(),
        };
        let name = "musubi.hub.v1.ListParkedResponse";
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    let mut table = Table::new(&[
        "SUBSCRIPTION",
        "STREAM",
        "SEQUENCE",
        "MEMBER",
        "STATE",
        "REASON",
        "FIELD",
        "ATTEMPTS",
        "SUBJECT",
        "PARKED AT",
    ]);
    for unit in &parked {
        table.row(vec![
            unit.subscription.clone(),
            short_name(unit.stream().as_str_name(), "STREAM_"),
            unit.sequence.to_string(),
            unit.member.to_string(),
            short_name(unit.state().as_str_name(), "PARKED_STATE_"),
            unit.reason.clone(),
            unit.field.clone(),
            unit.attempts.to_string(),
            unit.subjects.join(" "),
            time_text(unit.parked_at.as_ref()),
        ]);
    }
    print(&table.render())
}

/// Parked units of a system; of all systems when it is empty.
pub(crate) async fn all(
    hub: &Hub,
    municipality: &str,
    system: &str,
    limit: usize,
) -> Result<Vec<ParkedUnit>> {
    let mut parked = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = u32::try_from(limit.saturating_sub(parked.len()))
            .unwrap_or(PAGE)
            .min(PAGE);
        let request = ListParkedRequest {
            municipality: municipality.to_owned(),
            system: system.to_owned(),
            page_size: left.max(1),
            page_token,
        };
        let page = hub.admin().list_parked(request).await;
        let page = page.map_err(hub.refused("list parked units"))?.into_inner();
        parked.extend(page.parked);
        page_token = page.next_page_token;
        if page_token.is_empty() || parked.len() >= limit {
            parked.truncate(limit);
            return Ok(parked);
        }
    }
}

async fn show(args: &UnitArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let request = GetParkedRequest {
        subscription: args.subscription.clone(),
        sequence: args.sequence,
        stream: Stream::from(args.stream).into(),
        member: args.member,
    };
    let what = format!(
        "show parked unit {} of `{}`",
        args.sequence, args.subscription
    );
    let shown = hub
        .admin()
        .get_parked(request)
        .await
        .map_err(hub.refused(what))?
        .into_inner();
    let parked = shown.parked.context("the hub answered without the unit")?;
    let events = shown
        .unit
        .iter()
        .flat_map(|unit| &unit.events)
        .map(|delivered| {
            let event = delivered.event.as_ref().map(json_of_event).transpose()?;
            Ok(json!({"event": event, "grantedPaths": delivered.granted_paths}))
        })
        .collect::<Result<Vec<Value>>>()?;
    let parked = json_of("musubi.hub.v1.ParkedUnit", &parked, Defaulted::Written)?;
    print_json(&json!({"parked": parked, "delivered": events}))
}

async fn retry(args: &RetryArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let request = RetryParkedRequest {
        subscription: args.subscription.clone(),
        sequence: args.sequence.unwrap_or(0),
        operator: args.act.operator.clone(),
        reason: args.act.reason.clone(),
        stream: Stream::from(args.stream).into(),
        member: args.member,
    };
    let what = format!("retry what is parked in `{}`", args.subscription);
    let response = hub
        .admin()
        .retry_parked(request)
        .await
        .map_err(hub.refused(what))?;
    let units = response.into_inner().units;
    if access.json {
        return print_json(&json!({"subscription": args.subscription, "units": units}));
    }
    print(&format!("{units} units go to the product again\n"))
}
