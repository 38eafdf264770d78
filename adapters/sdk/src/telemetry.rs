//! What an adapter says about itself: spans, metrics, one canonical line per unit of work.
//! Around the two roles: a captured unit gets its trace, a delivery is tied to the event's.
//! It must never hold a payload or a subject: event ids, file names, outcomes and counts only.
//! Read next: `host/capture.rs` and `host/session.rs`, which call it.
//!
//! It speaks to the OpenTelemetry API alone, which does nothing until the program sets providers.

mod capture;
mod deliver;
#[cfg(test)]
mod tests;
mod trace;

pub(crate) use capture::Captured;
pub(crate) use deliver::process;

use std::sync::OnceLock;

use opentelemetry::global;
use opentelemetry::metrics::{Counter, Histogram};

/// Scope of spans and metrics.
const SCOPE: &str = "musubi.adapter";

/// Buckets in seconds; a product that answers by night files takes hours.
const SECONDS: [f64; 13] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3_600.0, 43_200.0,
];

struct Instruments {
    captured: Counter<u64>,
    delivered: Histogram<f64>,
}

/// The instruments; the first call decides which provider they belong to.
fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| {
        let meter = global::meter(SCOPE);
        Instruments {
            captured: meter
                .u64_counter("adapter.capture.units")
                .with_unit("{unit}")
                .with_description("Captured units by answer of the hub")
                .build(),
            delivered: meter
                .f64_histogram("adapter.delivery.duration")
                .with_unit("s")
                .with_description("Delivery until the product's answer")
                .with_boundaries(SECONDS.to_vec())
                .build(),
        }
    })
}

/// Longest stable reason.
const REASON_CHARS_MAX: usize = 48;
/// Digits in a row that a reason may have, as in `HTTP_503`.
const REASON_DIGITS_MAX: usize = 3;

/// A stable reason as a label; `OTHER` for anything that could be more than a word.
fn reason(text: &str) -> &str {
    let stable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let digits = text
        .split(|c: char| !c.is_ascii_digit())
        .map(str::len)
        .max()
        .unwrap_or(0);
    let fits = text.len() <= REASON_CHARS_MAX && digits <= REASON_DIGITS_MAX;
    if fits && text.chars().all(stable) {
        text
    } else {
        "OTHER"
    }
}
