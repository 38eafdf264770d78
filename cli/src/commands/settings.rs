//! `musubi settings`: how a binding is served: how much, how fast, in which batches, at which hours.
//! Reads what is set, changes what is named, and sends the whole; the hub checks it.
//! Must never drop a setting that the operator did not name.
//! Read next: `subscriptions.rs`, which shows what came of it.

use anyhow::Result;
use clap::{Subcommand, ValueEnum};
use musubi_proto::hub::v1::{
    Binding, BindingState, DeliverySettings, SetDeliverySettingsRequest,
    SetDeliverySettingsResponse,
};

use super::{Act, subscriptions};
use crate::client::{Access, Hub};
use crate::output::{Table, print, print_json};
use crate::payload::{Defaulted, json_of};

/// Settings of bindings.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCommand {
    /// Show how bindings are served
    #[command(after_help = "Example:\n  musubi settings show --municipality 142042 --system 026")]
    Show(ShowArgs),
    /// Change how a binding is served; what is not named stays
    #[command(after_help = SET_EXAMPLES)]
    Set(Box<SetArgs>),
}

const SET_EXAMPLES: &str =
    "A list that is named takes the place of the former one. Days and hours \
are Japan's. While a receiver is closed nothing new is sent; what is under way may be answered, \
and what becomes due waits for the opening.

Examples:
  musubi settings set --system 026 --concurrency 50 --per-second 20 --batch 100 \
--reason 'slow on Mondays'
  musubi settings set --system 026 --hours 'mon-fri 08:30-17:15' --holiday 2027-01-01 \
--closed 2026-12-29..2027-01-03 --reason '年末年始'
  musubi settings set --system 010 --closed 2027-02-16..2027-03-15 --reason 確定申告 --dry-run
  musubi settings set --system 026 --clear hours --clear holidays --reason 通年稼働";

/// Arguments of `musubi settings show`.
#[derive(Debug, clap::Args)]
pub(crate) struct ShowArgs {
    /// Only this system
    #[arg(long, value_name = "業務ID")]
    system: Option<String>,
}

/// Arguments of `musubi settings set`.
#[derive(Debug, clap::Args)]
pub(crate) struct SetArgs {
    /// System: 業務ID, three digits
    #[arg(long, value_name = "業務ID")]
    system: String,
    /// Product, when another than the one that serves is meant: one that is being filled
    #[arg(long, value_name = "NAME")]
    product: Option<String>,
    /// Most deliveries that wait for a receipt; 0: as many as the adapter takes
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// Most deliveries a second; 0: no limit
    #[arg(long, value_name = "N")]
    per_second: Option<u32>,
    /// Most units of one delivery; 1: no batches; 0: as many as the adapter takes
    #[arg(long, value_name = "N")]
    batch: Option<u32>,
    /// When the receiver is open: `mon-fri 08:30-17:15`, `daily 22:00-05:00`; may be repeated
    #[arg(long, value_name = "WINDOW")]
    hours: Vec<String>,
    /// A day on which it is closed: `2027-01-01`; may be repeated
    #[arg(long = "holiday", value_name = "DAY")]
    holidays: Vec<String>,
    /// A period in which it is closed, with both days: `2027-02-16..2027-03-15`; may be repeated
    #[arg(long, value_name = "DAY..DAY")]
    closed: Vec<String>,
    /// Take a setting away; may be repeated
    #[arg(long, value_name = "SETTING")]
    clear: Vec<Setting>,
    /// Check and show what would change; change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    act: Act,
}

/// Names of settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Setting {
    Concurrency,
    PerSecond,
    Batch,
    Hours,
    Holidays,
    Closed,
}

impl SettingsCommand {
    /// Runs it.
    pub(crate) async fn run(self, access: &Access) -> Result<()> {
        let hub = access.connect().await?;
        let municipality = access.municipality()?;
        match self {
            Self::Show(args) => show(&args, &hub, &municipality, access.json).await,
            Self::Set(args) => set(*args, &hub, &municipality, access.json).await,
        }
    }
}

async fn show(args: &ShowArgs, hub: &Hub, municipality: &str, json: bool) -> Result<()> {
    let mut response = subscriptions::list(hub, municipality).await?;
    if let Some(system) = &args.system {
        response.subscriptions.retain(|one| one.system == *system);
    }
    if json {
        let name = "musubi.hub.v1.ListSubscriptionsResponse";
        return print_json(&json_of(name, &response, Defaulted::Written)?);
    }
    let mut table = Table::new(&[
        "SUBSCRIPTION",
        "PRODUCT",
        "CONCURRENCY",
        "PER SECOND",
        "BATCH",
        "HOURS",
        "HOLIDAYS",
        "CLOSED",
    ]);
    for subscription in &response.subscriptions {
        for binding in bound(&subscription.bindings) {
            let settings = binding.settings.clone().unwrap_or_default();
            let mut row = vec![subscription.id.clone(), binding.product.clone()];
            row.extend(cells(&settings).map(|(_, value)| value));
            table.row(row);
        }
    }
    print(&table.render())
}

async fn set(args: SetArgs, hub: &Hub, municipality: &str, json: bool) -> Result<()> {
    let settings = changed(&args, current(&args, hub, municipality).await?);
    let request = SetDeliverySettingsRequest {
        municipality: municipality.to_owned(),
        system: args.system.clone(),
        product: args.product.unwrap_or_default(),
        settings: Some(settings),
        operator: args.act.operator,
        reason: args.act.reason,
        dry_run: args.dry_run,
    };
    let what = format!("set how {} is served", args.system);
    let answer = hub.admin().set_delivery_settings(request).await;
    let answer = answer.map_err(hub.refused(what))?.into_inner();
    if json {
        let name = "musubi.hub.v1.SetDeliverySettingsResponse";
        return print_json(&json_of(name, &answer, Defaulted::Written)?);
    }
    print(&told(&answer, &args.system, args.dry_run))
}

