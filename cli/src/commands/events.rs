//! `musubi events`: publish events from JSON, show one with its payload, list what is in the log.
//! Uses the same front door as every client.
//! Must never print payloads in a list.
//! Read next: `payload.rs`, which turns JSON into bytes.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::{Subcommand, ValueEnum};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    GetEventRequest, ListEventsRequest, PublishRequest, PublishUnit, StoredEvent, Stream, Unit,
    publish_unit,
};
use serde_json::{Value, json};
use tonic::Code;

use super::{Act, short_name, short_type, time_text};
use crate::client::{Access, Hub};
use crate::failure::{Details, Failure, refusal_line};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaults, json_of_event, unit_of_json};

const PAGE: u32 = 500;

/// Publish events and read them back.
#[derive(Debug, Subcommand)]
pub(crate) enum EventsCommand {
    /// Publish one event, or one unit of several, from a JSON file
    #[command(after_help = PUBLISH_HELP)]
    Publish(PublishArgs),
    /// Show one event with its payload (personal data)
    Show(ShowArgs),
    /// List events in the order of the log, with their subjects (personal data)
    List(ListArgs),
}

const PUBLISH_HELP: &str =
    "The file holds an event or a unit, as protobuf JSON with the payload in clear:
  {\"type\": \"ResidentMovedWithin\", \"subject\": \"0001002872\", \"subjectVersion\": 4,
   \"reason\": 40, \"payload\": {\"record\": {…}}}
  {\"events\": [{…}, {…}]}
`id` is made when it is missing. `schemas/examples/` holds payloads.

Examples:
  musubi events publish --municipality 142042 --file moved.json
  musubi events publish --file - --type ResidentMovedWithin < moved.json";

/// Arguments of `musubi events publish`.
#[derive(Debug, clap::Args)]
pub(crate) struct PublishArgs {
    /// JSON file; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: PathBuf,
    /// Event type, when the file does not say it: full, or without its package
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) event_type: Option<String>,
    /// Publisher, when the file does not say it: 業務ID or full name
    #[arg(long, default_value = "001", value_name = "SOURCE")]
    pub(crate) source: String,
    /// Stream of the log
    #[arg(long, value_enum, default_value_t = StreamName::Live)]
    pub(crate) stream: StreamName,
}

/// Arguments of `musubi events show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  musubi events show 0198f0d2-8a5e-7c51-a0e5-0f3a5f1c2d11")]
pub(crate) struct ShowArgs {
    /// Event id
    id: String,
}

/// Arguments of `musubi events list`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  musubi events list --limit 20\n  musubi events list --stream \
bulk --from 500 --json"
)]
pub(crate) struct ListArgs {
    /// Stream of the log
    #[arg(long, value_enum, default_value_t = StreamName::Live)]
    stream: StreamName,
    /// First position to show
    #[arg(long, default_value_t = 0, value_name = "POSITION")]
    from: u64,
    /// At most this many events
    #[arg(long, default_value_t = 50, value_name = "N")]
    limit: usize,
}

/// Streams of the log by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StreamName {
    /// Changes as they happen
    Live,
    /// Snapshots and mass runs
    Bulk,
}

impl From<StreamName> for Stream {
    fn from(name: StreamName) -> Self {
        match name {
            StreamName::Live => Self::Live,
            StreamName::Bulk => Self::Bulk,
        }
    }
}

impl EventsCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::Publish(args) => publish(args, access, None).await,
            Self::Show(args) => show(&args, access).await,
            Self::List(args) => list(&args, access).await,
        }
    }
}

/// Reads a unit from a file.
fn read_unit(args: &PublishArgs, municipality: &str, corrects: Option<String>) -> Result<Unit> {
    let text = read_text(&args.file).map_err(|error| Failure::usage(&error))?;
    let defaults = Defaults {
        municipality: municipality.to_owned(),
        source: Some(source_name(&args.source, municipality)),
        event_type: args.event_type.clone(),
        corrects,
    };
    serde_json::from_str::<Value>(&text)
        .context("it is no JSON")
        .and_then(|document| unit_of_json(document, &defaults))
        .with_context(|| format!("`{}` cannot be published", args.file.display()))
        .map_err(|error| Failure::usage(&error).into())
}

/// Text of a file; `-` is standard input.
pub(crate) fn read_text(file: &Path) -> Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
        return Ok(text);
    }
    fs::read_to_string(file).with_context(|| format!("read `{}`", file.display()))
}

/// Full name of a source: a 業務ID stands for the system of the municipality.
pub(crate) fn source_name(source: &str, municipality: &str) -> String {
    match source.len() == 3 && source.bytes().all(|byte| byte.is_ascii_digit()) {
        true => format!("urn:jp:lg:{municipality}:system:{source}"),
        false => source.to_owned(),
    }
}

/// The held unit that a file corrects, and who does it.
pub(crate) struct Corrects {
    pub(crate) held: String,
    pub(crate) act: Act,
}

