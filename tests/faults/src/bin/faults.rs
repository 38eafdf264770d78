//! `cargo xtask faults`: runs rows of the fault matrix, with any count and any seed.
//! The same code as the tests. `--all` runs every row and can write a dated report.
//! Must never remove what a failed run left behind, nor pass over a row that cannot run here.
//! Read next: `src/row.rs`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Parser;
use musubi_faults::row::{self, Ctx, Row, RowReport};

/// Harms a running hub on purpose, and judges what is left.
#[derive(Debug, Parser)]
#[command(
    name = "faults",
    max_term_width = 100,
    after_help = "Exit status 0 only if every row did harm, could do all of it here, and nothing \
was wrong afterwards. A failed row keeps its folder.\n\nExamples:
  cargo xtask faults --list
  cargo xtask faults A1 --count 200 --seed 7
  cargo xtask faults A6 --minutes 30
  cargo xtask faults A6 --cluster --minutes 30
  cargo xtask faults kill --count 1000 --town tests/town_7
  cargo xtask faults --all --counts A1=20,B6=100 --report docs/faults"
)]
struct Cli {
    /// Rows to run, such as `A1`; `kill` is `A6`
    #[arg(required_unless_present_any = ["all", "list"], value_name = "ROW")]
    rows: Vec<String>,
    /// How often the fault is injected at each of its points; each row has its own default
    #[arg(long, value_name = "N")]
    count: Option<u32>,
    /// Counts of single rows, before `--count`
    #[arg(long, value_name = "ROW=N", value_delimiter = ',', value_parser = row_and_count)]
    counts: Vec<(String, u32)>,
    /// Decides everything that is drawn; one is drawn when it is not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How long rows go on that go on for a time
    #[arg(long, value_name = "M")]
    minutes: Option<u64>,
    /// Run all rows
    #[arg(long, conflicts_with = "rows")]
    all: bool,
    /// Write a dated report into this folder
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// List the rows
    #[arg(long)]
    list: bool,
    /// Several instances over Kafka and PostgreSQL instead of the embedded hub
    #[arg(long)]
    cluster: bool,
    /// Folder with another town's files, for rows that play one
    #[arg(long, value_name = "DIR")]
    town: Option<PathBuf>,
    /// Keep everything in this folder
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Mean time between two random faults, in milliseconds
    #[arg(long, default_value_t = 900, value_name = "MS")]
    interval: u64,
}

/// What came of one row.
struct Ran {
    row: Row,
    report: RowReport,
    took: Duration,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    if cli.list {
        for row in rows(cli) {
            println!("{:4} {}\n     {}", row.name, row.what, row.accept);
        }
        return Ok(true);
    }
    let rows = match cli.rows.as_slice() {
        [] => rows(cli),
        names => names
            .iter()
            .map(|name| one_row(cli, name))
            .collect::<Result<_>>()?,
    };
    if cli.cluster {
        musubi_e2e::hub::stand_on_clusters();
    }
    let seed = cli.seed.unwrap_or_else(|| u64::from(std::process::id()));
    let mut ran = Vec::new();
    for row in rows {
        println!("{} {}; seed {seed}", row.name, row.what);
        let started = Instant::now();
        let report = run_row(cli, row, seed)?;
        println!("{} {}", row.name, report.line());
        for line in report.violations.iter().chain(&report.notes) {
            println!("  {line}");
        }
        let took = started.elapsed();
        ran.push(Ran { row, report, took });
    }
    let text = report_text(&ran, seed);
    if let Some(folder) = &cli.report {
        let kind = if cli.cluster {
            "cluster-faults"
        } else {
            "faults"
        };
        println!(
            "written to {}",
            write_report(folder, kind, &text)?.display()
        );
    }
    for line in impossible(&ran) {
        println!("THIS MACHINE CANNOT {line}");
    }
    Ok(ran.iter().all(|ran| ran.report.passed()))
}

fn rows(cli: &Cli) -> Vec<Row> {
    match cli.cluster {
        true => row::all_on_cluster(),
        false => row::all(),
    }
}