/// What is set for the binding now; the hub says it when there is no such binding.
async fn current(args: &SetArgs, hub: &Hub, municipality: &str) -> Result<DeliverySettings> {
    let all = subscriptions::list(hub, municipality).await?.subscriptions;
    let of_system = all.iter().filter(|one| one.system == args.system);
    let mut bindings = of_system.flat_map(|one| bound(&one.bindings));
    let found = bindings.find(|binding| match &args.product {
        None => binding.state() == BindingState::Serving,
        Some(product) => binding.product == *product,
    });
    let settings = found.and_then(|binding| binding.settings.clone());
    Ok(settings.unwrap_or_default())
}

fn bound(bindings: &[Binding]) -> impl Iterator<Item = &Binding> {
    let mut bindings = bindings.iter();
    std::iter::from_fn(move || bindings.find(|one| one.state() != BindingState::Replaced))
}

fn changed(args: &SetArgs, mut settings: DeliverySettings) -> DeliverySettings {
    for clear in &args.clear {
        match clear {
            Setting::Concurrency => settings.concurrency = 0,
            Setting::PerSecond => settings.per_second = 0,
            Setting::Batch => settings.batch_units = 0,
            Setting::Hours => settings.hours.clear(),
            Setting::Holidays => settings.holidays.clear(),
            Setting::Closed => settings.closed.clear(),
        }
    }
    settings.concurrency = args.concurrency.unwrap_or(settings.concurrency);
    settings.per_second = args.per_second.unwrap_or(settings.per_second);
    settings.batch_units = args.batch.unwrap_or(settings.batch_units);
    for (named, list) in [
        (&args.hours, &mut settings.hours),
        (&args.holidays, &mut settings.holidays),
        (&args.closed, &mut settings.closed),
    ] {
        if !named.is_empty() {
            list.clone_from(named);
        }
    }
    settings
}

fn told(answer: &SetDeliverySettingsResponse, system: &str, dry_run: bool) -> String {
    let before = cells(
        answer
            .before
            .as_ref()
            .unwrap_or(&DeliverySettings::default()),
    );
    let after = cells(
        answer
            .after
            .as_ref()
            .unwrap_or(&DeliverySettings::default()),
    );
    let product = &answer.product;
    let changes: Vec<String> = before
        .iter()
        .zip(&after)
        .filter(|((_, before), (_, after))| before != after)
        .map(|((name, before), (_, after))| format!("  {name}: {before} -> {after}\n"))
        .collect();
    match (changes.is_empty(), dry_run) {
        (true, _) => format!("nothing changes: {product} of {system} is served so already\n"),
        (false, true) => format!(
            "would change for {product} of {system}:\n{}",
            changes.concat()
        ),
        (false, false) => format!("changed for {product} of {system}:\n{}", changes.concat()),
    }
}

fn cells(settings: &DeliverySettings) -> [(&'static str, String); 6] {
    let number = |number: u32| match number {
        0 => "no limit".to_owned(),
        number => number.to_string(),
    };
    let list = |list: &[String], none: &str| match list {
        [] => none.to_owned(),
        list => list.join(", "),
    };
    [
        ("concurrency", number(settings.concurrency)),
        ("per second", number(settings.per_second)),
        ("batch", number(settings.batch_units)),
        ("hours", list(&settings.hours, "always")),
        ("holidays", list(&settings.holidays, "none")),
        ("closed", list(&settings.closed, "never")),
    ]
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: SettingsCommand,
    }

    fn set(words: &[&str]) -> SetArgs {
        let line = [
            "musubi",
            "set",
            "--system",
            "026",
            "--operator",
            "x",
            "--reason",
            "y",
        ]
        .iter()
        .chain(words);
        match Line::try_parse_from(line).unwrap().command {
            SettingsCommand::Set(args) => *args,
            SettingsCommand::Show(_) => panic!("set"),
        }
    }

    #[test]
    fn what_is_not_named_stays_and_a_named_list_takes_the_place_of_the_former() {
        let before = DeliverySettings {
            concurrency: 5,
            per_second: 9,
            hours: vec!["mon 08:00-09:00".to_owned(), "tue 08:00-09:00".to_owned()],
            holidays: vec!["2027-01-01".to_owned()],
            ..DeliverySettings::default()
        };
        let words = [
            "--per-second",
            "20",
            "--hours",
            "daily 06:00-22:00",
            "--clear",
            "holidays",
        ];
        let after = changed(&set(&words), before.clone());
        let expected = DeliverySettings {
            concurrency: 5,
            per_second: 20,
            hours: vec!["daily 06:00-22:00".to_owned()],
            ..DeliverySettings::default()
        };
        assert_eq!(after, expected);
        let answer = SetDeliverySettingsResponse {
            product: "hinoki".to_owned(),
            before: Some(before.clone()),
            after: Some(after),
        };
        let text = told(&answer, "026", true);
        assert!(
            text.starts_with("would change for hinoki of 026:\n"),
            "{text}"
        );
        assert!(text.contains("  per second: 9 -> 20\n"), "{text}");
        assert!(!text.contains("concurrency"), "{text}");
        let same = SetDeliverySettingsResponse {
            after: Some(before),
            ..answer
        };
        assert!(told(&same, "026", false).starts_with("nothing changes"));
    }
}
