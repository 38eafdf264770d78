//! `musubi acts`: what operators did, with who and why.
//! The hub records each act together with what it changed.
//! Must never change anything.
//! Read next: `parked.rs`, whose acts stand here.

use anyhow::Result;
use clap::Subcommand;
use musubi_proto::hub::v1::{Act, ListActsRequest, ListActsResponse};

use super::{short_name, time_text};
use crate::client::{Access, Hub};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of};

const PAGE: u32 = 500;

/// Acts of operators.
#[derive(Debug, Subcommand)]
pub(crate) enum ActsCommand {
    /// List acts, latest first
    #[command(after_help = "Example:\n  musubi acts list --municipality 142042 --limit 20")]
    List(ListArgs),
}

/// Arguments of `musubi acts list`.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

impl ActsCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        let Self::List(args) = self;
        let hub = access.connect().await?;
        let acts = all(&hub, &access.municipality()?, args.limit).await?;
        if access.json {
            let response = ListActsResponse {
                acts,
                next_page_token: String::new(),
            };
            let name = "musubi.hub.v1.ListActsResponse";
            return print_json(&json_of(name, &response, Defaulted::Written)?);
        }
        print(&table(&acts).render())
    }
}

/// Acts as rows for people.
pub(crate) fn table(acts: &[Act]) -> Table {
    let mut table = Table::new(&[
        "NUMBER", "AT", "OPERATOR", "ACT", "TARGET", "UNITS", "SUBJECTS", "REASON", "NOTE",
    ]);
    for act in acts {
        table.row(vec![
            act.number.to_string(),
            time_text(act.at.as_ref()),
            act.operator.clone(),
            short_name(act.kind().as_str_name(), "ACT_KIND_"),
            act.target.clone(),
            act.units.to_string(),
            act.subjects.to_string(),
            act.reason.clone(),
            act.note.clone(),
        ]);
    }
    table
}

async fn all(hub: &Hub, municipality: &str, limit: usize) -> Result<Vec<Act>> {
    let mut acts = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = u32::try_from(limit.saturating_sub(acts.len())).unwrap_or(PAGE);
        let request = ListActsRequest {
            municipality: municipality.to_owned(),
            page_size: left.clamp(1, PAGE),
            page_token,
        };
        let page = hub.admin().list_acts(request).await;
        let page = page.map_err(hub.refused("list acts"))?.into_inner();
        acts.extend(page.acts);
        page_token = page.next_page_token;
        if page_token.is_empty() || acts.len() >= limit {
            acts.truncate(limit);
            return Ok(acts);
        }
    }
}
