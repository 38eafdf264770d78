//! Rows that break a rule wait in the hub, with what follows of the same person; all others flow.
//! The registry's folder is written by hand; a recorder stands for the receiver.
//! Must never lose a held row, whatever dies meanwhile.
//! Read next: `src/registry.rs`, `adapters/vendors/tsubame/INTERFACE.md`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::fs;
use std::path::PathBuf;

use musubi_e2e::hub::PATIENCE;
use musubi_e2e::receiver::Recorder;
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Row, Table, town};
use musubi_e2e::{Client, Hub, Process, wait_until, wait_until_blocking};
use musubi_proto::hub::v1::{Capabilities, HeldState, HeldUnit, Stream};
use serde_json::Value;
use tempfile::TempDir;

const SYSTEM: &str = "010";
/// What breaks a rule: a postal code of three digits.
const ITEM: &str = "jusho_yubinbango";
const RULE: &str = "POSTCODE_LENGTH";

/// A hub, a registry's folder with its adapter, and a receiver.
struct Scene {
    client: Client,
    adapter: Process,
    hub: Hub,
    registry: Registry,
    /// Persons who live alone: their images in the full file.
    persons: Vec<Row>,
    /// Columns of a change of address.
    change: Row,
    stage: Stage,
    out: PathBuf,
    _folder: TempDir,
}

async fn scene() -> Scene {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(folder.path());
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(SYSTEM, "test-tax").await.unwrap();
    client.bind_source("tsubame").await.unwrap();
    let residents = Table::read(&town(), "residents_before.csv").unwrap();
    let changes = Table::read(&town(), "changes.csv").unwrap();
    let out = stage.folder("out").unwrap();
    let mut registry = Registry::new(&out, residents.columns.clone(), changes.columns).unwrap();
    let alone = |row: &&Row| {
        let household = row.get("setaibango");
        let members = residents.rows.iter();
        row.get("juminshubetsu") == "1"
            && members
                .filter(|other| other.get("setaibango") == household)
                .count()
                == 1
    };
    let persons: Vec<Row> = residents
        .rows
        .iter()
        .filter(alone)
        .take(8)
        .cloned()
        .collect();
    registry.write_full(&persons).unwrap();
    let adapter = stage.registry_adapter(&hub.url(), &out).unwrap();
    Scene {
        client,
        adapter,
        hub,
        registry,
        persons,
        change: changes.rows.into_iter().next().unwrap(),
        stage,
        out,
        _folder: folder,
    }
}

impl Scene {
    /// A move of a person that makes the record's next version, or one further on.
    fn moved(&self, person: usize, step: u32) -> Row {
        let image = &self.persons[person];
        let version = image.version() + step;
        let mut row = self.change.clone();
        for column in Table::read(&town(), "residents_before.csv")
            .unwrap()
            .columns
        {
            row = row.with(&column, image.get(&column));
        }
        row.with("rirekibango", version)
            .with("jusho_banchigohyoki", format!("{}番", zenkaku(version)))
            .with("jushoosadametanengappi", row_date())
            .with("idomaesetaibango", image.get("setaibango"))
    }

    fn broken(&self, person: usize, step: u32) -> Row {
        self.moved(person, step).with(ITEM, "123")
    }

    fn number(&self, person: usize) -> String {
        self.persons[person].person().to_owned()
    }

    async fn wait_for_held(&self, state: HeldState, count: usize) -> Vec<HeldUnit> {
        let mut held = Vec::new();
        wait_until(PATIENCE, "held units", async || {
            held = self.client.held(state).await?;
            Ok(held.len() == count)
        })
        .await
        .unwrap_or_else(|error| panic!("{error:#}\n{held:#?}\n{}", self.adapter.tail(20)));
        held
    }

    /// Versions of a person in the live log, as steps after the full file.
    async fn steps_in_log(&self, person: usize) -> Vec<u32> {
        let first = self.persons[person].version();
        let log = self.client.log(Stream::Live).await.unwrap();
        let events = log.iter().filter_map(|stored| stored.event.as_ref());
        events
            .filter(|event| event.subject == self.number(person))
            .map(|event| event.subject_version - first)
            .collect()
    }

    async fn wait_for_steps(&self, person: usize, steps: &[u32]) {
        wait_until(PATIENCE, "the person's events in the log", async || {
            Ok(self.steps_in_log(person).await == steps)
        })
        .await
        .unwrap_or_else(|error| panic!("person {person}: {error:#}\n{}", self.adapter.tail(20)));
    }

