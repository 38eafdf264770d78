//! What a refusal parks, and how parked units come back.

use super::*;

#[test]
fn a_rejected_unit_parks_its_subject_with_all_behind_it_and_others_go_on() {
    let mut bench = Bench::new();
    for name in ["A", "A", "B", "A"] {
        bench.live(&[name]);
    }
    let seen = bench.answer(live(1), &refusal("UNMAPPABLE"));
    assert_eq!(
        (seen.rejected, seen.waiting),
        (vec![live(1)], vec![live(2), live(4)])
    );
    assert_eq!(bench.live(&["A"]).waiting, [live(5)]);
    assert_eq!(bench.live(&["B"]).waiting, []);
    assert_eq!(bench.answer(live(3), &applied()).delivered, [[live(6)]]);
    assert_eq!(bench.engine.open(), 1);
}

#[test]
fn a_group_of_a_parked_subject_takes_its_other_subjects_with_it() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A", "B"]);
    bench.live(&["B", "C"]);
    bench.live(&["D"]);
    let seen = bench.answer(live(1), &refusal("UNMAPPABLE"));
    assert_eq!(
        (seen.rejected, seen.waiting),
        (vec![live(1)], vec![live(2), live(3)])
    );
    assert_eq!(bench.live(&["C"]).waiting, [live(5)]);
    assert_eq!(bench.answer(live(4), &applied()).done, [live(4)]);
}

#[test]
fn what_stands_before_the_parked_unit_in_another_lane_goes_on() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    bench.live(&["B"]);
    bench.live(&["A", "B"]);
    bench.live(&["C"]);
    assert_eq!(
        bench.answer(live(1), &refusal("UNMAPPABLE")).waiting,
        [live(4)]
    );
    // A refusal of somebody else does not park it either.
    assert_eq!(bench.answer(live(5), &refusal("UNMAPPABLE")).waiting, []);
    assert_eq!(bench.answer(live(2), &applied()).delivered, [[live(3)]]);
    assert_eq!(bench.answer(live(3), &applied()).done, [live(3)]);
    assert_eq!(bench.live(&["B"]).waiting, [live(6)]);
}

#[test]
fn a_refusal_parks_nothing_that_is_on_its_way_to_the_product() {
    let mut bench = Bench::new();
    bench.protection("A");
    bench.live(&["A"]);
    bench.live(&["A"]);
    let seen = bench.answer(live(1), &refusal("NO_FLAG"));
    assert_eq!(
        (seen.rejected, seen.waiting),
        (vec![live(1)], vec![live(3)])
    );
    assert_eq!(bench.answer(live(2), &applied()).done, [live(2)]);
}

#[test]
fn a_retry_that_is_due_is_parked_with_its_subject() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    bench.live(&["A", "B"]);
    bench.answer(live(2), &again());
    bench.protection("B");
    assert_eq!(bench.answer(live(4), &refusal("NO_FLAG")).waiting, []);
    assert_eq!(
        bench.answer(live(1), &refusal("UNMAPPABLE")).waiting,
        [live(3)]
    );
    // The retry stands before both.
    assert_eq!(bench.at(200).delivered, [[live(2)]]);
    let expiry = 200 + Settings::default().answer_within_ms;
    assert_eq!(bench.engine.wake_at(), Some(expiry));
}

#[test]
fn parked_units_come_back_in_order_and_later_ones_follow_them() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    let parked = vec![work(live(1), &["A"]), work(live(2), &["A"])];
    assert_eq!(bench.step(back(parked)).delivered, [[live(1)]]);
    assert_eq!(bench.live(&["A"]), Seen::default());
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[live(2)]]);
    assert_eq!(bench.answer(live(2), &applied()).delivered, [[live(3)]]);
}

#[test]
fn a_parked_unit_that_is_rejected_again_stays_with_all_behind_it() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    let parked = vec![work(live(1), &["A"]), work(live(2), &["A"])];
    bench.step(back(parked));
    bench.live(&["A"]);
    let seen = bench.answer(live(1), &refusal("STILL"));
    // The second lies there as it lay; only the new one joins it.
    assert_eq!(
        (seen.rejected, seen.waiting),
        (vec![live(1)], vec![live(3)])
    );
    assert_eq!(bench.engine.open(), 0);
    assert_eq!(bench.live(&["A"]).waiting, [live(4)]);
}

#[test]
fn parked_units_that_are_asked_for_twice_are_delivered_once() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    let parked = || back(vec![work(live(1), &["A"])]);
    assert_eq!(bench.step(parked()).delivered, [[live(1)]]);
    assert_eq!(bench.step(parked()), Seen::default());
    assert_eq!(bench.answer(live(1), &applied()).done, [live(1)]);
    assert_eq!(bench.engine.open(), 0);
}

#[test]
fn a_subject_stays_parked_over_a_restart_from_its_first_parked_unit_on() {
    let resume = Resume {
        live: Some(cursor(10, 1)),
        ahead: [live(2)].into(),
        parked: [(subject("A"), live(2)), (subject("B"), live(2))].into(),
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    // Was open before, and stands before the parked group.
    assert_eq!(bench.live(&["B"]).delivered, [[live(1)]]);
    assert_eq!(bench.live(&["A", "B"]), Seen::default());
    assert_eq!(bench.live(&["B"]).waiting, [live(3)]);
    assert_eq!(bench.live(&["A"]).waiting, [live(4)]);
    assert_eq!(bench.live(&["C"]).delivered, [[live(5)]]);
}

#[test]
fn protection_that_is_seen_ahead_and_refused_parks_nothing_that_stands_before_it() {
    let mut bench = Bench::new();
    let measure = protection(key(Stream::Live, 3, 1), "A");
    bench.step(Input::Ahead(vec![measure.clone()]));
    bench.live(&["A"]);
    bench.live(&["A"]);
    let seen = bench.answer(measure.key, &refusal("NO_FLAG"));
    assert_eq!((seen.rejected, seen.waiting), (vec![measure.key], vec![]));
    assert_eq!(bench.answer(live(1), &applied()).delivered, [[live(2)]]);
}

#[test]
fn what_is_skipped_frees_its_subject_and_no_other() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    bench.answer(live(2), &refusal("UNMAPPABLE"));
    bench.step(Input::Unparked(vec![subject("A")]));
    assert_eq!(bench.live(&["A"]).delivered, [[live(3)]]);
    assert_eq!(bench.live(&["B"]).waiting, [live(4)]);
}

#[test]
fn a_parked_subject_waits_in_both_streams() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    assert_eq!(bench.bulk(&["A"]).waiting, [bulk(1)]);
    assert_eq!(bench.bulk(&["B"]).delivered, [[bulk(2)]]);
}

#[test]
fn a_replay_leaves_alone_what_lies_parked() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    let seen = bench.step(Input::Replay(vec![work(live(1), &["A"])]));
    assert_eq!((seen, bench.engine.open()), (Seen::default(), 0));
}

#[test]
fn what_came_before_in_the_other_stream_goes_on_and_what_came_behind_waits() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.bulk(&["B"]);
    bench.bulk(&["B"]);
    bench.live(&["A", "B"]);
    bench.bulk(&["A"]);
    let seen = bench.answer(live(1), &refusal("UNMAPPABLE"));
    assert_eq!(seen.waiting, [live(2), bulk(3)]);
    assert_eq!(bench.answer(bulk(1), &applied()).delivered, [[bulk(2)]]);
    assert_eq!(bench.answer(bulk(2), &applied()).done, [bulk(2)]);
}
