//! `musubi parked`: units that a product refused, with all that waits behind them.
//! A clerk repairs the cause, then `retry` delivers the subject's units again, in order; `skip`
//! ends one that can never be taken.
//! Must never drop a unit in silence.
//! Read next: `case.rs`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use musubi_proto::hub::v1::{
    EditParkedRequest, Event, GetParkedRequest, ListParkedRequest, ListParkedResponse, ParkedState,
    ParkedUnit, RetryParkedRequest, RetryParkedResponse, SkipParkedRequest, SkipParkedResponse,
    Stream, Unit,
};
use serde_json::{Value, json};

use super::events::{self, StreamName};
use super::{Act, DryRun, age, short_name, time_text};
use crate::client::{Access, Hub};
use crate::failure::Failure;
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, Defaults, json_of, json_of_event, unit_of_json};

const PAGE: u32 = 500;

/// Parked units.
#[derive(Debug, Subcommand)]
pub(crate) enum ParkedCommand {
    /// List parked units
    #[command(
        after_help = "Examples:\n  musubi parked list --municipality 142042 --system 026\n  musubi \
parked list --refused-with UNMAPPABLE --older-than 2h\n  musubi parked list --state dead"
    )]
    List(ListArgs),
    /// Show one parked unit as its receiver would get it (personal data), with its history
    Show(UnitArgs),
    /// Deliver a parked subject's units again, in order
    #[command(
        after_help = "Examples:\n  musubi parked retry --subscription 142042/026 --sequence 17 \
--reason '外字を登録した'\n  musubi parked retry --subscription 142042/026 --refused-with UNMAPPABLE \
--reason '外字を登録した'\n  musubi parked retry --subscription 142042/026 --all --dry-run --reason -"
    )]
    Retry(RetryArgs),
    /// End one parked unit without delivering it; what waits behind it goes on
    #[command(
        after_help = "The unit ends as SKIPPED, with who and why; `musubi case show` tells it. The \
product never gets it.\n\nExample:\n  musubi parked skip --subscription 142042/026 --sequence 17 \
--reason '製品側で入力済み'"
    )]
    Skip(SkipArgs),
    /// Replace a parked event by a corrected one, in its place, and deliver it
    #[command(
        after_help = "The file is written as for `musubi events publish`; only its payload counts, \
and it is judged like a publish. The correction is a new event that names the old one. Other \
receivers keep what they got: correct it at the source too.\n\nExample:\n  musubi parked edit \
--subscription 142042/026 --sequence 17 --file event.json --reason '氏名の誤り' --dry-run"
    )]
    Edit(EditArgs),
}

/// Arguments of `musubi parked list`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ListArgs {
    /// Only this system
    #[arg(long, value_name = "業務ID")]
    system: Option<String>,
    /// Only this state; may be given several times
    #[arg(long, value_enum)]
    state: Vec<StateName>,
    /// Only units last refused with this reason
    #[arg(long, value_name = "REASON")]
    refused_with: Option<String>,
    /// Only units of this subject, by its pseudonym
    #[arg(long, value_name = "PSEUDONYM")]
    subject: Option<String>,
    /// Only units parked for longer than this, such as 30m, 2h or 3d
    #[arg(long, value_name = "AGE", value_parser = age)]
    older_than: Option<prost_types::Duration>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "N")]
    limit: usize,
}

/// States by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum StateName {
    /// Refused by the product or the adapter
    Rejected,
    /// Waits behind a parked one
    Waiting,
    /// Is tried again at a time
    Due,
    /// Was tried until the schedule ended: a dead letter
    Dead,
}

impl From<StateName> for ParkedState {
    fn from(name: StateName) -> Self {
        match name {
            StateName::Rejected => Self::Rejected,
            StateName::Waiting => Self::Waiting,
            StateName::Due => Self::Due,
            StateName::Dead => Self::Dead,
        }
    }
}

