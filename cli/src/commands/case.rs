//! `musubi case`: every hop of one event, or of all events of one person.
//! Captured, published, appended, routed, each attempt, each receipt.
//! Must never show personal data: the hub gives pseudonyms, and this adds nothing.
//! Read next: `events.rs`, which shows the content.

use anyhow::Result;
use clap::Subcommand;
use musubi_proto::hub::v1::{Case, CaseStep, GetCaseRequest, GetCaseResponse, Outcome};
use tonic::Code;

use super::{short_name, short_type, time_text};
use crate::client::{Access, Hub};
use crate::failure::{Details, Failure};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of};

/// The life of events.
#[derive(Debug, Subcommand)]
pub(crate) enum CaseCommand {
    /// Show each hop of an event, or of all events of a person
    #[command(
        after_help = "Examples:\n  musubi case show 0001002872\n  musubi case show \
0198f0d2-8a5e-7c51-a0e5-0f3a5f1c2d11 --json"
    )]
    Show(ShowArgs),
}

/// Arguments of `musubi case show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Event id or 宛名番号
    event_or_subject: String,
    /// At most this many events
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: u32,
}

impl CaseCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        let Self::Show(args) = self;
        let hub = access.connect().await?;
        let response = get(
            &hub,
            &access.municipality()?,
            &args.event_or_subject,
            args.limit,
        )
        .await?;
        if access.json {
            let name = "musubi.hub.v1.GetCaseResponse";
            return print_json(&json_of(name, &response, Defaulted::Written)?);
        }
        response
            .cases
            .iter()
            .try_for_each(|case| print(&text(case)))
    }
}

/// Asks the hub for the life of an event or of a subject.
pub(crate) async fn get(
    hub: &Hub,
    municipality: &str,
    event_or_subject: &str,
    events_max: u32,
) -> Result<GetCaseResponse> {
    let request = GetCaseRequest {
        municipality: municipality.to_owned(),
        event_or_subject: event_or_subject.to_owned(),
        events_max,
    };
    let what = format!("show the case `{event_or_subject}`");
    Ok(hub
        .admin()
        .get_case(request)
        .await
        .map_err(|status| match status.code() {
            Code::NotFound if status.message().contains("event or subject") => {
                let line = format!("there is no such event or subject in {municipality}");
                Failure::Answered(line, Details::of(&status)).into()
            }
            _ => hub.refused(what)(status),
        })?
        .into_inner())
}

fn text(case: &Case) -> String {
    let mut table = Table::new(&[
        "  AT",
        "STEP",
        "SUBSCRIPTION",
        "PRODUCT",
        "TRY",
        "OUTCOME",
        "DETAIL",
    ]);
    for step in &case.steps {
        table.row(row(step));
    }
    format!(
        "{}  {}  version {}  position {} ({})\n{}\n",
        case.event_id,
        short_type(&case.r#type),
        case.subject_version,
        case.position,
        short_name(case.stream().as_str_name(), "STREAM_"),
        table.render()
    )
}

fn row(step: &CaseStep) -> Vec<String> {
    let outcome = match step.outcome() {
        Outcome::Unspecified => String::new(),
        outcome => short_name(outcome.as_str_name(), "OUTCOME_"),
    };
    let attempt = if step.attempt == 0 {
        String::new()
    } else {
        step.attempt.to_string()
    };
    vec![
        format!("  {}", time_text(step.at.as_ref())),
        step.step.clone(),
        step.subscription.clone(),
        step.product.clone(),
        attempt,
        outcome,
        step.detail.clone(),
    ]
}
