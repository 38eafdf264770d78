//! `musubi serve`: runs the hub alone, on its data folder, until it is stopped.
//! Flags win over the configuration file.
//! Must never listen beyond loopback without tokens: the hub itself refuses that.
//! Read next: `hub/src/server/serve.rs`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use musubi_hub::server::{Config, run as serve};

use super::until_stopped;
use crate::failure::Failure;

/// Arguments of `musubi serve`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys of the configuration file (TOML, or YAML by its name): listen, data, \
token_file, grants,
address_file, retention_days, retention_bytes, history_days, cluster. Without the three before the \
last everything is kept. With cluster (address, group, pseudonym_key_file, kafka, postgres) several
instances share Kafka and PostgreSQL in place of the data folder.

Examples:
  musubi serve --data /var/lib/musubi
  musubi serve --config /etc/musubi/hub.toml
  musubi serve --config /etc/musubi/cluster.yaml
  musubi serve --data /var/lib/musubi --retention-days 400 --history-days 800
  musubi serve --listen 0.0.0.0:7411 --tokens /etc/musubi/tokens"
)]
pub(crate) struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Folder that holds everything the hub knows [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address to listen on; port 0 takes a free one [default: 127.0.0.1:7411]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// File with the tokens of all clients; without it only loopback is allowed
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Folder with grant tables (`<業務ID>.csv`) in place of the built-in ones
    #[arg(long, value_name = "DIR")]
    grants: Option<PathBuf>,
    /// File that gets the address listened on
    #[arg(long, value_name = "FILE")]
    address_file: Option<PathBuf>,
    /// Days that the log keeps; what a subscription, a snapshot or a replay needs stays longer
    #[arg(long, value_name = "DAYS")]
    retention_days: Option<u32>,
    /// Bytes of events that each stream of a municipality's log keeps; the same stays longer
    #[arg(long, value_name = "BYTES")]
    retention_bytes: Option<u64>,
    /// Days that outcomes are kept of events that the log has no longer, and rows of closed held units
    #[arg(long, value_name = "DAYS")]
    history_days: Option<u32>,
}

/// Runs it.
pub(crate) async fn run(args: Args) -> Result<()> {
    let config = config(args).map_err(Failure::Usage)?;
    let ran = serve(config, until_stopped()).await;
    ran.map_err(|error| Failure::usage(&anyhow::Error::new(error)).into())
}

fn config(args: Args) -> Result<Config, String> {
    let mut config = match &args.config {
        Some(file) => Config::read(file)?,
        None => Config::default(),
    };
    if let Some(data) = args.data {
        config.data = data;
    }
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    config.token_file = args.tokens.or(config.token_file);
    config.grants = args.grants.or(config.grants);
    config.address_file = args.address_file.or(config.address_file);
    config.retention_days = args.retention_days.or(config.retention_days);
    config.retention_bytes = args.retention_bytes.or(config.retention_bytes);
    config.history_days = args.history_days.or(config.history_days);
    Ok(config)
}