/// Publishes a file; it may correct a held unit.
pub(crate) async fn publish(
    args: PublishArgs,
    access: &Access,
    corrects: Option<Corrects>,
) -> Result<()> {
    let municipality = access.municipality()?;
    let held = corrects.as_ref().map(|corrects| corrects.held.clone());
    let unit = read_unit(&args, &municipality, held)?;
    let ids: Vec<String> = unit.events.iter().map(|event| event.id.clone()).collect();
    let source = unit
        .events
        .first()
        .map(|event| event.source.clone())
        .unwrap_or_default();
    let what = format!("publish `{}`", args.file.display());
    let hub = access.connect().await?;
    let request = PublishRequest {
        municipality,
        source,
        stream: Stream::from(args.stream).into(),
        units: vec![corrected(unit, corrects)],
        cursor: None,
        capture_epoch: 0,
    };
    let answer = hub
        .events()
        .publish(request)
        .await
        .map_err(hub.refused(what.clone()))?;
    let answer = answer
        .into_inner()
        .answers
        .into_iter()
        .next()
        .and_then(|answer| answer.answer);
    tell(access, &what, &ids, answer)
}

fn corrected(unit: Unit, corrects: Option<Corrects>) -> PublishUnit {
    let unit = PublishUnit {
        content: Some(publish_unit::Content::Unit(unit)),
        ..PublishUnit::default()
    };
    match corrects {
        None => unit,
        Some(Corrects { held, act }) => PublishUnit {
            corrects_held_id: held,
            operator: act.operator,
            reason: act.reason,
            ..unit
        },
    }
}

fn tell(access: &Access, what: &str, ids: &[String], answer: Option<Answer>) -> Result<()> {
    let (document, text) = match answer {
        Some(Answer::Accepted(accepted)) => (
            json!({"answer": "accepted", "events": ids, "position": accepted.position,
                   "duplicate": accepted.duplicate}),
            match accepted.duplicate {
                true => format!("accepted before, at position {}\n", accepted.position),
                false => format!("accepted at position {}\n", accepted.position),
            },
        ),
        Some(Answer::Held(held)) => (
            json!({"answer": "held", "events": ids, "heldId": held.held_id, "rule": held.rule}),
            format!(
                "held as {} by the rule {}; see `musubi held show {}`\n",
                held.held_id, held.rule, held.held_id
            ),
        ),
        Some(Answer::Refused(status)) => {
            let details = Details::read(&status);
            let line = refusal_line(what, Code::from_i32(status.code), &status.message, &details);
            return Err(Failure::Answered(line, details).into());
        }
        None => bail!("{what} failed: the hub gave no answer"),
    };
    if access.json {
        return print_json(&document);
    }
    print(&text)?;
    ids.iter()
        .try_for_each(|id| print(&format!("event {id}\n")))
}

async fn show(args: &ShowArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let request = GetEventRequest {
        municipality: access.municipality()?,
        id: args.id.clone(),
    };
    let what = format!("show event `{}`", args.id);
    let stored = hub
        .events()
        .get_event(request)
        .await
        .map_err(hub.refused(what))?
        .into_inner();
    let stored = stored
        .stored
        .context("the hub answered without the event")?;
    print_json(&stored_json(&stored)?)
}

fn stored_json(stored: &StoredEvent) -> Result<Value> {
    let event = stored
        .event
        .as_ref()
        .context("the hub answered without the event")?;
    Ok(json!({
        "stream": short_name(stored.stream().as_str_name(), "STREAM_"),
        "position": stored.position,
        "event": json_of_event(event)?,
    }))
}

async fn list(args: &ListArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let mut stored = Vec::new();
    let mut from = args.from;
    while stored.len() < args.limit {
        let left = u32::try_from(args.limit - stored.len())
            .unwrap_or(PAGE)
            .min(PAGE);
        let (page, next) = page(
            &hub,
            &access.municipality()?,
            args.stream.into(),
            from,
            left,
        )
        .await?;
        stored.extend(page);
        match next {
            0 => break,
            next => from = next,
        }
    }
    if access.json {
        let events = stored.iter().map(stored_json).collect::<Result<Vec<_>>>()?;
        return print_json(&json!({ "events": events }));
    }
    let mut table = Table::new(&["POSITION", "TYPE", "SUBJECT", "VERSION", "RECORDED", "ID"]);
    for stored in &stored {
        let Some(event) = &stored.event else {
            continue;
        };
        table.row(vec![
            stored.position.to_string(),
            short_type(&event.r#type).to_owned(),
            event.subject.clone(),
            event.subject_version.to_string(),
            time_text(event.recorded_at.as_ref()),
            event.id.clone(),
        ]);
    }
    print(&table.render())
}

/// One page of the log, with the position to go on from; 0 at the end.
pub(crate) async fn page(
    hub: &Hub,
    municipality: &str,
    stream: Stream,
    from_position: u64,
    page_size: u32,
) -> Result<(Vec<StoredEvent>, u64)> {
    let request = ListEventsRequest {
        municipality: municipality.to_owned(),
        stream: stream.into(),
        from_position,
        page_size,
    };
    let page = hub
        .events()
        .list_events(request)
        .await
        .map_err(hub.refused("list events"))?;
    let page = page.into_inner();
    Ok((page.events, page.next_position))
}
