//! Several units of one subject that go as one.

use super::*;
use crate::limits::{CREDITS_MAX, RUN_UNITS_MAX, WINDOW_UNITS};

/// Three units of one subject in one run, behind one that went alone.
fn three() -> Bench {
    let mut bench = Bench::runs();
    for _ in 0..4 {
        bench.live(&["A"]);
    }
    let seen = bench.answer(live(1), &applied());
    assert_eq!(seen.delivered, [[live(2), live(3), live(4)]]);
    let run = RunRow {
        id: "live-2-1".to_owned(),
        keys: vec![live(2), live(3), live(4)],
    };
    assert_eq!(seen.opened, [run]);
    bench
}

#[test]
fn a_run_takes_what_waits_of_one_subject() {
    let mut bench = three();
    // What comes later is not put into it.
    assert_eq!(bench.live(&["A"]), Seen::default());
    let seen = bench.answer(live(2), &applied());
    assert_eq!(seen.done, [live(2), live(3), live(4)]);
    assert_eq!(seen.closed, ["live-2-1"]);
    // One unit is no run.
    assert_eq!((seen.delivered, seen.opened), (vec![vec![live(5)]], vec![]));
}

#[test]
fn without_the_capability_every_unit_goes_alone() {
    let mut bench = Bench::new();
    for _ in 0..3 {
        bench.live(&["A"]);
    }
    let seen = bench.answer(live(1), &applied());
    assert_eq!((seen.delivered, seen.opened), (vec![vec![live(2)]], vec![]));
}

#[test]
fn a_run_ends_before_a_group_of_several_subjects_and_never_holds_protection() {
    let mut bench = Bench::runs();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.live(&["A", "B"]);
    bench.live(&["A"]);
    assert_eq!(bench.protection("A").delivered, [[live(6)]]);
    assert_eq!(
        bench.answer(live(1), &applied()).delivered,
        [[live(2), live(3)]]
    );
    assert_eq!(bench.answer(live(2), &applied()).delivered, [[live(4)]]);
}

#[test]
fn a_run_stays_within_one_stream() {
    let mut bench = Bench::runs();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.bulk(&["A"]);
    bench.bulk(&["A"]);
    bench.live(&["A"]);
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[live(2)]]);
    let seen = bench.answer(live(2), &applied());
    assert_eq!(seen.delivered, [[bulk(1), bulk(2)]]);
    assert_eq!(bench.answer(bulk(1), &applied()).delivered, [[live(3)]]);
}

#[test]
fn a_run_has_no_more_units_than_the_limit() {
    let mut bench = Bench::runs();
    for _ in 0..RUN_UNITS_MAX + 5 {
        bench.live(&["A"]);
    }
    let seen = bench.answer(live(1), &applied());
    assert_eq!(seen.delivered[0].len(), RUN_UNITS_MAX);
    assert_eq!(bench.answer(live(2), &applied()).delivered[0].len(), 4);
}

#[test]
fn units_behind_a_rejected_one_of_the_run_wait() {
    let mut bench = three();
    bench.live(&["A"]);
    let seen = bench.answer_each(vec![(live(2), applied()), (live(3), refusal("UNMAPPABLE"))]);
    assert_eq!(seen.done, [live(2)]);
    assert_eq!(
        (seen.rejected, seen.waiting),
        (vec![live(3)], vec![live(4), live(5)])
    );
    assert_eq!(seen.closed, ["live-2-1"]);
    assert_eq!(bench.engine.open(), 0);
}

#[test]
fn units_behind_the_last_answered_one_of_the_run_go_again() {
    let mut bench = three();
    let seen = bench.answer_each(vec![(live(2), applied())]);
    assert_eq!(
        (seen.done, seen.closed),
        (vec![live(2)], vec!["live-2-1".to_owned()])
    );
    let seen = bench.at(200);
    assert_eq!(seen.delivered, [[live(3), live(4)]]);
    assert_eq!(seen.opened.len(), 1);
}

#[test]
fn a_run_that_is_tried_again_keeps_its_composition() {
    let mut bench = three();
    bench.live(&["A"]);
    let seen = bench.answer(live(2), &again());
    assert!(seen.closed.is_empty());
    bench.live(&["A"]);
    let seen = bench.at(200);
    assert_eq!(seen.delivered, [[live(2), live(3), live(4)]]);
    assert_eq!((seen.opened, seen.attempt), (vec![], vec![2]));
    let seen = bench.answer(live(2), &applied());
    assert_eq!(seen.delivered, [[live(5), live(6)]]);
}

