//! Ends a process with the one that started it: its standard input closes then.
//! Used by the demo for its products, adapters and hub, so that none outlives it.
//! Must never be on for a process whose standard input means something.
//! Read next: `demo/children.rs`.

use std::io::Read;
use std::sync::OnceLock;
use std::thread;

use tokio_util::sync::CancellationToken;

static GONE: OnceLock<CancellationToken> = OnceLock::new();

/// Begins to watch standard input.
pub(crate) fn watch() {
    let gone = GONE.get_or_init(CancellationToken::new).clone();
    thread::spawn(move || {
        let mut buffer = [0; 64];
        let mut input = std::io::stdin();
        // Zero bytes are the end; so is any error.
        while input.read(&mut buffer).is_ok_and(|read| read > 0) {}
        gone.cancel();
    });
}

/// Returns when the parent is gone; never when it is not watched.
pub(crate) async fn gone() {
    match GONE.get() {
        Some(gone) => gone.cancelled().await,
        None => std::future::pending().await,
    }
}