/// Names one parked unit.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct UnitArgs {
    /// Subscription, such as `142042/026`
    #[arg(long, value_name = "ID")]
    pub(crate) subscription: String,
    /// Sequence of the unit within the subscription
    #[arg(long, value_name = "N")]
    pub(crate) sequence: u64,
    /// Member of the unit; 0 is the whole
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) member: u32,
    /// Stream of the sequence
    #[arg(long, value_enum, default_value_t = StreamName::Live)]
    pub(crate) stream: StreamName,
}

/// Arguments of `musubi parked retry`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("which").required(true)))]
pub(crate) struct RetryArgs {
    /// Subscription, such as `142042/026`
    #[arg(long, value_name = "ID")]
    subscription: String,
    /// Sequence of one of the subject's parked units
    #[arg(long, value_name = "N", group = "which")]
    sequence: Option<u64>,
    /// All parked subjects of the subscription
    #[arg(long, group = "which")]
    all: bool,
    /// All subjects of which a unit was refused with this reason
    #[arg(long, value_name = "REASON", group = "which")]
    refused_with: Option<String>,
    /// Member of the unit; 0 is the whole
    #[arg(long, default_value_t = 0, value_name = "N")]
    member: u32,
    /// Stream of the sequence
    #[arg(long, value_enum, default_value_t = StreamName::Live)]
    stream: StreamName,
    /// Revision of the unit as it was shown: refused when it has changed since
    #[arg(long, value_name = "N", conflicts_with_all = ["all", "refused_with"])]
    revision: Option<u64>,
    #[command(flatten)]
    act: Act,
    #[command(flatten)]
    dry: DryRun,
}

/// Arguments of `musubi parked skip`.
#[derive(Debug, clap::Args)]
pub(crate) struct SkipArgs {
    #[command(flatten)]
    unit: UnitArgs,
    /// Revision of the unit as it was shown: refused when it has changed since
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    #[command(flatten)]
    act: Act,
    #[command(flatten)]
    dry: DryRun,
}

/// Arguments of `musubi parked edit`.
#[derive(Debug, clap::Args)]
pub(crate) struct EditArgs {
    #[command(flatten)]
    unit: UnitArgs,
    /// Event that is corrected, when the unit has several
    #[arg(long, value_name = "ID")]
    event: Option<String>,
    /// JSON file with the corrected event; `-` reads standard input
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// Revision of the unit as it was shown: refused when it has changed since
    #[arg(long, value_name = "N")]
    revision: Option<u64>,
    #[command(flatten)]
    act: Act,
    #[command(flatten)]
    dry: DryRun,
}

impl ParkedCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        match self {
            Self::List(args) => list(&args, access).await,
            Self::Show(args) => show(&args, access).await,
            Self::Retry(args) => retry(&args, access).await,
            Self::Skip(args) => skip(&args, access).await,
            Self::Edit(args) => edit(&args, access).await,
        }
    }
}

