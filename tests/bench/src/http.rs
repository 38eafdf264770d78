//! The smallest HTTP client that keeps its connections: one request, one answer, no body back.
//! The floor and the bench's adapter post through it, so that its cost is the same on both sides.
//! Must never repeat a request: who called it decides.
//! Read next: `receiver.rs`, which answers.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What the receiver wants to know of a delivery.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told<'a> {
    /// Whom it is about.
    pub(crate) subject: &'a str,
    /// Version of the subject.
    pub(crate) version: u32,
    /// When its publish began, in microseconds since 1970.
    pub(crate) published_us: i64,
}

/// A client of one receiver.
#[derive(Debug)]
pub(crate) struct Http {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Http {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            idle: Mutex::default(),
        }
    }

    /// Posts one event; returns the status.
    pub(crate) async fn post(&self, told: Told<'_>, body: &[u8]) -> Result<u16> {
        let exchange = self.exchange(told, body);
        tokio::time::timeout(ANSWER_TIMEOUT, exchange)
            .await
            .context("no answer in time")?
    }

    async fn exchange(&self, told: Told<'_>, body: &[u8]) -> Result<u16> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(self.address).await?;
                stream.set_nodelay(true)?;
                stream
            }
        };
        let mut request = format!(
            "POST /events HTTP/1.1\r\nhost: receiver\r\ncontent-length: {}\r\nx-subject: {}\r\n\
             x-version: {}\r\nx-published: {}\r\n\r\n",
            body.len(),
            told.subject,
            told.version,
            told.published_us
        )
        .into_bytes();
        request.extend_from_slice(body);
        stream.write_all(&request).await?;
        let mut answer = [0_u8; 256];
        let mut filled = 0;
        while !answer[..filled].ends_with(b"\r\n\r\n") {
            let read = stream.read(&mut answer[filled..]).await?;
            if read == 0 {
                bail!("the receiver ended the connection");
            }
            filled += read;
        }
        let status = std::str::from_utf8(&answer[..filled])?;
        let status = status.split(' ').nth(1).and_then(|code| code.parse().ok());
        self.idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(stream);
        status.context("the answer has no status")
    }
}
