//! Rules of alarms, one by one.

use super::*;
use crate::limits::*;
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
        ..Facts::default()
    }
}

fn ms(limit: Duration) -> i64 {
    limit.as_millis() as i64
}

fn look(facts: &Facts, before: &Standing, now_ms: i64) -> Standing {
    standing(facts, &Limits::default(), before, now_ms)
}

/// Kinds with count and age.
fn seen(facts: &Facts) -> Vec<(Kind, u64, i64)> {
    let alarms = look(facts, &Standing::new(), NOW);
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
        let alarms = look(&facts, &Standing::new(), NOW);
        let alarm = &alarms[&Name::of(kind, PENSION)];
        assert_eq!((alarm.reason.as_str(), alarm.since_ms), (reason, NOW));
        // It stands since it was first seen, however often it is looked at.
        let later = look(&facts, &alarms, NOW + 10_000);
        assert_eq!(later, alarms);
    }
}

#[test]
fn a_refused_subject_alarms_at_once_and_again_when_it_is_left_alone() {
    let long = ms(ALARM_PARKED_LONG);
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
    let long = ms(ALARM_PARKED_LONG);
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
fn a_measure_alarms_once_its_limit_is_over_also_at_a_receiver_that_is_closed_or_stopped() {
    let late = ms(ALARM_PROTECTION);
    let pause = Pause {
        by: PausedBy::Operator,
        reason: "night".to_owned(),
    };
    let facts = |ages: &[i64]| {
        of_receiver(Receiver {
            closed: true,
            paused: Some(pause.clone()),
            measures_ms: ages.iter().map(|age| NOW - age).collect(),
            ..receiver()
        })
    };
    let stopped = (Kind::StoppedByOperator, 1, 0);
    assert_eq!(seen(&facts(&[late - 1])), [stopped]);
    let alarm = (Kind::ProtectionLate, 2, late + 7);
    assert_eq!(seen(&facts(&[late + 7, late, 3])), [stopped, alarm]);
}

#[test]
fn a_source_alarms_when_it_is_silent_for_its_rhythm() {
    let facts = |age_ms| Facts {
        rhythms: vec![RhythmRow {
            source: "urn:jp:lg:142042:system:001".to_owned(),
            rhythm_ms: 1_000,
            heard_ms: NOW - age_ms,
        }],
        ..Facts::default()
    };
    assert_eq!(seen(&facts(999)), []);
    assert_eq!(seen(&facts(1_000)), [(Kind::SourceSilent, 1, 1_000)]);
    assert_eq!(seen(&facts(-5_000)), [], "the clock was set back");
}

#[test]
fn held_units_alarm_at_once_when_refused_and_after_a_while_when_something_is_missing() {
    let limit = ms(ALARM_INCOMPLETE);
    let facts = |age_ms| Facts {
        held: [true, false]
            .map(|refused| HeldPile {
                source: "urn:jp:lg:142042:system:001".to_owned(),
                refused,
                pile: pile(4, age_ms),
            })
            .to_vec(),
        ..Facts::default()
    };
    let refused = |age| (Kind::HeldRefused, 4, age);
    assert_eq!(seen(&facts(limit - 1)), [refused(limit - 1)]);
    let missing = (Kind::Incomplete, 4, limit);
    assert_eq!(seen(&facts(limit)), [refused(limit), missing]);
}

#[test]
fn work_at_which_nothing_moves_alarms_unless_the_receiver_may_not_run() {
    let limit = ms(ALARM_STILL);
    let facts = |attached, closed, age_ms| {
        of_receiver(Receiver {
            attached,
            closed,
            still: pile(9, age_ms),
            ..receiver()
        })
    };
    assert_eq!(seen(&facts(true, false, limit - 1)), []);
    assert_eq!(
        seen(&facts(true, false, limit)),
        [(Kind::Stalled, 9, limit)]
    );
    assert_eq!(
        seen(&facts(false, false, limit)),
        [(Kind::AdapterAway, 9, limit)]
    );
    assert_eq!(seen(&facts(true, true, limit)), []);
}

#[test]
fn a_receiver_that_puts_everything_off_alarms_unless_it_is_stopped() {
    let limit = ms(ALARM_DOWN);
    let down = |age_ms| Receiver {
        attached: true,
        put_off: pile(5, age_ms),
        ..receiver()
    };
    assert_eq!(seen(&of_receiver(down(limit - 1))), []);
    let alarm = (Kind::ReceiverDown, 5, limit);
    assert_eq!(seen(&of_receiver(down(limit))), [alarm]);
    let stopped = Receiver {
        paused: Some(Pause {
            by: PausedBy::Hub,
            reason: "SAME_REFUSAL".to_owned(),
        }),
        ..down(limit)
    };
    assert_eq!(seen(&of_receiver(stopped)), [(Kind::BindingStopped, 1, 0)]);
}

#[test]
fn a_full_disk_alarms() {
    let facts = Facts {
        disk_full_since_ms: Some(NOW - 3),
        ..Facts::default()
    };
    assert_eq!(seen(&facts), [(Kind::DiskFull, 1, 3)]);
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
    let one = look(&refused(1), &nothing, NOW);
    let two = look(&refused(2), &one, NOW);
    let names = |(new, gone): (Vec<&Alarm>, Vec<&Alarm>)| (new.len(), gone.len());
    assert_eq!(names(changes(&nothing, &one)), (1, 0));
    assert_eq!(
        names(changes(&one, &two)),
        (1, 0),
        "each more is somebody else"
    );
    assert_eq!(names(changes(&two, &one)), (0, 0));
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

#[test]
fn who_holds_half_of_the_log_alarms_and_louder_when_it_is_nearly_all() {
    let source = "urn:jp:lg:142042:system:001";
    let subscription = || Who::Subscription(PENSION.to_owned());
    for (percent, kind) in [
        (49, None),
        (50, Some(Kind::LogHeld)),
        (89, Some(Kind::LogHeld)),
        (90, Some(Kind::LogOverdue)),
        (250, Some(Kind::LogOverdue)),
    ] {
        let facts = Facts {
            log_held: [
                (subscription(), percent),
                (Who::Source(source.to_owned()), 51),
            ]
            .into(),
            ..Facts::default()
        };
        let alarms = standing(&facts, &Limits::default(), &Standing::new(), NOW);
        let about = |name: &Name| alarms.get(name).map(|alarm| alarm.count);
        assert_eq!(about(&Name::of_source(Kind::LogHeld, source)), Some(51));
        for one in [Kind::LogHeld, Kind::LogOverdue] {
            let count = about(&Name::of(one, PENSION));
            assert_eq!(count, (kind == Some(one)).then_some(percent), "{percent}");
        }
    }
}

#[test]
fn weak_topics_and_foreign_records_stand_as_long_as_there_are_any() {
    let of = |weak, set_aside| Facts {
        concerns: Concerns { weak, set_aside },
        ..Facts::default()
    };
    assert_eq!(seen(&of(3, 0)), [(Kind::WeakTopic, 3, 0)]);
    assert_eq!(seen(&of(0, 2)), [(Kind::ForeignRecord, 2, 0)]);
    assert_eq!(seen(&of(0, 0)), []);
}
