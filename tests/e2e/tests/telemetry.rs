//! What leaves by OTLP and what the logs hold: enough to follow an event, nothing of a person.
//! A complete run of `musubi demo` under a collector of the test's own.
//! Must never take silence for a proof: what must be there is counted first.
//! Read next: `src/collector.rs`, `src/leaks.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use musubi_e2e::collector::{Collector, Span};
use musubi_e2e::hub::Hub;
use musubi_e2e::leaks::Leaks;
use musubi_e2e::process::{Process, musubi};
use musubi_e2e::town::town;
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(240);
/// The end of a hub when its collector takes connections and answers nothing.
const END_LIMIT: Duration = Duration::from_secs(8);

async fn play(collector: &Collector, folder: &Path) -> Value {
    let output = folder.join("demo.json");
    let mut command = musubi().unwrap();
    command
        .args(["demo", "--json", "--data"])
        .arg(folder.join("data"));
    // Everything that could be written is looked at.
    command.env("MUSUBI_LOG", "debug");
    collector.listen_to(&mut command);
    let mut demo = Process::spawn_for_output("demo", command, folder, &output).unwrap();
    let ended = tokio::task::spawn_blocking(move || demo.wait(LIMIT).map(|status| (status, demo)));
    let (status, demo) = ended.await.unwrap().unwrap();
    assert!(status.success(), "{}", demo.tail(20));
    serde_json::from_str(&fs::read_to_string(output).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_can_be_followed_and_nothing_of_a_person_leaves() {
    let folder = tempfile::tempdir().unwrap();
    let collector = Collector::start().await.unwrap();
    let today = today();
    let result = play(&collector, folder.path()).await;
    traces(&collector);
    metrics(&collector, &result);
    lines(&collector);
    leaks(
        &collector,
        &folder.path().join("data/run"),
        &[today, self::today()],
    );
}

/// The day by the clock of this machine, as the logs write it.
fn today() -> String {
    let now = prost_types::Timestamp::from(std::time::SystemTime::now()).to_string();
    now.chars().take(10).collect()
}

/// Every live event that a product got can be followed from the registry's file to the answer.
fn traces(collector: &Collector) {
    let mut traces: HashMap<String, Vec<Span>> = HashMap::new();
    for span in collector.spans() {
        traces.entry(span.trace.clone()).or_default().push(span);
    }
    let services = [
        ("capture tsubame", "musubi-adapter-tsubame"),
        ("create musubi.", "musubi-hub"),
        ("append musubi.", "musubi-hub"),
        ("send 142042/010", "musubi-hub"),
        ("process 142042/010", "musubi-adapter-kaede"),
        ("deliver kaede", "musubi-adapter-kaede"),
    ];
    let mut followed = 0;
    for (trace, spans) in &traces {
        let Some(process) = spans.iter().find(|span| span.name == "process 142042/010") else {
            continue;
        };
        for (name, service) in services {
            let found = spans
                .iter()
                .any(|s| s.name.starts_with(name) && s.service == service);
            assert!(
                found,
                "no `{name}` of {service} in trace {trace}: {spans:#?}"
            );
        }
        let capture = spans
            .iter()
            .find(|span| span.name == "capture tsubame")
            .unwrap();
        assert_eq!(capture.parent, "", "the trace begins with the capture");
        let creation = (capture.trace.clone(), capture.id.clone());
        assert!(process.links.contains(&creation), "{process:#?}");
        let children = spans
            .iter()
            .filter(|span| span.parent == capture.id)
            .count();
        assert!(children >= 4, "create, append, send, process: {spans:#?}");
        let deliver = spans
            .iter()
            .find(|span| span.name == "deliver kaede")
            .unwrap();
        assert!(
            spans
                .iter()
                .any(|s| s.id == deliver.parent && s.name == "process 142042/010")
        );
        followed += 1;
    }
    assert!(followed > 300, "only {followed} traces reach the product");
    for system in ["024", "026"] {
        let name = format!("process 142042/{system}");
        assert!(
            collector.spans().iter().any(|span| span.name == name),
            "no `{name}`"
        );
    }
}

/// What is counted fits what the demo found.
fn metrics(collector: &Collector, result: &Value) {
    let systems = result["systems"].as_array().unwrap();
    let tax = systems
        .iter()
        .find(|system| system["system"] == "010")
        .unwrap();
    let number = |name: &str| tax[name].as_f64().unwrap();
    let of_tax = [("subscription", "142042/010")];
    let with = |outcome| [of_tax[0], ("outcome", outcome)];
    let units = "hub.delivery.units";
    assert_eq!(collector.sum(units, &of_tax), number("received"), "{tax}");
    assert_eq!(
        collector.sum(units, &with("APPLIED")),
        number("applied"),
        "{tax}"
    );
    let attempts = collector.sum("hub.delivery.attempts", &of_tax);
    assert!(attempts >= number("received"), "{attempts} attempts: {tax}");
    let measured = collector.sum("hub.event.end_to_end.duration", &of_tax);
    assert_eq!(measured, number("received"), "each event is measured once");

    let accepted = collector.sum("hub.publish.units", &[("answer", "accepted")]);
    let held = collector.sum("hub.publish.units", &[("answer", "held")]);
    assert!(
        accepted > 300.0 && held > 0.0,
        "{accepted} accepted, {held} held"
    );
    let captured = collector.sum("adapter.capture.units", &[("product", "tsubame")]);
    let published = collector.sum("hub.publish.units", &[("system", "001")]);
    assert_eq!(captured, published);
    assert!(collector.sum("hub.append.duration", &[("outcome", "appended")]) > 0.0);
    assert!(collector.sum("hub.append.duration", &[("outcome", "failed")]) == 0.0);
    let parked = collector.sum("hub.delivery.parked", &[("reason", "UNMAPPABLE")]);
    assert!(parked > 0.0, "nobody was parked");
    let processed = collector.sum("adapter.delivery.duration", &[("product", "kaede")]);
    assert_eq!(processed, attempts);
    for gauge in [
        "hub.subscription.lag.messages",
        "hub.key.parked",
        "hub.held.units",
        "hub.alarms",
    ] {
        let values = collector.values(gauge, &[("municipality", "142042")]);
        assert!(!values.is_empty(), "no `{gauge}`");
    }
    assert!(collector.sum("hub.held.units", &[]) > 0.0);
}

/// Canonical lines arrive, and those about one event carry its trace.
fn lines(collector: &Collector) {
    let lines = collector.lines();
    for (body, service) in [
        ("publish.answered", "musubi-hub"),
        ("event.appended", "musubi-hub"),
        ("delivery.done", "musubi-hub"),
        ("delivery.processed", "musubi-adapter-kaede"),
        ("page.captured", "musubi-adapter-tsubame"),
    ] {
        let found = lines
            .iter()
            .any(|line| line.body == body && line.service == service);
        assert!(found, "no `{body}` of {service}");
    }
    let traces: BTreeSet<String> = collector
        .spans()
        .into_iter()
        .map(|span| span.trace)
        .collect();
    for line in lines.iter().filter(|line| line.body == "delivery.done") {
        assert!(traces.contains(&line.trace), "{line:?}");
    }
}

/// Nothing of the town's people is in anything that left a process.
fn leaks(collector: &Collector, logs: &Path, allowed: &[String]) {
    let mut leaks = Leaks::of_town(&town()).unwrap();
    for date in allowed {
        leaks.allow_date(date);
    }
    let mut texts: Vec<(String, String)> = Vec::new();
    for (number, text) in collector.texts().into_iter().enumerate() {
        texts.push((format!("export {number}"), text));
    }
    for entry in fs::read_dir(logs).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "log") {
            texts.push((
                path.display().to_string(),
                fs::read_to_string(path).unwrap(),
            ));
        }
    }
    assert!(texts.len() > 50, "only {} texts", texts.len());
    for (name, text) in texts {
        let found = leaks.found_in(&text);
        let place = found
            .first()
            .and_then(|first| text.split(first.as_str()).next());
        let before: String = place.unwrap_or("").chars().rev().take(400).collect();
        let before: String = before.chars().rev().collect();
        assert!(found.is_empty(), "{name} holds {found:?}, behind …{before}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_does_not_hold_up_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut command = musubi().unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
        .arg("serve");
    let mut hub = Hub::start_as(folder.path(), command).await.unwrap();
    hub.client().unwrap().bind("010", "kaede").await.unwrap();
    let started = Instant::now();
    let stopped = tokio::task::spawn_blocking(move || hub.process().stop())
        .await
        .unwrap();
    assert!(stopped.unwrap().success());
    assert!(started.elapsed() < END_LIMIT, "{:?}", started.elapsed());
}
