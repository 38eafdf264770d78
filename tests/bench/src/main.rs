//! `cargo xtask bench`: how fast the hub is, as a share of what a floor written by hand can do.
//! Hub and floor do the same job in turn in one run: ratios hold where absolute numbers do not.
//! Must never report a figure without the machine and the floor beside it.
//! Read next: `figures.rs`, then `floor.rs`; results: `docs/performance.md`.

mod adapter;
mod country;
mod disk;
mod figures;
mod floor;
mod http;
mod load;
mod needs;
mod receiver;
mod report;
mod stage;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::figures::{Name, Scale};

/// Measures a release build against a floor written by hand
#[derive(Debug, Parser)]
#[command(
    name = "bench",
    max_term_width = 100,
    after_help = "Examples:
  cargo xtask bench --only ingest
  cargo xtask bench --only start --events 10000000 --rounds 7
  cargo xtask bench --quick"
)]
struct Cli {
    #[command(subcommand)]
    part: Option<Part>,
    /// Measures only this figure; may be given several times
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Name>,
    /// Rounds of each figure, hub and floor in turn
    #[arg(long, default_value_t = 7, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Events that wait (memory) or lie in the log (start) [default: 1000000; 50000 with --quick]
    #[arg(long, value_name = "N")]
    events: Option<usize>,
    /// A tenth of the work and three rounds: shows that everything runs, proves nothing
    #[arg(long)]
    quick: bool,
}

/// The processes that a measurement is made of; it starts them itself.
#[derive(Debug, Subcommand)]
#[command(hide = true)]
enum Part {
    /// The floor
    #[command(hide = true)]
    Floor(floor::Options),
    /// A receiver
    #[command(hide = true)]
    Receiver(receiver::Manner),
    /// The adapter
    #[command(hide = true)]
    Adapter(adapter::Options),
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.part {
        Some(Part::Floor(options)) => floor::run(options).await,
        Some(Part::Receiver(manner)) => receiver::run(manner).await,
        Some(Part::Adapter(options)) => adapter::run(options).await,
        None => {
            let waiting = if cli.quick { 50_000 } else { 1_000_000 };
            let scale = Scale {
                rounds: if cli.quick {
                    cli.rounds.min(3)
                } else {
                    cli.rounds
                },
                share: if cli.quick { 10 } else { 1 },
                events: cli.events.unwrap_or(waiting),
            };
            figures::run(&cli.only, scale).await
        }
    }
}
