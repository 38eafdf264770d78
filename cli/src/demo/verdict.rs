//! Judges how the demo ended: each product's state, the swap, the refused rows.
//! Reads the products through their own interfaces and the hub through its API.
//! Must never take a product's or an adapter's word for what it holds.
//! Read next: `result.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use musubi_proto::hub::v1::{HeldUnit, Outcome, Stream, Subscription};

use super::result::{DemoResult, SwapResult, SystemResult};
use super::stage::{Entry, Stage};
use super::story::{self, Cut, NEW, OLD, PENSION};
use crate::commands::case;
use crate::compare::ayame::{self, Applied, Ayame};
use crate::compare::fold::{Happening, Truth, fold};
use crate::compare::grants::Grants;
use crate::compare::hinoki::{self, Hinoki, Ledger};
use crate::compare::kaede::{self, Kaede};
use crate::compare::momiji::{self, Momiji};
use crate::compare::{Product, State, compare};

const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// Judges everything that can be read back.
pub(crate) async fn judge(stage: &mut Stage<'_>, cut: Option<&Cut>) -> Result<DemoResult> {
    let client = reqwest::Client::builder()
        .timeout(REQUEST_TIMEOUT)
        .build()?;
    let mut result = DemoResult::default();
    let subscriptions = stage.subscriptions().await?;
    for (system, first) in story::RECEIVERS {
        let product = if *system == PENSION && cut.is_some() {
            NEW
        } else {
            first
        };
        judge_system(stage, &client, &subscriptions, system, product, &mut result).await?;
    }
    if let Some(cut) = cut {
        result.swap = Some(judge_swap(stage, &client, cut, &mut result).await?);
    }
    let held = stage.held().await?;
    judge_invalid(stage, &held, &mut result);
    let hubs = stage.hubs.names().map(|name| stage.children.pid(name));
    result.hub_rss_bytes = hubs.filter_map(peak_memory).max().unwrap_or(0);
    result.killed.clone_from(&stage.killed);
    result.restarts = stage.children.restarts();
    Ok(result)
}

