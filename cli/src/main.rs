//! The `musubi` program: the hub, adapters, the operator's commands and the demo in one binary.
//! The only place that knows both the hub and the adapters.
//! Must never decide what the hub or an adapter decides: it starts them and asks them.
//! Read next: `commands.rs`, then `demo.rs`.

mod client;
mod commands;
mod compare;
mod demo;
mod failure;
mod output;
mod parent;
mod payload;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;
use clap::error::{ContextKind, ContextValue};

use crate::commands::Command;
use crate::failure::{EXIT_CODES, Failure};

/// Ties the standardised systems of a municipality together by events.
///
/// Start with `musubi demo`: it plays 60 days of a town through a hub and five products.
#[derive(Debug, Parser)]
#[command(name = "musubi", version, after_help = EXIT_CODES, max_term_width = 100)]
#[command(arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    access: client::Access,
    /// End when standard input is closed: when the program that started this one ends
    #[arg(long, hide = true)]
    with_parent: bool,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::try_parse().unwrap_or_else(|error| without_hidden(error).exit());
    if cli.with_parent {
        parent::watch();
    }
    let result = runtime().and_then(|runtime| {
        let telemetry = telemetry::start(&cli.command, &runtime);
        let result = runtime.block_on(cli.command.run(&cli.access));
        telemetry.shutdown();
        result
    });
    match result.map_err(Failure::from) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("musubi: {failure}");
            if cli.access.json
                && let Err(error) = output::print_json_failure(&failure.json())
            {
                eprintln!("musubi: {error:#}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}

/// Without a command, the error lists all there are: also those that the help hides.
fn without_hidden(mut error: clap::Error) -> clap::Error {
    if let Some(ContextValue::Strings(names)) = error.get(ContextKind::ValidSubcommand) {
        let shown = names.iter().filter(|name| *name != "product").cloned();
        let shown = ContextValue::Strings(shown.collect());
        error.insert(ContextKind::ValidSubcommand, shown);
    }
    error
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| anyhow::Error::new(error).context("start the runtime"))
}
