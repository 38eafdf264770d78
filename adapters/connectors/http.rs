//! One guarded HTTP client for a product: its own host, time limits, small answers, no redirects.
//! It turns what went wrong on the way into an answer; the vendor reads what the product said.
//! It must never repeat a request, follow the product elsewhere or go through a proxy.
//! Read next: a vendor's `deliver.rs`.

use std::time::{Duration, SystemTime};

use musubi_adapter_sdk::{Answer, Refusal};
use musubi_proto::crash;
use reqwest::header::RETRY_AFTER;
use reqwest::{Client, Method, RequestBuilder, Response, Url};
use serde_json::{Map, Value};

use crate::host::OpenError;

/// Longest wait that is passed on; the hub itself waits no longer than a week.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Wait when a product asks for none.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// Wait after a product could not be reached.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(1);

/// Longest name of an item or code that is taken from a product's answer.
const NAME_CHARS_MAX: usize = 64;

/// Limits of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HttpLimits {
    /// Longest time to open a connection.
    pub(crate) connect: Duration,
    /// Longest time from the request to the end of the answer.
    pub(crate) request: Duration,
    /// Largest answer.
    pub(crate) answer_bytes_max: usize,
}

/// A product's answer, read whole.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status.
    pub(crate) status: u16,
    /// Body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The body as JSON of the promised shape.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }
}

/// The client of one product.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: Client,
    base: Url,
    answer_bytes_max: usize,
}

impl Http {
    /// Opens a client for `base`, the only host that it will ever speak to.
    pub(crate) fn open(product: &str, base: &str, limits: HttpLimits) -> Result<Self, OpenError> {
        let invalid = || {
            let problem = format!("`address` is no plain http address of a host: `{base}`");
            OpenError::config(product, problem)
        };
        let url = Url::parse(base).map_err(|_| invalid())?;
        if url.scheme() != "http" || url.host_str().is_none() || url.query().is_some() {
            return Err(invalid());
        }
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(limits.connect)
            .timeout(limits.request)
            .build()
            .map_err(|cause| OpenError::resource(product, "its HTTP client", cause))?;
        Ok(Self {
            client,
            base: url,
            answer_bytes_max: limits.answer_bytes_max,
        })
    }

    /// A request below the base; each segment is escaped.
    pub(crate) fn request(&self, method: Method, segments: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        self.client.request(method, url)
    }

    /// Sends once. `Err` is an answer that does not depend on the product's own words.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Reply, Answer> {
        crash::point("adapter.translated");
        let mut response = request.send().await.map_err(|error| lost(&error))?;
        let status = response.status().as_u16();
        if let Some(answer) = by_status(status, &response) {
            return Err(answer);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| lost(&error))? {
            if body.len() + chunk.len() > self.answer_bytes_max {
                return Err(Answer::unknown(
                    "ANSWER_TOO_LARGE",
                    "the answer is longer than any",
                ));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body })
    }
}

impl Http {
    /// Asks the product for a key in its journal: true when the entry below `segments` names it in
    /// `item`. `Err` is the answer when the product does not say.
    pub(crate) async fn knows(
        &self,
        segments: &[&str],
        item: &str,
        key: &str,
    ) -> Result<bool, Answer> {
        let reply = self.send(self.request(Method::GET, segments)).await?;
        let body: Option<Map<String, Value>> = reply.json();
        match (reply.status, body) {
            (200, Some(entry)) if entry.get(item).and_then(Value::as_str) == Some(key) => Ok(true),
            (404, Some(body)) if body.contains_key("error") => Ok(false),
            _ => Err(unpromised(reply.status)),
        }
    }
}

/// The answer to a reply that the interface does not promise: it proves nothing.
pub(crate) fn unpromised(status: u16) -> Answer {
    let message = format!("status {status} without the answer that the interface promises");
    Answer::unknown("UNPROMISED_ANSWER", message)
}

/// A code or an item's name from a product's answer, cut down to what can be no personal data.
pub(crate) fn plain_name(name: &str) -> String {
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '[' | ']');
    name.chars().filter(plain).take(NAME_CHARS_MAX).collect()
}

fn lost(error: &reqwest::Error) -> Answer {
    if error.is_connect() {
        let message = "no connection to the product";
        return Refusal::retry(UNREACHABLE_AFTER, "UNREACHABLE", message).into();
    }
    if error.is_timeout() {
        return Answer::unknown("TIMED_OUT", "no answer within the time limit");
    }
    Answer::unknown("CONNECTION_LOST", "the connection ended before the answer")
}

fn by_status(status: u16, response: &Response) -> Option<Answer> {
    let answer = match status {
        429 | 503 => Refusal::retry(retry_after(response), "BUSY", "the product is busy"),
        401 | 403 | 407 => Refusal::pause("CREDENTIALS", format!("the product answered {status}")),
        300..=399 | 405 | 415 => {
            Refusal::pause("CONFIGURATION", format!("the product answered {status}"))
        }
        413 => Refusal::reject(
            "TOO_LARGE",
            "",
            "the product does not take a body of this size",
        ),
        _ => return None,
    };
    Some(answer.into())
}

fn retry_after(response: &Response) -> Duration {
    let value = response.headers().get(RETRY_AFTER);
    value
        .and_then(|value| value.to_str().ok())
        .and_then(|value| asked_wait(value.trim(), SystemTime::now()))
        .unwrap_or(RETRY_AFTER_DEFAULT)
        .min(RETRY_AFTER_MAX)
}

/// Seconds, or a date by the product's clock; one that is past says: now.
fn asked_wait(value: &str, now: SystemTime) -> Option<Duration> {
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = httpdate::parse_http_date(value).ok()?;
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_may_ask_for_seconds_or_name_a_date() {
        let now = httpdate::parse_http_date("Tue, 24 Nov 2026 00:00:00 GMT").unwrap();
        for (value, expected) in [
            ("7", Some(7)),
            ("86400", Some(86_400)),
            ("Tue, 24 Nov 2026 08:30:00 GMT", Some(30_600)),
            ("Tuesday, 24-Nov-26 00:00:05 GMT", Some(5)),
            ("Mon, 23 Nov 2026 00:00:00 GMT", Some(0)),
            ("-1", None),
            ("later", None),
            ("", None),
        ] {
            let wait = asked_wait(value, now);
            assert_eq!(wait, expected.map(Duration::from_secs), "{value}");
        }
    }
}
