//! `musubi demo`: plays 60 days of a town through a hub, five products and five adapters.
//! Starts this program again for each of them, plays the story, judges the end.
//! Must never leave a process behind, nor say that all holds when it was not seen.
//! Read next: `demo/story.rs`, then `demo/verdict.rs`.

mod children;
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
    after_help = "Needs nothing installed and nothing running. Exit status 0 only if every \
product's state equals the registry's truth, nothing was lost or doubled by the swap, and each \
invalid row was refused.

Examples:
  musubi demo
  musubi demo --stay --data /tmp/town
  musubi demo --json --town ../other-town"
)]
pub(crate) struct Args {
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
    let address = children.start(plan.hub()).await?;
    let hub = Access::local(format!("http://{address}"), &scene.municipality);
    let deadline = started + Duration::from_secs(args.timeout);
    progress.note(&format!("the hub listens on {address}"));
    let mut stage = Stage::new(
        plan,
        scene,
        children,
        progress.clone(),
        hub.connect().await?,
        deadline,
    );
    start_all(&mut stage, &hub.hub, args.pace).await?;
    let cut = match args.no_swap {
        true => None,
        false => {
            story::wait_for_half(&mut stage).await?;
            Some(story::swap(&mut stage).await?)
        }
    };
    story::wait_for_end(&mut stage).await?;
    progress.note("everything is delivered; the products are read back and compared");
    let mut result = verdict::judge(&mut stage, cut.as_ref()).await?;
    result.seconds = started.elapsed().as_secs_f64();
    progress.clear();
    show(&result, access)?;
    if args.stay {
        print_hints(&stage, &hub.hub);
    }
    Ok(result.ok())
}

/// Starts products, bindings, adapters and, last, the registry.
async fn start_all(stage: &mut Stage<'_>, hub: &str, pace_ms: u64) -> Result<()> {
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
        let adapter = stage.plan.adapter(product, hub, &address);
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

fn print_hints(stage: &Stage<'_>, hub: &str) {
    let code = &stage.scene.municipality;
    let person = stage.log.last().map_or("", |entry| entry.subject.as_str());
    let program = std::env::args()
        .next()
        .unwrap_or_else(|| "musubi".to_owned());
    let common = format!("--hub {hub} --municipality {code}");
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
