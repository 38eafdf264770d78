//! One bulk request (§4) of the changes that the hub delivered together.
//! `deliver.rs` makes the lines; each line gets its own answer.
//! It must never send a change again, nor take the answer of one line for another's.
//! Read next: `answer.rs`.

use musubi_adapter_sdk::Answer;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;

use super::answer::{self, Body, Sent};
use crate::connectors::http::{Http, Reply, unpromised};

/// Lines of one request; the interface takes 2,000.
pub(super) const LINES_MAX: u32 = 500;

/// Bytes of one request, beyond which no line is added; the interface takes 8 MiB.
const BYTES_MAX: usize = 4 * 1024 * 1024;

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

/// Sends lines, in as few requests as their bytes allow; one answer a line, in order.
pub(super) async fn send(http: &Http, lines: &[&Line]) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(lines.len());
    let mut rest = lines;
    while !rest.is_empty() {
        let (now, later) = rest.split_at(fitting(rest));
        answers.extend(request(http, now).await);
        rest = later;
    }
    answers
}

/// Number of lines that one request takes, at least one.
fn fitting(lines: &[&Line]) -> usize {
    let mut bytes = 0;
    let fits = lines.iter().take(LINES_MAX as usize).take_while(|line| {
        bytes += line.text.len() + 1;
        bytes <= BYTES_MAX
    });
    fits.count().max(1)
}

async fn request(http: &Http, lines: &[&Line]) -> Vec<Answer> {
    let texts = lines.iter().flat_map(|line| [line.text.as_str(), "\n"]);
    let request = http
        .request(Method::POST, &["v2", "bulk"])
        .header(CONTENT_TYPE, "application/x-ndjson")
        .body(texts.collect::<String>());
    match http.send(request).await {
        Ok(reply) => read(&reply, lines),
        Err(answer) => vec![answer; lines.len()],
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
fn read(reply: &Reply, lines: &[&Line]) -> Vec<Answer> {
    if reply.status != 200 {
        return vec![unpromised(reply.status); lines.len()];
    }
    let mut answered = reply.body.split(|byte| *byte == b'\n');
    let answer = |(number, line): (usize, &&Line)| {
        answered
            .next()
            .and_then(|text| serde_json::from_slice::<AnsweredLine>(text).ok())
            .filter(|told| told.line == number && told.no == line.person)
            .and_then(|told| answer::read(told.status, told.body, Sent::Change(line.version)))
            .unwrap_or_else(|| unpromised(reply.status))
    };
    (1..).zip(lines).map(answer).collect()
}
