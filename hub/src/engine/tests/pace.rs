//! A receiver that is down, slow, closed or broken as a whole.

use super::*;
use crate::limits::{DOWN_SUBJECTS, RETRY_QUICK_ATTEMPTS, SAME_REFUSAL_SUBJECTS};

/// A receiver with so many subjects waiting, all sent.
fn town(subjects: usize) -> Bench {
    let mut bench = Bench::new();
    for place in 0..subjects {
        bench.live(&[&format!("S{place}")]);
    }
    bench
}

#[test]
fn a_receiver_that_puts_everybody_off_is_probed_with_one_delivery() {
    let mut bench = town(DOWN_SUBJECTS + 5);
    for place in 0..DOWN_SUBJECTS {
        let seen = bench.answer(live(place as u64 + 1), &again());
        assert_eq!(seen.delivered, Vec::<Vec<UnitKey>>::new());
    }
    for place in DOWN_SUBJECTS..DOWN_SUBJECTS + 5 {
        bench.answer(live(place as u64 + 1), &again());
    }
    // One probe at a time, at most 5 seconds apart, however long it lasts.
    for _ in 0..500 {
        let at = bench.engine.wake_at().expect("a probe is due");
        assert!(at - bench.now <= 5_000, "{at} {}", bench.now);
        let seen = bench.at(at);
        if let [keys] = seen.delivered.as_slice() {
            let probe = keys[0];
            assert_eq!(bench.in_flight.len(), 1);
            let seen = bench.answer(probe, &again());
            bench.step(Input::Credits(1));
            assert_eq!((seen.dead, seen.due), (vec![], vec![]));
        }
    }
    // It is back: all go on at once.
    let probe = (0..500).find_map(|_| {
        let at = bench.engine.wake_at().expect("a probe is due");
        let seen = bench.at(at);
        seen.delivered.first().map(|keys| keys[0])
    });
    let probe = probe.expect("a probe is sent");
    assert_eq!(
        bench.answer(probe, &applied()).delivered.len(),
        DOWN_SUBJECTS + 4
    );
}

#[test]
fn a_receiver_that_names_a_time_is_not_probed_before() {
    let mut bench = town(DOWN_SUBJECTS);
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &after(40_000));
    }
    assert_eq!(bench.engine.wake_at(), Some(40_000));
    assert_eq!(bench.live(&["Z"]), Seen::default());
    assert_eq!(bench.at(39_999), Seen::default());
    assert_eq!(bench.at(40_000).delivered.len(), 1);
}

#[test]
fn a_probe_that_is_not_answered_is_followed_by_another() {
    let mut bench = town(DOWN_SUBJECTS);
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    let mut probes = 0;
    for _ in 0..20 {
        let Some(at) = bench.engine.wake_at() else {
            break;
        };
        for keys in bench.at(at).delivered {
            probes += 1;
            let delivery = bench.number(keys[0]);
            bench.in_flight.remove(&delivery);
            let answers = Vec::new();
            bench.step(Input::Receipt { delivery, answers });
        }
    }
    assert!(probes > 5, "{probes}");
}

#[test]
fn one_subject_that_is_put_off_for_ever_is_not_a_receiver_that_is_down() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    for _ in 0..50 {
        bench.answer(live(1), &again());
        let at = bench.engine.wake_at().expect("a retry is due");
        bench.at(at);
    }
    assert_eq!(bench.live(&["B"]).delivered, [[live(2)]]);
}

#[test]
fn the_same_refusal_of_many_subjects_stops_the_binding_and_not_the_town() {
    let mut bench = town(SAME_REFUSAL_SUBJECTS + 10);
    for place in 1..SAME_REFUSAL_SUBJECTS as u64 {
        let seen = bench.answer(live(place), &refusal("REFUSED"));
        assert_eq!((seen.rejected.len(), seen.paused.len()), (1, 0));
    }
    let seen = bench.answer(live(SAME_REFUSAL_SUBJECTS as u64), &refusal("REFUSED"));
    assert_eq!(seen.paused, ["SAME_REFUSAL: REFUSED"]);
    // What was under way and is refused for the same is not parked.
    let next = SAME_REFUSAL_SUBJECTS as u64 + 1;
    assert_eq!(
        bench.answer(live(next), &refusal("REFUSED")),
        Seen::default()
    );
    assert_eq!(bench.live(&["Z"]), Seen::default());
    // Mended: everything goes on.
    let seen = bench.step(Input::Stopped(false));
    assert_eq!(seen.delivered, [[live(next)], [live(bench.next[0] - 1)]]);
}

