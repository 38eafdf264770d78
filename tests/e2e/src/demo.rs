//! `musubi demo` as a process, and its result.
//! The demo judges itself by code that shares nothing with adapters and products; what else must
//! hold of a whole run is judged here.
//! Must never take a run for good that did not end with status 0.
//! Read next: `kills.rs`, which disturbs it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::process::{Process, musubi};

/// A demo that runs.
#[derive(Debug)]
pub struct Demo {
    process: Process,
    data: PathBuf,
    output: PathBuf,
}

impl Demo {
    /// Starts the demo with its data in `<folder>/data`.
    pub fn start(folder: &Path, arguments: &[String]) -> Result<Self> {
        let data = folder.join("data");
        let output = folder.join("demo.json");
        let mut command = musubi()?;
        command.args(["demo", "--json", "--data"]).arg(&data);
        command.args(arguments);
        let process = Process::spawn_for_output("demo", command, folder, &output)?;
        Ok(Self {
            process,
            data,
            output,
        })
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Folder of everything it keeps.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// Waits for its end; fails unless all of it holds.
    pub fn finish(mut self, timeout: Duration) -> Result<Value> {
        let status = self.process.wait(timeout)?;
        let text = fs::read_to_string(&self.output)
            .with_context(|| format!("read {}", self.output.display()))?;
        if !status.success() {
            bail!(
                "the demo ended with {status}; its data is in {}\n{text}\n{}",
                self.data.display(),
                self.process.tail(20)
            );
        }
        let result: Value = serde_json::from_str(&text).context("read the demo's result")?;
        check(&result)?;
        Ok(result)
    }
}

/// Checks the promises of the result once more, one by one.
fn check(result: &Value) -> Result<()> {
    ensure!(result["ok"] == true, "not ok: {result}");
    let systems = result["systems"].as_array().context("no systems")?;
    let named: Vec<&str> = systems
        .iter()
        .filter_map(|system| system["system"].as_str())
        .collect();
    ensure!(named == ["010", "024", "026"], "systems: {named:?}");
    for system in systems {
        let number = |name: &str| {
            system[name]
                .as_u64()
                .with_context(|| format!("no `{name}`"))
        };
        let total = number("state_total")?;
        ensure!(total > 0, "nobody is compared: {system}");
        ensure!(
            number("state_equal")? + number("waiting")? == total,
            "not every state is equal: {system}"
        );
    }
    let swap = &result["swap"];
    for name in ["lost", "by_both", "by_neither"] {
        ensure!(swap[name] == 0, "the swap: {swap}");
    }
    Ok(())
}
