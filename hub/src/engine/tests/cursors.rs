//! The low watermark and the limits of reading.

use super::*;
use crate::limits::{AHEAD_UNITS_MAX, WINDOW_UNITS};

#[test]
fn the_cursor_is_the_low_watermark() {
    let mut bench = Bench::new();
    for name in ["A", "B", "C"] {
        bench.live(&[name]);
    }
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(10, 1));
    bench.answer(live(2), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(10, 1));
    bench.answer(live(1), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(30, 3));
    // Parked is an end as well.
    bench.answer(live(3), &refusal("UNMAPPABLE"));
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(33, 4));
    assert_eq!(bench.engine.cursor(Stream::Bulk), cursor(1, 1));
}

#[test]
fn the_cursor_waits_for_every_member_of_a_unit() {
    let mut bench = Bench::new();
    let member = |member| key(Stream::Live, 1, member);
    let works = vec![
        work(member(1), &["A"]),
        work(member(2), &["B"]),
        protection(member(3), "C"),
    ];
    bench.unit(Stream::Live, works);
    bench.answer(member(1), &applied());
    bench.answer(member(3), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(10, 1));
    bench.answer(member(2), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(13, 2));
}

#[test]
fn what_is_not_for_the_receiver_moves_the_cursor_and_takes_no_sequence() {
    let mut bench = Bench::new();
    bench.step(Input::Frontier(Stream::Live, cursor(8, 1)));
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(8, 1));
    bench.live(&["A"]);
    bench.step(Input::Frontier(Stream::Live, cursor(20, 2)));
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(10, 1));
    assert_eq!(bench.engine.frontier(Stream::Live), cursor(20, 2));
    bench.answer(live(1), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(20, 2));
}

#[test]
fn a_parked_unit_that_comes_back_does_not_hold_the_cursor() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    bench.step(back(vec![work(live(1), &["A"])]));
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(13, 2));
    bench.answer(live(1), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(13, 2));
}

#[test]
fn what_is_done_ahead_of_the_cursor_is_not_delivered_again() {
    let resume = Resume {
        live: Some(cursor(10, 1)),
        ahead: [live(2), key(Stream::Live, 3, 1)].into(),
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    assert_eq!(bench.live(&["A"]).delivered, [[live(1)]]);
    assert_eq!(bench.live(&["B"]), Seen::default());
    let rest = key(Stream::Live, 3, 2);
    let works = vec![work(live(3), &["C"]), work(rest, &["D"])];
    assert_eq!(bench.unit(Stream::Live, works).delivered, [[rest]]);
    bench.answer(live(1), &applied());
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(30, 3));
}

#[test]
fn each_stream_has_a_window_of_its_own() {
    let mut bench = Bench::new();
    for place in 0..WINDOW_UNITS {
        assert!(bench.engine.has_room(Stream::Live));
        bench.live(&[&format!("S{place}")]);
    }
    assert!(!bench.engine.has_room(Stream::Live));
    assert!(bench.engine.has_room(Stream::Bulk));
    bench.answer(live(100), &applied());
    assert!(bench.engine.has_room(Stream::Live));
}

#[test]
fn one_open_unit_stops_reading_of_its_stream_at_the_limit_of_outcomes_ahead() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &again());
    for _ in 1..AHEAD_UNITS_MAX {
        assert!(bench.engine.has_room(Stream::Live));
        let next = live(bench.next[0]);
        bench.live(&["B"]);
        bench.answer(next, &applied());
        bench.step(Input::Credits(1));
    }
    assert!(!bench.engine.has_room(Stream::Live));
    assert!(bench.engine.has_room(Stream::Bulk));
}

#[test]
fn parked_units_take_no_room_in_the_window() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    for _ in 0..2 * WINDOW_UNITS {
        bench.live(&["A"]);
    }
    assert_eq!(bench.engine.open(), 0);
    assert!(bench.engine.has_room(Stream::Live));
}
