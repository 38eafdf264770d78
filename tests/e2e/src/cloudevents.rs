//! The CloudEvents SDK for Python as a publisher: what a client in another language does.
//! Beside it the attributes of an event, as `docs/specs/cloudevents.md` names them.
//! Must never build a request itself: that is the SDK's part.
//! Read next: `cloudevents.py`.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use musubi_proto::hub::v1::Event;
use serde_json::{Value, json};

use crate::hub::MUNICIPALITY;

const SCRIPT: &str = include_str!("cloudevents.py");

/// How the SDK writes the data of an event.
#[derive(Debug, Clone)]
pub enum Data {
    /// Protobuf JSON.
    Json(Value),
    /// The bytes of the event itself.
    Protobuf,
}

/// Publishes an event to a hub, in `binary` or `structured` mode; status and body of the answer.
///
/// # Errors
/// When the SDK is not there, or the hub does not answer in JSON.
pub async fn publish(hub: &str, mode: &str, event: &Event, data: Data) -> Result<(u64, Value)> {
    let mut request = json!({
        "url": format!("{hub}/v1/municipalities/{MUNICIPALITY}/events"),
        "mode": mode,
        "attributes": attributes(event, &data),
    });
    match data {
        Data::Json(json) => request["data"] = json,
        Data::Protobuf => request["bytes"] = hex(&event.data).into(),
    }
    let answered = tokio::task::spawn_blocking(move || run(&request)).await??;
    let status = answered["status"].as_u64().context("no status")?;
    Ok((status, answered["body"].clone()))
}

fn attributes(event: &Event, data: &Data) -> Value {
    json!({
        "id": event.id,
        "source": event.source,
        "type": event.r#type,
        "subject": event.subject,
        "subjectversion": event.subject_version,
        "reason": event.reason,
        "datacontenttype": match data {
            Data::Json(_) => "application/json",
            Data::Protobuf => "application/protobuf",
        },
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The interpreter that `cargo xtask tools` gives the SDK, or the one of the machine.
fn python() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.tools/python/bin/python3");
    if own.is_file() { own } else { "python3".into() }
}

fn run(request: &Value) -> Result<Value> {
    let mut child = Command::new(python())
        .args(["-c", SCRIPT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start Python")?;
    let mut input = child.stdin.take().context("Python has no input")?;
    input.write_all(request.to_string().as_bytes())?;
    drop(input);
    let output = child.wait_with_output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the CloudEvents SDK: {errors}");
    serde_json::from_slice(&output.stdout).context("read the answer of the SDK")
}
