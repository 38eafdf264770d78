//! `momiji`: a stand-in for a national health insurance product with interface tables in SQL.
//! `adapters/vendors/momiji/INTERFACE.md` is its manual; SQLite or PostgreSQL, the same statements.
//! It must never apply a part of a unit, nor give results apart from their effect.
//! Read next: `momiji/units.rs` for the units, `momiji/columns.rs` for the items.

mod columns;
mod ledger;
mod members;
mod tables;
mod units;

use std::time::Duration;

use tokio::time::MissedTickBehavior;

/// Arguments of `musubi product momiji`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Database: sqlite://FILE or postgres://…
    #[arg(long, value_name = "URL")]
    pub database: String,
    /// Time from one look at the interface tables to the next, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    pub poll_ms: u64,
}

/// Runs the product until the process ends.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let mut conn = tables::open(&args.database).await?;
    let mut polls = tokio::time::interval(Duration::from_millis(args.poll_ms.max(1)));
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        polls.tick().await;
        while units::process_waiting(&mut conn).await? > 0 {}
    }
}

#[cfg(test)]
mod tests;
