//! `tsubame`: a stand-in for a resident registry that hands out a town's full and changed records.
//! `adapters/vendors/tsubame/INTERFACE.md` is its manual; it plays the files of `--town`.
//! It must never change a file that has its done-file, nor split a 届出 over two files.
//! Read next: `tsubame/records.rs` for what a file holds, `tsubame/outbox.rs` for how it is written.

mod outbox;
mod records;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::files;
use outbox::Outbox;
use records::Changes;

/// Arguments of `musubi product tsubame`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Folder with the town's files.
    #[arg(long, value_name = "DIR")]
    pub town: PathBuf,
    /// Folder that gets the numbered files.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder of the product's own data: progress and status.json.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Pause between two files, in milliseconds; a part of it is spent inside each file.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub pace_ms: u64,
    /// Write the town's invalid rows as last file.
    #[arg(long)]
    pub invalid: bool,
}

/// Writes all files, then stays idle until the process ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    write_all(&args).await?;
    std::future::pending().await
}

/// Writes what is not written yet.
async fn write_all(args: &Args) -> anyhow::Result<()> {
    let pace = Duration::from_millis(args.pace_ms);
    let outbox = Outbox::open(&args.out, &args.data, pace)?;
    let changes = args.town.join("changes.csv");
    let total = Arc::new(OnceLock::new());
    let counting = count(changes.clone(), Arc::clone(&total), u64::from(args.invalid));

    let mut progress = outbox.progress()?;
    if progress.written == 0 {
        let sources = ["residents_before.csv", "removed_before.csv"];
        outbox
            .write_full(&sources.map(|name| args.town.join(name)))
            .await?;
        progress.written = 1;
        outbox.advance(progress)?;
    }
    report(args, progress.written, &total)?;

    let mut reader = Changes::open(&changes, progress.offset)?;
    while let Some(batch) = reader.next_batch()? {
        tokio::time::sleep(pace).await;
        outbox
            .write_changes(progress.written + 1, reader.header(), &batch)
            .await?;
        progress.written += 1;
        progress.offset = batch.end;
        outbox.advance(progress)?;
        report(args, progress.written, &total)?;
    }
    if args.invalid && !progress.invalid {
        tokio::time::sleep(pace).await;
        let batch = records::invalid(&args.town.join("invalid.csv"))?;
        outbox
            .write_changes(progress.written + 1, reader.header(), &batch)
            .await?;
        progress.written += 1;
        progress.invalid = true;
        outbox.advance(progress)?;
    }
    counting.await.context("count the files")??;
    report(args, progress.written, &total)
}

/// Counts the files to come beside the writing; a large town takes some seconds.
fn count(
    changes: PathBuf,
    total: Arc<OnceLock<u64>>,
    invalid: u64,
) -> JoinHandle<anyhow::Result<()>> {
    tokio::task::spawn_blocking(move || {
        let mut reader = Changes::open(&changes, 0)?;
        let mut files = 1 + invalid;
        while reader.next_batch()?.is_some() {
            files += 1;
        }
        total.get_or_init(|| files);
        Ok(())
    })
}

/// Tells the operator how far the registry is; the total is null while it is counted.
fn report(args: &Args, written: u64, total: &OnceLock<u64>) -> anyhow::Result<()> {
    let status = json!({"files_written": written, "files_total": total.get()});
    files::replace(
        &args.data.join("status.json"),
        status.to_string().as_bytes(),
    )
}

#[cfg(test)]
mod tests;
