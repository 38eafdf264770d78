//! Stand-ins for five vendors' products, which the demo and the tests connect through the hub.
//! Each runs as its own process: `musubi product <name>`; its manual is beside its adapter.
//! Nothing here may depend on the hub, its contract or an adapter.
//! Read next: `kaede.rs` (REST), `hinoki.rs` (files), `momiji.rs` (SQL), `tsubame.rs` (source).

mod calendar;
mod fields;
mod files;
mod http;
mod ledger;
mod writer;

pub mod ayame;
pub mod hinoki;
pub mod kaede;
pub mod momiji;
pub mod tsubame;

pub use http::HttpArgs;

/// The products, as subcommands.
#[derive(Debug, Clone, clap::Subcommand)]
pub enum ProductCommand {
    /// Resident registry that writes a town's files (source).
    Tsubame(tsubame::Args),
    /// Individual residence tax with a REST interface.
    Kaede(kaede::Args),
    /// National pension with files in CP932 and a nightly batch.
    Hinoki(hinoki::Args),
    /// National pension with a REST interface and address histories.
    Ayame(ayame::Args),
    /// National health insurance with interface tables in a database.
    Momiji(momiji::Args),
}

impl ProductCommand {
    /// Runs the product until the process ends.
    pub async fn run(self) -> anyhow::Result<()> {
        match self {
            Self::Tsubame(args) => tsubame::run(args).await,
            Self::Kaede(args) => kaede::run(args).await,
            Self::Hinoki(args) => hinoki::run(args).await,
            Self::Ayame(args) => ayame::run(args).await,
            Self::Momiji(args) => momiji::run(args).await,
        }
    }
}
