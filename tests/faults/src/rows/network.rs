//! D1, D2, D3, D5: lines that are cut, slowed, swallowed and doubled while events pass.
//! Clients of the row's own, and the real adapters with a product, each behind proxies.
//! Must never sleep for anything but the length of a fault.
//! Read next: `../network.rs`, `../rig.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a row fails by a panic, which its report names"
)]

use std::path::Path;
use std::time::{Duration, Instant};

use musubi_e2e::process::musubi;
use musubi_e2e::{Client, Hub, Process, wait_until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dice::Dice;
use crate::judged::judged;
use crate::load::{self, Published, Taker};
use crate::network::{Outcome, SYSTEM, bad_lines, partitions};
use crate::proxy::{Link, Links, Proxy};
use crate::retrying::Retrying;
use crate::rig::{Requests, Rig};
use crate::row::{Ctx, Row, RowReport};

/// D1, D2, D3, D5.
pub const ROWS: &[Row] = &[
    Row {
        name: "D1",
        what: "partitions of source, hub, adapter and product, one way and both",
        accept: "I1–I4: 0, memory bounded, 5 s from healing to the next event",
        count: 5,
        run: |ctx| judged(d1(ctx)),
    },
    Row {
        name: "D2",
        what: "lines that are late, slow, in pieces, cut and reset",
        accept: "I1–I4: 0",
        count: 1,
        run: |ctx| judged(d2(ctx)),
    },
    Row {
        name: "D3",
        what: "half-open connections: everything is dropped without a word",
        accept: "noticed within 30 s by adapters, hub and command line; I1–I4: 0",
        count: 1,
        run: |ctx| judged(d3(ctx)),
    },
    Row {
        name: "D5",
        what: "proxies that repeat and delay publishes and requests to a product",
        accept: "I2, I3: 0",
        count: 6,
        run: |ctx| judged(d5(ctx)),
    },
];

/// A peer that is silent is given up within this time.
const DETECTED: Duration = Duration::from_secs(30);

fn report(outcome: Outcome, injected: u64) -> RowReport {
    RowReport {
        injected,
        published: outcome.published as u64,
        delivered: outcome.applied as u64,
        notes: vec![format!(
            "{} publishes sent again, {} streams, {} deliveries repeated",
            outcome.sent_again, outcome.streams, outcome.repeated
        )],
        violations: outcome.violations,
        ..RowReport::default()
    }
}

fn rig_report(injected: u64, violations: Vec<String>) -> RowReport {
    RowReport {
        injected,
        violations,
        ..RowReport::default()
    }
}

async fn d1(ctx: Ctx) -> RowReport {
    let mut all = RowReport::default();
    let mut dice = Dice::new(ctx.seed);
    for round in 1..=ctx.count {
        // The first is short; those that follow last up to ten seconds.
        let more = if round == 1 { 0 } else { dice.below(8_800) };
        let length = Duration::from_millis(1_200 + more);
        let own = ctx.within(&format!("clients-{round}"));
        let outcome = partitions(&own.folder, dice.roll(), length).await.unwrap();
        all.add(report(outcome, 6));
        let own = ctx.within(&format!("adapters-{round}"));
        all.add(d1_of_adapters(&own.folder, dice.roll(), length).await);
    }
    all
}

async fn d1_of_adapters(folder: &Path, seed: u64, length: Duration) -> RowReport {
    let mut rig = Rig::start(folder, seed, Requests::Once).await.unwrap();
    let held = Link::held();
    let open = Link::default();
    for (there, back) in [(held, open), (open, held), (held, held)] {
        for line in [&rig.source, &rig.adapter, &rig.product] {
            line.set(Links { there, back });
        }
        assert!(rig.next_file().unwrap());
        tokio::time::sleep(length).await;
        for line in [&rig.source, &rig.adapter, &rig.product] {
            line.heal();
        }
        rig.settle_within(Duration::from_secs(30)).await.unwrap();
    }
    rig_report(9, rig.finish().await.unwrap())
}

async fn d2(ctx: Ctx) -> RowReport {
    let mut all = RowReport::default();
    for round in 0..ctx.count {
        let own = ctx.within(&format!("round-{round}"));
        let seed = ctx.seed.wrapping_add(u64::from(round));
        let outcome = bad_lines(&own.folder, seed).await.unwrap();
        assert!(
            outcome.sent_again > 0 && outcome.streams > 2,
            "nothing was broken: {outcome:?}"
        );
        all.add(report(outcome, 10));
    }
    all
}

async fn d3(ctx: Ctx) -> RowReport {
    let folder = ctx.within("peers").folder;
    let hub = Hub::start(&folder).await.unwrap();
    let (mut report, let_go, gave_up) = tokio::join!(
        half_open_adapters(ctx.within("adapters")),
        a_silent_client_is_let_go(hub.address()),
        a_command_on_a_dead_line_fails(&hub, &folder)
    );
    report.notes.extend([let_go, gave_up]);
    report
}

async fn half_open_adapters(ctx: Ctx) -> RowReport {
    let mut rig = Rig::start(&ctx.folder, ctx.seed, Requests::Once)
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
    let noticed = format!("the adapters noticed after {:?}", lost.elapsed());
    for line in [&rig.source, &rig.adapter] {
        line.heal();
    }
    let mut report = rig_report(4, rig.finish().await.unwrap());
    report.notes.push(noticed);
    report
}

/// Says the preface of HTTP/2 and no more: the hub's pings are not answered.
async fn a_silent_client_is_let_go(address: &str) -> String {
    let mut silent = TcpStream::connect(address).await.unwrap();
    let started = Instant::now();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    silent.write_all(preface).await.unwrap();
    let mut heard = Vec::new();
    let end = tokio::time::timeout(DETECTED, silent.read_to_end(&mut heard)).await;
    // An end or a reset: both say that the hub has let go.
    drop(end.expect("the hub keeps a silent connection"));
    assert!(!heard.is_empty(), "not even the hub's settings");
    format!("the hub let go after {:?}", started.elapsed())
}

async fn a_command_on_a_dead_line_fails(hub: &Hub, folder: &Path) -> String {
    let line = Proxy::start(hub.address(), 0).await.unwrap();
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
    format!("the command gave up after {:?}", started.elapsed())
}

async fn d5(ctx: Ctx) -> RowReport {
    let mut all = d5_publishes(ctx.within("publishes")).await;
    all.add(d5_requests(ctx.within("requests")).await);
    all
}

async fn d5_publishes(ctx: Ctx) -> RowReport {
    let hub = Hub::start(&ctx.folder).await.unwrap();
    let direct = hub.client().unwrap();
    direct.bind(SYSTEM, "test-tax").await.unwrap();
    let retrying = Retrying::before_hub(direct.clone(), ctx.seed)
        .await
        .unwrap();
    let taker = Taker::start(direct.clone(), SYSTEM, "test-tax");
    let clients = [Client::new(&retrying.url()).unwrap()];
    let mut published = Published::default();
    published.add(load::publish(&clients, 0..60, 1..=ctx.count).await.unwrap());
    direct.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    let mut violations = load::violations(&published, &journal);
    violations.extend(load::log_violations(&direct, &published).await.unwrap());
    RowReport {
        injected: retrying.disturbed(),
        published: published.acknowledged.len() as u64,
        delivered: journal.effects.len() as u64,
        violations,
        ..RowReport::default()
    }
}

async fn d5_requests(ctx: Ctx) -> RowReport {
    let rig = Rig::start(&ctx.folder, ctx.seed, Requests::Repeated)
        .await
        .unwrap();
    let disturbed = rig.disturbed();
    assert!(disturbed > 50, "{disturbed}");
    rig_report(disturbed, rig.finish().await.unwrap())
}
