//! D1, D2, D3 and D5, each once in the test run.
//! Lines are cut, slowed, swallowed and doubled while events pass; then everything is judged.
//! Must never sleep for anything but the length of a fault.
//! Read next: `src/network.rs`, `src/rig.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::path::Path;
use std::time::{Duration, Instant};

use musubi_e2e::process::musubi;
use musubi_e2e::{Client, Hub, Process, wait_until};
use musubi_faults::load::{self, Published, Taker};
use musubi_faults::network::{Outcome, SYSTEM, bad_lines, partitions};
use musubi_faults::proxy::{Link, Links, Proxy};
use musubi_faults::retrying::Retrying;
use musubi_faults::rig::{Requests, Rig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const SEED: u64 = 20_260_401;
/// A peer that is silent is given up within this time.
const DETECTED: Duration = Duration::from_secs(30);

#[track_caller]
fn assert_whole(outcome: &Outcome) {
    assert!(outcome.violations.is_empty(), "seed {SEED}: {outcome:#?}");
    assert!(outcome.published > 0);
    assert_eq!(outcome.published, outcome.applied);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_partitions_one_way_and_both_lose_nothing_and_heal_within_five_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let length = Duration::from_millis(1_200);
    let outcome = partitions(folder.path(), SEED, length).await.unwrap();
    println!("{outcome:?}");
    assert_whole(&outcome);
}

#[tokio::test(flavor = "multi_thread")]
async fn d1_partitions_of_real_adapters_and_their_product_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SEED, Requests::Once)
        .await
        .unwrap();
    let held = Link::held();
    let open = Link::default();
    let ways = [(held, open), (open, held), (held, held)];
    for (there, back) in ways {
        for line in [&rig.source, &rig.adapter, &rig.product] {
            line.set(Links { there, back });
        }
        assert!(rig.next_file().unwrap());
        tokio::time::sleep(Duration::from_secs(2)).await;
        for line in [&rig.source, &rig.adapter, &rig.product] {
            line.heal();
        }
        rig.settle_within(Duration::from_secs(30)).await.unwrap();
    }
    let wrong = rig.finish().await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d2_late_slow_sliced_cut_and_reset_lines_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let outcome = bad_lines(folder.path(), SEED).await.unwrap();
    println!("{outcome:?}");
    assert_whole(&outcome);
    assert!(outcome.sent_again > 0 && outcome.streams > 2, "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_half_open_connections_of_adapters_are_noticed_and_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SEED, Requests::Once)
        .await
        .unwrap();
    let before = [rig.source.accepted(), rig.adapter.accepted()];
    // Each connection that says something now is silent for ever.
    for line in [&rig.source, &rig.adapter] {
        line.set(Links::both(Link::swallowed()));
    }
    assert!(rig.next_file().unwrap());
    let lost = Instant::now();
    wait_until(DETECTED, "both adapters to connect again", async || {
        let now = [rig.source.accepted(), rig.adapter.accepted()];
        Ok(now[0] > before[0] && now[1] > before[1])
    })
    .await
    .unwrap();
    println!("noticed after {:?}", lost.elapsed());
    for line in [&rig.source, &rig.adapter] {
        line.heal();
    }
    let wrong = rig.finish().await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn d3_the_hub_and_the_command_line_give_up_a_silent_peer() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    tokio::join!(
        a_silent_client_is_let_go(hub.address()),
        a_command_on_a_dead_line_fails(&hub, folder.path())
    );
}

/// Says the preface of HTTP/2 and no more: the hub's pings are not answered.
async fn a_silent_client_is_let_go(address: &str) {
    let mut silent = TcpStream::connect(address).await.unwrap();
    let started = Instant::now();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    silent.write_all(preface).await.unwrap();
    let mut heard = Vec::new();
    let end = tokio::time::timeout(DETECTED, silent.read_to_end(&mut heard)).await;
    // An end or a reset: both say that the hub has let go.
    drop(end.expect("the hub keeps a silent connection"));
    assert!(!heard.is_empty(), "not even the hub's settings");
    println!("the hub let go after {:?}", started.elapsed());
}

async fn a_command_on_a_dead_line_fails(hub: &Hub, folder: &Path) {
    let line = Proxy::start(hub.address(), SEED).await.unwrap();
    line.set(Links {
        there: Link::default(),
        back: Link::swallowed(),
    });
    let mut command = musubi().unwrap();
    command.args(["events", "list", "--hub", &line.url()]);
    command.args(["--municipality", musubi_e2e::hub::MUNICIPALITY]);
    let started = Instant::now();
    let mut process = Process::spawn("list", command, &folder.join("run")).unwrap();
    let ended = tokio::task::spawn_blocking(move || process.wait(DETECTED).unwrap());
    assert!(!ended.await.unwrap().success());
    println!("the command gave up after {:?}", started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_publishes_that_come_twice_and_late_are_one_event_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let direct = hub.client().unwrap();
    direct.bind(SYSTEM, "test-tax").await.unwrap();
    let retrying = Retrying::before_hub(direct.clone(), SEED).await.unwrap();
    let taker = Taker::start(direct.clone(), SYSTEM, "test-tax");
    let clients = [Client::new(&retrying.url()).unwrap()];
    let mut published = Published::default();
    published.add(load::publish(&clients, 0..60, 1..=6).await.unwrap());
    direct.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let mut wrong = load::violations(&published, &taker.journal());
    wrong.extend(load::log_violations(&direct, &published).await.unwrap());
    assert!(wrong.is_empty(), "seed {SEED}: {wrong:?}");
    assert_eq!(published.acknowledged.len(), 360);
    assert!(retrying.disturbed() > 100, "{}", retrying.disturbed());
}

#[tokio::test(flavor = "multi_thread")]
async fn d5_requests_to_a_product_that_come_twice_and_late_have_one_effect() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::start(folder.path(), SEED, Requests::Repeated)
        .await
        .unwrap();
    let disturbed = rig.disturbed();
    assert!(disturbed > 50, "{disturbed}");
    let wrong = rig.finish().await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}
