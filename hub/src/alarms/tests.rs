//! Rules of alarms, one by one.

use super::*;
use crate::limits::ALARM_PARKED_LONG;
use crate::store::PausedBy;

const NOW: i64 = 1_800_000_000_000;
const PENSION: &str = "142042/026";

fn pile(count: u64, age_ms: i64) -> Pile {
    Pile {
        count,
        oldest_ms: NOW - age_ms,
        reason: "UNMAPPABLE".to_owned(),
    }
}

fn receiver() -> Receiver {
    Receiver {
        subscription: PENSION.to_owned(),
        ..Receiver::default()
    }
}

fn of_receiver(receiver: Receiver) -> Facts {
    Facts {
        receivers: vec![receiver],
    }
}

/// Kinds with count and age.
fn seen(facts: &Facts) -> Vec<(Kind, u64, i64)> {
    let alarms = standing(facts, &Standing::new(), NOW);
    let alarms = alarms.values();
    alarms
        .map(|alarm| (alarm.name.kind, alarm.count, NOW - alarm.since_ms))
        .collect()
}

#[test]
fn nothing_wrong_is_no_alarm() {
    assert_eq!(seen(&of_receiver(receiver())), []);
}

#[test]
fn a_stop_alarms_by_who_stopped_it_and_an_operators_words_are_not_repeated() {
    for (by, kind, reason) in [
        (PausedBy::Adapter, Kind::BindingStopped, "SAME_REFUSAL"),
        (PausedBy::Hub, Kind::BindingStopped, "SAME_REFUSAL"),
        (PausedBy::Operator, Kind::StoppedByOperator, ""),
    ] {
        let pause = Pause {
            by,
            reason: "SAME_REFUSAL: UNMAPPABLE at record.name".to_owned(),
        };
        let facts = of_receiver(Receiver {
            paused: Some(pause),
            ..receiver()
        });
        let alarms = standing(&facts, &Standing::new(), NOW);
        let alarm = &alarms[&Name::of(kind, PENSION)];
        assert_eq!((alarm.reason.as_str(), alarm.since_ms), (reason, NOW));
        // It stands since it was first seen, however often it is looked at.
        let later = standing(&facts, &alarms, NOW + 10_000);
        assert_eq!(later, alarms);
    }
}

#[test]
fn a_refused_subject_alarms_at_once_and_again_when_it_is_left_alone() {
    let long = ALARM_PARKED_LONG.as_millis() as i64;
    for (age, expected) in [
        (0, vec![(Kind::SubjectParked, 2, 0)]),
        (long - 1, vec![(Kind::SubjectParked, 2, long - 1)]),
        (
            long,
            vec![(Kind::SubjectParked, 2, long), (Kind::ParkedLong, 2, long)],
        ),
    ] {
        let facts = of_receiver(Receiver {
            refused: pile(2, age),
            ..receiver()
        });
        assert_eq!(seen(&facts), expected);
    }
}

#[test]
fn dead_letters_alarm_and_count_among_what_is_left_alone() {
    let long = ALARM_PARKED_LONG.as_millis() as i64;
    let facts = of_receiver(Receiver {
        refused: pile(1, 5),
        dead: pile(3, long),
        ..receiver()
    });
    assert_eq!(
        seen(&facts),
        [
            (Kind::SubjectParked, 1, 5),
            (Kind::ParkedLong, 3, long),
            (Kind::DeadLetter, 3, long),
        ]
    );
}

#[test]
fn what_appears_and_what_goes_is_said_once() {
    let refused = |count| {
        of_receiver(Receiver {
            refused: pile(count, 1),
            ..receiver()
        })
    };
    let nothing = Standing::new();
    let one = standing(&refused(1), &nothing, NOW);
    let two = standing(&refused(2), &one, NOW);
    let names = |(new, gone): (Vec<&Alarm>, Vec<&Alarm>)| (new.len(), gone.len());
    assert_eq!(names(changes(&nothing, &one)), (1, 0));
    assert_eq!(names(changes(&one, &two)), (0, 0), "more of it is not new");
    assert_eq!(names(changes(&two, &nothing)), (0, 1));
}

#[test]
fn every_kind_has_its_weight_and_its_advice() {
    for number in 1.. {
        let Ok(kind) = Kind::try_from(number) else {
            return;
        };
        assert_ne!(severity(kind), Severity::Unspecified, "{kind:?}");
        assert!(!advice(kind).is_empty(), "{kind:?}");
    }
}
