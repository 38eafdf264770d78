//! What the runner asks the engine between its steps.
//! Beside the rules of the steps themselves.
//! Must never change the engine by asking.
//! Read next: `engine/tests/cursors.rs`, which asks for the window.

use std::collections::HashSet;

use super::*;

#[test]
fn parked_units_may_return_once_all_that_stands_before_them_is_read() {
    let resume = Resume {
        live: Some(cursor(20, 2)),
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    assert!(bench.engine.may_return([live(1)]));
    assert!(!bench.engine.may_return([live(1), live(2)]));
    assert!(!bench.engine.may_return([live(3)]));
    assert!(!bench.engine.may_return([bulk(1)]));
    bench.live(&["A"]);
    assert!(bench.engine.may_return([live(1), live(2)]));
}

#[test]
fn a_subject_is_busy_while_anything_of_it_is_in_the_lanes() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.protection("B");
    let busy = |bench: &Bench| ["A", "B", "C"].map(|name| bench.engine.is_busy(&subject(name)));
    assert_eq!(busy(&bench), [true, true, false]);
    bench.answer(live(1), &applied());
    bench.answer(live(2), &again());
    assert_eq!(busy(&bench), [false, true, false]);
}

#[test]
fn a_subject_has_parked_units_until_they_come_back_or_are_skipped() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    bench.answer(live(1), &refusal("UNMAPPABLE"));
    bench.answer(live(2), &refusal("UNMAPPABLE"));
    let parked =
        |bench: &Bench| ["A", "B", "C"].map(|name| bench.engine.has_parked(&subject(name)));
    assert_eq!(parked(&bench), [true, true, false]);
    bench.step(back(vec![work(live(1), &["A"])]));
    assert_eq!(parked(&bench), [false, true, false]);
    bench.step(Input::Unparked(vec![subject("B")]));
    assert_eq!(parked(&bench), [false, false, false]);
}

#[test]
fn a_delivery_waits_for_its_receipt_until_that_comes() {
    let mut bench = Bench::new();
    bench.live(&["A"]);
    bench.live(&["B"]);
    bench.live(&["C"]);
    let [first, second] = [live(1), live(2)].map(|key| bench.number(key));
    assert_eq!(bench.engine.leased(), 3);
    assert!(bench.engine.is_leased(first) && bench.engine.is_leased(second));
    bench.answer(live(1), &again());
    assert_eq!(bench.engine.leased(), 2);
    assert!(!bench.engine.is_leased(first) && bench.engine.is_leased(second));
}

#[test]
fn in_doubt_is_what_was_sent_and_not_clearly_answered() {
    let resume = Resume {
        doubted: [bulk(7)].into(),
        ..Resume::default()
    };
    let mut bench = Bench::with(false, resume);
    for name in ["A", "B", "C", "D", "A"] {
        bench.live(&[name]);
    }
    bench.answer(live(2), &unknown());
    bench.answer(live(3), &again());
    bench.answer(live(4), &applied());
    // The fifth waits behind the first, which is under way; one of bulk is not read yet.
    let doubted = HashSet::from([live(1), live(2), bulk(7)]);
    assert_eq!(bench.engine.doubted(), doubted);
}
