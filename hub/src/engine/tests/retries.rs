//! What is tried again, and when.

use super::*;
use crate::limits::{RETRY_AFTER_MAX, RETRY_BASE, RETRY_MAX};

#[test]
fn a_retry_keeps_its_lane_and_others_go_on() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.live(&["B"]);
    let seen = bench.answer(live(1), &AGAIN);
    assert_eq!(seen.attempts, [(live(1), 1)]);
    assert!(seen.delivered.is_empty());
    bench.answer(live(3), &applied());
    assert_eq!(bench.live(&["C"]).delivered, [[live(4)]]);
    assert_eq!(bench.engine.wake_at(), Some(200));
    assert!(bench.at(199).delivered.is_empty());
    let seen = bench.at(200);
    assert_eq!(
        (seen.delivered, seen.attempt),
        (vec![vec![live(1)]], vec![2])
    );
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[live(2)]]);
}

#[test]
fn a_unit_that_was_not_answered_goes_again() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    let delivery = bench.number(live(1));
    bench.in_flight.clear();
    bench.step(Input::Receipt {
        delivery,
        answers: Vec::new(),
    });
    assert_eq!(bench.at(200).delivered, [[live(1)]]);
}

/// Milliseconds until the unit is due, after so many attempts.
fn delay(attempts: u32, after_ms: u64, jitter: f64) -> i64 {
    let resume = Resume {
        attempts: vec![(live(1), attempts - 1)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    bench.live(&["A"]);
    let delivery = bench.number(live(1));
    let answers = vec![(live(1), Answered::Retry { after_ms })];
    bench
        .engine
        .step(Input::Receipt { delivery, answers }, 1_000, jitter);
    bench.engine.wake_at().expect("a retry is due") - 1_000
}

#[test]
fn waits_double_up_to_their_limit() {
    let base = RETRY_BASE.as_millis() as i64;
    assert_eq!(delay(1, 0, 0.0), base);
    assert_eq!(delay(2, 0, 0.0), 2 * base);
    assert_eq!(delay(3, 0, 0.0), 4 * base);
    assert_eq!(delay(64, 0, 0.0), RETRY_MAX.as_millis() as i64);
    assert_eq!(
        delay(u32::MAX - 1, 0, 1.0),
        2 * RETRY_MAX.as_millis() as i64
    );
}

#[test]
fn retry_after_is_honoured_within_once_and_twice() {
    for after in [1_000, 5_000, 120_000, 3_600_000] {
        for jitter in [0.0, 0.3, 0.99, 1.0] {
            let delay = delay(1, after, jitter);
            let after = after as i64;
            assert!(
                (after..=2 * after).contains(&delay),
                "{after} {jitter}: {delay}"
            );
        }
    }
}

#[test]
fn a_senseless_retry_after_waits_no_longer_than_the_limit() {
    let limit = 2 * RETRY_AFTER_MAX.as_millis() as i64;
    assert_eq!(delay(1, u64::MAX, 1.0), limit);
    // Nor does a jitter outside 0..1 bring it forward.
    assert_eq!(delay(1, u64::MAX, 7.5), limit);
    assert_eq!(delay(1, 1_000, -3.0), 1_000);
}

#[test]
fn attempts_count_on_after_a_restart() {
    let resume = Resume {
        attempts: vec![(live(1), 4)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    assert_eq!(bench.live(&["A"]).attempt, [5]);
    assert_eq!(bench.engine.leased_attempts(), [(live(1), 5)]);
    assert_eq!(bench.answer(live(1), &AGAIN).attempts, [(live(1), 5)]);
    assert!(bench.engine.leased_attempts().is_empty());
}
