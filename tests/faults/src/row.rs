//! What a row of the fault matrix is, and the list of them.
//! Behind `cargo xtask faults` and the tests, which run the same code with other counts.
//! Must never call a row passed that injected nothing.
//! Read next: `rows.rs`, `history.rs`.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::rows;

/// What a run is told.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// An empty folder; what a failed run leaves in it is kept.
    pub folder: PathBuf,
    /// How often the fault is injected, at each of its points.
    pub count: u32,
    /// Decides everything that is drawn.
    pub seed: u64,
    /// For rows that go on for a time.
    pub minutes: Option<u64>,
    /// Another town's folder, for rows that play one.
    pub town: Option<PathBuf>,
    /// Whether ratios of times are judged too. The test run leaves them out: there other tests run
    /// beside, and what is counted and ordered is enough.
    pub measured: bool,
    /// Mean time between two faults, for rows that draw moments.
    pub interval: Duration,
    /// Whether the hub is an instance of a cluster.
    pub cluster: bool,
}

impl Ctx {
    /// A run in a folder with everything else as the tests have it.
    pub fn new(folder: impl Into<PathBuf>, count: u32, seed: u64) -> Self {
        Self {
            folder: folder.into(),
            count,
            seed,
            minutes: None,
            town: None,
            measured: false,
            interval: Duration::from_millis(900),
            cluster: false,
        }
    }

    /// A folder of its own inside this run's.
    #[must_use]
    pub fn within(&self, name: &str) -> Self {
        Self {
            folder: self.folder.join(name),
            ..self.clone()
        }
    }
}

/// What came of a row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowReport {
    /// Faults that were injected.
    pub injected: u64,
    /// Events acknowledged.
    pub published: u64,
    /// Effects at receivers.
    pub delivered: u64,
    /// What was wrong.
    pub violations: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// What this machine cannot do, by name.
    pub cannot: Vec<String>,
}

impl RowReport {
    /// A row that this machine cannot play, and what it lacks.
    pub fn cannot(what: impl Into<String>) -> Self {
        Self {
            cannot: vec![what.into()],
            ..Self::default()
        }
    }

    /// Adds what another part of the row came to.
    pub fn add(&mut self, other: Self) {
        self.injected += other.injected;
        self.published += other.published;
        self.delivered += other.delivered;
        self.violations.extend(other.violations);
        self.notes.extend(other.notes);
        self.cannot.extend(other.cannot);
    }

    /// Whether the row did harm, could do all of it, and nothing was wrong afterwards.
    pub fn passed(&self) -> bool {
        self.injected > 0 && self.violations.is_empty() && self.cannot.is_empty()
    }

    /// One line for a table.
    pub fn line(&self) -> String {
        let verdict = match (self.passed(), self.cannot.is_empty()) {
            (true, _) => "ok",
            (false, false) => "CANNOT",
            (false, true) => "FAILED",
        };
        format!(
            "{verdict}: {} injected, {} published, {} delivered, {} violations",
            self.injected,
            self.published,
            self.delivered,
            self.violations.len()
        )
    }
}

/// A row under way. Rows run on one thread each, so nothing of them needs to move between threads.
pub type Running = Pin<Box<dyn Future<Output = Result<RowReport>>>>;

/// A row of the matrix.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Its name, such as `A1`.
    pub name: &'static str,
    /// The fault.
    pub what: &'static str,
    /// What must hold.
    pub accept: &'static str,
    /// Count when none is given.
    pub count: u32,
    /// Runs it.
    pub run: fn(Ctx) -> Running,
}

/// All rows, in the order of the matrix.
pub fn all() -> Vec<Row> {
    rows::ALL
        .iter()
        .flat_map(|group| group.iter().copied())
        .collect()
}

/// The row of a name, in any case.
pub fn find(name: &str) -> Option<Row> {
    of_name(all(), name)
}

/// All rows of a cluster: those of several instances, and those of one hub that is an instance.
pub fn all_on_cluster() -> Vec<Row> {
    let own = rows::cluster::ROWS.iter().copied();
    let too = all()
        .into_iter()
        .filter(|row| rows::ON_CLUSTER_TOO.contains(&row.name));
    own.chain(too).collect()
}

/// The row of a name on a cluster.
///
/// # Errors
/// When there is none, or when it harms what only the embedded hub has.
pub fn find_on_cluster(name: &str) -> Result<Row> {
    if let Some(row) = of_name(all_on_cluster(), name) {
        return Ok(row);
    }
    match find(name) {
        Some(row) => anyhow::bail!("{} is not played on a cluster: {}", row.name, row.what),
        None => anyhow::bail!("there is no row {name}"),
    }
}

fn of_name(rows: Vec<Row>, name: &str) -> Option<Row> {
    let mut rows = rows.into_iter();
    rows.find(|row| row.name.eq_ignore_ascii_case(name))
}

/// Runs a row once; what it left is kept when it does not pass.
///
/// # Errors
/// When the row is unknown, cannot run or does not pass.
pub async fn passes(name: &str, count: u32, seed: u64) -> Result<()> {
    judge(name, count, seed, RowReport::passed).await?;
    Ok(())
}

/// The same for a row with an instrument for every machine: what this one cannot do is left out of
/// the judgement and written into a list, which `cargo xtask test` prints at its end.
///
/// # Errors
/// When the row is unknown, cannot run at all, or what could be played does not pass.
pub async fn passes_here(name: &str, count: u32, seed: u64, lists: &Path) -> Result<()> {
    let played = |report: &RowReport| report.injected > 0 && report.violations.is_empty();
    let report = judge(name, count, seed, played).await?;
    let list = lists.join(format!("cannot-{name}.txt"));
    let lines = report.cannot.iter().map(|what| format!("{name}: {what}\n"));
    std::fs::write(&list, lines.collect::<String>())
        .with_context(|| format!("write {}", list.display()))
}

async fn judge(
    name: &str,
    count: u32,
    seed: u64,
    passed: impl Fn(&RowReport) -> bool,
) -> Result<RowReport> {
    let folder = tempfile::Builder::new().prefix("musubi-row-").tempdir()?;
    let row = find(name).ok_or_else(|| anyhow::anyhow!("there is no row {name}"))?;
    let report = (row.run)(Ctx::new(folder.path(), count, seed)).await?;
    println!("{name} {}\n{report:#?}", report.line());
    if !passed(&report) {
        let kept = folder.keep();
        anyhow::bail!("kept in {}: {report:#?}", kept.display());
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_without_harm_or_with_something_impossible_has_not_passed() {
        let harmed = RowReport {
            injected: 1,
            ..RowReport::default()
        };
        assert!(harmed.passed());
        assert!(!RowReport::default().passed());
        let impossible = RowReport {
            cannot: vec!["loop mounts".to_owned()],
            ..harmed.clone()
        };
        assert!(!impossible.passed() && impossible.line().starts_with("CANNOT"));
        let wrong = RowReport {
            violations: vec!["I1".to_owned()],
            ..harmed
        };
        assert!(!wrong.passed() && wrong.line().starts_with("FAILED"));
    }

    #[test]
    fn each_row_has_one_name() {
        for rows in [all(), all_on_cluster()] {
            let mut names: Vec<&str> = rows.iter().map(|row| row.name).collect();
            let before = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), before);
        }
    }

    #[test]
    fn a_row_about_files_is_refused_by_name_on_a_cluster() {
        let refused = find_on_cluster("b6").unwrap_err().to_string();
        assert!(
            refused.contains("B6 is not played on a cluster"),
            "{refused}"
        );
        assert_eq!(find_on_cluster("e2").unwrap().name, "E2");
    }
}
