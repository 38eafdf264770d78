//! `musubi demo`: plays 60 days of a town through a hub, five products and five adapters.
//! Starts this program again for each of them, plays the story, judges the end.
//! Must never leave a process behind, nor say that all holds when it was not seen.
//! Read next: `demo/story.rs`, then `demo/verdict.rs`.

mod children;
mod cluster;
mod hubs;
mod plan;
mod progress;
mod result;
mod stage;
mod story;
mod town;
mod verdict;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use self::children::Children;
use self::cluster::Cluster;
use self::hubs::Hubs;
use self::plan::Plan;
use self::progress::Progress;
use self::result::DemoResult;
use self::stage::Stage;
use crate::client::Access;
use crate::commands::stopped;
use crate::failure::Failure;
use crate::output::{print, print_json};

/// Arguments of `musubi demo`.
#[derive(Debug, Clone, clap::Args)]
#[command(
    after_help = "Needs nothing installed and nothing running; --cluster needs Java 17, Maven and \
PostgreSQL. Exit status 0 only if every product's state equals the registry's truth, nothing was \
lost or doubled by the swap, and each invalid row was refused.

Examples:
  musubi demo
  musubi demo --cluster
  musubi demo --stay --data /tmp/town
  musubi demo --json --town ../other-town"
)]
pub(crate) struct Args {
    /// Two instances of the hub on three Kafka brokers and a PostgreSQL, all started here;
    /// half-way the instance that owns the town and a broker are killed and stay dead
    #[arg(long)]
    cluster: bool,
    /// Folder with another town's files
    #[arg(long, value_name = "DIR")]
    town: Option<PathBuf>,
    /// Keep the data in this folder, which must be empty or not exist
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Leave everything running at the end, and print addresses and commands to try
    #[arg(long)]
    stay: bool,
    /// Keep the first pension product
    #[arg(long)]
    no_swap: bool,
    /// Time from one file of the registry to the next, in milliseconds
    #[arg(long, default_value_t = 120, value_name = "MS")]
    pace: u64,
    /// Give up after this many seconds
    #[arg(long, default_value_t = 900, value_name = "SECONDS")]
    timeout: u64,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    if let Some(folder) = &args.town
        && !folder.is_dir()
    {
        let line = format!("--town `{}` is no folder", folder.display());
        return Err(Failure::Usage(line).into());
    }
    if args.cluster {
        cluster::check()?;
    }
    let data = data_folder(args.data.as_deref())?;
    let progress = Progress::new();
    let mut children = Children::new(data.join("run"), progress.clone())?;
    let ended = tokio::select! {
        played = play(&args, &data, &progress, &mut children, access) => played,
        () = stopped() => Err(Failure::Interrupted.into()),
    };
    if args.stay && ended.is_ok() {
        stopped().await;
    }
    progress.clear();
    children.stop().await;
    let keep = args.data.is_some()
        || matches!(&ended, Err(error) if !is_interrupt(error))
        || matches!(&ended, Ok(false));
    if keep {
        eprintln!(
            "The data and the logs of all processes are in {}",
            data.display()
        );
    } else if let Err(error) = fs::remove_dir_all(&data) {
        eprintln!("musubi: the data in `{}` stays: {error}", data.display());
    }
    match ended? {
        true => Ok(()),
        false => Err(Failure::Refused("the demo ended, and not all of it holds".into()).into()),
    }
}

fn is_interrupt(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<Failure>(), Some(Failure::Interrupted))
}

/// The user's folder, or a new one for this run.
fn data_folder(asked: Option<&Path>) -> Result<PathBuf> {
    let temporary = || std::env::temp_dir().join(format!("musubi-demo-{}", std::process::id()));
    let folder = asked.map_or_else(temporary, Path::to_owned);
    if let Ok(mut entries) = fs::read_dir(&folder)
        && entries.next().is_some()
    {
        let line = format!(
            "--data `{}` is not empty; give another folder",
            folder.display()
        );
        return Err(Failure::Usage(line).into());
    }
    fs::create_dir_all(&folder)
        .and_then(|()| folder.canonicalize())
        .with_context(|| format!("make the folder `{}`", folder.display()))
        .map_err(|error| Failure::usage(&error).into())
}

