//! The command that takes a data folder over into a cluster, and what it must leave alone.
//! For stories that migrate, or are refused.
//! Must never take a folder for unchanged of which a byte differs.
//! Read next: `cluster.rs`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Output;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

use crate::process::musubi;

/// Runs `musubi migrate`; `crash_at` names a point at which it dies.
pub fn migrate(from: &Path, to: &Path, crash_at: Option<&str>) -> Result<Output> {
    run(from, to, crash_at, &[])
}

/// The same as a dry run.
pub fn dry_run(from: &Path, to: &Path) -> Result<Output> {
    run(from, to, None, &["--dry-run"])
}

fn run(from: &Path, to: &Path, crash_at: Option<&str>, more: &[&str]) -> Result<Output> {
    let mut command = musubi()?;
    command.arg("migrate").arg("--from").arg(from);
    command.arg("--to").arg(to).args(more);
    if let Some(point) = crash_at {
        command.env("MUSUBI_CRASH_AT", point);
    }
    command.output().context("run musubi migrate")
}

/// A refusal: one line that says all of `words`.
pub fn must_refuse(output: &Output, words: &[&str]) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "nothing was refused");
    let said = said.lines().last().unwrap_or_default();
    for word in words {
        ensure!(said.contains(word), "`{word}` is not in: {said}");
    }
    Ok(())
}

/// What it says when it is done.
pub fn must_do(output: &Output) -> Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Digests of a folder's files, without what a migration or a reader of SQLite leaves there.
pub fn digests(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut digests = BTreeMap::new();
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let empty_wal = name.ends_with("-wal") && entry.metadata()?.len() == 0;
        if name == "migrated" || name.ends_with("-shm") || empty_wal {
            continue;
        }
        let bytes = fs::read(entry.path())?;
        digests.insert(name, Sha256::digest(bytes).to_vec());
    }
    Ok(digests)
}
