//! F11, H5, H6: clocks that jump, editions that follow one another at load, and overload.
//! What is refused says when to come again; what is acknowledged is kept.
//! Must never count a refusal as a failure, nor a failure as a refusal.
//! Read next: `../load.rs`, `../clock.rs`.

#![allow(
    clippy::unwrap_used,
    reason = "a row fails by a panic, which its report names"
)]

use std::time::{Duration, Instant};

use musubi_e2e::event::{event, moved};
use musubi_e2e::hub::reason_and_field_of;
use musubi_e2e::{Client, Hub};
use tokio::task::JoinSet;
use tonic::Code;

use crate::clock::Clock;
use crate::data::{request, unit};
use crate::judged::judged;
use crate::load::{self, Published, Taker, retry_hint};
use crate::network::SYSTEM;
use crate::rig::{Requests, Rig};
use crate::row::{Ctx, Row, RowReport};
use crate::wire::field;

/// F11, H5, H6.
pub const ROWS: &[Row] = &[
    Row {
        name: "F11",
        what: "the wall clocks of hub, adapters and product jump by an hour and a day, also back",
        accept: "order by sequence, leases by the monotonic clock, I1–I4: 0",
        count: 5,
        run: |ctx| judged(f11(ctx)),
    },
    Row {
        name: "H5",
        what: "hub, receiver and adapters are replaced one after the other at load",
        accept: "0 publishes fail after their retry, I1–I4: 0",
        count: 3,
        run: |ctx| judged(h5(ctx)),
    },
    Row {
        name: "H6",
        what: "six times as many publishers as the hub serves with ease; large requests at once",
        accept: "refused with a hint, p99 of the rest at most 5 × (in the test run the median), memory bounded, as before within 10 s",
        count: 15,
        run: |ctx| judged(h6(ctx)),
    },
];

/// An hour, in seconds.
const HOUR: i64 = 3_600;
const PRODUCT: &str = "test-tax";
const MIB: u64 = 1024 * 1024;
/// Publishers that the hub serves with ease; the storm is six times as many.
const CALM: u32 = 64;
/// The hub is as fast as before within this time.
const NORMAL: Duration = Duration::from_secs(10);

/// Runs a load, and looks at the hub's memory all the while; returns the most it held.
async fn watched<T: Send + 'static>(
    hub: &mut Hub,
    load: impl Future<Output = T> + Send + 'static,
) -> (T, u64) {
    let mut running = tokio::spawn(load);
    let mut most = 0;
    let mut look = tokio::time::interval(Duration::from_millis(20));
    loop {
        tokio::select! {
            done = &mut running => return (done.unwrap(), most),
            _ = look.tick() => most = most.max(hub.process().resident_bytes().unwrap()),
        }
    }
}

async fn publish(clients: &[Client], subjects: std::ops::Range<u32>, versions: u32) -> Published {
    load::publish(clients, subjects, 1..=versions)
        .await
        .unwrap()
}

async fn f11(ctx: Ctx) -> RowReport {
    let clock = Clock::new(&ctx.folder).unwrap();
    let environment = clock.environment();
    let rig = Rig::start_in(&ctx.folder, ctx.seed, Requests::Once, &environment).await;
    let mut rig = rig.unwrap();
    let streams = rig.adapter.accepted();
    let offsets = ["+1h", "-1h", "+1d", "-1d", "+0"];
    let mut jumps = 0;
    for offset in offsets.into_iter().cycle().take(ctx.count as usize) {
        jumps += u64::from(rig.next_file().unwrap());
        clock.set(offset).unwrap();
        rig.settle_within(Duration::from_secs(30)).await.unwrap();
    }
    let logged = rig.logged().await.unwrap();
    let times = logged.iter().map(|stored| {
        let recorded = stored.event.as_ref().unwrap().recorded_at;
        recorded.unwrap().seconds
    });
    let times: Vec<i64> = times.collect();
    let back = times
        .windows(2)
        .map(|pair| pair[0] - pair[1])
        .max()
        .unwrap();
    assert!(back > HOUR, "no clock went back: {back} s");
    assert_eq!(rig.adapter.accepted(), streams, "a lease ended");
    RowReport {
        injected: jumps,
        violations: rig.finish().await.unwrap(),
        ..RowReport::default()
    }
}

async fn h5(ctx: Ctx) -> RowReport {
    let mut all = hub_and_receiver(ctx.within("receiver")).await;
    all.add(adapters_and_hub(ctx.within("adapters")).await);
    all
}

async fn hub_and_receiver(ctx: Ctx) -> RowReport {
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let direct = hub.client().unwrap();
    direct.bind(SYSTEM, PRODUCT).await.unwrap();
    let mut taker = Taker::start(direct.clone(), SYSTEM, PRODUCT);
    let client = direct.clone();
    let versions = 20 * ctx.count;
    let load = tokio::spawn(async move { publish(&[client], 0..40, versions).await });
    for editions in 1..=u64::from(ctx.count) {
        // Each edition has to do some of the work.
        direct.wait_until_logged(editions * 300).await.unwrap();
        let asked = Instant::now();
        assert!(hub.process().stop().unwrap().success());
        assert!(asked.elapsed() < Duration::from_secs(10));
        hub.restart().await.unwrap();
        taker.replace(hub.client().unwrap(), SYSTEM, PRODUCT);
    }
    let published = load.await.unwrap();
    direct.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    assert_eq!(published.acknowledged.len(), 40 * versions as usize);
    let mut violations = load::violations(&published, &journal);
    violations.extend(load::log_violations(&direct, &published).await.unwrap());
    RowReport {
        injected: u64::from(2 * ctx.count),
        published: published.acknowledged.len() as u64,
        delivered: journal.effects.len() as u64,
        violations,
        notes: vec![format!(
            "{} publishes sent again, {} deliveries repeated",
            published.failed, journal.repeated
        )],
        ..RowReport::default()
    }
}

