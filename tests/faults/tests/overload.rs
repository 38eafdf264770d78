//! H5 and H6: editions that follow one another under load, and more than the hub can take.
//! What is refused says when to come again; what is acknowledged is kept.
//! Must never count a refusal as a failure, nor a failure as a refusal.
//! Read next: `src/load.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::{Duration, Instant};

use musubi_e2e::event::event;
use musubi_e2e::hub::reason_and_field_of;
use musubi_e2e::{Client, Hub};
use musubi_faults::data::{request, unit};
use musubi_faults::load::{self, Published, Taker, retry_hint};
use musubi_faults::network::SYSTEM;
use musubi_faults::rig::{Requests, Rig};
use musubi_faults::wire::field;
use tokio::task::JoinSet;
use tonic::Code;

const SEED: u64 = 20_260_404;
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

#[tokio::test(flavor = "multi_thread")]
async fn h6_more_than_the_hub_takes_is_refused_with_a_hint_and_the_rest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path()).await.unwrap();
    let direct = hub.client().unwrap();
    direct.bind(SYSTEM, PRODUCT).await.unwrap();
    let taker = Taker::start(direct.clone(), SYSTEM, PRODUCT);
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(hub.client().unwrap());
    }
    let mut all = publish(&clients, 0..CALM, 10).await;
    let calm = all.percentile(99);
    let before = hub.process().resident_bytes().unwrap();

    let many = clients.clone();
    let storm = async move { publish(&many, 1_000..1_000 + 6 * CALM, 15).await };
    let (storm, most) = watched(&mut hub, storm).await;
    let grown = most.saturating_sub(before);
    println!(
        "calm p99 {calm:?}; storm: {} kept, p50 {:?} p99 {:?}, {} refused, {} failed, {grown} bytes more",
        storm.acknowledged.len(),
        storm.percentile(50),
        storm.percentile(99),
        storm.overloaded,
        storm.failed
    );
    assert!(storm.overloaded > 0, "that was no overload");
    assert_eq!(storm.without_hint, 0);
    assert_eq!(storm.acknowledged.len(), 6 * 15 * CALM as usize);
    // The median: the tail also shows whatever else the machine does, and is printed.
    assert!(storm.percentile(50) <= calm * 5, "those kept are late");
    assert!(grown <= 96 * MIB, "{grown} bytes more");
    all.add(storm);

    let calmed = Instant::now();
    let mut first = 10_000;
    loop {
        let after = publish(&clients, first..first + CALM, 5).await;
        first += CALM;
        let now = after.percentile(99);
        all.add(after);
        if now <= calm * 2 {
            println!("as before after {:?}: {now:?}", calmed.elapsed());
            break;
        }
        assert!(calmed.elapsed() < NORMAL, "{now:?}, and {calm:?} before");
    }
    direct.wait_until_delivered(&[SYSTEM]).await.unwrap();
    let mut wrong = load::violations(&all, &taker.journal());
    wrong.extend(load::log_violations(&direct, &all).await.unwrap());
    assert!(wrong.is_empty(), "{:?}", &wrong[..wrong.len().min(5)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn h6_large_requests_at_once_stay_within_their_memory() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path()).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = hub.client().unwrap();
        client.publish(Vec::new()).await.unwrap();
        clients.push(client);
    }
    let before = hub.process().resident_bytes().unwrap();
    let data = musubi_e2e::event::moved("0000012345", 1).unwrap().data;
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
    println!(
        "{} of 20 refused, {} bytes more",
        refused.len(),
        most - before
    );
    assert!(refused.len() < 20);
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert_eq!(reason_and_field_of(&status).0, "OVERLOADED");
        assert!(retry_hint(&status).is_some());
    }
    assert!(most - before < 256 * MIB, "{} bytes more", most - before);
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_hub_and_receiver_are_replaced_at_load_and_no_publish_fails_after_its_retry() {
    let folder = tempfile::tempdir().unwrap();
    let mut hub = Hub::start(folder.path()).await.unwrap();
    let direct = hub.client().unwrap();
    direct.bind(SYSTEM, PRODUCT).await.unwrap();
    let mut taker = Taker::start(direct.clone(), SYSTEM, PRODUCT);
    let client = direct.clone();
    let load = tokio::spawn(async move { publish(&[client], 0..40, 60).await });
    for editions in 1..=3 {
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
    println!(
        "{} sent again, {} repeated",
        published.failed, journal.repeated
    );
    let mut wrong = load::violations(&published, &journal);
    wrong.extend(load::log_violations(&direct, &published).await.unwrap());
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(published.acknowledged.len(), 2_400);
}

#[tokio::test(flavor = "multi_thread")]
async fn h5_adapters_and_hub_are_replaced_one_after_the_other_and_nothing_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(folder.path(), SEED, Requests::Once)
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
    let wrong = rig.finish().await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}
