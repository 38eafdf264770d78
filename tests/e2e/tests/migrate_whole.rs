//! A town in the middle of everything goes into a cluster: what operators and receivers see of it
//! is what it was, and what receivers get is what they would have got without it.
//! Another municipality goes with it, whose log was trimmed.
//! Must never take a delivery for new that was one before.
//! Read next: `hub/src/migrate.rs`, `docs/specs/migrate.md`.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::event::moved;
use musubi_e2e::hub::PATIENCE;
use musubi_e2e::migration::{digests, migrate, must_do};
use musubi_e2e::process::{Signal, musubi};
use musubi_e2e::receiver::{Book, Recorder};
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{count_records, town};
use musubi_e2e::{Client, Hub, Process, wait_until};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Capabilities, Event, ListEventsRequest, PublishRequest, PublishUnit, Stream, Unit, UnitScope,
    publish_unit,
};
use serde_json::Value;

const PENSION: &str = "026";
const OTHER: &str = "131016";
/// Time from file to file: the town is still being played when its hub is stopped.
const PACE_MS: u32 = 600;
/// Changes that flow before the migration: about a third of the town's.
const BEFORE: u64 = 500;
const WHO: [&str; 4] = ["--operator", "desk-1", "--reason", "as agreed"];

async fn recorder(client: &Client, system: &str, product: &str) -> Result<Recorder> {
    let scope = match system {
        "024" => UnitScope::Group,
        _ => UnitScope::Event,
    };
    let capabilities = Capabilities {
        unit_scope: scope.into(),
        version_check: true,
        lookup: true,
        protection_flag: true,
        ..Capabilities::default()
    };
    Recorder::start(client, system, product, capabilities).await
}

async fn hub_of(stage: &Stage, folder: &Path) -> Result<Hub> {
    // Tokens in place of withheld addresses come from the hub's key: the same in both runs.
    fs::write(stage.folder("hub")?.join("pseudonym.key"), [7; 32])?;
    let hub = Hub::start(folder).await?;
    let client = hub.client()?;
    client.bind("010", "test-tax").await?;
    client.bind("024", "test-insurance").await?;
    client.bind_source("tsubame").await?;
    Ok(hub)
}

/// Everything that tax and insurance get when nothing is migrated.
async fn undisturbed() -> Result<[Book; 2]> {
    let folder = tempfile::tempdir()?;
    let stage = Stage::new(folder.path());
    let hub = hub_of(&stage, folder.path()).await?;
    let client = hub.client()?;
    let tax = recorder(&client, "010", "test-tax").await?;
    let insurance = recorder(&client, "024", "test-insurance").await?;
    let out = stage.folder("tsubame/out")?;
    let _adapter = stage.registry_adapter(&hub.url(), &out)?;
    let _registry = stage.registry(&town(), 20)?;
    let changes = count_records(&town(), "changes.csv")?;
    client.wait_until_logged(changes).await?;
    client.wait_until_delivered(&["010", "024"]).await?;
    Ok([tax.book()?, insurance.book()?])
}

async fn send_other(client: &Client, events: &[Event]) -> Result<Vec<Answer>> {
    let units = events.iter().map(|event| PublishUnit {
        content: Some(publish_unit::Content::Unit(Unit {
            events: vec![event.clone()],
        })),
        ..PublishUnit::default()
    });
    let request = PublishRequest {
        municipality: OTHER.to_owned(),
        source: format!("urn:jp:lg:{OTHER}:system:001"),
        units: units.collect(),
        ..PublishRequest::default()
    };
    let answers = client.events().publish(request).await?.into_inner().answers;
    Ok(answers.into_iter().filter_map(|one| one.answer).collect())
}

fn other_events() -> Result<Vec<Event>> {
    let events = (1..=40).map(|number| {
        let mut event = moved(&format!("{number:010}"), 1)?;
        event.source = format!("urn:jp:lg:{OTHER}:system:001");
        OTHER.clone_into(&mut event.municipality);
        Ok(event)
    });
    events.collect()
}

/// How many events of the other municipality the log still has.
async fn kept_of_other(client: &Client) -> Result<usize> {
    let request = ListEventsRequest {
        municipality: OTHER.to_owned(),
        stream: Stream::Live.into(),
        page_size: 100,
        ..ListEventsRequest::default()
    };
    Ok(client
        .events()
        .list_events(request)
        .await?
        .into_inner()
        .events
        .len())
}

