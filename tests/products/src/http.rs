//! What the HTTP products have in common: where they listen and how they judge a path.
//! The caller gives a fixed port, or port 0 and a file that tells the port taken.
//! It must never announce an address before the socket is open.
//! Read next: `kaede.rs`, the first of the two.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::files;

/// Where an HTTP product listens and keeps its data.
#[derive(Debug, Clone, clap::Args)]
pub struct HttpArgs {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Folder of the product's own data.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// File that gets the address listened on.
    #[arg(long, value_name = "FILE")]
    pub address_file: Option<PathBuf>,
}

/// Serves until the process ends, the socket fails or the ledger fails.
pub(crate) async fn serve(
    args: &HttpArgs,
    router: Router,
    ledger: JoinHandle<anyhow::Result<()>>,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("listen on {}", args.listen))?;
    let address = listener
        .local_addr()
        .context("read the address listened on")?;
    if let Some(file) = &args.address_file {
        files::replace(file, address.to_string().as_bytes())?;
    }
    tokio::select! {
        served = axum::serve(listener, router) => served.context("serve"),
        ended = ledger => ended.context("the ledger task")?,
    }
}
