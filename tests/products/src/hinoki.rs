//! `hinoki`: a stand-in for an old national pension product that exchanges files in CP932.
//! `adapters/vendors/hinoki/INTERFACE.md` is its manual; a nightly batch reads the requests.
//! It must never process a file twice, nor give a result before its effect is stored.
//! Read next: `hinoki/night.rs` for the batch, `hinoki/row.rs` for one record.

mod export;
mod night;
mod row;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// Arguments of `musubi product hinoki`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Exchange folder; gets the folders in, out and export.
    #[arg(long, value_name = "DIR")]
    pub exchange: PathBuf,
    /// Folder of the product's own data.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Time from one nightly batch to the next, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 400)]
    pub night_ms: u64,
}

/// While this file lies in the data folder, the office is closed and no batch runs.
const CLOSED: &str = "closed";

/// Runs the product until the process ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut office = night::Office::open(&args.exchange, &args.data).await?;
    let mut nights = tokio::time::interval(Duration::from_millis(args.night_ms.max(1)));
    nights.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        nights.tick().await;
        if !args.data.join(CLOSED).exists() {
            office.night().await?;
        }
    }
}

#[cfg(test)]
mod tests;