#[test]
fn refusals_between_successes_or_for_different_reasons_stop_nothing() {
    let mut bench = town(3 * SAME_REFUSAL_SUBJECTS);
    for place in 1..=2 * SAME_REFUSAL_SUBJECTS as u64 {
        let reason = if place.is_multiple_of(2) {
            "ONE"
        } else {
            "OTHER"
        };
        assert!(
            bench
                .answer(live(place), &refusal(reason))
                .paused
                .is_empty()
        );
    }
    let mut bench = town(3 * SAME_REFUSAL_SUBJECTS);
    for place in 1..=2 * SAME_REFUSAL_SUBJECTS as u64 {
        let answer = if place.is_multiple_of(10) {
            applied()
        } else {
            refusal("ONE")
        };
        assert!(bench.answer(live(place), &answer).paused.is_empty());
    }
}

#[test]
fn a_closed_office_gets_nothing_and_answers_what_it_has() {
    let mut bench = town(1);
    bench.step(Input::Closed(true));
    assert_eq!(bench.live(&["B"]), Seen::default());
    assert_eq!(bench.answer(live(1), &applied()).done, [live(1)]);
    assert_eq!(bench.step(Input::Closed(false)).delivered, [[live(2)]]);
}

#[test]
fn a_rate_spreads_deliveries_over_time() {
    let settings = Settings {
        per_second: Some(4),
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    let mut sent = 0;
    for place in 0..20 {
        sent += bench.live(&[&format!("S{place}")]).delivered.len();
    }
    assert_eq!(sent, 1);
    let wake = bench.engine.wake_at().expect("a token comes");
    assert_eq!(wake, 250);
    for now in (250..=2_000).step_by(250) {
        sent += bench.at(now).delivered.len();
    }
    assert_eq!(sent, 9);
}

#[test]
fn no_more_deliveries_wait_for_a_receipt_than_the_binding_allows() {
    let settings = Settings {
        concurrency: 2,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    for name in ["A", "B", "C"] {
        bench.live(&[name]);
    }
    assert_eq!(bench.in_flight.len(), 2);
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[live(3)]]);
}

#[test]
fn bulk_leaves_a_free_place_to_changes() {
    let settings = Settings {
        concurrency: 4,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    for place in 0..10 {
        bench.bulk(&[&format!("S{place}")]);
    }
    assert_eq!(bench.in_flight.len(), 3);
    assert_eq!(bench.live(&["A"]).delivered, [[live(1)]]);
    // And goes on with what is left of it.
    assert_eq!(bench.answer(bulk(1), &applied()).delivered, [[bulk(4)]]);
    assert_eq!(bench.answer(bulk(2), &applied()).delivered, [[bulk(5)]]);
}

#[test]
fn behind_what_a_replay_parked_the_rest_of_it_waits() {
    let mut bench = Bench::new();
    for sequence in 1..=3 {
        bench.live(&["A"]);
        bench.answer(live(sequence), &applied());
    }
    bench.step(Input::Replay(vec![work(live(2), &["A"])]));
    assert_eq!(
        bench.answer(live(2), &refusal("UNMAPPABLE")).rejected,
        [live(2)]
    );
    let again = vec![work(live(1), &["A"]), work(live(3), &["A"])];
    let seen = bench.step(Input::Replay(again));
    // What stands before the refused one says less than what is parked.
    assert_eq!((seen.delivered, seen.waiting), (vec![], vec![live(3)]));
    assert!(!bench.engine.holds(live(1)));
}

#[test]
fn what_is_replayed_moves_no_cursor_and_goes_behind_what_is_under_way() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &applied());
    bench.live(&["A"]);
    let cursor = bench.engine.cursor(Stream::Live);
    let again = vec![work(live(1), &["A"]), work(live(2), &["A"])];
    let seen = bench.step(Input::Replay(again));
    // The second is under way anyhow.
    assert_eq!(seen, Seen::default());
    assert_eq!(bench.engine.open(), 2);
    assert_eq!(bench.answer(live(2), &applied()).delivered, [[live(1)]]);
    assert_ne!(bench.engine.cursor(Stream::Live), cursor);
    let cursor = bench.engine.cursor(Stream::Live);
    assert_eq!(bench.answer(live(1), &applied()).done, [live(1)]);
    assert_eq!(bench.engine.cursor(Stream::Live), cursor);
}