async fn list(args: &ListArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let parked = find(&hub, &access.municipality()?, args).await?;
    if access.json {
        let response = ListParkedResponse {
            parked,
            next_page_token: String::new(),
        };
        let name = "musubi.hub.v1.ListParkedResponse";
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    print(&table(&parked).render())
}

/// Parked units as rows for people.
fn table(parked: &[ParkedUnit]) -> Table {
    let mut table = Table::new(&[
        "SUBSCRIPTION",
        "STREAM",
        "SEQUENCE",
        "MEMBER",
        "REVISION",
        "STATE",
        "REASON",
        "FIELD",
        "ATTEMPTS",
        "SUBJECT",
        "PARKED AT",
        "DUE AT",
    ]);
    for unit in parked {
        table.row(vec![
            unit.subscription.clone(),
            short_name(unit.stream().as_str_name(), "STREAM_"),
            unit.sequence.to_string(),
            unit.member.to_string(),
            unit.revision.to_string(),
            short_name(unit.state().as_str_name(), "PARKED_STATE_"),
            unit.reason.clone(),
            unit.field.clone(),
            unit.attempts.to_string(),
            unit.subjects.join(" "),
            time_text(unit.parked_at.as_ref()),
            time_text(unit.due_at.as_ref()),
        ]);
    }
    table
}

/// Parked units of a system; of all systems when it is empty.
pub(crate) async fn all(
    hub: &Hub,
    municipality: &str,
    system: &str,
    limit: usize,
) -> Result<Vec<ParkedUnit>> {
    let args = ListArgs {
        system: Some(system.to_owned()),
        limit,
        ..ListArgs::default()
    };
    find(hub, municipality, &args).await
}

async fn find(hub: &Hub, municipality: &str, args: &ListArgs) -> Result<Vec<ParkedUnit>> {
    let mut parked = Vec::new();
    let mut page_token = String::new();
    loop {
        let left = u32::try_from(args.limit.saturating_sub(parked.len()))
            .unwrap_or(PAGE)
            .min(PAGE);
        let states = args.state.iter().map(|state| ParkedState::from(*state));
        let request = ListParkedRequest {
            municipality: municipality.to_owned(),
            system: args.system.clone().unwrap_or_default(),
            page_size: left.max(1),
            page_token,
            states: states.map(i32::from).collect(),
            reason: args.refused_with.clone().unwrap_or_default(),
            subject: args.subject.clone().unwrap_or_default(),
            older_than: args.older_than,
        };
        let page = hub.admin().list_parked(request).await;
        let page = page.map_err(hub.refused("list parked units"))?.into_inner();
        parked.extend(page.parked);
        page_token = page.next_page_token;
        if page_token.is_empty() || parked.len() >= args.limit {
            parked.truncate(args.limit);
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
    let written = |name: &str| format!("musubi.hub.v1.{name}");
    let history = each(&shown.history, &written("CaseStep"))?;
    let acts = each(&shown.acts, &written("Act"))?;
    let followers = each(&shown.followers, &written("ParkedUnit"))?;
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
    print_json(&json!({
        "parked": parked, "delivered": events, "history": history, "acts": acts,
        "followers": followers,
    }))
}

fn each(messages: &[impl prost::Message], name: &str) -> Result<Vec<Value>> {
    let each = messages.iter();
    each.map(|message| json_of(name, message, Defaulted::Written))
        .collect()
}

async fn retry(args: &RetryArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let mut sum = RetryParkedResponse::default();
    loop {
        let request = RetryParkedRequest {
            subscription: args.subscription.clone(),
            sequence: args.sequence.unwrap_or(0),
            operator: args.act.operator.clone(),
            reason: args.act.reason.clone(),
            stream: Stream::from(args.stream).into(),
            member: args.member,
            refused_with: args.refused_with.clone().unwrap_or_default(),
            revision: args.revision.unwrap_or(0),
            dry_run: args.dry.dry_run,
        };
        let what = format!("retry what is parked in `{}`", args.subscription);
        let response = hub.admin().retry_parked(request).await;
        let response = response.map_err(hub.refused(what))?.into_inner();
        sum.units += response.units;
        sum.subjects += response.subjects;
        sum.planned.extend(response.planned);
        sum.more = response.more;
        // What one call took is not taken again; a dry run took nothing.
        if !response.more || args.dry.dry_run {
            break;
        }
    }
    if access.json {
        let planned = each(&sum.planned, "musubi.hub.v1.ParkedUnit")?;
        let (units, subjects) = (sum.units, sum.subjects);
        return print_json(&json!({
            "subscription": args.subscription, "units": units, "subjects": subjects,
            "more": sum.more, "planned": planned, "dryRun": args.dry.dry_run,
        }));
    }
    if args.dry.dry_run {
        print(&table(&sum.planned).render())?;
        let and_more = if sum.more { ", and more" } else { "" };
        return print(&format!(
            "{} units of {} subjects would go to the product again{and_more}; nothing was changed\n",
            sum.units, sum.subjects
        ));
    }
    print(&format!("{} units go to the product again\n", sum.units))
}

async fn skip(args: &SkipArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let unit = &args.unit;
    let request = SkipParkedRequest {
        subscription: unit.subscription.clone(),
        sequence: unit.sequence,
        stream: Stream::from(unit.stream).into(),
        member: unit.member,
        operator: args.act.operator.clone(),
        reason: args.act.reason.clone(),
        revision: args.revision.unwrap_or(0),
        dry_run: args.dry.dry_run,
    };
    let what = format!("skip unit {} of `{}`", unit.sequence, unit.subscription);
    let skipped = hub.admin().skip_parked(request).await;
    let SkipParkedResponse { skipped, freed } = skipped.map_err(hub.refused(what))?.into_inner();
    let skipped = skipped.context("the hub answered without the unit")?;
    if access.json {
        let skipped = json_of("musubi.hub.v1.ParkedUnit", &skipped, Defaulted::Written)?;
        let dry_run = args.dry.dry_run;
        return print_json(&json!({"skipped": skipped, "freed": freed, "dryRun": dry_run}));
    }
    let events = skipped.event_ids.join(" ");
    print(&match args.dry.dry_run {
        true => format!("{events} would be skipped and {freed} units go on; nothing was changed\n"),
        false => format!("{events} is skipped; {freed} units behind it go on\n"),
    })
}

async fn edit(args: &EditArgs, access: &Access) -> Result<()> {
    let hub = access.connect().await?;
    let unit = &args.unit;
    let what = format!("edit unit {} of `{}`", unit.sequence, unit.subscription);
    let event = corrected(args, &hub, &what).await?;
    let request = EditParkedRequest {
        subscription: unit.subscription.clone(),
        sequence: unit.sequence,
        stream: Stream::from(unit.stream).into(),
        member: unit.member,
        event_id: args.event.clone().unwrap_or_default(),
        event: Some(event),
        operator: args.act.operator.clone(),
        reason: args.act.reason.clone(),
        revision: args.revision.unwrap_or(0),
        dry_run: args.dry.dry_run,
    };
    let edited = hub.admin().edit_parked(request).await;
    let edited = edited.map_err(hub.refused(what))?.into_inner();
    let (id, freed, dry_run) = (edited.event_id, edited.freed, args.dry.dry_run);
    if access.json {
        return print_json(&json!({"eventId": id, "freed": freed, "dryRun": dry_run}));
    }
    print(&match dry_run {
        true => format!("{id} would take its place and {freed} units go; nothing was changed\n"),
        false => format!("{id} takes its place; {freed} units go to the product\n"),
    })
}

/// The corrected event of the file; what it leaves out is as at the event that lies parked.
async fn corrected(args: &EditArgs, hub: &Hub, what: &str) -> Result<Event> {
    let unit = &args.unit;
    let request = GetParkedRequest {
        subscription: unit.subscription.clone(),
        sequence: unit.sequence,
        stream: Stream::from(unit.stream).into(),
        member: unit.member,
    };
    let shown = hub.admin().get_parked(request).await;
    let shown = shown.map_err(hub.refused(what))?.into_inner();
    let mut events = shown.unit.into_iter().flat_map(|unit| unit.events);
    let old = events.find_map(|delivered| {
        let named = |event: &Event| args.event.as_ref().is_none_or(|id| *id == event.id);
        delivered.event.filter(named)
    });
    let old = old.context("the unit has no such event")?;
    let defaults = Defaults {
        municipality: old.municipality,
        source: Some(old.source),
        event_type: None,
        corrects: None,
    };
    let mut events = read_unit(&args.file, &old.r#type, &defaults)?.events;
    match (events.pop(), events.is_empty()) {
        (Some(event), true) => Ok(event),
        _ => Err(Failure::Usage(format!("`{}` must hold one event", args.file.display())).into()),
    }
}

/// Reads a file; an event that does not say its type has the type of the one that it corrects.
fn read_unit(file: &Path, event_type: &str, defaults: &Defaults) -> Result<Unit> {
    let text = events::read_text(file).map_err(|error| Failure::usage(&error))?;
    serde_json::from_str::<Value>(&text)
        .context("it is no JSON")
        .and_then(|mut document| {
            if let Value::Object(members) = &mut document {
                let known = json!(event_type);
                members.entry("type").or_insert(known);
            }
            unit_of_json(document, defaults)
        })
        .with_context(|| format!("`{}` cannot be used", file.display()))
        .map_err(|error| Failure::usage(&error).into())
}
