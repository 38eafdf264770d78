//! F11: the wall clock of hub, adapters and product jumps by an hour and a day while they work.
//! Order is by sequence, leases are by the monotonic clock: nothing is noticed.
//! Must never pass when no clock jumped.
//! Read next: `src/clock.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::time::Duration;

use musubi_faults::clock::Clock;
use musubi_faults::rig::{Requests, Rig};

const SEED: u64 = 20_260_403;
const HOUR: i64 = 3_600;

#[tokio::test(flavor = "multi_thread")]
async fn f11_clocks_that_jump_change_no_order_and_end_no_lease() {
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::new(folder.path()).unwrap();
    let environment = clock.environment();
    let rig = Rig::start_in(folder.path(), SEED, Requests::Once, &environment).await;
    let mut rig = rig.unwrap();
    let streams = rig.adapter.accepted();
    for offset in ["+1h", "-1h", "+1d", "-1d", "+0"] {
        assert!(rig.next_file().unwrap());
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
    let wrong = rig.finish().await.unwrap();
    assert!(wrong.is_empty(), "{wrong:?}");
}