/// What an operator sees, without places in the log.
fn seen(hub: &Hub) -> Result<Vec<(String, Value)>> {
    let lists = [
        "subscriptions",
        "parked list --system 026",
        "held list",
        "replay list",
        "acts list",
        "alarms",
        "settings show",
    ];
    let list = |text: &str| {
        let words: Vec<&str> = text.split(' ').collect();
        let mut answer = hub.command(&words)?;
        without_places(&mut answer);
        if let Some(alarms) = answer.get_mut("alarms").and_then(Value::as_array_mut) {
            alarms.retain(|alarm| !is_of_its_hub(alarm));
        }
        Ok((text.to_owned(), answer))
    };
    lists.into_iter().map(list).collect()
}

/// What alarms because of the settings of one hub or the other.
fn is_of_its_hub(alarm: &Value) -> bool {
    ["ALARM_KIND_LOG_OVERDUE", "ALARM_KIND_WEAK_TOPIC"]
        .iter()
        .any(|kind| alarm["kind"] == *kind)
}

/// Positions are others afterwards, and a product is attached again only later.
fn without_places(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| {
                !name.contains("osition") && name != "attached" && name != "incarnation"
            });
            members.values_mut().for_each(without_places);
        }
        Value::Array(members) => members.iter_mut().for_each(without_places),
        _ => {}
    }
}

/// The old pension product and its adapter.
fn pension(stage: &Stage, hub: &Hub) -> Result<[Process; 2]> {
    let (product, exchange) = stage.hinoki(300)?;
    let settings = [format!("folder={}", exchange.display())];
    Ok([product, stage.adapter(&hub.url(), "hinoki", &settings)?])
}

/// The hub again, which trims its log now; and how many events of the other municipality are left.
async fn trimming(folder: &Path, of: usize) -> Result<(Hub, usize)> {
    // A start that trims: nobody needs what the other municipality has.
    let mut command = musubi()?;
    command.arg("serve");
    let place = vec![
        "--data".into(),
        folder.join("hub").into(),
        "--retention-bytes".into(),
        "1".into(),
    ];
    let hub = Hub::start_at(folder, command, place).await?;
    let client = hub.client()?;
    let mut kept = 0;
    wait_until(
        PATIENCE,
        "the log to be trimmed, and the alarms",
        async || {
            kept = kept_of_other(&client).await?;
            let alarms = hub.command(&["alarms"])?.to_string();
            Ok(kept < of && alarms.contains("SILENT") && alarms.contains("PARKED"))
        },
    )
    .await?;
    Ok((hub, kept))
}

/// A town that was stopped half-way, with much that is open.
struct Half {
    stage: Stage,
    registry: Process,
    books: [Book; 2],
    seen: Vec<(String, Value)>,
    other: Vec<Event>,
    kept: usize,
}

