//! `musubi held`: rows that broke a rule, what waits behind them, and their correction.
//! What is held is safe in the hub and goes on once it is corrected.
//! Must never show rows in a list: they are personal data.
//! Read next: `parked.rs`, the same on the side of the receivers.

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use musubi_proto::hub::v1::{
    GetHeldRequest, HeldState, HeldUnit, ListHeldRequest, ListHeldResponse,
};
use serde_json::{Value, json};

use super::{Act, events, short_name, time_text};
use crate::client::{Access, Hub};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of, json_of_event};

const PAGE: u32 = 500;

/// Held units.
#[derive(Debug, Subcommand)]
pub(crate) enum HeldCommand {
    /// List held units
    #[command(after_help = "Example:\n  musubi held list --municipality 142042 --state refused")]
    List(ListArgs),
    /// Show one held unit with its rows (personal data)
    Show(ShowArgs),
    /// Publish a corrected unit in place of a held one
    #[command(
        after_help = "The file is written as for `musubi events publish`. A correction takes \
a new id; what waits behind the held unit follows in order.\n\nExample:\n  musubi held resubmit \
held-17 --file corrected.json \
--operator desk-1 --reason '届出の写しで確かめた'"
    )]
    Resubmit(ResubmitArgs),
}

/// Arguments of `musubi held list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this state; without it, what still waits
    #[arg(long, value_enum)]
    state: Option<StateName>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// Arguments of `musubi held show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Held id
    id: String,
}

/// Arguments of `musubi held resubmit`.
#[derive(Debug, clap::Args)]
pub(crate) struct ResubmitArgs {
    /// Held id
    id: String,
    #[command(flatten)]
    publish: events::PublishArgs,
    #[command(flatten)]
    act: Act,
}

/// States by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    /// Broke a rule
    Refused,
    /// Waits behind a refused one
    Waiting,
    /// Corrected by another unit
    Corrected,
    /// Followed after a correction
    Released,
}

impl From<StateName> for HeldState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Refused => Self::Refused,
            StateName::Waiting => Self::Waiting,
            StateName::Corrected => Self::Corrected,
            StateName::Released => Self::Released,
        }
    }
}

impl HeldCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::List(args) => list(&args, access).await,
            Self::Show(args) => show(&args, access).await,
            Self::Resubmit(args) => {
                let corrects = events::Corrects {
                    held: args.id,
                    act: args.act,
                };
                events::publish(args.publish, access, Some(corrects)).await
            }
        }
    }
}

async fn list(args: &ListArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let state = args.state.map_or(HeldState::Unspecified, HeldState::from);
    let (held, total) = all(&hub, &access.municipality()?, state, args.limit).await?;
    if access.json {
        let response = ListHeldResponse {
            held,
            next_page_token: String::new(),
            total,
        };
        let name = "musubi.hub.v1.ListHeldResponse";
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    let mut table = Table::new(&[
        "ID", "STATE", "RULE", "FILE", "RECORD", "ITEM", "ROWS", "HELD AT",
    ]);
    for unit in &held {
        table.row(vec![
            unit.id.clone(),
            state_name(unit),
            unit.rule.clone(),
            unit.file.clone(),
            match unit.line {
                0 => String::new(),
                record => record.to_string(),
            },
            unit.item.clone(),
            unit.rows.to_string(),
            time_text(unit.held_at.as_ref()),
        ]);
    }
    print(&table.render())?;
    let shown = u64::try_from(held.len()).unwrap_or(u64::MAX);
    if total > shown {
        print(&format!("{shown} of {total}; see more with --limit\n"))?;
    }
    Ok(())
}

fn state_name(unit: &HeldUnit) -> String {
    short_name(unit.state().as_str_name(), "HELD_STATE_")
}

/// Held units, oldest first, with the number of all there are.
pub(crate) async fn all(
    hub: &Hub,
    municipality: &str,
    state: HeldState,
    limit: usize,
) -> Result<(Vec<HeldUnit>, u64)> {
    let mut held = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = u32::try_from(limit.saturating_sub(held.len()))
            .unwrap_or(PAGE)
            .min(PAGE);
        let request = ListHeldRequest {
            municipality: municipality.to_owned(),
            state: state.into(),
            page_size: left.max(1),
            page_token,
        };
        let page = hub.admin().list_held(request).await;
        let page = page.map_err(hub.refused("list held units"))?.into_inner();
        held.extend(page.held);
        page_token = page.next_page_token;
        if page_token.is_empty() || held.len() >= limit {
            held.truncate(limit);
            return Ok((held, page.total));
        }
    }
}

async fn show(args: &ShowArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let request = GetHeldRequest {
        municipality: access.municipality()?,
        id: args.id.clone(),
    };
    let what = format!("show held unit `{}`", args.id);
    let shown = hub
        .admin()
        .get_held(request)
        .await
        .map_err(hub.refused(what))?
        .into_inner();
    let held = shown.held.context("the hub answered without the unit")?;
    let rows: Vec<Value> = shown.rows.iter().map(|row| row_json(row)).collect();
    if access.json {
        let events = shown
            .events
            .iter()
            .map(json_of_event)
            .collect::<Result<Vec<_>>>()?;
        let unit = json_of("musubi.hub.v1.HeldUnit", &held, Defaulted::Written)?;
        return print_json(&json!({"held": unit, "rows": rows, "events": events}));
    }
    print(&format!(
        "{}  {}  rule {}\n{} record {}, item `{}`\n{}\n",
        held.id,
        state_name(&held),
        held.rule,
        held.file,
        held.line,
        held.item,
        held.message
    ))?;
    for row in &shown.rows {
        print(&format!(
            "row    {}\n",
            String::from_utf8_lossy(row).trim_end()
        ))?;
    }
    for event in &shown.events {
        print(&format!(
            "event  {} {}\n",
            event.id,
            super::short_type(&event.r#type)
        ))?;
    }
    Ok(())
}

/// A row as text, or as hex when it is no UTF-8.
fn row_json(row: &[u8]) -> Value {
    match std::str::from_utf8(row) {
        Ok(text) => json!({ "text": text }),
        Err(_) => json!({
            "hex": row.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
        }),
    }
}
