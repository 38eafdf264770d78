//! A receiving product over HTTP that judges what it gets: order, repeats, age.
//! A process of its own, so that its CPU is nobody else's; `bench receiver` starts it.
//! Must never answer before it has noted the event.
//! Read next: `stage.rs`, which starts it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};

/// How a receiver behaves.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Manner {
    /// Milliseconds that each answer takes
    #[arg(long, default_value_t = 0)]
    pub(crate) delay_ms: u64,
    /// Percent of requests that get 503
    #[arg(long, default_value_t = 0)]
    pub(crate) busy_percent: u64,
    /// Percent of subjects of which everything gets 422
    #[arg(long, default_value_t = 0)]
    pub(crate) reject_percent: u64,
    /// File that gets the address
    #[arg(long)]
    pub(crate) address_file: PathBuf,
}

/// What it has seen since it was asked to forget.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    /// Applied.
    pub(crate) applied: u64,
    /// Came again after it was applied.
    pub(crate) repeated: u64,
    /// Came before its predecessor was applied.
    pub(crate) disordered: u64,
    /// Answered with 503.
    pub(crate) busy: u64,
    /// Answered with 422.
    pub(crate) rejected: u64,
    /// Half of them were applied within this time, in microseconds.
    pub(crate) median_us: i64,
    /// 99 of 100 were applied within this time, in microseconds.
    pub(crate) p99_us: i64,
}

#[derive(Debug, Default)]
struct Book {
    seen: Seen,
    ages: Vec<i64>,
    versions: HashMap<String, u32>,
    dice: u64,
}

/// Serves until it is killed.
pub(crate) async fn run(manner: Manner) -> Result<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    tell_address(&manner.address_file, listener.local_addr()?)?;
    let book = Arc::new(Mutex::new(Book {
        dice: 0x9E37_79B9_7F4A_7C15,
        ..Book::default()
    }));
    loop {
        let (stream, _) = listener.accept().await?;
        let (book, manner) = (book.clone(), manner.clone());
        tokio::spawn(async move {
            // A caller that goes away ends its own connection only.
            drop(serve(stream, &manner, &book).await);
        });
    }
}

/// Writes an address whole or not at all: others wait for the file.
pub(crate) fn tell_address(file: &Path, address: SocketAddr) -> Result<()> {
    let unfinished = file.with_extension("new");
    std::fs::write(&unfinished, address.to_string())?;
    Ok(std::fs::rename(unfinished, file)?)
}

async fn serve(stream: TcpStream, manner: &Manner, book: &Mutex<Book>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = BufStream::new(stream);
    loop {
        let mut line = String::new();
        let mut first = String::new();
        let mut headers = HashMap::new();
        loop {
            line.clear();
            ensure!(stream.read_line(&mut line).await? > 0, "the caller went");
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            match text.split_once(": ") {
                Some((name, value)) if !first.is_empty() => {
                    headers.insert(name.to_owned(), value.to_owned());
                }
                _ => text.clone_into(&mut first),
            }
        }
        if first.starts_with("GET") {
            let answer = asked(&first, book)?;
            let length = answer.len();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{answer}");
            stream.write_all(head.as_bytes()).await?;
            stream.flush().await?;
            continue;
        }
        let length: usize = header(&headers, "content-length")?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await?;
        if manner.delay_ms > 0 {
            tokio::time::sleep(Duration::from_millis(manner.delay_ms)).await;
        }
        let subject: String = header(&headers, "x-subject")?;
        let version = header(&headers, "x-version")?;
        let published = header(&headers, "x-published")?;
        let status = lock(book).take(manner, subject, version, published);
        let head = format!("HTTP/1.1 {status} -\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await?;
        stream.flush().await?;
    }
}

fn header<T: std::str::FromStr>(headers: &HashMap<String, String>, name: &str) -> Result<T> {
    let value = headers.get(name).and_then(|value| value.parse().ok());
    value.with_context(|| format!("the header {name}"))
}

fn lock(book: &Mutex<Book>) -> std::sync::MutexGuard<'_, Book> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `GET /seen` answers with what was seen; `GET /forget` as well, and begins anew.
fn asked(first: &str, book: &Mutex<Book>) -> Result<String> {
    let mut book = lock(book);
    let mut ages = book.ages.clone();
    ages.sort_unstable();
    let part = |percent: usize| {
        let place = (ages.len() * percent / 100).min(ages.len().saturating_sub(1));
        ages.get(place).copied().unwrap_or_default()
    };
    let seen = Seen {
        median_us: part(50),
        p99_us: part(99),
        ..book.seen
    };
    if first.contains("/forget") {
        book.seen = Seen::default();
        book.ages.clear();
    }
    Ok(serde_json::to_string(&seen)?)
}

impl Book {
    fn take(&mut self, manner: &Manner, subject: String, version: u32, published: i64) -> u16 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        if self.dice % 100 < manner.busy_percent {
            self.seen.busy += 1;
            return 503;
        }
        let digits: String = subject.chars().filter(char::is_ascii_digit).collect();
        let number: u64 = digits.parse().unwrap_or_default();
        if number % 100 < manner.reject_percent {
            self.seen.rejected += 1;
            return 422;
        }
        let last = self.versions.entry(subject).or_default();
        if version <= *last {
            self.seen.repeated += 1;
            return 200;
        }
        if version > *last + 1 {
            self.seen.disordered += 1;
        }
        *last = version;
        self.seen.applied += 1;
        self.ages.push(now_us() - published);
        200
    }
}

/// Microseconds since 1970.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}
