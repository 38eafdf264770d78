//! What is tried again, and when.

use super::*;
use crate::limits::{
    RETRY_AFTER_MAX, RETRY_ATTEMPTS_MAX, RETRY_BASE, RETRY_MAX, RETRY_QUICK_ATTEMPTS, RETRY_SLOW,
};

#[test]
fn a_retry_keeps_its_lane_and_others_go_on() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.live(&["B"]);
    let seen = bench.answer(live(1), &again());
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

/// Milliseconds until the unit is tried again, after so many attempts; `None` when never.
fn delay(attempts: u32, after_ms: u64, jitter: f64) -> Option<i64> {
    let resume = Resume {
        attempts: vec![(live(1), attempts - 1)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    bench.live(&["A"]);
    let delivery = bench.number(live(1));
    let answers = vec![(live(1), after(after_ms))];
    let receipt = Input::Receipt { delivery, answers };
    let decisions = bench.engine.step(receipt, 1_000, jitter);
    let aside = decisions.iter().find_map(|decision| match decision {
        Decision::Park {
            parking: Parking::Due(after_ms, _),
            ..
        } => Some(*after_ms),
        _ => None,
    });
    aside.or_else(|| bench.engine.wake_at().map(|at| at - 1_000))
}

#[test]
fn waits_double_then_are_slow_and_end_after_days() {
    let base = RETRY_BASE.as_millis() as i64;
    assert_eq!(delay(1, 0, 0.0), Some(base));
    assert_eq!(delay(2, 0, 0.0), Some(2 * base));
    assert_eq!(delay(3, 0, 0.0), Some(4 * base));
    let quickest = RETRY_MAX.as_millis() as i64;
    assert_eq!(delay(RETRY_QUICK_ATTEMPTS, 0, 0.0), Some(quickest));
    let slow = RETRY_SLOW.as_millis() as i64;
    assert_eq!(delay(RETRY_QUICK_ATTEMPTS + 1, 0, 0.0), Some(slow));
    assert_eq!(delay(RETRY_ATTEMPTS_MAX - 1, 0, 1.0), Some(2 * slow));
    assert_eq!(delay(RETRY_ATTEMPTS_MAX, 0, 0.0), None);
    assert_eq!(delay(u32::MAX, 0, 0.0), None);
}

#[test]
fn the_schedule_spans_more_than_a_long_weekend() {
    let waits = (1..RETRY_ATTEMPTS_MAX).filter_map(|attempt| delay(attempt, 0, 0.0));
    let span_ms: i64 = waits.sum();
    assert!(span_ms > 72 * 60 * 60 * 1_000, "{span_ms}");
}

#[test]
fn what_was_tried_to_the_end_is_a_dead_letter_with_all_that_follows() {
    let resume = Resume {
        attempts: vec![(live(1), RETRY_ATTEMPTS_MAX - 1)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    bench.live(&["A"]);
    bench.live(&["A"]);
    let seen = bench.answer(live(1), &again());
    assert_eq!((seen.dead, seen.waiting), (vec![live(1)], vec![live(2)]));
}

#[test]
fn what_is_due_later_than_a_minute_is_set_aside_and_pins_no_cursor() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.live(&["B"]);
    let seen = bench.answer(live(1), &after(60_001));
    assert_eq!(
        (seen.due, seen.waiting),
        (vec![(live(1), 60_001)], vec![live(2)])
    );
    bench.answer(live(3), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live).sequence, 4);
    assert_eq!(bench.engine.open(), 0);
    let parked = vec![work(live(1), &["A"]), work(live(2), &["A"])];
    assert_eq!(bench.step(back(parked)).delivered, [[live(1)]]);
}

#[test]
fn protection_is_tried_every_minute_for_ever() {
    let resume = Resume {
        attempts: vec![(live(1), 10_000)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    bench.protection("A");
    let seen = bench.answer(live(1), &after(86_400_000));
    assert_eq!((seen.dead, seen.due), (vec![], vec![]));
    assert_eq!(bench.engine.wake_at(), Some(60_000));
}

#[test]
fn what_may_have_reached_the_product_is_asked_for_first() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &unknown());
    let seen = bench.at(200);
    assert_eq!((seen.asked, seen.attempt), (vec![live(1)], vec![2]));
    // A clear answer ends the doubt.
    bench.answer(live(1), &again());
    assert_eq!(bench.at(600).asked, []);
}

#[test]
fn an_unknown_outcome_waits_for_a_human_where_sending_again_could_repeat_it() {
    let settings = Settings {
        on_unknown: OnUnknown::Park,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    bench.live(&["A"]);
    let seen = bench.answer(live(1), &unknown());
    assert_eq!(seen.rejected, [live(1)]);
    assert_eq!(seen.said, ["OUTCOME_UNKNOWN"]);
}

#[test]
fn a_delivery_without_a_receipt_is_unknown_after_its_time() {
    let settings = Settings {
        answer_within_ms: 5_000,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    bench.live(&["A"]);
    let late = bench.number(live(1));
    assert_eq!(bench.engine.wake_at(), Some(5_000));
    assert_eq!(bench.at(4_999), Seen::default());
    assert_eq!(bench.at(5_000).attempts, [(live(1), 1)]);
    bench.in_flight.clear();
    let seen = bench.at(5_200);
    assert_eq!(
        (seen.delivered, seen.asked),
        (vec![vec![live(1)]], vec![live(1)])
    );
    // The late receipt belongs to no lease.
    let answers = vec![(live(1), refusal("LATE"))];
    let receipt = Input::Receipt {
        delivery: late,
        answers,
    };
    assert_eq!(bench.step(receipt), Seen::default());
}

#[test]
fn after_a_crash_what_may_have_been_sent_is_asked_for() {
    let resume = Resume {
        live: Some(cursor(20, 2)),
        maybe_sent: [5, 1],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    assert_eq!(bench.live(&["A"]).asked, [live(2)]);
    bench.live(&["B"]);
    bench.live(&["C"]);
    assert_eq!(bench.live(&["D"]).asked, []);
    // What a session does not know, the next one asks about.
    assert!(bench.engine.doubted().contains(&live(5)));
}

#[test]
fn retry_after_is_honoured_within_once_and_twice() {
    for after in [1_000, 5_000, 120_000, 3_600_000] {
        for jitter in [0.0, 0.3, 0.99, 1.0] {
            let delay = delay(1, after, jitter).unwrap_or_default();
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
    assert_eq!(delay(1, u64::MAX, 1.0), Some(limit));
    // Nor does a jitter outside 0..1 bring it forward.
    assert_eq!(delay(1, u64::MAX, 7.5), Some(limit));
    assert_eq!(delay(1, 1_000, -3.0), Some(1_000));
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
    assert_eq!(bench.answer(live(1), &again()).attempts, [(live(1), 5)]);
    assert!(bench.engine.leased_attempts().is_empty());
}

#[test]
fn a_set_aside_unit_counts_on_until_it_is_a_dead_letter() {
    let resume = Resume {
        attempts: vec![(live(1), RETRY_QUICK_ATTEMPTS)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    bench.live(&["A"]);
    let mut rounds = 0;
    loop {
        let seen = bench.answer(live(1), &again());
        if !seen.dead.is_empty() {
            break;
        }
        assert_eq!(seen.due.len(), 1);
        assert_eq!(seen.attempts.len(), 1);
        rounds += 1;
        assert!(rounds < RETRY_ATTEMPTS_MAX, "it is never given up");
        let seen = bench.step(back(vec![work(live(1), &["A"])]));
        assert_eq!(seen.delivered, [[live(1)]]);
        bench.step(Input::Credits(1));
    }
    assert_eq!(rounds, RETRY_ATTEMPTS_MAX - RETRY_QUICK_ATTEMPTS - 1);
}

#[test]
fn a_unit_that_no_receipt_ever_names_is_a_dead_letter_in_the_end() {
    let resume = Resume {
        attempts: vec![(live(1), RETRY_ATTEMPTS_MAX - 1)],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    bench.live(&["A"]);
    let delivery = bench.number(live(1));
    let answers = Vec::new();
    let seen = bench.step(Input::Receipt { delivery, answers });
    assert_eq!(seen.dead, [live(1)]);
}

#[test]
fn what_stands_behind_a_unit_that_stays_parked_stays_too() {
    let resume = Resume {
        live: Some(cursor(40, 4)),
        parked: HashMap::from([(subject("A"), live(1)), (subject("B"), live(2))]),
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    // Unit 1 is due; unit 2 waits behind a refused one of B.
    let seen = bench.step(Input::Parked {
        works: vec![work(live(1), &["A"])],
        left: HashMap::from([(subject("A"), live(2)), (subject("B"), live(2))]),
    });
    assert_eq!(seen.delivered, [[live(1)]]);
    assert_eq!(bench.live(&["A"]).waiting, [live(4)]);
    assert_eq!(bench.answer(live(1), &applied()).done, [live(1)]);
    assert_eq!(bench.live(&["A"]).waiting, [live(5)]);
}

#[test]
fn what_is_due_within_a_minute_keeps_its_lane() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    let seen = bench.answer(live(1), &after(60_000));
    assert_eq!((seen.due, seen.attempts), (vec![], vec![(live(1), 1)]));
    assert_eq!(bench.engine.wake_at(), Some(60_000));
}

#[test]
fn a_dead_letter_says_what_its_last_attempt_said() {
    let settings = Settings {
        answer_within_ms: 5_000,
        ..Settings::default()
    };
    let last = || Resume {
        attempts: vec![(live(1), RETRY_ATTEMPTS_MAX - 1)],
        ..Resume::default()
    };
    let no_receipt = ["RETRIES_EXHAUSTED", "NO_RECEIPT"];
    let mut bench = Bench::set(settings, last());
    bench.live(&["A"]);
    assert_eq!(bench.at(5_000).said, no_receipt);
    let mut bench = Bench::set(settings, last());
    bench.live(&["A"]);
    let delivery = bench.number(live(1));
    let answers = Vec::new();
    let seen = bench.step(Input::Receipt { delivery, answers });
    assert_eq!(seen.said, no_receipt);
}

#[test]
fn after_a_restart_what_was_tried_or_in_doubt_is_asked_for_and_a_replay_is_not() {
    let resume = Resume {
        attempts: vec![(live(1), 1)],
        doubted: [live(2)].into(),
        maybe_sent: [1, 3],
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    let asked = ["A", "B", "C"].map(|name| bench.live(&[name]).asked);
    assert_eq!(asked, [vec![live(1)], vec![live(2)], vec![]]);
    let asked = ["D", "E", "F"].map(|name| bench.bulk(&[name]).asked);
    assert_eq!(asked, [vec![bulk(1)], vec![bulk(2)], vec![]]);
    bench.answer(bulk(1), &applied());
    let seen = bench.step(Input::Replay(vec![work(bulk(1), &["D"])]));
    assert_eq!((seen.delivered, seen.asked), (vec![vec![bulk(1)]], vec![]));
}
