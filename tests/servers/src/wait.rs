//! Waiting for a condition instead of sleeping for a guess.
//! Used by every test that looks at another process.
//! Must never wait without a limit, and never hide what was wrong at the end.
//! Read next: `process.rs`.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

const POLL: Duration = Duration::from_millis(20);

/// Waits until the condition holds, at most `timeout`.
///
/// `Err` from the condition means "not yet", as a connection refused while a process starts; the
/// last one becomes the cause of the error when time is up.
pub async fn wait_until<F>(timeout: Duration, what: &str, mut condition: F) -> Result<()>
where
    F: AsyncFnMut() -> Result<bool>,
{
    let started = Instant::now();
    loop {
        // A condition that hangs must not outlive the limit either.
        let left = timeout.saturating_sub(started.elapsed());
        let last = match tokio::time::timeout(left.max(POLL), condition()).await {
            Ok(Ok(true)) => return Ok(()),
            Ok(Ok(false)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow!("the condition itself gave no answer")),
        };
        if started.elapsed() >= timeout {
            return Err(out_of_time(timeout, what, last));
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The same for code that is not async. The condition must return by itself.
pub fn wait_until_blocking<F>(timeout: Duration, what: &str, mut condition: F) -> Result<()>
where
    F: FnMut() -> Result<bool>,
{
    let started = Instant::now();
    loop {
        let last = match condition() {
            Ok(true) => return Ok(()),
            Ok(false) => None,
            Err(error) => Some(error),
        };
        if started.elapsed() >= timeout {
            return Err(out_of_time(timeout, what, last));
        }
        std::thread::sleep(POLL);
    }
}

fn out_of_time(timeout: Duration, what: &str, last: Option<anyhow::Error>) -> anyhow::Error {
    let message = format!("waited {:.1} s in vain for {what}", timeout.as_secs_f64());
    match last {
        Some(cause) => cause.context(message),
        None => anyhow!(message),
    }
}

/// Waits until something listens on the address, as `127.0.0.1:7400`.
pub async fn wait_until_listening(timeout: Duration, address: &str) -> Result<()> {
    wait_until(timeout, &format!("a listener on {address}"), async || {
        tokio::net::TcpStream::connect(address)
            .await
            .context("not reachable")?;
        Ok(true)
    })
    .await
}

/// Waits until the file exists and holds something; returns its text without the last newline.
///
/// Processes that listen on port 0 write their address to such a file.
pub async fn wait_for_text(timeout: Duration, path: &std::path::Path) -> Result<String> {
    let mut text = String::new();
    wait_until(
        timeout,
        &format!("{} to be written", path.display()),
        async || {
            text = tokio::fs::read_to_string(path).await?.trim_end().to_owned();
            Ok(!text.is_empty())
        },
    )
    .await?;
    Ok(text)
}
