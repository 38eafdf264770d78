//! `musubi alarms`: what is wrong now, since when, and what to do next.
//! The hub looks for it by itself and writes a line when something appears or goes.
//! Must never change anything, nor exit as failed because something is wrong.
//! Read next: `parked.rs`, `resume.rs`, which an alarm sends its reader to.

use anyhow::Result;
use musubi_proto::hub::v1::{Alarm, ListAlarmsRequest, ListAlarmsResponse};

use super::{short_name, time_text};
use crate::client::{Access, Hub};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of};

const PAGE: u32 = 500;

/// Arguments of `musubi alarms`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Without --municipality: those of all municipalities that the hub serves and the \
caller operates. The command ends with 0 also when something is wrong; programs read --json.\n\n\
Examples:\n  musubi alarms\n  musubi alarms --municipality 142042 --json"
)]
pub(crate) struct Args {
    /// At most this many
    #[arg(long, default_value_t = 1000, value_name = "N")]
    limit: usize,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let alarms = all(&hub, &access.municipality_or_all()?, args.limit).await?;
    if access.json {
        let response = ListAlarmsResponse {
            alarms,
            next_page_token: String::new(),
        };
        let name = "musubi.hub.v1.ListAlarmsResponse";
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    if alarms.is_empty() {
        return print("nothing is wrong\n");
    }
    let mut table = Table::new(&[
        "SEVERITY", "ALARM", "ABOUT", "SINCE", "COUNT", "REASON", "NEXT",
    ]);
    for alarm in &alarms {
        table.row(vec![
            short_name(alarm.severity().as_str_name(), "ALARM_SEVERITY_"),
            short_name(alarm.kind().as_str_name(), "ALARM_KIND_"),
            about(alarm),
            time_text(alarm.since.as_ref()),
            alarm.count.to_string(),
            alarm.reason.clone(),
            alarm.advice.clone(),
        ]);
    }
    print(&table.render())
}

fn about(alarm: &Alarm) -> String {
    let names = [&alarm.subscription, &alarm.source, &alarm.municipality];
    let name = names.into_iter().find(|name| !name.is_empty());
    name.cloned().unwrap_or_default()
}

async fn all(hub: &Hub, municipality: &str, limit: usize) -> Result<Vec<Alarm>> {
    let mut alarms = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = u32::try_from(limit.saturating_sub(alarms.len())).unwrap_or(PAGE);
        let request = ListAlarmsRequest {
            municipality: municipality.to_owned(),
            page_size: left.clamp(1, PAGE),
            page_token,
        };
        let page = hub.admin().list_alarms(request).await;
        let page = page.map_err(hub.refused("list alarms"))?.into_inner();
        alarms.extend(page.alarms);
        page_token = page.next_page_token;
        if page_token.is_empty() || alarms.len() >= limit {
            alarms.truncate(limit);
            return Ok(alarms);
        }
    }
}
