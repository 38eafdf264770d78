//! `cargo xtask faults`: plays a town while the hub, adapters and products are killed.
//! The same code as the test, with any number of kills, any seed and any town.
//! Must never remove what a failed run left behind.
//! Read next: `src/kills.rs`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use musubi_e2e::kills::{self, Faults};

/// Disturbs a running town on purpose.
#[derive(Debug, Parser)]
#[command(name = "faults", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Fault,
}

#[derive(Debug, Subcommand)]
enum Fault {
    /// `kill -9` of hub, adapters and products at random moments while the town is played
    #[command(
        after_help = "Exit status 0 only if the table at the end is the same as without \
kills and nothing happened twice. A failed run keeps its folder.\n\nExamples:
  cargo xtask faults kill --count 50
  cargo xtask faults kill --count 1000 --seed 7 --town tests/town_7"
    )]
    Kill(KillArgs),
}

#[derive(Debug, clap::Args)]
struct KillArgs {
    /// Kills to deliver
    #[arg(long, default_value_t = 50, value_name = "N")]
    count: u32,
    /// Decides who is killed and when; one is drawn when it is not given
    #[arg(long, value_name = "SEED")]
    seed: Option<u64>,
    /// Folder with another town's files
    #[arg(long, value_name = "DIR")]
    town: Option<PathBuf>,
    /// Keep everything in this folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Mean time between two kills, in milliseconds
    #[arg(long, default_value_t = 900, value_name = "MS")]
    interval: u64,
}

fn main() -> ExitCode {
    let Fault::Kill(args) = Cli::parse().command;
    match kill(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn kill(args: KillArgs) -> Result<()> {
    let (folder, temporary) = match args.data {
        Some(folder) => (folder, None),
        None => {
            let made = tempfile::Builder::new()
                .prefix("musubi-faults-")
                .tempdir()?;
            (made.path().to_owned(), Some(made))
        }
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let town = args.town.map(|town| town.canonicalize()).transpose();
    let seed = args.seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!(
        "{} kills with seed {seed}; everything is in {}",
        args.count,
        folder.display()
    );
    let played = kills::run(&Faults {
        count: args.count,
        seed,
        town: town.context("--town")?,
        folder,
        interval: Duration::from_millis(args.interval.max(50)),
    });
    match played {
        Ok(report) => {
            println!("{report}");
            Ok(())
        }
        Err(error) => {
            if let Some(temporary) = temporary {
                // Its path is in the message.
                drop(temporary.keep());
            }
            Err(error)
        }
    }
}