#[test]
fn a_run_whose_units_are_due_at_different_times_is_in_flight_once() {
    let resume = Resume {
        attempts: vec![(live(3), 6)],
        ..Resume::default()
    };
    let mut bench = Bench::with(true, resume);
    for _ in 0..3 {
        bench.live(&["A"]);
    }
    bench.answer(live(1), &applied());
    bench.answer(live(2), &again());
    assert_eq!(bench.at(200).delivered, [[live(2), live(3)]]);
    // The second unit was due much later; that time passes while it is in flight.
    assert_eq!(bench.at(60_000), Seen::default());
    let seen = bench.answer_each(vec![(live(2), applied())]);
    assert_eq!((seen.done, seen.delivered), (vec![live(2)], vec![]));
    // Nobody knows whether it arrived: it is tried by its own schedule.
    assert_eq!(bench.at(85_599), Seen::default());
    assert_eq!(bench.at(85_600).delivered, [[live(3)]]);
    assert_eq!(bench.at(900_000), Seen::default());
}

#[test]
fn a_stored_run_waits_after_a_restart_until_all_its_units_are_read_again() {
    let run = RunRow {
        id: "live-2-1".to_owned(),
        keys: vec![live(2), live(3), live(4)],
    };
    let resume = Resume {
        live: Some(cursor(20, 2)),
        runs: vec![run],
        ..Resume::default()
    };
    let mut bench = Bench::with(true, resume);
    assert_eq!(bench.live(&["A"]), Seen::default());
    assert_eq!(bench.live(&["A"]), Seen::default());
    let seen = bench.live(&["A"]);
    assert_eq!(seen.delivered, [[live(2), live(3), live(4)]]);
    assert!(seen.opened.is_empty());
    bench.live(&["A"]);
    let seen = bench.answer(live(2), &applied());
    assert_eq!(seen.closed, ["live-2-1"]);
    assert_eq!(seen.delivered, [[live(5)]]);
}

#[test]
fn a_parked_unit_comes_back_alone() {
    let mut bench = Bench::runs();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    bench.live(&["A"]);
    let parked = vec![work(live(1), &["A"]), work(live(2), &["A"])];
    assert_eq!(bench.step(back(parked)).delivered, [[live(1)]]);
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[live(2)]]);
}

#[test]
fn a_parked_unit_that_came_back_is_no_part_of_a_run() {
    let mut bench = Bench::runs();
    bench.live(&["C"]);
    bench.live(&["B"]);
    bench.live(&["B"]);
    bench.live(&["C", "B"]);
    bench.live(&["B"]);
    // Parks the group and, behind it, the last one; the third stands before them.
    assert_eq!(
        bench.answer(live(1), &refusal("UNMAPPABLE")).waiting,
        [live(4), live(5)]
    );
    bench.step(back(vec![work(live(5), &["B"])]));
    let seen = bench.answer(live(2), &applied());
    assert_eq!((seen.delivered, seen.opened), (vec![vec![live(3)]], vec![]));
}

fn batches(batch_units: usize) -> Bench {
    let settings = Settings {
        runs: true,
        batch_units,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, Resume::default());
    bench.step(Input::Stopped(true));
    bench
}

#[test]
fn a_batch_takes_what_is_ready_of_several_subjects_and_each_unit_has_its_outcome() {
    let mut bench = batches(4);
    for name in ["A", "A", "B", "C", "D"] {
        bench.live(&[name]);
    }
    let seen = bench.step(Input::Stopped(false));
    assert_eq!(
        seen.delivered,
        [vec![live(1), live(2), live(3), live(4)], vec![live(5)]]
    );
    assert_eq!(seen.opened.len(), 1);
    let seen = bench.answer_each(vec![
        (live(1), applied()),
        (live(2), applied()),
        (live(3), refusal("UNMAPPABLE")),
        (live(4), again()),
    ]);
    assert_eq!(seen.done, [live(1), live(2)]);
    assert_eq!(seen.rejected, [live(3)]);
    assert_eq!(seen.attempts, [(live(4), 1)]);
    assert_eq!(seen.closed, ["live-1-1"]);
}

#[test]
fn a_batch_that_is_tried_again_keeps_its_company() {
    let mut bench = batches(3);
    for name in ["A", "B", "C", "D"] {
        bench.live(&[name]);
    }
    bench.step(Input::Stopped(false));
    bench.answer(live(1), &unknown());
    bench.live(&["E"]);
    let seen = bench.at(200);
    assert_eq!(seen.delivered, [[live(1), live(2), live(3)]]);
    assert_eq!(seen.asked, [live(1), live(2), live(3)]);
}

