//! The hub's instruments, made once.
//! Each is named in `docs/telemetry.md`.
//! Must never get a label that is not from a closed set.
//! Read next: `telemetry/gauges.rs`.

use std::sync::OnceLock;

use opentelemetry::global;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::trace::SCOPE;

/// Buckets of durations inside the hub, in seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0,
];
/// Buckets of durations that hold an office's night or weekend, in seconds.
const LONG_SECONDS: [f64; 13] = [
    0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 600.0, 3_600.0, 43_200.0, 86_400.0, 259_200.0,
];
/// Buckets of batch sizes.
const SIZES: [f64; 9] = [1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0];

/// All instruments that are written where something happens.
pub(super) struct Instruments {
    pub(super) publish_units: Counter<u64>,
    pub(super) publish_duration: Histogram<f64>,
    pub(super) append_duration: Histogram<f64>,
    pub(super) append_events: Histogram<u64>,
    pub(super) attempts: Counter<u64>,
    pub(super) attempt_duration: Histogram<f64>,
    pub(super) units: Counter<u64>,
    pub(super) retries: Counter<u64>,
    pub(super) parked: Counter<u64>,
    pub(super) pauses: Counter<u64>,
    pub(super) end_to_end: Histogram<f64>,
}

/// The instruments; the first call decides which provider they belong to.
pub(super) fn instruments() -> &'static Instruments {
    static INSTRUMENTS: OnceLock<Instruments> = OnceLock::new();
    INSTRUMENTS.get_or_init(|| make(&global::meter(SCOPE)))
}

fn make(meter: &Meter) -> Instruments {
    let counter = |name: &'static str, unit: &'static str, text: &'static str| {
        meter
            .u64_counter(name)
            .with_unit(unit)
            .with_description(text)
            .build()
    };
    let seconds = |name: &'static str, buckets: &[f64], text: &'static str| {
        let histogram = meter
            .f64_histogram(name)
            .with_unit("s")
            .with_description(text);
        histogram.with_boundaries(buckets.to_vec()).build()
    };
    Instruments {
        publish_units: counter("hub.publish.units", "{unit}", "Published units by answer"),
        publish_duration: seconds(
            "hub.publish.duration",
            &SECONDS,
            "Publish call until answer",
        ),
        append_duration: seconds("hub.append.duration", &SECONDS, "One append to the log"),
        append_events: meter
            .u64_histogram("hub.append.events")
            .with_unit("{event}")
            .with_description("Events in one append to the log")
            .with_boundaries(SIZES.to_vec())
            .build(),
        attempts: counter("hub.delivery.attempts", "{attempt}", "Attempts by outcome"),
        attempt_duration: seconds("hub.delivery.duration", &LONG_SECONDS, "Send until receipt"),
        units: counter(
            "hub.delivery.units",
            "{unit}",
            "Delivered units by final outcome",
        ),
        retries: counter(
            "hub.delivery.retries",
            "{unit}",
            "Units that are tried again",
        ),
        parked: counter(
            "hub.delivery.parked",
            "{unit}",
            "Units that were parked, by reason",
        ),
        pauses: counter("hub.delivery.pauses", "{pause}", "Bindings that stopped"),
        end_to_end: seconds(
            "hub.event.end_to_end.duration",
            &LONG_SECONDS,
            "Accepted by the hub until the final outcome at one receiver",
        ),
    }
}
