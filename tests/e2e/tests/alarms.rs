//! The hub says by itself what is wrong, and says so until it is mended.
//! Real hub, real command line; the product is a receiver that refuses one person.
//! Must never find a person's number or name in an alarm.
//! Read next: `docs/specs/alarms.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use musubi_e2e::event::moved;
use musubi_e2e::receiver::Receiver;
use musubi_e2e::wait::wait_until;
use musubi_e2e::{Client, Hub};
use musubi_proto::hub::v1::{Capabilities, Outcome, UnitScope};
use serde_json::Value;

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";
const REFUSED: &str = "0000000001";
const WHO: [&str; 4] = ["--operator", "desk-1", "--reason", "as agreed"];
/// C6: a human knows within this time that somebody is parked.
const WITHIN: Duration = Duration::from_secs(60);

async fn attach(client: &Client) -> Receiver {
    let capabilities = Capabilities {
        unit_scope: UnitScope::Event.into(),
        protection_flag: true,
        idempotent: true,
        ..Capabilities::default()
    };
    let receiver = Receiver::attach_when_bound(client, SYSTEM, PRODUCT, capabilities);
    let receiver = receiver.await.unwrap();
    receiver.allow(10).await.unwrap();
    receiver
}

/// Kinds of the alarms that the command lists.
fn kinds(hub: &Hub) -> Vec<String> {
    let listed = hub.command(&["alarms"]).unwrap();
    let alarms = listed["alarms"].as_array().cloned().unwrap_or_default();
    let kind = |alarm: &Value| alarm["kind"].as_str().unwrap_or_default().to_owned();
    let kinds = alarms.iter().map(kind);
    kinds
        .map(|kind| kind.trim_start_matches("ALARM_KIND_").to_owned())
        .collect()
}

/// Waits until just these alarms stand.
async fn stand(hub: &Hub, expected: &[&str]) {
    let what = format!("{expected:?} to stand");
    wait_until(WITHIN, &what, async || Ok(kinds(hub) == expected))
        .await
        .unwrap();
}

/// Lines of the hub's log about alarms.
fn lines(hub: &mut Hub, event: &str, kind: &str) -> Vec<String> {
    let log = hub.process().log_text().unwrap();
    let about = |line: &&str| line.contains(event) && line.contains(kind);
    log.lines().filter(about).map(str::to_owned).collect()
}

fn act(hub: &Hub, arguments: &[&str]) -> Value {
    hub.command(&[arguments, &WHO].concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_within_a_minute_once_and_until_it_is_mended() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, PRODUCT).await.unwrap();
    stand(&hub, &[]).await;

    // Nobody asks: the hub finds by itself that somebody is parked, and says it in its log.
    let event = moved(REFUSED, 1).unwrap();
    client.publish(vec![vec![event]]).await.unwrap();
    let mut product = attach(&client).await;
    let delivery = product.delivery().await.unwrap();
    product.answer(&delivery, Outcome::Rejected).await.unwrap();
    wait_until(WITHIN, "the line about a parked person", async || {
        Ok(!lines(&mut hub, "alarm.raised", "SUBJECT_PARKED").is_empty())
    })
    .await
    .unwrap();
    stand(&hub, &["SUBJECT_PARKED"]).await;

    // A source that has to be heard every second, and is not.
    let rhythm = ["source", "rhythm", "--source", "001", "--every", "1s"];
    act(&hub, &rhythm);
    stand(&hub, &["SUBJECT_PARKED", "SOURCE_SILENT"]).await;
    act(&hub, &["stop", "--system", SYSTEM]);
    let all = ["STOPPED_BY_OPERATOR", "SUBJECT_PARKED", "SOURCE_SILENT"];
    stand(&hub, &all).await;

    // They outlive the hub's death, and are not said again.
    let listed = hub.command(&["alarms"]).unwrap();
    hub.kill_and_restart().await.unwrap();
    assert_eq!(hub.command(&["alarms"]).unwrap(), listed);
    let said = lines(&mut hub, "alarm.raised", "SUBJECT_PARKED");
    assert_eq!(said.len(), 1, "{said:?}");
    let shown = listed.to_string();
    assert!(!shown.contains(REFUSED), "{shown}");

    // Mended, one after the other.
    act(&hub, &["source", "rhythm", "--source", "001", "--none"]);
    act(&hub, &["resume", "--system", SYSTEM]);
    stand(&hub, &["SUBJECT_PARKED"]).await;
    let unit = ["--subscription", "142042/010", "--sequence", "1"];
    act(
        &hub,
        &[&["parked", "skip", "--member", "1"][..], &unit].concat(),
    );
    stand(&hub, &[]).await;
    wait_until(WITHIN, "the line about the end", async || {
        Ok(!lines(&mut hub, "alarm.cleared", "SUBJECT_PARKED").is_empty())
    })
    .await
    .unwrap();
}
