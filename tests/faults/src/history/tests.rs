//! Planted violations: the judge names each rule that is broken, and nothing of a right history.
//! Histories are made by hand, two subjects at one receiver.
//! Must never share a helper with the judge.
//! Read next: `../history.rs`.

use super::*;

fn sent(id: &str, subject: &str, version: u32, known: Known) -> Sent {
    Sent {
        id: id.to_owned(),
        subject: subject.to_owned(),
        version,
        group: String::new(),
        known,
    }
}

fn effect(id: &str, subject: &str, version: u32) -> Effect {
    Effect {
        id: id.to_owned(),
        subject: subject.to_owned(),
        version,
    }
}

/// P has versions 1 and 2, Q has version 1; one publish was refused.
fn right() -> History {
    History {
        sent: vec![
            sent("p1", "P", 1, Known::Acknowledged),
            sent("q1", "Q", 1, Known::Acknowledged),
            sent("p2", "P", 2, Known::Acknowledged),
            sent("no", "R", 1, Known::Refused),
        ],
        log: ["p1", "q1", "p2"].map(str::to_owned).to_vec(),
        receivers: vec![Receiver {
            name: "tax".to_owned(),
            applied: vec![
                effect("p1", "P", 1),
                effect("q1", "Q", 1),
                effect("p2", "P", 2),
            ],
            state: Some([("P".to_owned(), 2), ("Q".to_owned(), 1)].into()),
            ..Receiver::default()
        }],
        bounds: vec![Bound {
            what: "queue".to_owned(),
            found: 3,
            max: 3,
        }],
    }
}

/// Rules that the judge names for a history that was changed.
fn rules(change: impl FnOnce(&mut History)) -> Vec<String> {
    let mut history = right();
    change(&mut history);
    let mut rules: Vec<String> = judge(&history)
        .iter()
        .filter_map(|text| text.get(..2).map(str::to_owned))
        .collect();
    rules.dedup();
    rules
}

fn tax(history: &mut History) -> &mut Receiver {
    &mut history.receivers[0]
}

#[test]
fn a_right_history_has_no_violation() {
    assert!(rules(|_| {}).is_empty());
}

#[test]
fn i1_a_lost_acknowledged_event_is_named() {
    assert_eq!(rules(|history| drop(history.log.remove(1))), ["I1", "I6"]);
    let lost_at_receiver = |history: &mut History| {
        tax(history).applied.remove(1);
    };
    assert_eq!(rules(lost_at_receiver), ["I1"]);
}

#[test]
fn i2_a_repeated_effect_a_doubled_record_and_an_old_epoch_are_named() {
    let again = |history: &mut History| tax(history).applied.push(effect("p2", "P", 2));
    assert_eq!(rules(again), ["I2"]);
    assert_eq!(rules(|history| history.log.push("q1".to_owned())), ["I2"]);
    let zombie = |history: &mut History| {
        tax(history).attempts = [("p1", 1), ("q1", 2), ("p2", 1)]
            .map(|(id, epoch)| Attempt {
                id: id.to_owned(),
                epoch,
            })
            .to_vec();
    };
    assert_eq!(rules(zombie), ["I2"]);
}

#[test]
fn i3_an_order_that_is_not_the_logs_and_a_passed_parked_event_are_named() {
    assert_eq!(rules(|history| tax(history).applied.swap(0, 2)), ["I3"]);
    let passed = |history: &mut History| {
        tax(history).applied.remove(0);
        tax(history).parked = vec![Parked {
            ids: vec!["p1".to_owned()],
            subjects: vec!["P".to_owned()],
        }];
    };
    assert_eq!(rules(passed), ["I3"]);
}

#[test]
fn i4_a_state_that_differs_is_named() {
    let behind = |history: &mut History| {
        tax(history).state = Some([("P".to_owned(), 1), ("Q".to_owned(), 1)].into());
    };
    assert_eq!(rules(behind), ["I4"]);
}

#[test]
fn i6_what_was_refused_or_is_half_there_is_named() {
    assert_eq!(
        rules(|history| history.log.push("no".to_owned())),
        ["I6", "I1", "I4"]
    );
    let effect_of_refused = |history: &mut History| {
        tax(history).applied.push(effect("no", "R", 1));
    };
    assert_eq!(rules(effect_of_refused), ["I6"]);
    let half = |history: &mut History| {
        history.sent[1].group = "g".to_owned();
        history.sent[3] = Sent {
            group: "g".to_owned(),
            ..sent("g2", "S", 1, Known::Unknown)
        };
    };
    assert_eq!(rules(half), ["I6"]);
}

#[test]
fn i8_a_quantity_beyond_its_limit_is_named() {
    assert_eq!(rules(|history| history.bounds[0].found = 4), ["I8"]);
}

#[test]
fn what_waits_for_a_human_or_ended_with_a_reason_is_no_violation() {
    let parked = |history: &mut History| {
        tax(history).applied.truncate(2);
        tax(history).state = Some([("P".to_owned(), 1), ("Q".to_owned(), 1)].into());
        tax(history).parked = vec![Parked {
            ids: vec!["p2".to_owned()],
            subjects: vec!["P".to_owned()],
        }];
    };
    assert!(rules(parked).is_empty());
    let closed = |history: &mut History| {
        tax(history).applied.remove(1);
        tax(history).state = Some([("P".to_owned(), 2)].into());
        tax(history).closed.insert("q1".to_owned());
    };
    assert!(rules(closed).is_empty());
}
