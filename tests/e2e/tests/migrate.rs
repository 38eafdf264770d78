//! An embedded hub goes into a cluster half-way: receivers go on where they were.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::event::{event, moved};
use musubi_e2e::hub::{MUNICIPALITY, PATIENCE};
use musubi_e2e::migration::{digests, migrate, must_refuse};
use musubi_e2e::process::musubi;
use musubi_e2e::receiver::Receiver;
use musubi_e2e::{Client, Hub, wait_until};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Event, FetchMissedRequest, HeldState, Outcome, ParkedUnit, Stream, UnitAnswer,
};

/// More than one batch of the log.
const PEOPLE: u32 = 300;

fn subject(number: u32) -> String {
    format!("{number:010}")
}

/// Version `version` of everybody; the events as they were published.
async fn publish(client: &Client, version: u32) -> Result<Vec<Event>> {
    let events: Result<Vec<Event>> = (1..=PEOPLE)
        .map(|number| moved(&subject(number), version))
        .collect();
    let events = events?;
    send(client, &events).await?;
    Ok(events)
}

async fn send(client: &Client, events: &[Event]) -> Result<()> {
    for events in events.chunks(100) {
        let units: Vec<_> = events.iter().map(|event| vec![event.clone()]).collect();
        wait_until(PATIENCE, "events to be accepted", async || {
            let answers = client.publish(units.clone()).await?;
            let accepted = |answer: &UnitAnswer| matches!(answer.answer, Some(Answer::Accepted(_)));
            ensure!(answers.iter().all(accepted), "{answers:?}");
            Ok(true)
        })
        .await?;
    }
    Ok(())
}

/// Takes deliveries and applies each; the first unit of all is refused, so that it is parked. A
/// sequence that was applied before is an error.
async fn take(receiver: &mut Receiver, count: usize, applied: &mut BTreeSet<u64>) -> Result<()> {
    receiver.allow(u32::try_from(count)?).await?;
    for _ in 0..count {
        let delivery = receiver.delivery().await?;
        let sequence = delivery.units.first().context("a unit")?.sequence;
        if sequence == 1 {
            receiver.answer(&delivery, Outcome::Rejected).await?;
        } else {
            ensure!(applied.insert(sequence), "{sequence} came twice");
            receiver.answer(&delivery, Outcome::Applied).await?;
        }
    }
    Ok(())
}

const SYSTEM: &str = "010";
const PRODUCT: &str = "test-tax";

/// What is parked, without its place in the log.
fn parked(units: &[ParkedUnit]) -> Vec<(u64, u32, String)> {
    let unit = |unit: &ParkedUnit| (unit.sequence, unit.attempts, unit.reason.clone());
    units.iter().map(unit).collect()
}

