//! Collects changes that are delivered at the same time into one bulk request (§4).
//! `deliver.rs` submits here while the product is being filled; each change gets its own answer.
//! It must never send a change again, nor one whose delivery has ended.
//! Read next: `answer.rs`.

use std::sync::Arc;
use std::time::Duration;

use musubi_adapter_sdk::{Answer, Refusal};
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::answer::{self, Body, Sent};
use crate::connectors::http::{Http, Reply, unpromised};

/// Lines of one request; the interface takes 2,000.
const LINES_MAX: usize = 500;

/// Bytes of one request, beyond which no line is added; the interface takes 8 MiB.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Requests under way at the same time.
const REQUESTS_MAX: usize = 2;

/// Changes that may wait to be collected.
const QUEUE_MAX: usize = 1_024;

/// A change as one line.
#[derive(Debug)]
pub(super) struct Line {
    /// JSON without a newline.
    pub(super) text: String,
    /// 宛名番号.
    pub(super) person: String,
    /// Version after the change.
    pub(super) version: u32,
}

#[derive(Debug)]
struct Waiting {
    line: Line,
    reply: oneshot::Sender<Answer>,
}

/// The collector. Its task ends with it.
#[derive(Debug)]
pub(super) struct Bulk {
    queue: mpsc::Sender<Waiting>,
}

impl Bulk {
    /// Starts collecting.
    pub(super) fn start(http: Http, wait: Duration) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE_MAX);
        tokio::spawn(collect(http, wait, waiting));
        Self { queue }
    }

    /// Hands a change over and waits for its answer.
    pub(super) async fn submit(&self, line: Line) -> Answer {
        let (reply, answer) = oneshot::channel();
        if self.queue.send(Waiting { line, reply }).await.is_err() {
            let message = "the adapter is stopping";
            return Refusal::retry(Duration::ZERO, "STOPPING", message).into();
        }
        let lost = || Answer::unknown("STOPPING", "the adapter stopped before the answer");
        answer.await.unwrap_or_else(|_| lost())
    }
}

async fn collect(http: Http, wait: Duration, mut queue: mpsc::Receiver<Waiting>) {
    let slots = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut requests = JoinSet::new();
    while let Some(first) = queue.recv().await {
        // The slot comes first, so that changes collect while the product is slow.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            break;
        };
        let batch = fill(first, wait, &mut queue).await;
        requests.spawn(send(http.clone(), batch, slot));
        while requests.try_join_next().is_some() {}
    }
    while requests.join_next().await.is_some() {}
}

async fn fill(first: Waiting, wait: Duration, queue: &mut mpsc::Receiver<Waiting>) -> Vec<Waiting> {
    let until = Instant::now() + wait;
    let mut bytes = first.line.text.len();
    let mut batch = vec![first];
    while batch.len() < LINES_MAX && bytes < BYTES_MAX {
        let next = tokio::select! {
            biased;
            next = queue.recv() => next,
            () = sleep_until(until) => None,
        };
        let Some(next) = next else { break };
        bytes += next.line.text.len();
        batch.push(next);
    }
    batch
}

async fn send(http: Http, mut batch: Vec<Waiting>, _slot: OwnedSemaphorePermit) {
    // A delivery that has ended comes again; its change would only be sent twice.
    batch.retain(|waiting| !waiting.reply.is_closed());
    if batch.is_empty() {
        return;
    }
    let body: String = batch
        .iter()
        .flat_map(|waiting| [waiting.line.text.as_str(), "\n"])
        .collect();
    let request = http
        .request(Method::POST, &["v2", "bulk"])
        .header(CONTENT_TYPE, "application/x-ndjson")
        .body(body);
    let answers = match http.send(request).await {
        Ok(reply) => read(&reply, &batch),
        Err(answer) => vec![answer; batch.len()],
    };
    for (waiting, answer) in batch.into_iter().zip(answers) {
        if waiting.reply.send(answer).is_err() {
            tracing::debug!("a delivery ended before its answer");
        }
    }
}

#[derive(Debug, Deserialize)]
struct AnsweredLine {
    line: usize,
    no: String,
    status: u16,
    #[serde(flatten)]
    body: Body,
}

/// One answer for each line. A line that is missing, or does not name its change, proves nothing.
fn read(reply: &Reply, batch: &[Waiting]) -> Vec<Answer> {
    if reply.status != 200 {
        return vec![unpromised(reply.status); batch.len()];
    }
    let mut lines = reply.body.split(|byte| *byte == b'\n');
    batch
        .iter()
        .enumerate()
        .map(|(index, waiting)| {
            lines
                .next()
                .and_then(|line| serde_json::from_slice::<AnsweredLine>(line).ok())
                .filter(|line| line.line == index + 1 && line.no == waiting.line.person)
                .and_then(|line| {
                    answer::read(line.status, line.body, Sent::Change(waiting.line.version))
                })
                .unwrap_or_else(|| unpromised(reply.status))
        })
        .collect()
}