async fn adapters_and_hub(ctx: Ctx) -> RowReport {
    let mut rig = Rig::start(&ctx.folder, ctx.seed, Requests::Once)
        .await
        .unwrap();
    for turn in 0..4 {
        assert!(rig.next_file().unwrap());
        if turn % 2 == 0 {
            rig.restart_adapters().unwrap();
        } else {
            rig.restart_hub().await.unwrap();
        }
    }
    RowReport {
        injected: 6,
        violations: rig.finish().await.unwrap(),
        ..RowReport::default()
    }
}

async fn h6(ctx: Ctx) -> RowReport {
    let mut all = storm(ctx.within("storm")).await;
    all.add(large_requests(ctx.within("large")).await);
    all
}

async fn storm(ctx: Ctx) -> RowReport {
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let direct = hub.client().unwrap();
    direct.bind(SYSTEM, PRODUCT).await.unwrap();
    let taker = Taker::start(direct.clone(), SYSTEM, PRODUCT);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(hub.client().unwrap());
    }
    // The tail also shows whatever else the machine does: the median in the test run, and else the
    // best of some rounds.
    let (rounds, hundredths) = if ctx.measured { (5, 99) } else { (1, 50) };
    let mut all = Published::default();
    let (mut least, mut late, mut calm) = (Duration::MAX, Duration::MAX, Duration::ZERO);
    let mut injected = 0;
    let mut notes = Vec::new();
    for round in 0..rounds {
        let first = round * 10_000;
        let quiet = publish(&clients, first..first + CALM, 10).await;
        calm = quiet.percentile(99);
        least = least.min(calm);
        all.add(quiet);
        let (storm, told) = stormed(&mut hub, &clients, first + 1_000, ctx.count).await;
        late = late.min(storm.percentile(hundredths));
        injected += storm.overloaded;
        notes.push(format!("calm p99 {calm:?}; {told}"));
        all.add(storm);
    }
    assert!(late <= least * 5, "those kept are late: {notes:?}");

    let calmed = Instant::now();
    let mut first = 1_000_000;
    loop {
        let after = publish(&clients, first..first + CALM, 5).await;
        first += CALM;
        let now = after.percentile(99);
        all.add(after);
        if now <= calm * 2 {
            break;
        }
        assert!(calmed.elapsed() < NORMAL, "{now:?}, and {calm:?} before");
    }
    direct.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let journal = taker.journal();
    let mut violations = load::violations(&all, &journal);
    violations.extend(load::log_violations(&direct, &all).await.unwrap());
    RowReport {
        injected,
        published: all.acknowledged.len() as u64,
        delivered: journal.effects.len() as u64,
        violations,
        notes,
        ..RowReport::default()
    }
}

/// One storm on persons from a number on; what was kept, and what there is to say.
async fn stormed(
    hub: &mut Hub,
    clients: &[Client],
    first: u32,
    versions: u32,
) -> (Published, String) {
    let before = hub.process().resident_bytes().unwrap();
    let clients = clients.to_vec();
    let load = async move { publish(&clients, first..first + 6 * CALM, versions).await };
    let (storm, most) = watched(hub, load).await;
    let grown = most.saturating_sub(before);
    let told = format!(
        "storm: {} kept, p50 {:?}, p99 {:?}, {} refused, {grown} bytes more",
        storm.acknowledged.len(),
        storm.percentile(50),
        storm.percentile(99),
        storm.overloaded
    );
    assert!(storm.overloaded > 0, "that was no overload: {told}");
    assert_eq!(storm.without_hint, 0, "{told}");
    assert_eq!(storm.acknowledged.len(), (6 * CALM * versions) as usize);
    assert!(grown <= 96 * MIB, "{told}");
    (storm, told)
}

async fn large_requests(ctx: Ctx) -> RowReport {
    let mut hub = Hub::start(&ctx.folder).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = hub.client().unwrap();
        client.publish(Vec::new()).await.unwrap();
        clients.push(client);
    }
    let before = hub.process().resident_bytes().unwrap();
    let data = moved("0000012345", 1).unwrap().data;
    // An item of a later edition makes each event large.
    let data = [data.to_vec(), field(19_000, &vec![b'x'; 75 * 1024])].concat();
    let load = async move {
        let mut sending = JoinSet::new();
        // Each on a connection of its own: the window of one would let them in one by one.
        for (number, client) in (0..20_u32).zip(&clients) {
            let data = data.clone();
            let mut events = client.events();
            let first = 10_000 + number * 100;
            let units = (first..first + 50)
                .map(|subject| unit(vec![event(&load::subject(subject), 1, data.clone())]));
            let asked = request(units.collect());
            sending.spawn(async move { events.publish(asked).await });
        }
        sending.join_all().await
    };
    let (answers, most) = watched(&mut hub, load).await;
    let refused: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    let grown = most.saturating_sub(before);
    let told = format!("{} of 20 refused, {grown} bytes more", refused.len());
    assert!(refused.len() < 20);
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(reason_and_field_of(&status).0, "OVERLOADED");
        assert!(retry_hint(&status).is_some());
    }
    assert!(grown < 256 * MIB, "{told}");
    RowReport {
        injected: 20,
        notes: vec![told],
        ..RowReport::default()
    }
}
