//! Order within a subject, and who goes first.

use super::*;

#[test]
fn units_of_one_subject_go_one_after_the_other_and_other_subjects_beside_them() {
    let mut bench = Bench::new();
    assert_eq!(bench.live(&["A"]).delivered, [[live(1)]]);
    assert!(bench.live(&["A"]).delivered.is_empty());
    assert_eq!(bench.live(&["B"]).delivered, [[live(3)]]);
    let seen = bench.answer(live(1), &applied());
    assert_eq!(
        (seen.done, seen.delivered),
        (vec![live(1)], vec![vec![live(2)]])
    );
}

#[test]
fn a_group_starts_only_at_the_head_of_the_lanes_of_all_its_subjects() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    assert!(bench.live(&["A", "B", "C"]).delivered.is_empty());
    // What comes behind the group waits for it, also where the group itself does not wait.
    assert!(bench.live(&["C"]).delivered.is_empty());
    assert!(bench.answer(live(1), &applied()).delivered.is_empty());
    assert_eq!(bench.answer(live(2), &applied()).delivered, [[live(3)]]);
    assert_eq!(bench.answer(live(3), &applied()).delivered, [[live(4)]]);
}

#[test]
fn members_that_go_one_by_one_keep_the_order_of_the_group() {
    let mut bench = Bench::new();
    let member = |member| key(Stream::Live, 1, member);
    let works = [(1, "A"), (2, "B"), (3, "A")];
    let works = works.map(|(place, name)| work(member(place), &[name]));
    let seen = bench.unit(Stream::Live, works.to_vec());
    assert_eq!(seen.delivered, [[member(1)], [member(2)]]);
    assert_eq!(bench.answer(member(1), &applied()).delivered, [[member(3)]]);
}

#[test]
fn a_delivery_takes_one_credit_and_none_starts_without() {
    let mut bench = Bench::new();
    bench.engine = Engine::new(Settings::default(), Resume::default());
    assert!(bench.live(&["A"]).delivered.is_empty());
    assert!(bench.live(&["B"]).delivered.is_empty());
    assert!(bench.live(&["C"]).delivered.is_empty());
    assert_eq!(
        bench.step(Input::Credits(2)).delivered,
        [[live(1)], [live(2)]]
    );
    // A receipt gives no credit back: the adapter does.
    assert!(bench.answer(live(1), &applied()).delivered.is_empty());
    assert_eq!(bench.step(Input::Credits(1)).delivered, [[live(3)]]);
}

#[test]
fn an_adapter_has_no_more_credits_than_the_limit() {
    let mut bench = Bench::new();
    bench.engine = Engine::new(Settings::default(), Resume::default());
    bench.step(Input::Credits(u32::MAX));
    bench.step(Input::Credits(u32::MAX));
    let works: Vec<_> = (1..=crate::limits::CREDITS_MAX + 1)
        .map(|member| work(key(Stream::Live, 1, member), &[&format!("S{member}")]))
        .collect();
    let seen = bench.unit(Stream::Live, works);
    assert_eq!(seen.delivered.len(), crate::limits::CREDITS_MAX as usize);
}

#[test]
fn protection_goes_before_live_and_live_before_bulk() {
    let mut bench = Bench::new();
    bench.engine = Engine::new(Settings::default(), Resume::default());
    bench.bulk(&["A"]);
    bench.bulk(&["B"]);
    bench.live(&["C"]);
    bench.live(&["D"]);
    bench.protection("E");
    let seen = bench.step(Input::Credits(100));
    let order: Vec<_> = seen.delivered.into_iter().flatten().collect();
    assert_eq!(order, [live(3), live(1), live(2), bulk(1), bulk(2)]);
}

#[test]
fn protection_overtakes_a_lane_that_waits_and_a_lane_that_is_in_flight() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    assert_eq!(bench.protection("A").delivered, [[live(3)]]);
    // Its own kind it does not overtake.
    assert!(bench.protection("A").delivered.is_empty());
    assert_eq!(bench.answer(live(3), &applied()).delivered, [[live(4)]]);
}