#[test]
fn a_stopped_binding_with_a_rate_wakes_for_nothing() {
    let settings = Settings {
        per_second: Some(4),
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    bench.live(&["A"]);
    bench.live(&["B"]);
    bench.answer(live(1), &applied());
    bench.step(Input::Stopped(true));
    assert_eq!(bench.engine.wake_at(), None);
}

#[test]
fn what_cannot_start_at_its_time_wakes_for_nothing_until_something_happens() {
    let mut bench = town(DOWN_SUBJECTS);
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    let settings = Settings {
        concurrency: 0,
        ..Settings::default()
    };
    bench.step(Input::Settings(settings));
    let probe = bench.engine.wake_at().expect("a probe is due");
    for now in [probe, 10_000] {
        bench.at(now);
        let wake = bench.engine.wake_at();
        assert!(wake.is_none_or(|at| at > now), "{wake:?}");
    }
}

#[test]
fn a_rate_wakes_only_for_what_waits_and_has_a_credit() {
    let settings = Settings {
        per_second: Some(4),
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    bench.live(&["A"]);
    bench.answer(live(1), &applied());
    assert_eq!(bench.engine.wake_at(), None);
    bench.engine = Engine::new(settings, Resume::default());
    bench.step(Input::Credits(1));
    bench.live(&["B"]);
    bench.live(&["C"]);
    assert_eq!(bench.engine.wake_at(), Some(settings.answer_within_ms));
    bench.step(Input::Credits(1));
    assert_eq!(bench.engine.wake_at(), Some(250));
}

#[test]
fn a_late_pause_does_not_replace_an_operators_stop() {
    let mut bench = town(1);
    bench.step(Input::Stopped(true));
    let seen = bench.answer(live(1), &Answered::Pause("CREDENTIALS".to_owned()));
    assert_eq!(seen.paused, Vec::<String>::new());
    assert_eq!(bench.step(Input::Stopped(false)).delivered, [[live(1)]]);
}

/// So many subjects that the receiver is down, none of which has a near time of its own.
fn slow_town(now: i64) -> Bench {
    tried_town(now, &[20; DOWN_SUBJECTS])
}

/// Subjects whose first units were tried so often before.
fn tried_town(now: i64, attempts: &[u32]) -> Bench {
    let attempts = (1..).map(live).zip(attempts.iter().copied());
    let resume = Resume {
        attempts: attempts.collect(),
        ..Resume::default()
    };
    let subjects = resume.attempts.len();
    let mut bench = Bench::with(false, resume);
    bench.at(now);
    for place in 0..subjects {
        bench.live(&[&format!("S{place}")]);
    }
    bench
}

/// Milliseconds between the probes of a receiver that stays down.
fn probes(mut bench: Bench, count: usize) -> Vec<i64> {
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    let mut waits = Vec::new();
    let mut last = bench.now;
    for _ in 0..10 * count {
        let at = bench.engine.wake_at().expect("a probe is due");
        let seen = bench.at(at);
        for keys in seen.delivered {
            waits.push(at - last);
            last = at;
            // The receiver is in trouble, not this unit: its attempts are not counted.
            assert_eq!(seen.attempt, [22]);
            bench.answer(keys[0], &again());
        }
    }
    waits.truncate(count);
    waits
}

#[test]
fn while_everything_is_put_off_for_long_the_oldest_is_the_probe() {
    let mut bench = slow_town(0);
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    // By their own schedules all would go in half a minute.
    assert_eq!(bench.engine.wake_at(), Some(200));
    assert_eq!(bench.at(200).delivered, [[live(1)]]);
}

#[test]
fn probes_are_further_and_further_apart_up_to_a_limit() {
    let waits = [200, 400, 800, 1_600, 3_200, 4_000, 4_000];
    assert_eq!(probes(slow_town(1_000), 7), waits);
    let mut bench = slow_town(1_000);
    bench.jitter = 1.0;
    assert_eq!(probes(bench, 7), waits.map(|wait| wait * 5 / 4));
}

#[test]
fn only_the_probe_itself_says_whether_the_receiver_is_still_down() {
    let mut bench = town(DOWN_SUBJECTS + 1);
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    assert_eq!(bench.at(200).delivered, [[live(1)]]);
    // This one was sent before it was known that the receiver is down.
    bench.answer(live(DOWN_SUBJECTS as u64 + 1), &again());
    assert_eq!(bench.at(10_000), Seen::default());
    bench.answer(live(1), &again());
    assert_eq!(bench.at(10_400).delivered.len(), 1);
}

#[test]
fn what_was_put_off_goes_when_it_asked_for_once_the_receiver_is_back() {
    let mut bench = slow_town(1_000);
    bench.answer(live(1), &after(5_000));
    for place in 2..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    // The oldest has asked for more time, so another one is the probe.
    assert_eq!(bench.at(1_200).delivered, [[live(2)]]);
    let seen = bench.answer(live(2), &applied());
    assert_eq!(seen.delivered.len(), DOWN_SUBJECTS - 2);
    assert_eq!(bench.at(5_999), Seen::default());
    assert_eq!(bench.at(6_000).delivered, [[live(1)]]);
}

#[test]
fn a_probe_comes_when_the_first_of_those_that_wait_has_asked_for_it() {
    let last = DOWN_SUBJECTS as u64;
    let mut attempts = [20; DOWN_SUBJECTS];
    attempts[DOWN_SUBJECTS - 1] = RETRY_QUICK_ATTEMPTS;
    let mut bench = tried_town(1_000, &attempts);
    for place in 1..last {
        bench.answer(live(place), &after(5_000 + place));
    }
    // The only one that could be the probe is set aside.
    assert_eq!(bench.answer(live(last), &again()).due.len(), 1);
    assert_eq!(bench.engine.wake_at(), Some(1_200));
    assert_eq!(bench.at(1_200), Seen::default());
    assert_eq!(bench.engine.wake_at(), Some(6_001));
    assert_eq!(bench.at(6_001).delivered, [[live(1)]]);
}

#[test]
fn an_operators_word_ends_the_care_for_a_receiver_that_was_down() {
    let mut bench = slow_town(1_000);
    for place in 1..=DOWN_SUBJECTS as u64 {
        bench.answer(live(place), &again());
    }
    bench.step(Input::Stopped(true));
    bench.step(Input::Stopped(false));
    assert_eq!(bench.live(&["Z"]).delivered.len(), 1);
    assert_eq!(bench.live(&["Y"]).delivered.len(), 1);
}

#[test]
fn after_an_operator_resumed_refusals_are_counted_anew() {
    let mut bench = town(SAME_REFUSAL_SUBJECTS + 5);
    for place in 1..=SAME_REFUSAL_SUBJECTS as u64 {
        bench.answer(live(place), &refusal("REFUSED"));
    }
    bench.step(Input::Stopped(false));
    let next = SAME_REFUSAL_SUBJECTS as u64 + 1;
    let seen = bench.answer(live(next), &refusal("REFUSED"));
    assert_eq!((seen.rejected, seen.paused), (vec![live(next)], vec![]));
}

#[test]
fn the_same_reason_for_different_fields_is_not_the_same_refusal() {
    let mut bench = town(2 * SAME_REFUSAL_SUBJECTS);
    for place in 1..=2 * SAME_REFUSAL_SUBJECTS as u64 {
        let refusal = Answered::Rejected(Refusal {
            reason: "CODE".to_owned(),
            field: format!("field {}", place % 2),
            ..Refusal::default()
        });
        assert_eq!(bench.answer(live(place), &refusal).paused.len(), 0);
    }
}

#[test]
fn one_subject_that_is_refused_again_and_again_stops_nothing() {
    let mut bench = town(1);
    for _ in 0..2 * SAME_REFUSAL_SUBJECTS {
        let seen = bench.answer(live(1), &refusal("REFUSED"));
        assert_eq!((seen.rejected.len(), seen.paused.len()), (1, 0));
        bench.step(back(vec![work(live(1), &["S0"])]));
    }
}

fn at_rate(per_second: u32) -> (Settings, Bench) {
    let settings = Settings {
        per_second: Some(per_second),
        ..Settings::default()
    };
    (settings, Bench::set(settings, Resume::default()))
}

#[test]
fn a_rate_saves_up_no_more_than_one_second() {
    let (_, mut bench) = at_rate(4);
    bench.at(60_000);
    let sent = (0..10).map(|place| bench.live(&[&format!("S{place}")]).delivered.len());
    assert_eq!(sent.sum::<usize>(), 4);
}

#[test]
fn a_lower_rate_holds_at_once() {
    let (settings, mut bench) = at_rate(4);
    bench.at(60_000);
    let per_second = Some(2);
    bench.step(Input::Settings(Settings {
        per_second,
        ..settings
    }));
    let sent = (0..10).map(|place| bench.live(&[&format!("S{place}")]).delivered.len());
    assert_eq!(sent.sum::<usize>(), 1);
    assert_eq!(bench.engine.wake_at(), Some(60_500));
}

#[test]
fn the_time_of_the_next_delivery_does_not_move_while_nothing_happens() {
    let (_, mut bench) = at_rate(3);
    bench.live(&["A"]);
    bench.live(&["B"]);
    for now in [0, 100, 200, 333] {
        assert_eq!(bench.at(now), Seen::default());
        assert_eq!(bench.engine.wake_at(), Some(334), "{now}");
    }
    assert_eq!(bench.at(334).delivered, [[live(2)]]);
}