    async fn record(&self) -> Recorder {
        let capabilities = Capabilities {
            protection_flag: true,
            idempotent: true,
            ..Capabilities::default()
        };
        Recorder::start(&self.client, SYSTEM, "test-tax", capabilities)
            .await
            .unwrap()
    }
}

fn row_date() -> &'static str {
    "2026-03-02"
}

fn zenkaku(number: u32) -> String {
    let digit = |digit: char| char::from_u32(u32::from(digit) - 0x30 + 0xff10).unwrap();
    number.to_string().chars().map(digit).collect()
}

#[tokio::test]
async fn a_broken_row_waits_with_what_follows_it_and_a_correction_releases_all_in_order() {
    let mut scene = scene().await;
    let recorder = scene.record().await;
    let file = scene
        .registry
        .write_changes(&[vec![scene.broken(0, 1)], vec![scene.moved(1, 1)]]);
    let file = file.unwrap();
    let group = vec![scene.moved(2, 1), scene.broken(3, 1)];
    let rest = [
        vec![scene.moved(0, 2)],
        group,
        vec![scene.moved(4, 1)],
        vec![scene.moved(2, 2)],
        vec![scene.moved(0, 3)],
    ];
    let second = scene.registry.write_changes(&rest).unwrap();

    // Others flow: the last of them stands behind everything that waits.
    scene.wait_for_steps(1, &[1]).await;
    scene.wait_for_steps(4, &[1]).await;
    let refused = scene.wait_for_held(HeldState::Refused, 2).await;
    scene.wait_for_held(HeldState::Waiting, 3).await;
    let place = |unit: &HeldUnit| (unit.file.clone(), unit.line, unit.rows);
    assert_eq!(place(&refused[0]), (file, 1, 1));
    // A group with one broken row waits whole; the broken one is named.
    assert_eq!(place(&refused[1]), (second, 3, 2));
    for unit in &refused {
        assert_eq!((unit.rule.as_str(), unit.item.as_str()), (RULE, ITEM));
        assert!(!unit.message.is_empty());
    }
    for person in [0, 2, 3] {
        assert!(scene.steps_in_log(person).await.is_empty());
    }

    // What is held survives, and is the same to the letter.
    let before = scene.client.held(HeldState::Unspecified).await.unwrap();
    scene.hub.kill_and_restart().await.unwrap();
    let after = scene.client.held(HeldState::Unspecified).await.unwrap();
    assert_eq!(before, after);
    assert!(scene.steps_in_log(0).await.is_empty());
    drop(recorder);
    let recorder = scene.record().await;

    // A correction takes a new number; what waited follows in order.
    let correction = [vec![scene.moved(0, 1)]];
    scene.registry.write_changes(&correction).unwrap();
    scene.wait_for_steps(0, &[1, 2, 3]).await;
    scene.wait_for_held(HeldState::Corrected, 1).await;
    assert!(
        scene.steps_in_log(2).await.is_empty(),
        "the group still waits"
    );
    let correction = [vec![scene.moved(2, 1), scene.moved(3, 1)]];
    scene.registry.write_changes(&correction).unwrap();
    scene.wait_for_steps(2, &[1, 2]).await;
    scene.wait_for_steps(3, &[1]).await;
    scene.wait_for_held(HeldState::Unspecified, 0).await;
    scene.wait_for_held(HeldState::Corrected, 2).await;

    scene.client.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let log = scene.client.log(Stream::Live).await.unwrap();
    let logged: Vec<&str> = log
        .iter()
        .filter_map(|stored| Some(stored.event.as_ref()?.id.as_str()))
        .collect();
    let book = recorder.book().unwrap();
    let live = book
        .iter()
        .filter(|(place, _)| place.0 == Stream::Live as i32);
    let received: Vec<&str> = live.map(|(_, received)| received.id.as_str()).collect();
    assert!(logged.ends_with(&received), "{logged:?}\n{received:?}");
    assert!(
        received.len() >= 6,
        "what was released came to the receiver"
    );
}

