//! The test run: every check and every test, cheap ones first, one step after the other.
//! Behind `cargo xtask test`, which `.ci/run` calls; needs nothing but what `tools.rs` installs.
//! Must never skip a step silently: a missing tool or baseline fails the run.
//! Read next: `.config/nextest.toml` (time limits), `deny.toml`, `clippy.toml`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::steps::{Steps, execute};
use crate::tools;
use crate::workspace::Workspace;

const BASELINE: &str = "proto/baseline.binpb";

pub(crate) fn run(workspace: &Workspace) -> Result<()> {
    let mut steps = Steps::default();
    let outcome = run_steps(workspace, &mut steps);
    println!("{}", steps.table());
    for line in impossible(workspace)? {
        println!("THIS MACHINE CANNOT {line}");
    }
    let counts = outcome?;
    println!("{} passed, {} failed", counts.passed(), counts.failed);
    Ok(())
}

fn run_steps(workspace: &Workspace, steps: &mut Steps) -> Result<Counts> {
    let cargo = |arguments: &[&str]| execute(&mut workspace.cargo(arguments));
    let buf = |arguments: &[&str]| execute(workspace.command("buf").args(arguments));

    steps.run("tools", || tools::install(workspace))?;
    steps.run("format", || cargo(&["fmt", "--all", "--check"]))?;
    steps.run("buf lint", || buf(&["lint", "proto"]))?;
    steps.run("buf format", || {
        buf(&[
            "format",
            "proto",
            "--diff",
            "--exit-code",
            "--exclude-path",
            "proto/google",
        ])
    })?;
    steps.run("buf breaking", || {
        require_baseline(&workspace.root)?;
        buf(&["breaking", "proto", "--against", BASELINE])
    })?;
    steps.run("deny", || {
        // The offline checks only: the database of advisories lies on another host.
        cargo(&[
            "deny",
            "--locked",
            "--workspace",
            "check",
            "bans",
            "licenses",
            "sources",
        ])
    })?;
    steps.run("clippy", || {
        cargo(&[
            "clippy",
            "--locked",
            "--workspace",
            "--all-targets",
            "--",
            "-D",
            "warnings",
        ])
    })?;
    steps.run("doc", || {
        let mut doc = workspace.cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
        execute(doc.env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    // Tests start the `musubi` binary, so every binary is built with the tests, from one
    // resolution of features: nothing is compiled twice.
    steps.run("build", || {
        cargo(&["build", "--locked", "--workspace", "--bins", "--tests"])
    })?;
    steps.run("nextest", || test(workspace))
}

fn require_baseline(root: &Path) -> Result<()> {
    if !root.join(BASELINE).is_file() {
        bail!("{BASELINE} is missing; without it breaking changes cannot be seen");
    }
    Ok(())
}

/// What the rows of the fault matrix could not do on this machine, by name.
fn impossible(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.target.join("tmp");
    let mut lines = Vec::new();
    for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("cannot-") {
            let list = fs::read_to_string(entry.path()).context("read what cannot be played")?;
            lines.extend(list.lines().map(str::to_owned));
        }
    }
    Ok(lines)
}

/// Runs the tests and reads their counts from the report that nextest writes.
fn test(workspace: &Workspace) -> Result<Counts> {
    let report = workspace.target.join("nextest/default/junit.xml");
    if report.exists() {
        fs::remove_file(&report).with_context(|| format!("remove {}", report.display()))?;
    }
    let outcome = execute(&mut workspace.cargo(&[
        "nextest",
        "run",
        "--locked",
        "--workspace",
        "--no-fail-fast",
    ]));
    let counts = fs::read_to_string(&report)
        .ok()
        .as_deref()
        .and_then(Counts::parse);
    match (outcome, counts) {
        (Ok(()), Some(counts)) if counts.failed == 0 && counts.total > 0 => Ok(counts),
        (Ok(()), _) => bail!(
            "nextest left no report of passed tests at {}",
            report.display()
        ),
        (Err(error), Some(counts)) => Err(error.context(format!(
            "{} passed, {} failed",
            counts.passed(),
            counts.failed
        ))),
        (Err(error), None) => Err(error),
    }
}

/// How many tests ran, and how many of them failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    total: u32,
    failed: u32,
}

impl Counts {
    /// Reads the opening tag of a JUnit report.
    fn parse(report: &str) -> Option<Self> {
        let (_, after) = report.split_once("<testsuites ")?;
        let (tag, _) = after.split_once('>')?;
        let number = |name: &str| -> Option<u32> {
            let (_, value) = tag.split_once(&format!(" {name}=\""))?;
            value.split_once('"')?.0.parse().ok()
        };
        Some(Self {
            total: number("tests")?,
            failed: number("failures")? + number("errors")?,
        })
    }

    fn passed(self) -> u32 {
        self.total.saturating_sub(self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_and_errors_of_a_report_are_both_failed_tests() {
        let report = r#"<?xml version="1.0"?>
            <testsuites name="nextest-run" tests="7" failures="2" errors="1" uuid="x" time="0.1">"#;
        let counts = Counts::parse(report).unwrap();
        assert_eq!(
            counts,
            Counts {
                total: 7,
                failed: 3
            }
        );
        assert_eq!(counts.passed(), 4);
    }

    #[test]
    fn a_report_without_counts_is_not_a_report() {
        assert_eq!(Counts::parse("<testsuites name=\"x\">"), None);
        assert_eq!(Counts::parse(""), None);
    }
}