/// Plays the whole demo; tells whether everything holds.
async fn play(
    args: &Args,
    data: &Path,
    progress: &Progress,
    children: &mut Children,
    access: &Access,
) -> Result<bool> {
    let started = Instant::now();
    let scene = town::prepare(args.town.as_deref(), data)?;
    let plan = Plan::new(data, &scene.municipality);
    for folder in plan.folders() {
        fs::create_dir_all(&folder).with_context(|| format!("make `{}`", folder.display()))?;
    }
    if args.cluster {
        children.cluster = Some(Cluster::start(progress).await?);
    }
    let hubs = start_hubs(&plan, children).await?;
    let deadline = started + Duration::from_secs(args.timeout);
    for (name, address) in &hubs {
        progress.note(&format!("{name} listens on {address}"));
    }
    let hubs = Hubs::connect(hubs, &scene.municipality).await?;
    let mut stage = Stage::new(plan, scene, children, progress.clone(), hubs, deadline);
    start_all(&mut stage, args.pace).await?;
    if args.cluster || !args.no_swap {
        story::wait_for_half(&mut stage).await?;
    }
    let cut = match args.no_swap {
        true => {
            story::kill_owner_and_broker(&mut stage).await?;
            None
        }
        false => Some(story::swap(&mut stage).await?),
    };
    story::wait_for_end(&mut stage).await?;
    progress.note("everything is delivered; the products are read back and compared");
    let mut result = verdict::judge(&mut stage, cut.as_ref()).await?;
    result.seconds = started.elapsed().as_secs_f64();
    progress.clear();
    show(&result, access)?;
    if args.stay {
        print_hints(&stage);
    }
    Ok(result.ok())
}

/// Starts the hub, or its instances.
async fn start_hubs(plan: &Plan, children: &mut Children) -> Result<Vec<(String, String)>> {
    let cluster = children.cluster.as_ref();
    let config = cluster.map(|cluster| cluster.write_config(&plan.folder("hub")));
    let mut hubs = Vec::new();
    for hub in plan.hubs(config.transpose()?.as_deref()) {
        let name = hub.name.clone();
        hubs.push((name, children.start(hub).await?));
    }
    Ok(hubs)
}

/// Starts products, bindings, adapters and, last, the registry.
async fn start_all(stage: &mut Stage<'_>, pace_ms: u64) -> Result<()> {
    for product in stage.plan.products() {
        let name = product.name.clone();
        let address = stage.children.start(product).await?;
        stage.addresses.insert(name, address);
    }
    story::bind_all(stage).await?;
    for product in ["tsubame", "kaede", "hinoki", "momiji", "ayame"] {
        let address = match stage.addresses.get(product) {
            Some(address) if !address.is_empty() => format!("http://{address}"),
            _ => String::new(),
        };
        let hubs = stage.hubs.addresses();
        let adapter = stage.plan.adapter(product, hubs, &address);
        stage.children.start(adapter).await?;
    }
    let registry = stage.plan.registry(&stage.scene.folder, pace_ms);
    stage.children.start(registry).await?;
    stage
        .progress
        .note("five products and five adapters run; the registry hands out its files");
    Ok(())
}

fn show(result: &DemoResult, access: &Access) -> Result<()> {
    if access.json {
        print_json(&result.json())
    } else {
        print(&result.text())
    }
}

fn print_hints(stage: &Stage<'_>) {
    let code = &stage.scene.municipality;
    let person = stage.log.last().map_or("", |entry| entry.subject.as_str());
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "musubi".to_owned());
    let common = format!("--hub {} --municipality {code}", stage.hubs.addresses());
    eprintln!("\nEverything keeps running; Ctrl-C stops it. Try:");
    for command in [
        "subscriptions".to_owned(),
        format!("case show {person}"),
        "events list --limit 10".to_owned(),
        "held list --state refused".to_owned(),
        "parked list".to_owned(),
    ] {
        eprintln!("  {program} {command} {common}");
    }
    for (name, address) in &stage.addresses {
        match (name.as_str(), address.as_str()) {
            (_, "") => {}
            ("kaede", address) => eprintln!("  curl http://{address}/api/nozeisha/{person}"),
            (_, address) => eprintln!("  curl http://{address}/v2/persons/{person}"),
        }
    }
}