async fn half(folder: &Path) -> Result<Half> {
    let stage = Stage::new(folder);
    let mut hub = hub_of(&stage, folder).await?;
    let client = hub.client()?;
    client.bind(PENSION, "hinoki").await?;
    let tax = recorder(&client, "010", "test-tax").await?;
    let insurance = recorder(&client, "024", "test-insurance").await?;
    let processes = pension(&stage, &hub)?;
    let out = stage.folder("tsubame/out")?;
    let adapter = stage.registry_adapter(&hub.url(), &out)?;
    let mut registry = stage.registry(&town(), PACE_MS)?;
    client.wait_until_logged(BEFORE).await?;
    registry.signal(Signal::Freeze)?;
    wait_until(PATIENCE, "the registry's files to be read", async || {
        let before = client.log(Stream::Live).await?.len();
        client
            .wait_until_delivered(&["010", "024", PENSION])
            .await?;
        Ok(client.log(Stream::Live).await?.len() == before
            && !client.parked(PENSION).await?.is_empty())
    })
    .await?;
    let books = [tax.book()?, insurance.book()?];
    drop((tax, insurance, adapter, processes));
    // Nobody takes it: it stays as far as it is.
    client.bind(PENSION, "new").await?;
    let replay = [
        "replay",
        "start",
        "--subscription",
        "142042/024",
        "--stream",
        "live",
    ];
    hub.command(&[&replay[..], &WHO].concat())?;
    hub.command(
        &[
            &["source", "rhythm", "--source", "001", "--every", "1s"][..],
            &WHO,
        ]
        .concat(),
    )?;
    let other = other_events()?;
    send_other(&client, &other).await?;
    hub.process().stop()?;
    let (mut hub, kept) = trimming(folder, other.len()).await?;
    let seen = seen(&hub)?;
    hub.process().stop()?;
    Ok(Half {
        stage,
        registry,
        books,
        seen,
        other,
        kept,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migrated_town_shows_what_it_showed_and_gives_what_it_would_have_given() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let place = folder.path();
    let without = undisturbed().await?;
    let mut half = half(&place.join("old")).await?;
    let cluster = Cluster::start(place, 1)?;
    let data = place.join("old/hub");
    let left = digests(&data)?;
    let said = must_do(&migrate(&data, &cluster.config()?, None)?)?;
    for part in [
        "131016 live",
        "snapshot",
        "protection",
        "migrated: 131016, 142042",
    ] {
        ensure!(said.contains(part), "`{part}` is not in: {said}");
    }
    ensure!(digests(&data)? == left, "the folder was changed");

    let mut hub = cluster.hub("instance").await?;
    let client = hub.client()?;
    for ((what, before), (_, after)) in half.seen.iter().zip(seen(&hub)?) {
        ensure!(
            *before == after,
            "{what}\nbefore {before:#}\nafter {after:#}"
        );
    }
    // What was trimmed is gone, and known by its ids.
    ensure!(kept_of_other(&client).await? == half.kept);
    let answers = send_other(&client, &half.other).await?;
    ensure!(answers.len() == half.other.len(), "{answers:?}");
    ensure!(kept_of_other(&client).await? == half.kept);

    let tax = recorder(&client, "010", "test-tax").await?;
    let insurance = recorder(&client, "024", "test-insurance").await?;
    let new = recorder(&client, PENSION, "new").await?;
    let _pension = pension(&half.stage, &hub)?;
    let out = half.stage.folder("tsubame/out")?;
    let _adapter = half.stage.registry_adapter(&hub.url(), &out)?;
    half.registry.signal(Signal::Wake)?;
    let changes = count_records(&town(), "changes.csv")?;
    client.wait_until_logged(changes).await?;
    client
        .wait_until_delivered(&["010", "024", PENSION])
        .await
        .with_context(|| beside_deliveries(&mut hub))?;
    wait_until(
        PATIENCE,
        "the new product to be filled, and the replay's end",
        async || {
            let all = client.subscriptions().await?;
            let filled = all
                .iter()
                .any(|one| one.id.contains('~') && one.filled && one.lag == 0);
            let replays = hub.command(&["replay", "list"])?.to_string();
            ensure!(filled && !replays.contains("RUNNING"), "{replays} {all:?}");
            insurance.book().map(|_| true)
        },
    )
    .await
    .with_context(|| beside_deliveries(&mut hub))?;
    ensure!(!new.book()?.is_empty(), "nothing was filled");
    must_be_whole(&half.books, [tax.book()?, insurance.book()?], &without)
}

/// What was got on both sides of the migration is what is got without one; of its own, tax got
/// nothing twice (insurance had it all in the replay).
fn must_be_whole(before: &[Book; 2], after: [Book; 2], without: &[Book; 2]) -> Result<()> {
    let again = before[0]
        .keys()
        .filter(|place| after[0].contains_key(place));
    ensure!(again.count() == 0, "tax got something twice");
    for ((before, after), without) in before.iter().zip(after).zip(without) {
        let mut all = before.clone();
        all.extend(after);
        ensure!(
            all.len() == without.len(),
            "{} of {}",
            all.len(),
            without.len()
        );
        for (one, other) in all.iter().zip(without) {
            ensure!(one == other, "{:?} {:?}", one.0, other.0);
        }
    }
    Ok(())
}

/// What a hub said beside its deliveries.
fn beside_deliveries(hub: &mut Hub) -> String {
    let log = hub.process().log_text().unwrap_or_default();
    let lines = log.lines().filter(|line| !line.contains("delivery.done"));
    lines.collect::<Vec<_>>().join("\n")
}