async fn judge_system(
    stage: &Stage<'_>,
    client: &reqwest::Client,
    subscriptions: &[Subscription],
    system: &str,
    product: &str,
    result: &mut DemoResult,
) -> Result<()> {
    let manual: Box<dyn Product> = match product {
        "kaede" => Box::new(Kaede),
        "momiji" => Box::new(Momiji),
        "hinoki" => Box::new(Hinoki::new()?),
        _ => Box::new(Ayame),
    };
    let truth = fold(&stage.scene.town, &Grants::of(system)?, manual.as_ref());
    let state = read_state(stage, client, product).await?;
    let waiting = story::waiting(stage, system).await?;
    let comparison = compare(system, manual.as_ref(), &truth, &state, &waiting);
    let subscription = subscriptions
        .iter()
        .find(|subscription| subscription.system == system && !subscription.id.contains('~'));
    let subscription = subscription.with_context(|| format!("{system} has no subscription"))?;
    let counts = subscription.counts.unwrap_or_default();
    if !comparison.holds() && comparison.differences.is_empty() {
        result
            .problems
            .push(format!("the persons of {system} do not add up"));
    }
    result.differences.extend(comparison.differences);
    result.systems.push(SystemResult {
        system: system.to_owned(),
        product: product.to_owned(),
        received: counts.received,
        applied: counts.applied,
        duplicate: counts.duplicate,
        superseded: counts.superseded,
        not_relevant: counts.not_relevant,
        waiting: count(comparison.waiting),
        refused: counts.rejected,
        state_equal: count(comparison.equal),
        state_total: count(comparison.total),
    });
    Ok(())
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Reads a product back; again while it is being started again.
async fn read_state(stage: &Stage<'_>, client: &reqwest::Client, product: &str) -> Result<State> {
    loop {
        let read = match product {
            "kaede" => kaede::read(client, &base(stage, product)).await,
            "ayame" => ayame::read(client, &base(stage, product)).await,
            "momiji" => momiji::read(&stage.plan.insurance_database()).await,
            _ => return read_ledger(stage).await,
        };
        match read {
            Ok(state) => return Ok(state),
            Err(error) => {
                let waits_for = format!("{product} to be read back (last: {error:#})");
                stage.pause(&waits_for).await?;
            }
        }
    }
}

fn base(stage: &Stage<'_>, product: &str) -> String {
    format!(
        "http://{}",
        stage.addresses.get(product).map_or("", String::as_str)
    )
}

/// Waits until the old pension product has exported everything that it applied.
async fn read_ledger(stage: &Stage<'_>) -> Result<State> {
    let folder = stage.plan.exchange().join("export");
    loop {
        if let Some(Ledger { state, included }) = hinoki::read_ledger(&folder)?
            && included == count(hinoki::read_journal(&folder)?.len())
            && !stage.open_file()
        {
            return Ok(state);
        }
        stage
            .pause("the old pension product to export its ledger")
            .await?;
    }
}

/// What both pension products applied.
struct Journals {
    old: HashSet<(String, u32)>,
    new: Applied,
}

async fn judge_swap(
    stage: &Stage<'_>,
    client: &reqwest::Client,
    cut: &Cut,
    result: &mut DemoResult,
) -> Result<SwapResult> {
    let journals = Journals {
        old: hinoki::read_journal(&stage.plan.exchange().join("export"))?
            .into_iter()
            .collect(),
        new: read_applied(stage, client).await?,
    };
    let grants = Grants::of(PENSION)?;
    let hinoki = Hinoki::new()?;
    let truth = fold(&stage.scene.town, &grants, &hinoki);
    judge_parked(cut, &truth, result);
    let mut swap = SwapResult {
        system: PENSION.to_owned(),
        from: OLD.to_owned(),
        to: NEW.to_owned(),
        position: cut.position,
        publish_pause_ms: milliseconds(cut.publish_pause_us),
        lost: 0,
        by_both: 0,
        by_neither: 0,
        open_file: cut.open_file,
        parked: count(cut.parked.len()),
    };
    let happenings = by_version(stage);
    for entry in &stage.log {
        let key = (entry.subject.clone(), entry.version);
        let Some(happening) = happenings.get(&key) else {
            result
                .problems
                .push(format!("the event {} is of no row of the town", entry.id));
            continue;
        };
        if !grants.receives(happening) {
            continue;
        }
        let after = entry.stream == Stream::Live && entry.position > cut.position;
        let old = journals.old.contains(&key);
        let new = is_applied(happening, &key, &journals.new);
        if after && old && new {
            swap.by_both += 1;
        }
        if new || explained(stage, entry).await? {
            continue;
        }
        swap.lost += 1;
        if after && !old {
            swap.by_neither += 1;
        }
    }
    Ok(swap)
}

fn milliseconds(microseconds: u64) -> f64 {
    f64::from(u32::try_from(microseconds).unwrap_or(u32::MAX)) / 1000.0
}

async fn read_applied(stage: &Stage<'_>, client: &reqwest::Client) -> Result<Applied> {
    loop {
        match ayame::read_applied(client, &base(stage, NEW)).await {
            Ok(applied) => return Ok(applied),
            Err(error) => {
                stage
                    .pause(&format!("{NEW}'s list of changes ({error:#})"))
                    .await?
            }
        }
    }
}

/// The town's rows by 宛名番号 and 履歴番号.
fn by_version<'a>(stage: &'a Stage<'_>) -> HashMap<(String, u32), &'a Happening> {
    let key = |happening: &Happening| (happening.row.person().to_owned(), happening.row.version());
    stage
        .scene
        .town
        .happenings
        .iter()
        .map(|happening| (key(happening), happening))
        .collect()
}

fn is_applied(happening: &Happening, key: &(String, u32), applied: &Applied) -> bool {
    match &happening.measure {
        None => applied.versions.contains(key),
        Some((id, measure)) => {
            applied
                .measures
                .contains(&(key.0.clone(), id.clone(), measure.version))
        }
    }
}

/// True when the hub has an outcome of the new product that explains why it applied nothing.
async fn explained(stage: &Stage<'_>, entry: &Entry) -> Result<bool> {
    let municipality = &stage.scene.municipality;
    let asked = stage.ask(async |hub| case::get(hub, municipality, &entry.id, 1).await);
    let cases = asked.await?.cases;
    Ok(cases.iter().flat_map(|case| &case.steps).any(|step| {
        step.step == "receipt"
            && step.product == NEW
            && matches!(
                step.outcome(),
                Outcome::NotRelevant | Outcome::Superseded | Outcome::Duplicate
            )
    }))
}

/// Whoever was parked at the old product must be one of those whom its characters cannot write.
fn judge_parked(cut: &Cut, truth: &Truth, result: &mut DemoResult) {
    let expected: BTreeSet<&String> = truth
        .persons
        .iter()
        .filter(|(_, person)| person.waits)
        .map(|(number, _)| number)
        .collect();
    for person in cut
        .parked
        .iter()
        .filter(|person| !expected.contains(person))
    {
        result
            .problems
            .push(format!("{person} was parked at {OLD} without need"));
    }
}

/// Each row of `invalid.csv` must be held under its 届出 with its own rule.
fn judge_invalid(stage: &Stage<'_>, held: &[HeldUnit], result: &mut DemoResult) {
    let mut rows: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for row in &stage.scene.invalid {
        rows.entry(&row.group).or_default().push(&row.rule);
    }
    let held: HashMap<&str, &HeldUnit> =
        held.iter().map(|unit| (unit.key.as_str(), unit)).collect();
    result.invalid_total = count(stage.scene.invalid.len());
    for (group, rules) in rows {
        let problem = match held.get(group) {
            None => format!("the 届出 {group} ({}) is not held", rules.join(", ")),
            Some(unit) if !rules.contains(&unit.rule.as_str()) => {
                format!(
                    "the 届出 {group} ({}) is held by the rule {}",
                    rules.join(", "),
                    unit.rule
                )
            }
            Some(unit) if unit.rows as usize != rules.len() => {
                format!(
                    "the 届出 {group} is held with {} of {} rows",
                    unit.rows,
                    rules.len()
                )
            }
            Some(_) => {
                result.invalid_refused += count(rules.len());
                continue;
            }
        };
        result.problems.push(problem);
    }
}

/// Most memory that a process had, in bytes.
fn peak_memory(pid: Option<u32>) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid?)).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes * 1024)
}
