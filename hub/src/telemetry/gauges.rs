//! The hub's levels: lag, parked subjects, held units; read from the store while somebody looks.
//! One task a municipality fills a table; the collection of metrics reads it.
//! Must never ask the store when no collection happens.
//! Read next: `server/town.rs`, which starts it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use opentelemetry::metrics::{AsyncInstrument, Meter};
use opentelemetry::{KeyValue, global};

use super::trace::SCOPE;
use crate::clock::now_ms;
use crate::event::{Municipality, Stream};
use crate::limits::GAUGES_PERIOD;
use crate::server::town::Commons;
use crate::store::{HeldFilter, StoreError};

/// One value of a gauge.
#[derive(Clone, Debug, PartialEq)]
struct Level {
    value: u64,
    labels: Vec<KeyValue>,
}

/// The gauges' values of one municipality.
#[derive(Clone, Debug, Default, PartialEq)]
struct Levels {
    lag: Vec<Level>,
    parked_keys: Vec<Level>,
    held: Vec<Level>,
    log_first: Vec<Level>,
    log_age: Vec<Level>,
    log_bytes: Vec<Level>,
}

/// Alarms that stand, by municipality: what the last look found.
static ALARMS: Mutex<BTreeMap<String, Vec<Level>>> = Mutex::new(BTreeMap::new());

/// A collection asked for values since the last look.
static WANTED: AtomicBool = AtomicBool::new(false);
static LEVELS: Mutex<BTreeMap<String, Levels>> = Mutex::new(BTreeMap::new());

/// Keeps the gauges of a municipality up to date until the hub stops.
pub(crate) fn watch(commons: &Commons, m: &Municipality) {
    register();
    let (commons, m) = (commons.clone(), m.clone());
    let tasks = commons.tasks.clone();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(GAUGES_PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = commons.stop.cancelled() => return drop(table().remove(m.as_str())),
                _ = ticks.tick() => {}
            }
            if !WANTED.load(Ordering::Relaxed) {
                continue;
            }
            match levels(&commons, &m).await {
                Ok(levels) => drop(table().insert(m.as_str().to_owned(), levels)),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::debug!(error, "the gauges were not read");
                }
            }
        }
    });
}

/// Notes how many alarms of each kind stand. A kind without any is shown as none, so that a rule
/// on it sees the end.
pub(super) fn alarms(m: &Municipality, counts: impl Iterator<Item = (&'static str, u64)>) {
    let level = |(kind, value)| Level {
        value,
        labels: vec![
            KeyValue::new("municipality", m.as_str().to_owned()),
            KeyValue::new("kind", kind),
        ],
    };
    let mut alarms = ALARMS.lock().unwrap_or_else(PoisonError::into_inner);
    alarms.insert(m.as_str().to_owned(), counts.map(level).collect());
}

fn table() -> MutexGuard<'static, BTreeMap<String, Levels>> {
    LEVELS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes the instruments once.
fn register() {
    static REGISTERED: OnceLock<()> = OnceLock::new();
    REGISTERED.get_or_init(|| {
        let meter = global::meter(SCOPE);
        let lag = "Log positions before which something has no outcome";
        gauge(
            &meter,
            "hub.subscription.lag.messages",
            "{message}",
            lag,
            |levels| &levels.lag,
        );
        let parked = "Subjects that are parked";
        gauge(&meter, "hub.key.parked", "{subject}", parked, |levels| {
            &levels.parked_keys
        });
        let held = "Units that wait for a correction or behind one";
        gauge(&meter, "hub.held.units", "{unit}", held, |levels| {
            &levels.held
        });
        // The provider keeps the callback; the handle itself does nothing.
        let _registered = meter
            .u64_observable_gauge("hub.alarms")
            .with_unit("{alarm}")
            .with_description("Alarms that stand, by kind")
            .with_callback(|gauge| {
                let alarms = ALARMS.lock().unwrap_or_else(PoisonError::into_inner);
                for level in alarms.values().flatten() {
                    gauge.observe(level.value, &level.labels);
                }
            })
            .build();
        let first = "First position that the log keeps";
        gauge(&meter, "hub.log.first", "{position}", first, |levels| {
            &levels.log_first
        });
        let age = "Age of the first record that the log keeps";
        gauge(&meter, "hub.log.age", "s", age, |levels| &levels.log_age);
        let bytes = "Bytes of content that the log keeps";
        gauge(&meter, "hub.log.size", "By", bytes, |levels| {
            &levels.log_bytes
        });
    });
}

fn gauge(
    meter: &Meter,
    name: &'static str,
    unit: &'static str,
    text: &'static str,
    of: fn(&Levels) -> &Vec<Level>,
) {
    let observe = move |gauge: &dyn AsyncInstrument<u64>| {
        WANTED.store(true, Ordering::Relaxed);
        for level in table().values().flat_map(of) {
            gauge.observe(level.value, &level.labels);
        }
    };
    // The provider keeps the callback; the handle itself does nothing.
    let _registered = meter
        .u64_observable_gauge(name)
        .with_unit(unit)
        .with_description(text)
        .with_callback(observe)
        .build();
}

async fn levels(commons: &Commons, m: &Municipality) -> Result<Levels, StoreError> {
    let mut levels = Levels::default();
    let municipality = KeyValue::new("municipality", m.as_str().to_owned());
    for row in commons.store.subscriptions(m).await? {
        if row.closed {
            continue;
        }
        let labels = vec![
            municipality.clone(),
            KeyValue::new("subscription", row.id.clone()),
        ];
        for stream in Stream::ALL {
            let Ok(bounds) = commons.log.bounds(m, stream).await else {
                continue;
            };
            let value = bounds.next.0.saturating_sub(row.cursor(stream).position.0);
            let mut labels = labels.clone();
            labels.push(KeyValue::new("stream", stream.name()));
            levels.lag.push(Level { value, labels });
        }
        let value = commons.store.parked_subjects(&row.id).await?.len() as u64;
        levels.parked_keys.push(Level { value, labels });
    }
    for stream in Stream::ALL {
        add_log(commons, m, stream, &mut levels).await;
    }
    let (_, value) = commons.store.list_held(m, HeldFilter::Open, "", 1).await?;
    levels.held.push(Level {
        value,
        labels: vec![municipality],
    });
    Ok(levels)
}

/// What the log keeps; nothing is shown of a log that does not answer.
async fn add_log(commons: &Commons, m: &Municipality, stream: Stream, levels: &mut Levels) {
    let labels = vec![
        KeyValue::new("municipality", m.as_str().to_owned()),
        KeyValue::new("stream", stream.name()),
    ];
    let level = |value| Level {
        value,
        labels: labels.clone(),
    };
    let Ok(bounds) = commons.log.bounds(m, stream).await else {
        return;
    };
    levels.log_first.push(level(bounds.first.0));
    if let Ok(kept) = commons.log.kept_from(m, stream, bounds.first).await {
        let age_s = kept.map_or(0, |kept| now_ms() / 1_000 - kept.since_s);
        levels.log_age.push(level(age_s.max(0).unsigned_abs()));
        let bytes = kept.map_or(0, |kept| kept.bytes);
        levels.log_bytes.push(level(bytes));
    }
}