#[tokio::test]
async fn an_operator_hands_a_corrected_unit_in_again() {
    let mut scene = scene().await;
    let changes = [
        vec![scene.moved(1, 1)],
        vec![scene.broken(0, 1)],
        vec![scene.moved(0, 2)],
    ];
    scene.registry.write_changes(&changes).unwrap();
    scene.wait_for_steps(1, &[1]).await;
    scene.wait_for_held(HeldState::Waiting, 1).await;

    let listed = scene
        .hub
        .command(&["held", "list", "--state", "refused"])
        .unwrap();
    let held = &listed["held"][0];
    assert_eq!((&held["rule"], &held["item"]), (&RULE.into(), &ITEM.into()));
    let id = held["id"].as_str().unwrap();
    let shown = scene.hub.command(&["held", "show", id]).unwrap();
    let row = shown["rows"][0]["text"].as_str().unwrap();
    assert!(row.contains(&scene.number(0)), "{row}");

    // The event of another person, as a form to fill in.
    let events = scene.hub.command(&["events", "list"]).unwrap();
    let mut event = events["events"][0]["event"].clone();
    let version = scene.persons[0].version() + 1;
    let form = event.as_object_mut().unwrap();
    for made_by_the_hub in ["id", "group", "recordedAt", "sourceDigest", "traceparent"] {
        form.remove(made_by_the_hub);
    }
    form.insert("subject".to_owned(), scene.number(0).into());
    form.insert("subjectVersion".to_owned(), version.into());
    let person = &mut event["payload"]["record"]["person"];
    person["atenabango"] = scene.number(0).into();
    person["rirekibango"] = version.into();
    let file = scene.out.with_file_name("corrected.json");
    fs::write(&file, event.to_string()).unwrap();
    let file = file.display().to_string();
    let answer: Value = scene
        .hub
        .command(
            &[
                &["held", "resubmit", id, "--file", &file][..],
                &["--operator", "desk-1", "--reason", "as the citizen says"],
            ]
            .concat(),
        )
        .unwrap();
    assert_eq!(answer["answer"], "accepted", "{answer}");
    scene.wait_for_steps(0, &[1, 2]).await;
    let corrected = scene.wait_for_held(HeldState::Corrected, 1).await;
    assert_eq!(corrected[0].corrected_by, answer["events"][0]);
    scene.wait_for_held(HeldState::Unspecified, 0).await;
}

#[tokio::test]
async fn a_file_that_is_not_complete_or_missing_stops_the_source_until_it_is_there() {
    let mut scene = scene().await;
    let half = scene.registry.take_name("sabun");
    let rows = scene
        .registry
        .number(&[vec![scene.moved(0, 1)], vec![scene.moved(1, 1)]]);
    let bytes = scene.registry.bytes(&rows).unwrap();
    scene
        .registry
        .write_data(&half, &bytes[..bytes.len() / 2])
        .unwrap();
    let later = [vec![scene.moved(0, 2)]];
    scene.registry.write_changes(&later).unwrap();
    // The alarm comes only after the adapter has looked at both.
    wait_until_blocking(PATIENCE, "the alarm", || {
        Ok(scene.adapter.log_text()?.contains("missing"))
    })
    .unwrap();
    assert!(scene.client.log(Stream::Live).await.unwrap().is_empty());
    assert!(
        scene
            .client
            .held(HeldState::Unspecified)
            .await
            .unwrap()
            .is_empty()
    );

    scene.registry.write_named(&half, &rows).unwrap();
    scene.wait_for_steps(0, &[1, 2]).await;
    scene.wait_for_steps(1, &[1]).await;
}

#[tokio::test]
async fn files_that_are_seen_twice_change_nothing() {
    let mut scene = scene().await;
    let changes = [
        vec![scene.moved(0, 1)],
        vec![scene.broken(1, 1)],
        vec![scene.moved(1, 2)],
    ];
    let first = scene.registry.write_changes(&changes).unwrap();
    scene.wait_for_steps(0, &[1]).await;
    scene.wait_for_held(HeldState::Waiting, 1).await;
    let log = scene.client.log(Stream::Live).await.unwrap();
    let held = scene.client.held(HeldState::Unspecified).await.unwrap();

    // An adapter that lost all it knew reads every file again.
    scene.adapter.kill().unwrap();
    fs::remove_dir_all(scene.stage.folder("tsubame/adapter").unwrap()).unwrap();
    scene.adapter = scene
        .stage
        .registry_adapter(&scene.hub.url(), &scene.out)
        .unwrap();
    // The registry hands the same rows out again in a file of a new number.
    let again = scene.registry.take_name("sabun");
    for suffix in ["", ".done"] {
        let from = scene.out.join(format!("{first}{suffix}"));
        fs::copy(from, scene.out.join(format!("{again}{suffix}"))).unwrap();
    }
    let later = [vec![scene.moved(2, 1)]];
    scene.registry.write_changes(&later).unwrap();
    scene.wait_for_steps(2, &[1]).await;
    let after = scene.client.log(Stream::Live).await.unwrap();
    assert_eq!(after.len(), log.len() + 1);
    assert_eq!(after[..log.len()], log[..]);
    assert_eq!(
        scene.client.held(HeldState::Unspecified).await.unwrap(),
        held
    );
}
