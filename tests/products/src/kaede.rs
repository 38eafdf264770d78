//! `kaede`: a stand-in for a vendor's individual residence tax product, with a REST interface.
//! `adapters/vendors/kaede/INTERFACE.md` is its manual; requests end in the ledger.
//! It must never answer with success before the record and its key are stored.
//! Read next: `kaede/person.rs` for the items, `kaede/api.rs` for the requests.

mod api;
mod person;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use crate::http::{self, HttpArgs};
use crate::{ledger, writer};

/// Arguments of `musubi product kaede`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub http: HttpArgs,
    /// Answer about every N-th writing request with 503; 0 for never.
    #[arg(long, value_name = "N", default_value_t = 97)]
    pub flaky: u64,
    /// Seed that decides which requests get the 503.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub seed: u64,
}

/// Runs the product until the process ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let file = args.http.data.join("kaede.db");
    let conn = ledger::open(&file).await?;
    let readers = ledger::open_readers(&file).await?;
    let (writer, task) = writer::start(conn);
    let state = api::Shared {
        writer,
        readers,
        flaky: args.flaky,
        seed: args.seed,
        requests: Arc::new(AtomicU64::new(0)),
    };
    http::serve(&args.http, api::router(state), task).await
}

#[cfg(test)]
mod tests;
