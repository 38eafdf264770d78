//! The table of the source rules, row by row.

use super::*;
use crate::event::{Event, Municipality, Pseudonyms, Unit};
use musubi_proto::hub::v1::Group;

fn unit(rows: &[(&str, &str, u32)]) -> Candidate {
    let size = rows.len() as u32;
    let events = rows
        .iter()
        .enumerate()
        .map(|(index, (id, subject, version))| Event {
            id: (*id).to_owned(),
            r#type: "musubi.standard.resident.v1.ResidentMovedWithin".to_owned(),
            subject: (*subject).to_owned(),
            subject_version: *version,
            group: Some(Group {
                id: "G1".to_owned(),
                seq: index as u32 + 1,
                size,
            }),
            data: id.as_bytes().to_vec().into(),
            ..Event::default()
        });
    let town = Municipality::parse("142042").unwrap();
    let unit = Unit {
        events: events.collect(),
    };
    Candidate::new(
        &Pseudonyms::new([7; 32]),
        &town,
        unit,
        None,
        String::new(),
        0,
    )
}

fn subject(name: &str) -> Subject {
    Pseudonyms::new([7; 32]).of(&Municipality::parse("142042").unwrap(), name)
}

fn view(versions: &[(&str, u32)]) -> View {
    View {
        versions: versions
            .iter()
            .map(|(name, version)| (subject(name), *version))
            .collect(),
        snapshot_complete: true,
        ..View::default()
    }
}

fn held(id: &str, state: HeldState, subjects: &[(&str, u32)]) -> OpenHeld {
    let subjects = subjects
        .iter()
        .map(|(name, version)| (subject(name), *version))
        .collect();
    OpenHeld {
        id: id.to_owned(),
        state,
        subjects,
    }
}

fn rule(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accept { .. } => "ACCEPT",
        Verdict::Duplicate { .. } => "DUPLICATE",
        Verdict::AlreadyHeld { .. } => "ALREADY_HELD",
        Verdict::Wait { rule } | Verdict::Refuse { rule, .. } => rule,
    }
}

#[test]
fn versions_come_one_after_the_other() {
    let view = view(&[("A", 3)]);
    for (version, expected) in [
        (4, "ACCEPT"),
        (3, "VERSION_REUSED"),
        (2, "VERSION_GOES_BACK"),
        (5, "VERSION_GAP"),
    ] {
        assert_eq!(rule(&view.decide(&unit(&[("e", "A", version)]))), expected);
    }
}

#[test]
fn a_new_subject_begins_with_1_once_the_snapshot_is_known() {
    let mut view = view(&[]);
    assert_eq!(rule(&view.decide(&unit(&[("e", "N", 1)]))), "ACCEPT");
    assert_eq!(rule(&view.decide(&unit(&[("e", "N", 2)]))), "VERSION_GAP");
    view.snapshot_complete = false;
    assert_eq!(rule(&view.decide(&unit(&[("e", "N", 2)]))), "ACCEPT");
}

#[test]
fn a_person_may_occur_twice_in_a_group() {
    let view = view(&[("A", 3)]);
    assert_eq!(
        rule(&view.decide(&unit(&[("e1", "A", 4), ("e2", "A", 5)]))),
        "ACCEPT"
    );
    assert_eq!(
        rule(&view.decide(&unit(&[("e1", "A", 4), ("e2", "A", 4)]))),
        "VERSION_REUSED"
    );
}