/// A migration that dies at each of its steps and goes on from there.
fn die_everywhere(data: &Path, config: &Path) -> Result<()> {
    for point in [
        "migrate.marked",
        "migrate.begun",
        "migrate.appended",
        "publish.written",
        "migrate.logged",
        "migrate.rows:3",
        "migrate.copied",
        "migrate.verified",
        "migrate.ended",
    ] {
        let output = migrate(data, config, Some(point))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code().is_none(), "{point}: {said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_go_on_in_the_cluster_where_they_were_in_the_folder() -> Result<()> {
    let place = tempfile::tempdir()?;
    let cluster = Cluster::start(place.path(), 1)?;
    let config = cluster.config()?;
    let mut old = Hub::start(&place.path().join("old")).await?;
    let data = place.path().join("old/hub");
    let client = old.client()?;
    client.bind(SYSTEM, PRODUCT).await?;
    let first = publish(&client, 1).await?;
    client
        .publish(vec![vec![event(&subject(90), 1, vec![0xff])]])
        .await?;
    let mut applied = BTreeSet::new();
    let mut receiver =
        Receiver::attach_when_bound(&client, SYSTEM, PRODUCT, Default::default()).await?;
    take(&mut receiver, 25, &mut applied).await?;
    wait_until(PATIENCE, "the outcomes", async || {
        Ok(client.parked(SYSTEM).await?.len() == 1
            && client.subscription(SYSTEM).await?.live_position > 25)
    })
    .await?;
    let before = client.parked(SYSTEM).await?;
    let held = client.held(HeldState::Unspecified).await?.len();
    drop(receiver);
    old.process().stop()?;

    let left = digests(&data)?;
    must_refuse(&migrate(&data, &config, None)?, &["pseudonym.key", "cp "])?;
    std::fs::copy(
        data.join("pseudonym.key"),
        place.path().join("pseudonym.key"),
    )?;
    let mut new = cluster.hub("first").await?;
    die_everywhere(&data, &config)?;
    let output = migrate(&data, &config, None)?;
    ensure!(output.status.success(), "{output:?}");
    let mut served = musubi()?;
    served.arg("serve").arg("--data").arg(&data);
    must_refuse(&served.output()?, &["migrated"])?;
    ensure!(digests(&data)? == left, "the folder was changed");

    let client = new.client()?;
    // What was published before is known, by its ids.
    send(&client, &first).await?;
    ensure!(client.log(Stream::Live).await?.len() == first.len());
    ensure!(parked(&client.parked(SYSTEM).await?) == parked(&before));
    ensure!(client.held(HeldState::Unspecified).await?.len() == held);
    publish(&client, 2).await?;
    let mut receiver =
        Receiver::attach_when_bound(&client, SYSTEM, PRODUCT, Default::default()).await?;
    take(&mut receiver, 2 * PEOPLE as usize - 26, &mut applied).await?;
    // The first one is parked, and the second one of the same person waits behind it.
    let whole: BTreeSet<u64> = (2..=u64::from(2 * PEOPLE))
        .filter(|sequence| *sequence != u64::from(PEOPLE) + 1)
        .collect();
    ensure!(applied == whole, "{applied:?}");
    over_the_border(&client).await?;
    // Positions are others than before, and the next owner finds the same end.
    drop(receiver);
    new.kill_and_restart().await?;
    let mut receiver =
        Receiver::attach_when_bound(&client, SYSTEM, PRODUCT, Default::default()).await?;
    ensure!(receiver.welcome().incarnation == 2);
    ensure!(client.log(Stream::Live).await?.len() == 2 * first.len());
    retried(&new, &mut receiver).await
}

/// Who was parked in the folder is delivered from the cluster, and all that waited behind.
async fn retried(hub: &Hub, receiver: &mut Receiver) -> Result<()> {
    let unit = [
        "--subscription",
        "142042/010",
        "--sequence",
        "1",
        "--member",
        "1",
    ];
    let who = ["--operator", "desk-1", "--reason", "as agreed"];
    hub.command(&[&["parked", "retry"][..], &unit, &who].concat())?;
    receiver.allow(2).await?;
    for sequence in [1, u64::from(PEOPLE) + 1] {
        let delivery = receiver.delivery().await?;
        let unit = delivery.units.first().context("a unit")?;
        ensure!(unit.sequence == sequence, "{unit:?}");
        receiver.answer(&delivery, Outcome::Applied).await?;
    }
    let client = hub.client()?;
    wait_until(PATIENCE, "nobody to be parked", async || {
        Ok(client.parked(SYSTEM).await?.is_empty())
    })
    .await
}

/// A gap is filled from both sides of the migration.
async fn over_the_border(client: &Client) -> Result<()> {
    let request = FetchMissedRequest {
        municipality: MUNICIPALITY.to_owned(),
        system: SYSTEM.to_owned(),
        product: PRODUCT.to_owned(),
        from_sequence: u64::from(PEOPLE) - 20,
        to_sequence: u64::from(PEOPLE) + 20,
        page_size: 100,
        ..FetchMissedRequest::default()
    };
    let missed = client
        .deliveries()
        .fetch_missed(request)
        .await?
        .into_inner();
    let got: Vec<u64> = missed
        .units
        .iter()
        .filter_map(|missed| Some(missed.unit.as_ref()?.sequence))
        .collect();
    ensure!(got.len() == 41 && got.is_sorted(), "{got:?}");
    Ok(())
}