fn one_row(cli: &Cli, name: &str) -> Result<Row> {
    let name = if name == "kill" { "A6" } else { name };
    match cli.cluster {
        true => row::find_on_cluster(name),
        false => row::find(name).with_context(|| {
            format!("no row {name}; `cargo xtask faults --list` names them, with `--cluster` those of a cluster")
        }),
    }
}

/// Runs a row in a folder of its own; a row that fails to run is one that failed.
fn run_row(cli: &Cli, row: Row, seed: u64) -> Result<RowReport> {
    let made = match &cli.data {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new()
                .prefix("musubi-faults-")
                .tempdir()?,
        ),
    };
    let folder = match (&cli.data, &made) {
        (Some(folder), _) => folder.join(row.name),
        (None, Some(made)) => made.path().to_owned(),
        (None, None) => bail!("no folder"),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let town = cli.town.as_ref().map(|town| town.canonicalize());
    let ctx = Ctx {
        minutes: cli.minutes,
        measured: true,
        cluster: cli.cluster,
        town: town.transpose().context("--town")?,
        interval: Duration::from_millis(cli.interval.max(50)),
        ..Ctx::new(&folder, count_of(cli, row), seed)
    };
    let runtime = tokio::runtime::Runtime::new().context("start a runtime")?;
    let report = runtime
        .block_on((row.run)(ctx))
        .unwrap_or_else(|error| RowReport {
            violations: vec![format!("it could not be played: {error:#}")],
            ..RowReport::default()
        });
    if let (false, Some(made)) = (report.passed(), made) {
        println!("  everything is in {}", made.keep().display());
    }
    Ok(report)
}

/// `A1=20`.
fn row_and_count(text: &str) -> Result<(String, u32)> {
    let (name, count) = text.split_once('=').context("say ROW=N, such as A1=20")?;
    let row = row::find(name).map_or_else(|| row::find_on_cluster(name), Ok)?;
    let count = count
        .parse()
        .with_context(|| format!("`{count}` is no count"))?;
    Ok((row.name.to_owned(), count))
}

fn count_of(cli: &Cli, row: Row) -> u32 {
    let mut own = cli.counts.iter().rev();
    let own = own.find(|(name, _)| name == row.name);
    own.map_or(cli.count.unwrap_or(row.count), |(_, count)| *count)
}

fn impossible(ran: &[Ran]) -> Vec<String> {
    let of_row = |ran: &Ran| {
        let name = ran.row.name;
        let cannot = ran.report.cannot.iter();
        cannot
            .map(move |what| format!("{name}: {what}"))
            .collect::<Vec<_>>()
    };
    ran.iter().flat_map(of_row).collect()
}

fn report_text(ran: &[Ran], seed: u64) -> String {
    let mut text = format!("# Faults\n\n{}, seed {seed}\n\n", now());
    text += "| row | fault | injected | published | delivered | violations | time | outcome |\n";
    text += "|---|---|---|---|---|---|---|---|\n";
    for Ran { row, report, took } in ran {
        let outcome = if report.passed() { "ok" } else { "**failed**" };
        let line = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {:.0} s | {outcome} |",
            row.name,
            row.what,
            report.injected,
            report.published,
            report.delivered,
            report.violations.len(),
            took.as_secs_f64()
        );
        debug_assert!(line.is_ok(), "a text takes every line");
    }
    for Ran { row, report, .. } in ran {
        for line in report.violations.iter().chain(&report.notes) {
            text += &format!("\n- {}: {}", row.name, line.replace('\n', "; "));
        }
    }
    text += "\n\n## What this machine cannot do\n\n";
    let impossible = impossible(ran);
    if impossible.is_empty() {
        text += "Nothing was left out.\n";
    }
    for line in impossible {
        text += &format!("- {line}\n");
    }
    text
}

fn now() -> String {
    prost_types::Timestamp::from(SystemTime::now()).to_string()
}

fn write_report(folder: &Path, kind: &str, text: &str) -> Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    let day: String = now().chars().take(10).collect();
    let path = folder.join(format!("{kind}-{day}.md"));
    std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    Ok(path)
}
