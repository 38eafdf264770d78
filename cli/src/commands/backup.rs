//! `musubi backup`: copies a data folder into a new one, while its hub runs.
//! Reads the files themselves; the hub is not asked and not stopped.
//! Must never write into the data folder, nor over a former backup.
//! Read next: `hub/src/backup.rs`.

use std::path::PathBuf;

use anyhow::Result;
use musubi_hub::backup::{Manifest, backup};
use serde_json::json;

use super::seconds_text;
use crate::client::Access;
use crate::failure::Failure;
use crate::output;

/// Arguments of `musubi backup`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The copy is read through before the command ends. It holds personal data and the \
key of the pseudonyms: keep it as safe as the data folder.

Example:
  musubi backup --data /var/lib/musubi --out /backup/musubi-2026-04-01"
)]
pub(crate) struct Args {
    /// Data folder of the hub, running or not
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Folder to make; it must be new or empty
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let taken = backup(&args.data, &args.out).await;
    let manifest = taken.map_err(|error| Failure::Refused(error.to_string()))?;
    if access.json {
        return output::print_json(&json!({"ok": true, "manifest": manifest}));
    }
    print(&manifest);
    println!("the backup is in {}", args.out.display());
    Ok(())
}

fn print(manifest: &Manifest) {
    println!("incarnation {}", manifest.incarnation);
    for stream in &manifest.streams {
        println!(
            "{} {}: positions {} to {}, last recorded {}",
            stream.municipality,
            stream.stream,
            stream.first,
            stream.next.saturating_sub(1),
            seconds_text(stream.recorded_s),
        );
    }
}