#[test]
fn the_same_id_is_the_same_content() {
    let mut view = view(&[("A", 3)]);
    let sent = unit(&[("e", "A", 4)]);
    let at = Some((Stream::Live, Position(9)));
    let digest = sent.events[0].claim.digest.clone();
    view.known.insert(
        "e".to_owned(),
        Known::Claimed {
            digest: digest.clone(),
            at,
        },
    );
    assert_eq!(
        view.decide(&sent),
        Verdict::Duplicate {
            at: (Stream::Live, Position(9))
        }
    );
    view.known.insert(
        "e".to_owned(),
        Known::Claimed {
            digest: digest.clone(),
            at: None,
        },
    );
    assert_eq!(rule(&view.decide(&sent)), "ACCEPT");
    view.known.insert(
        "e".to_owned(),
        Known::Held {
            held_id: "held-1".to_owned(),
            digest,
        },
    );
    assert_eq!(rule(&view.decide(&sent)), "ALREADY_HELD");
    view.known.insert(
        "e".to_owned(),
        Known::Claimed {
            digest: vec![1],
            at,
        },
    );
    assert_eq!(rule(&view.decide(&sent)), "ID_REUSED");
}

#[test]
fn later_rows_of_a_person_wait_behind_a_refused_one_and_others_flow() {
    let mut view = view(&[("A", 3), ("B", 1)]);
    view.held = vec![held("held-1", HeldState::Refused, &[("A", 4)])];
    assert_eq!(rule(&view.decide(&unit(&[("e", "A", 5)]))), "BEHIND_HELD");
    assert_eq!(
        rule(&view.decide(&unit(&[("e1", "B", 2), ("e2", "A", 5)]))),
        "BEHIND_HELD"
    );
    assert_eq!(rule(&view.decide(&unit(&[("e", "B", 2)]))), "ACCEPT");
}

#[test]
fn a_right_row_with_the_refused_version_is_its_correction() {
    let mut view = view(&[("A", 3)]);
    view.held = vec![
        held("held-1", HeldState::Refused, &[("A", 4)]),
        held("held-2", HeldState::Waiting, &[("A", 5)]),
    ];
    let verdict = view.decide(&unit(&[("e", "A", 4)]));
    assert_eq!(
        verdict,
        Verdict::Accept {
            corrects: vec!["held-1".to_owned()]
        }
    );
    view.accepted(&unit(&[("e", "A", 4)]));
    assert!(
        !view.may_follow(&view.held[1].clone()),
        "the refused one is still open"
    );
    view.closed(&["held-1".to_owned()]);
    assert!(view.may_follow(&view.held[0].clone()));
}

#[test]
fn a_refused_version_that_was_wrong_itself_needs_a_named_correction() {
    let mut view = view(&[("A", 3)]);
    view.held = vec![held("held-1", HeldState::Refused, &[("A", 1)])];
    let mut correction = unit(&[("e", "A", 4)]);
    assert_eq!(rule(&view.decide(&correction)), "BEHIND_HELD");
    correction.corrects = "held-1".to_owned();
    assert_eq!(
        view.decide(&correction),
        Verdict::Accept {
            corrects: vec!["held-1".to_owned()]
        }
    );
}

#[test]
fn the_missing_version_is_accepted_and_what_waited_for_it_follows() {
    let mut view = view(&[("A", 3)]);
    view.held = vec![held("held-1", HeldState::Waiting, &[("A", 5)])];
    assert!(!view.may_follow(&view.held[0].clone()));
    assert_eq!(rule(&view.decide(&unit(&[("e", "A", 6)]))), "VERSION_GAP");
    assert_eq!(rule(&view.decide(&unit(&[("e", "A", 4)]))), "ACCEPT");
    view.accepted(&unit(&[("e", "A", 4)]));
    assert!(view.may_follow(&view.held[0].clone()));
}

#[test]
fn only_an_open_refused_unit_of_this_source_is_corrected_by_name() {
    let mut view = view(&[("A", 3)]);
    view.held = vec![held("held-1", HeldState::Waiting, &[("B", 7)])];
    let mut correction = unit(&[("e", "A", 4)]);
    // One that waits, and one of another source, which this view does not have.
    for name in ["held-1", "held-2"] {
        correction.corrects = name.to_owned();
        assert_eq!(rule(&view.decide(&correction)), "NOT_HELD", "{name}");
    }
}
