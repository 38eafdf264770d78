//! Changes engine and projection one small thing at a time, and looks whether a test sees it.
//! Behind `cargo xtask mutants`, outside the test run: it takes an hour and more.
//! Must never pass a survivor that the report does not explain.
//! Read next: `.cargo/mutants.toml` (what is changed), `docs/mutants.md` (the report).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::steps::{execute, shown};
use crate::workspace::Workspace;

const VERSION: &str = "27.1.0";
const REPORT: &str = "docs/mutants.md";
/// What can become of a mutant, and the tool's list of those it became of.
const FATES: [(&str, &str); 4] = [
    ("caught", "caught.txt"),
    ("missed", "missed.txt"),
    ("timeout", "timeout.txt"),
    ("unviable", "unviable.txt"),
];

/// Runs all mutants, or those that `arguments` of the tool choose, and holds the survivors against
/// the report.
pub(crate) fn run(workspace: &Workspace, arguments: &[String]) -> Result<()> {
    let program = workspace.root.join(".tools/mutants/bin/cargo-mutants");
    install(workspace, &program)?;
    let mut mutants = workspace.command(&program.to_string_lossy());
    mutants
        .args(["mutants", "--package", "musubi-hub", "--output"])
        .arg(&workspace.target)
        .args(arguments)
        // Dependencies stay built from one run to the next; seconds per mutant decide.
        .env("CARGO_TARGET_DIR", workspace.target.join("mutants"))
        .env("CARGO_PROFILE_DEV_DEBUG", "0");
    let status = mutants.status().context("cargo-mutants does not start")?;
    // 2 and 3: some were missed, or took too long; they are in the lists.
    if !matches!(status.code(), Some(0 | 2 | 3)) {
        bail!("`{}` ended with {status}", shown(&mutants));
    }
    let only_shows = |argument: &String| matches!(argument.as_str(), "--help" | "-h" | "--list");
    if arguments.iter().any(only_shows) {
        return Ok(());
    }
    let fates = workspace.target.join("mutants.out");
    println!("{}", table(&fates)?);
    let report = fs::read_to_string(workspace.root.join(REPORT))
        .with_context(|| format!("read {REPORT}"))?;
    // One that makes a test run for ever is noticed: the test run ends such tests.
    let survivors = list(&fates, "missed.txt")?;
    let unexplained = left_over(survivors.lines().map(without_place), explained(&report));
    if !unexplained.is_empty() {
        bail!(
            "no test sees these; write the rule as a test, or explain in {REPORT} why nothing can:\n{}",
            unexplained.join("\n")
        );
    }
    let gone = left_over(explained(&report), survivors.lines().map(without_place));
    if arguments.is_empty() && !gone.is_empty() {
        bail!(
            "{REPORT} explains what is caught or is gone:\n{}",
            gone.join("\n")
        );
    }
    Ok(())
}

/// The tool does not come prebuilt; it is compiled once.
fn install(workspace: &Workspace, program: &Path) -> Result<()> {
    let version = Command::new(program)
        .args(["mutants", "--version"])
        .output();
    let wanted = format!("cargo-mutants {VERSION}");
    if version.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == wanted) {
        return Ok(());
    }
    let mut install = workspace.cargo(&["install", "--locked", "--force", "cargo-mutants"]);
    execute(install.args(["--version", VERSION, "--root", ".tools/mutants"]))
}

fn list(fates: &Path, name: &str) -> Result<String> {
    let path = fates.join(name);
    fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

/// Counts by file and fate, as the report holds them.
fn table(fates: &Path) -> Result<String> {
    let mut counts: BTreeMap<String, [u32; FATES.len()]> = BTreeMap::new();
    for (place, (_, name)) in FATES.iter().enumerate() {
        for mutant in list(fates, name)?.lines() {
            let file = mutant.split(':').next().unwrap_or_default();
            for row in [file, "all"] {
                counts.entry(row.to_owned()).or_default()[place] += 1;
            }
        }
    }
    let names = FATES.map(|(fate, _)| fate).join(" | ");
    let mut table = format!("| file | {names} |\n|---|---|---|---|---|\n");
    for (file, counts) in counts {
        let counts = counts.map(|count| count.to_string()).join(" | ");
        table += &format!("| {file} | {counts} |\n");
    }
    Ok(table)
}

/// A mutant's name without line and column, which the next change moves.
fn without_place(mutant: &str) -> String {
    let (place, change) = mutant.split_once(": ").unwrap_or((mutant, ""));
    let file = place.split(':').next().unwrap_or_default();
    format!("{file}: {change}")
}

/// The mutants that the report explains: what stands in code at the start of its list items.
fn explained(report: &str) -> impl Iterator<Item = String> {
    let items = report
        .lines()
        .filter_map(|line| line.strip_prefix("- `hub/"));
    items.filter_map(|item| Some(format!("hub/{}", item.split_once('`')?.0)))
}

/// What is in `these` more often than in `those`.
fn left_over(
    these: impl Iterator<Item = String>,
    those: impl Iterator<Item = String>,
) -> Vec<String> {
    let mut those: Vec<String> = those.collect();
    these
        .filter(|one| match those.iter().position(|other| other == one) {
            Some(place) => {
                those.swap_remove(place);
                false
            }
            None => true,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_survivor_needs_an_explanation_of_its_own_wherever_it_stands() {
        let missed = "hub/src/a.rs:7:9: replace || with && in f\nhub/src/a.rs:9:1: replace || with && in f\n";
        let report = "# Mutants\n- `hub/src/a.rs: replace || with && in f`: both are true.\n";
        let left = left_over(missed.lines().map(without_place), explained(report));
        assert_eq!(left, ["hub/src/a.rs: replace || with && in f"]);
        let gone = left_over(explained(report), std::iter::empty());
        assert_eq!(gone.len(), 1);
    }
}