#[test]
fn protection_overtakes_a_parked_lane() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    assert_eq!(bench.live(&["A"]).waiting, [live(2)]);
    assert_eq!(bench.protection("A").delivered, [[live(3)]]);
    assert_eq!(bench.answer(live(3), &applied()).done, [live(3)]);
}

#[test]
fn a_pause_stops_all_deliveries_and_loses_nothing() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    let seen = bench.answer(live(1), &Answered::Pause("CREDENTIALS".to_owned()));
    assert_eq!(seen.paused, ["CREDENTIALS"]);
    assert!(bench.live(&["C"]).delivered.is_empty());
    assert!(bench.step(Input::Credits(1)).delivered.is_empty());
    // What was in flight is still answered.
    assert_eq!(bench.answer(live(2), &applied()).done, [live(2)]);
    assert_eq!(bench.engine.cursor(Stream::Live), cursor(10, 1));
    assert_eq!(bench.engine.open(), 2);
}

#[test]
fn a_second_receipt_and_one_for_an_unknown_delivery_change_nothing() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["A"]);
    let delivery = bench.number(live(1));
    bench.answer(live(1), &applied());
    for answer in [applied(), refusal("LATE"), again()] {
        for delivery in [delivery, 99] {
            let answers = vec![(live(1), answer.clone()), (live(2), answer.clone())];
            let seen = bench.step(Input::Receipt { delivery, answers });
            assert_eq!(seen, Seen::default());
        }
    }
    assert_eq!(bench.answer(live(2), &applied()).done, [live(2)]);
}

#[test]
fn an_answer_about_a_unit_of_another_delivery_changes_nothing() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    let delivery = bench.number(live(1));
    let answers = vec![(live(2), refusal("NOT_MINE"))];
    let seen = bench.step(Input::Receipt { delivery, answers });
    // Nothing was said about its own unit: that one is asked for again.
    let attempts = vec![(live(1), 1)];
    let asked = Seen {
        attempts,
        ..Seen::default()
    };
    assert_eq!(seen, asked);
    assert_eq!(bench.answer(live(2), &applied()).done, [live(2)]);
}

#[test]
fn protection_that_is_seen_ahead_overtakes_what_is_not_read_yet_and_is_not_delivered_again() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    let measure = protection(key(Stream::Live, 3, 2), "A");
    let late = work(key(Stream::Live, 3, 1), &["B"]);
    let seen = bench.step(Input::Ahead(vec![measure.clone()]));
    assert_eq!(seen.delivered, [[measure.key]]);
    // Seen twice, it goes once.
    assert_eq!(
        bench.step(Input::Ahead(vec![measure.clone()])),
        Seen::default()
    );
    let seen = bench.answer(measure.key, &applied());
    assert_eq!((seen.done, seen.delivered), (vec![measure.key], vec![]));
    assert_eq!(
        bench.step(Input::Ahead(vec![measure.clone()])),
        Seen::default()
    );
    bench.live(&["C"]);
    let seen = bench.unit(Stream::Live, vec![late.clone(), measure]);
    assert_eq!(seen.delivered, [[late.key]]);
}

#[test]
fn protection_that_is_still_under_way_when_its_unit_is_read_holds_the_cursor() {
    let mut bench = Bench::new();
    let measure = protection(key(Stream::Live, 1, 2), "A");
    bench.step(Input::Ahead(vec![measure.clone()]));
    assert_eq!(
        bench.unit(Stream::Live, vec![measure.clone()]),
        Seen::default()
    );
    assert_eq!(bench.engine.cursor(Stream::Live).sequence, 1);
    bench.answer(measure.key, &applied());
    assert_eq!(bench.engine.cursor(Stream::Live).sequence, 2);
}

#[test]
fn nothing_but_protection_overtakes_the_reader() {
    let mut bench = Bench::new();
    let ordinary = work(live(2), &["A"]);
    let seen = bench.step(Input::Ahead(vec![ordinary]));
    assert_eq!((seen, bench.engine.open()), (Seen::default(), 0));
}
