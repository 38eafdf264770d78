//! `ayame`: a stand-in for a newer national pension product, with another REST interface.
//! `adapters/vendors/ayame/INTERFACE.md` is its manual; requests end in the ledger.
//! It must never answer with success before the record and its change id are stored.
//! Read next: `ayame/person.rs` for the record, `ayame/history.rs` for the addresses.

mod api;
mod history;
mod person;

use crate::http::{self, HttpArgs};
use crate::{ledger, writer};

/// Arguments of `musubi product ayame`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub http: HttpArgs,
}

/// Runs the product until the process ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let file = args.http.data.join("ayame.db");
    let conn = ledger::open(&file).await?;
    let readers = ledger::open_readers(&file).await?;
    let (writer, task) = writer::start(conn);
    http::serve(
        &args.http,
        api::router(api::Shared { writer, readers }),
        task,
    )
    .await
}

#[cfg(test)]
mod tests;