#[test]
fn a_stored_batch_goes_first_and_nothing_new_before_it() {
    let resume = Resume {
        runs: vec![RunRow {
            id: "live-1-1".to_owned(),
            keys: vec![live(1), live(2)],
        }],
        ..Resume::default()
    };
    let settings = Settings {
        batch_units: 2,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, resume);
    // Bulk is read first after the restart.
    assert_eq!(bench.bulk(&["B"]), Seen::default());
    assert_eq!(bench.live(&["A"]), Seen::default());
    assert_eq!(bench.live(&["B"]).delivered, [[live(1), live(2)]]);
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[bulk(1)]]);
}

#[test]
fn bulk_and_live_never_share_a_batch() {
    let mut bench = batches(10);
    bench.live(&["A"]);
    bench.bulk(&["B"]);
    let seen = bench.step(Input::Stopped(false));
    assert_eq!(seen.delivered, [[live(1)], [bulk(1)]]);
}

#[test]
fn a_later_image_that_was_applied_makes_an_earlier_refusal_needless() {
    let mut bench = three();
    let seen = bench.answer_each(vec![
        (live(2), refusal("UNMAPPABLE")),
        (live(3), refusal("UNMAPPABLE")),
        (live(4), applied()),
    ]);
    assert_eq!(seen.done, [live(2), live(3), live(4)]);
    assert_eq!(seen.rejected, []);
    assert_eq!(seen.said, ["UNMAPPABLE", "UNMAPPABLE"]);
}

#[test]
fn a_refusal_of_the_last_image_parks_the_subject_with_the_run() {
    let mut bench = three();
    let seen = bench.answer_each(vec![
        (live(2), applied()),
        (live(3), refusal("UNMAPPABLE")),
        (live(4), refusal("UNMAPPABLE")),
    ]);
    assert_eq!(seen.done, [live(2)]);
    assert_eq!(
        (seen.rejected, seen.waiting),
        (vec![live(3)], vec![live(4)])
    );
}

#[test]
fn an_older_state_never_follows_a_later_one_that_was_applied() {
    let mut bench = three();
    let seen = bench.answer_each(vec![
        (live(2), again()),
        (live(3), unknown()),
        (live(4), applied()),
    ]);
    assert_eq!(seen.done, [live(2), live(3), live(4)]);
    assert_eq!(bench.at(999_000), Seen::default());
}

#[test]
fn one_subject_of_a_batch_says_nothing_about_another() {
    let mut bench = batches(4);
    for name in ["A", "A", "B"] {
        bench.live(&[name]);
    }
    bench.step(Input::Stopped(false));
    let seen = bench.answer_each(vec![
        (live(1), refusal("UNMAPPABLE")),
        (live(2), applied()),
        (live(3), again()),
    ]);
    assert_eq!(seen.done, [live(1), live(2)]);
    assert_eq!((seen.rejected, seen.attempts), (vec![], vec![(live(3), 1)]));
}

#[test]
fn a_run_of_a_former_engine_is_read_to_its_end_however_full_the_window_is() {
    let last = WINDOW_UNITS as u64 + 10;
    for first in [1, last - 1] {
        let mut bench = former_batch(vec![live(first), live(last)]);
        bench.step(Input::Credits(CREDITS_MAX));
        let mut seen = Seen::default();
        for place in 1..=last {
            assert!(bench.engine.has_room(Stream::Live), "{first} {place}");
            seen = bench.live(&[&format!("S{place}")]);
        }
        assert!(seen.delivered.contains(&vec![live(first), live(last)]));
        assert!(!bench.engine.has_room(Stream::Live));
    }
}

#[test]
fn a_run_of_a_former_engine_opens_the_window_of_its_own_stream_alone() {
    let far = 2 * WINDOW_UNITS as u64;
    let mut bench = former_batch(vec![live(far), live(far + 1)]);
    for place in 0..WINDOW_UNITS {
        bench.bulk(&[&format!("S{place}")]);
    }
    assert!(!bench.engine.has_room(Stream::Bulk));
    assert!(bench.engine.has_room(Stream::Live));
}

#[test]
fn a_run_of_a_former_engine_that_lost_a_unit_holds_nothing_back() {
    let resume = Resume {
        ahead: [live(1)].into(),
        ..former_run(vec![live(1), live(2)])
    };
    let mut bench = Bench::with(true, resume);
    assert_eq!(bench.live(&["A"]), Seen::default());
    // The first was parked in the meantime: the second can go only without it.
    let seen = bench.live(&["A"]);
    assert_eq!((seen.delivered, seen.opened), (vec![vec![live(2)]], vec![]));
    assert_eq!(seen.closed, ["live-1-1"]);
}

