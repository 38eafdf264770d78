//! Order, recovery and bounds of the records that are under way.

use tokio::sync::oneshot;

use super::*;

fn key(number: usize) -> String {
    format!("k{number}")
}

/// Takes a run of keys and gives the receiver of its outcomes.
fn take(state: &mut State, numbers: &[usize]) -> oneshot::Receiver<Vec<Outcome>> {
    let (reply, outcomes) = oneshot::channel();
    let row = || Row::new("1".to_owned(), 1, false);
    let records = numbers.iter().map(|&number| (key(number), row())).collect();
    state.take(Run { records, reply });
    outcomes
}

fn close(state: &mut State) -> Vec<String> {
    state.close().into_iter().map(|(key, _)| key).collect()
}

fn name(number: u32) -> FileName {
    (0..number).fold(FileName::default(), |name, _| name.next(0).unwrap())
}

fn result(code: &str) -> Outcome {
    Outcome::Result {
        code: code.to_owned(),
        column: String::new(),
        held: None,
    }
}

fn record(number: usize, code: &str) -> ResultRecord {
    ResultRecord {
        key: key(number),
        outcome: result(code),
    }
}

fn written(number: u32, keys: &[usize]) -> Written {
    Written {
        name: name(number),
        keys: keys.iter().map(|&number| key(number)).collect(),
    }
}

#[test]
fn a_run_gets_its_outcomes_in_order() {
    let mut state = State::new(Vec::new());
    let (mut first, mut second) = (take(&mut state, &[1, 2]), take(&mut state, &[3]));
    assert_eq!(close(&mut state), ["k1", "k2", "k3"]);
    state.written(written(1, &[1, 2, 3]));
    assert!(first.try_recv().is_err());
    state.results(
        name(1),
        vec![record(1, "00"), record(2, "10"), record(3, "01")],
    );
    assert_eq!(first.try_recv().unwrap(), [result("00"), result("10")]);
    assert_eq!(second.try_recv().unwrap(), [result("01")]);
    assert!(state.waiting.is_empty() && state.waited.is_empty() && state.in_file.is_empty());
}

#[test]
fn a_key_that_lies_in_a_file_is_waited_for_and_what_follows_comes_later() {
    let mut state = State::new(vec![written(1, &[1, 2])]);
    let mut again = take(&mut state, &[1, 2, 3]);
    assert!(close(&mut state).is_empty());
    state.results(name(1), vec![record(1, "00"), record(2, "00")]);
    assert_eq!(again.try_recv().unwrap(), [result("00"), result("00")]);
    let mut rest = take(&mut state, &[3]);
    assert_eq!(close(&mut state), ["k3"]);
    state.not_written(&[key(3)]);
    assert_eq!(rest.try_recv().unwrap(), [Outcome::NotWritten]);
}

#[test]
fn a_result_that_came_before_its_delivery_is_kept_for_it() {
    let mut state = State::new(vec![written(1, &[1, 2])]);
    state.results(name(1), vec![record(1, "00"), record(2, "03")]);
    let mut again = take(&mut state, &[1, 2]);
    assert_eq!(again.try_recv().unwrap(), [result("00"), result("03")]);
    // Once it was handed out it is gone: the key is written again, and Hinoki knows it.
    let mut third = take(&mut state, &[1]);
    assert!(third.try_recv().is_err());
    assert_eq!(close(&mut state), ["k1"]);
}

#[test]
fn a_delivery_that_ended_leaves_nothing_for_the_next_file() {
    let mut state = State::new(Vec::new());
    drop(take(&mut state, &[1, 2]));
    let mut other = take(&mut state, &[3]);
    assert_eq!(close(&mut state), ["k3"]);
    state.written(written(1, &[3]));
    state.results(name(1), vec![record(3, "00")]);
    assert_eq!(other.try_recv().unwrap(), [result("00")]);
}

#[test]
fn a_result_that_does_not_fit_its_file_proves_nothing() {
    for (records, expected) in [
        (vec![record(2, "00"), record(1, "00")], Outcome::Unreadable),
        (vec![record(1, "00")], Outcome::Unreadable),
        (vec![], Outcome::Unreadable),
        (
            vec![ResultRecord {
                key: String::new(),
                outcome: result("91"),
            }],
            result("91"),
        ),
    ] {
        let mut state = State::new(Vec::new());
        let mut run = take(&mut state, &[1, 2]);
        state.close();
        state.written(written(1, &[1, 2]));
        state.results(name(1), records);
        assert_eq!(run.try_recv().unwrap(), [expected.clone(), expected]);
    }
}

#[test]
fn a_result_of_no_known_file_changes_nothing() {
    let mut state = State::new(Vec::new());
    state.results(name(1), vec![record(1, "00")]);
    assert!(state.unclaimed.is_empty());
}

#[test]
fn unclaimed_results_are_bounded() {
    let mut state = State::new(Vec::new());
    for number in 0..UNCLAIMED_MAX + 10 {
        state.keep_unclaimed(&key(number), result("00"));
    }
    assert_eq!(state.unclaimed.len(), UNCLAIMED_MAX);
    assert!(!state.is_known(&key(9)) && state.is_known(&key(10)));
}
