//! `musubi restore`: makes a data folder of a backup, and says exactly what it lacks.
//! Before the hub is started on it; sources then send again from their cursors.
//! Must never write over a folder, nor keep silent about what is missing.
//! Read next: `hub/src/backup.rs`.

use std::path::PathBuf;

use anyhow::Result;
use musubi_hub::backup::{Missing, Restored, restore};
use serde_json::json;

use super::seconds_text;
use crate::client::Access;
use crate::failure::Failure;
use crate::output;

/// Arguments of `musubi restore`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The digests of the backup are checked first. The restored log has a new \
incarnation. Events get their ids from the sources, so what is sent again is taken once; products \
that are ahead say so.

Example:
  musubi restore --from /backup/musubi-2026-04-01 --data /var/lib/musubi-new \\
    --instead-of /var/lib/musubi"
)]
pub(crate) struct Args {
    /// Folder that `musubi backup` made
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Data folder to make; it must be new or empty
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Old data folder, whose log can still be opened: to name the last position that is missing
    #[arg(long, value_name = "DIR")]
    instead_of: Option<PathBuf>,
}

/// Runs it.
pub(crate) async fn run(args: Args, access: &Access) -> Result<()> {
    let made = restore(&args.from, &args.data, args.instead_of.as_deref()).await;
    let restored = made.map_err(|error| Failure::Refused(error.to_string()))?;
    if access.json {
        return output::print_json(&document(&restored));
    }
    println!("incarnation {}", restored.incarnation);
    if restored.missing.is_empty() {
        println!("nothing is missing");
    }
    for missing in &restored.missing {
        println!("{}", missing_text(missing));
    }
    for source in &restored.sources {
        let from = source.cursor.as_deref().unwrap_or("its beginning");
        println!(
            "{} {} sends again from {from}",
            source.municipality, source.source
        );
    }
    println!("start the hub on {}", args.data.display());
    Ok(())
}

fn missing_text(missing: &Missing) -> String {
    let stream = &missing.stream;
    let place = format!("{} {}", stream.municipality, stream.stream);
    let after = seconds_text(stream.recorded_s);
    match missing.to {
        Some(to) => format!(
            "{place}: positions {} to {to} are missing (recorded after {after})",
            stream.next
        ),
        None => format!(
            "{place}: everything from position {} on is missing (recorded after {after})",
            stream.next
        ),
    }
}

fn document(restored: &Restored) -> serde_json::Value {
    let missing: Vec<_> = restored
        .missing
        .iter()
        .map(|missing| {
            json!({
                "municipality": missing.stream.municipality,
                "stream": missing.stream.stream,
                "from": missing.stream.next,
                "to": missing.to,
                "recorded_after_s": missing.stream.recorded_s,
            })
        })
        .collect();
    json!({
        "ok": true,
        "incarnation": restored.incarnation,
        "missing": missing,
        "sources": restored.sources,
    })
}