fn former_run(keys: Vec<UnitKey>) -> Resume {
    let id = format!("live-{}-1", keys[0].sequence);
    Resume {
        runs: vec![RunRow { id, keys }],
        ..Resume::default()
    }
}

fn former_batch(keys: Vec<UnitKey>) -> Bench {
    let settings = Settings {
        batch_units: 2,
        ..Settings::default()
    };
    Bench::set(settings, former_run(keys))
}

#[test]
fn what_an_adapter_no_longer_takes_together_goes_one_by_one() {
    for (runs, batch_units) in [(false, 2), (true, 1)] {
        let settings = Settings {
            runs,
            batch_units,
            ..Settings::default()
        };
        // One run of a single subject, one batch of two.
        let subject = if runs { "B" } else { "A" };
        let mut bench = Bench::set(settings, former_run(vec![live(1), live(2)]));
        assert_eq!(bench.live(&["A"]), Seen::default());
        let seen = bench.live(&[subject]);
        assert_eq!(seen.closed, ["live-1-1"]);
        assert_eq!(seen.delivered[0], [live(1)]);
        bench.answer(live(1), &applied());
        assert_eq!(bench.answer(live(2), &applied()).done, [live(2)]);
    }
}

#[test]
fn a_stored_batch_waits_for_what_stands_before_any_of_its_units() {
    let mut resume = former_run(vec![live(1), live(2)]);
    resume.runs.extend(former_run(vec![live(3), live(4)]).runs);
    let settings = Settings {
        batch_units: 2,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, resume);
    for name in ["A", "B", "C"] {
        assert_eq!(bench.live(&[name]), Seen::default());
    }
    assert_eq!(bench.live(&["B"]).delivered, [[live(1), live(2)]]);
    let seen = bench.answer(live(1), &applied());
    assert_eq!(seen.delivered, [[live(3), live(4)]]);
}

#[test]
fn a_new_batch_takes_no_unit_of_a_stored_one() {
    let settings = Settings {
        batch_units: 3,
        ..Settings::default()
    };
    let mut bench = Bench::set(settings, former_run(vec![live(2), live(3)]));
    bench.live(&["A"]);
    bench.live(&["B"]);
    let seen = bench.live(&["C"]);
    assert_eq!(seen.delivered, [vec![live(1)], vec![live(2), live(3)]]);
}

#[test]
fn the_units_of_one_subject_ride_in_a_batch_together_or_not_at_all() {
    let mut bench = batches(3);
    for name in ["A", "B", "B", "B", "C"] {
        bench.live(&[name]);
    }
    let seen = bench.step(Input::Stopped(false));
    assert_eq!(
        seen.delivered,
        [vec![live(1), live(5)], vec![live(2), live(3), live(4)]]
    );
}

#[test]
fn what_comes_back_or_is_replayed_rides_in_no_batch() {
    let mut bench = batches(4);
    bench.step(Input::Stopped(false));
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    bench.live(&["B"]);
    bench.answer(live(2), &applied());
    bench.step(Input::Stopped(true));
    bench.live(&["C"]);
    bench.step(back(vec![work(live(1), &["A"])]));
    bench.live(&["D"]);
    bench.step(Input::Replay(vec![work(live(2), &["B"])]));
    let seen = bench.step(Input::Stopped(false));
    assert_eq!(
        seen.delivered,
        [vec![live(3), live(4)], vec![live(1)], vec![live(2)]]
    );
}

#[test]
fn a_unit_that_is_put_off_rides_in_no_new_run_before_its_time() {
    let mut bench = batches(4);
    for name in ["A", "A", "B"] {
        bench.live(&[name]);
    }
    bench.step(Input::Stopped(false));
    let seen = bench.answer_each(vec![
        (live(1), again()),
        (live(2), after(40_000)),
        (live(3), applied()),
    ]);
    assert_eq!(seen.closed, ["live-1-1"]);
    assert_eq!(bench.at(200).delivered, [[live(1)]]);
    bench.answer(live(1), &applied());
    assert_eq!(bench.at(39_999), Seen::default());
    assert_eq!(bench.at(40_000).delivered, [[live(2)]]);
}

#[test]
fn protection_rides_in_no_batch() {
    let mut bench = batches(4);
    bench.live(&["A"]);
    bench.protection("B");
    bench.live(&["C"]);
    let seen = bench.step(Input::Stopped(false));
    assert_eq!(seen.delivered, [vec![live(2)], vec![live(1), live(3)]]);
}
