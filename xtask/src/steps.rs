//! Steps of a run: each prints its name, what it does, how long it took, and at the end a table.
//! Sits between `suite.rs`, which says what the steps are, and the terminal.
//! Must never swallow a failure: the first one ends the run.
//! Read next: `suite.rs`.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// What has run so far.
#[derive(Debug, Default)]
pub(crate) struct Steps {
    finished: Vec<(&'static str, Duration, bool)>,
}

impl Steps {
    /// Runs one step and remembers its name, duration and outcome.
    pub(crate) fn run<T>(
        &mut self,
        name: &'static str,
        task: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        println!("\n== {name}");
        let started = Instant::now();
        let outcome = task().with_context(|| format!("step `{name}` failed"));
        let duration = started.elapsed();
        println!(
            "== {name}: {} after {}",
            verdict(outcome.is_ok()),
            seconds(duration)
        );
        self.finished.push((name, duration, outcome.is_ok()));
        outcome
    }

    /// The summary table, one line for each step that ran.
    pub(crate) fn table(&self) -> String {
        let mut table = format!("\n{:<14} {:>9}  outcome\n", "step", "duration");
        let mut total = Duration::ZERO;
        for (name, duration, passed) in &self.finished {
            total += *duration;
            table += &format!(
                "{name:<14} {:>9}  {}\n",
                seconds(*duration),
                verdict(*passed)
            );
        }
        table += &format!("{:<14} {:>9}", "total", seconds(total));
        table
    }
}

/// Runs a command without input; anything but exit status 0 is an error that shows the command.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("`{}` could not be started", shown(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", shown(command));
    }
    Ok(())
}

/// The command as one would type it, without its folder's path.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let name = program.rsplit('/').next().unwrap_or(&program).to_owned();
    command.get_args().fold(name, |line, argument| {
        line + " " + &argument.to_string_lossy()
    })
}

fn verdict(passed: bool) -> &'static str {
    if passed { "ok" } else { "FAILED" }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
