//! The developers' entry: `cargo xtask test` and its few sisters.
//! Sits beside the product: it starts cargo and prebuilt programs and builds nothing of its own.
//! Must never depend on another crate of the workspace, so that it is ready within a second.
//! Read next: `suite.rs` (the steps of a test run), `tools.rs` (what they need), `programs.rs`.

mod mutants;
mod programs;
mod steps;
mod suite;
mod tools;
mod workspace;

use std::process::ExitCode;

use anyhow::{Result, bail};

use crate::programs::Program;
use crate::workspace::Workspace;

const HELP: &str = "\
The developers' entry to Musubi.

Usage: cargo xtask <COMMAND> [ARGUMENTS]

Commands:
  test              Install what the tests need, then run every check and every test
  tools             Only install what the tests need (into .tools/, and Debian packages)
  faults [ARGS]...  Harm a running hub row by row and judge it; arguments go to the program
  bench [ARGS]...   Measure a release build; arguments go to the program
  mutants [ARGS]... Break engine and projection on purpose; arguments go to cargo-mutants
  help              Print this text

`test` runs these steps in order and stops at the first that fails:
  tools, format, buf lint, buf format, buf breaking, deny, clippy, doc, build, nextest

Examples:
  cargo xtask test
  cargo xtask faults A1 --count 200 --seed 7
  cargo xtask faults --all --report reports
  cargo xtask faults --help
  cargo xtask mutants --re 'Engine<P>::settle'

Exit status: 0 all passed, 1 something failed, 2 wrong usage.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        eprint!("{HELP}");
        return ExitCode::from(2);
    };
    let outcome = match (command.as_str(), rest) {
        ("help" | "--help" | "-h", _) => {
            print!("{HELP}");
            Ok(())
        }
        ("test" | "tools", [flag, ..]) if matches!(flag.as_str(), "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        ("test" | "tools", [unexpected, ..]) => return wrong_usage(command, unexpected),
        ("test", []) => in_workspace(suite::run),
        ("tools", []) => in_workspace(tools::install),
        ("faults", rest) => {
            in_workspace(|workspace| programs::run(workspace, Program::Faults, rest))
        }
        ("mutants", rest) => in_workspace(|workspace| mutants::run(workspace, rest)),
        ("bench", rest) => in_workspace(|workspace| programs::run(workspace, Program::Bench, rest)),
        (unknown, _) => return wrong_usage("cargo xtask", unknown),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn in_workspace(task: impl FnOnce(&Workspace) -> Result<()>) -> Result<()> {
    let workspace = Workspace::locate()?;
    if !workspace.root.join("Cargo.lock").is_file() {
        bail!("no Cargo.lock in {}", workspace.root.display());
    }
    task(&workspace)
}

fn wrong_usage(command: &str, argument: &str) -> ExitCode {
    eprintln!("error: `{command}` does not know `{argument}`; see `cargo xtask help`");
    ExitCode::from(2)
}
