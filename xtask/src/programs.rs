//! Starts the long programs beside the tests: faults on purpose, and measurements.
//! Behind `cargo xtask faults` and `cargo xtask bench`.
//! Must never interpret the arguments: they belong to the program.
//! Read next: `tests/faults/src/bin/faults.rs`, `tests/bench/src/main.rs`.

use anyhow::Result;

use crate::steps::execute;
use crate::workspace::Workspace;

/// A program that is run by hand.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    Faults,
    Bench,
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Faults => "faults",
            Self::Bench => "bench",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Faults => "musubi-faults",
            Self::Bench => "musubi-bench",
        }
    }

    /// Faults are the same in every build; a measurement is worth something only in a release.
    fn profile(self) -> &'static [&'static str] {
        match self {
            Self::Faults => &[],
            Self::Bench => &["--release"],
        }
    }
}

/// Builds the program and the `musubi` binary that it plays with, then runs it.
pub(crate) fn run(workspace: &Workspace, program: Program, arguments: &[String]) -> Result<()> {
    let name = program.name();
    let mut build = workspace.cargo(&["build", "--quiet", "--locked"]);
    build
        .args(program.profile())
        .args(["-p", "musubi", "--bin", "musubi"]);
    execute(&mut build)?;

    let mut run = workspace.cargo(&["run", "--quiet", "--locked"]);
    run.args(program.profile())
        .args(["-p", program.package(), "--bin", name, "--"])
        .args(arguments);
    execute(&mut run)
}
