//! What operators do to what is parked or stopped, and what they may not do.

use std::path::Path;

use musubi_proto::hub::v1::{
    ActKind, EditParkedRequest, Event, GetCaseRequest, GetEventRequest, GetParkedRequest,
    ListParkedRequest, Outcome, ParkedState, PausedBy, ResumeRequest, RetryParkedRequest,
    SkipParkedRequest, StopRequest,
};
use prost::Message;
use tonic::Status;

use super::acts::acts;
use super::parked::{PENSION, list, refuse};
use super::stage::{Adapter, Hub, TOWN, failed, ids, moved, payload, until};

async fn started(folder: &Path) -> (Hub, Adapter) {
    let hub = Hub::start(folder).await;
    hub.bind("026", "hinoki").await;
    let adapter = Adapter::attach(&hub, "026", "hinoki").await;
    (hub, adapter)
}

fn skip(sequence: u64) -> SkipParkedRequest {
    SkipParkedRequest {
        subscription: PENSION.to_owned(),
        sequence,
        member: 1,
        operator: "sato".to_owned(),
        reason: "入力の誤り".to_owned(),
        ..SkipParkedRequest::default()
    }
}

fn retry(sequence: u64) -> RetryParkedRequest {
    RetryParkedRequest {
        subscription: PENSION.to_owned(),
        sequence,
        member: u32::from(sequence > 0),
        operator: "sato".to_owned(),
        reason: "外字を登録した".to_owned(),
        ..RetryParkedRequest::default()
    }
}

fn stop(system: &str) -> StopRequest {
    StopRequest {
        municipality: TOWN.to_owned(),
        system: system.to_owned(),
        all: system.is_empty(),
        operator: "sato".to_owned(),
        reason: "当初賦課の間".to_owned(),
        ..StopRequest::default()
    }
}

fn resume(system: &str) -> ResumeRequest {
    ResumeRequest {
        municipality: TOWN.to_owned(),
        system: system.to_owned(),
        all: system.is_empty(),
        operator: "sato".to_owned(),
        reason: "済んだ".to_owned(),
        ..ResumeRequest::default()
    }
}

fn reason(refused: Result<impl std::fmt::Debug, Status>) -> String {
    failed(&refused.unwrap_err()).0
}

#[tokio::test]
async fn a_skipped_unit_ends_visibly_and_what_waits_behind_it_goes_on_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    let published = refuse(&hub, &mut hinoki).await;
    let before = hub.subscription(PENSION).await.counts.unwrap();
    let skipped = hub.admin().skip_parked(skip(1)).await.unwrap().into_inner();
    let counts = hub.subscription(PENSION).await.counts.unwrap();
    assert_eq!((counts.skipped, counts.received), (1, before.received));
    assert_eq!((skipped.freed, skipped.skipped.unwrap().sequence), (2, 1));
    for expected in [1, 3] {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [published[expected].as_str()]);
        hinoki.apply(&delivery).await;
    }
    let seen = hub.wait_for(PENSION, "nothing is parked", |found| {
        found.counts.unwrap().applied == 3
    });
    assert_eq!(seen.await.counts.unwrap().rejected, 0);
    // A later one of the same person goes at once.
    hub.accept(moved("0000000001", 4)).await;
    let delivery = hinoki.delivery().await;
    hinoki.apply(&delivery).await;
    let case = GetCaseRequest {
        municipality: TOWN.to_owned(),
        event_or_subject: published[0].clone(),
        ..Default::default()
    };
    let case = hub.admin().get_case(case).await.unwrap().into_inner();
    let steps = &case.cases[0].steps;
    assert!(steps.iter().any(|s| s.outcome() == Outcome::Skipped));
    assert!(steps.iter().any(|s| s.detail.contains("sato: 入力の誤り")));
    hub.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    let published = refuse(&hub, &mut hinoki).await;
    let before = (list(&hub, 10, "").await, acts(&hub).await);
    let ask = RetryParkedRequest {
        dry_run: true,
        ..retry(1)
    };
    let planned = hub.admin().retry_parked(ask).await.unwrap().into_inner();
    assert_eq!((planned.units, planned.subjects), (3, 1));
    let events = planned.planned.iter().map(|unit| unit.event_ids[0].clone());
    let order = [0, 1, 3].map(|index: usize| published[index].clone());
    assert_eq!(events.collect::<Vec<_>>(), order);
    let ask = SkipParkedRequest {
        dry_run: true,
        ..skip(1)
    };
    let planned = hub.admin().skip_parked(ask).await.unwrap().into_inner();
    assert_eq!(planned.freed, 2);
    let ask = StopRequest {
        dry_run: true,
        ..stop("026")
    };
    let planned = hub.admin().stop(ask).await.unwrap().into_inner();
    assert_eq!(planned.subscriptions, [PENSION]);
    assert_eq!((list(&hub, 10, "").await, acts(&hub).await), before);
    assert!(!hub.subscription(PENSION).await.bindings[0].paused);
    hub.stop().await;
}

#[tokio::test]
async fn of_two_operators_at_one_subject_the_second_is_told_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    refuse(&hub, &mut hinoki).await;
    let seen = list(&hub, 10, "").await.0[0].revision;
    let stale = || RetryParkedRequest {
        revision: seen,
        ..retry(1)
    };
    hub.admin().retry_parked(stale()).await.unwrap();
    let delivery = hinoki.delivery().await;
    let mut admin = hub.admin();
    assert_eq!(reason(admin.retry_parked(retry(1)).await), "BEING_RETRIED");
    assert_eq!(reason(admin.skip_parked(skip(1)).await), "BEING_RETRIED");
    assert_eq!(reason(admin.skip_parked(skip(2)).await), "BEING_RETRIED");
    hinoki.answer(&delivery, Outcome::Rejected, "STILL").await;
    until("it is refused again", || async {
        let (parked, _) = list(&hub, 10, "").await;
        Some(()).filter(|()| parked[0].reason == "STILL")
    })
    .await;
    let refused = admin.retry_parked(stale()).await.unwrap_err();
    let told = ("CHANGED_MEANWHILE".to_owned(), "revision".to_owned());
    assert_eq!(failed(&refused), told);
    assert_eq!(list(&hub, 10, "").await.0.len(), 3);
    let kinds: Vec<_> = acts(&hub).await.iter().map(|act| act.kind()).collect();
    let retries = kinds.iter().filter(|kind| **kind == ActKind::Retry);
    assert_eq!(retries.count(), 1, "what was refused is no act");
    hub.stop().await;
}

#[tokio::test]
async fn an_act_without_who_or_why_or_on_nothing_is_refused_by_field() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    refuse(&hub, &mut hinoki).await;
    let mut admin = hub.admin();
    let mute = SkipParkedRequest {
        reason: String::new(),
        ..skip(1)
    };
    let refused = admin.skip_parked(mute).await.unwrap_err();
    assert_eq!(failed(&refused), ("INVALID_FIELD".into(), "reason".into()));
    let nobody = RetryParkedRequest {
        operator: " ".to_owned(),
        ..retry(1)
    };
    let refused = admin.retry_parked(nobody).await.unwrap_err();
    assert_eq!(failed(&refused).1, "operator");
    assert_eq!(reason(admin.skip_parked(skip(99)).await), "NOT_FOUND");
    assert_eq!(reason(admin.retry_parked(retry(99)).await), "NOT_FOUND");
    let both = StopRequest {
        all: true,
        ..stop("026")
    };
    assert_eq!(failed(&admin.stop(both).await.unwrap_err()).1, "system");
    assert_eq!(reason(admin.stop(stop("099")).await), "NOT_FOUND");
    assert_eq!(list(&hub, 10, "").await.0.len(), 3);
    hub.stop().await;
}

#[tokio::test]
async fn a_retry_without_an_adapter_goes_once_one_is_attached() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    let published = refuse(&hub, &mut hinoki).await;
    drop(hinoki);
    let ask = RetryParkedRequest {
        refused_with: "UNMAPPABLE".to_owned(),
        ..retry(0)
    };
    let units = hub.admin().retry_parked(ask).await.unwrap().into_inner();
    assert_eq!(units.units, 3);
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    for expected in [0, 1, 3] {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [published[expected].as_str()]);
        hinoki.apply(&delivery).await;
    }
    hub.stop().await;
}

#[tokio::test]
async fn parked_units_are_listed_by_state_reason_age_and_subject_and_shown_with_their_story() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    refuse(&hub, &mut hinoki).await;
    let count = async |ask: ListParkedRequest| {
        let ask = ListParkedRequest {
            municipality: TOWN.to_owned(),
            ..ask
        };
        let listed = hub.admin().list_parked(ask).await.unwrap().into_inner();
        listed.parked.len()
    };
    let all = ListParkedRequest::default();
    let states = vec![ParkedState::Waiting as i32];
    assert_eq!(
        count(ListParkedRequest {
            states,
            ..all.clone()
        })
        .await,
        2
    );
    let reason = "UNMAPPABLE".to_owned();
    assert_eq!(
        count(ListParkedRequest {
            reason,
            ..all.clone()
        })
        .await,
        1
    );
    let subject = list(&hub, 10, "").await.0[0].subjects[0].clone();
    assert_eq!(
        count(ListParkedRequest {
            subject,
            ..all.clone()
        })
        .await,
        3
    );
    let older_than = Some(prost_types::Duration {
        seconds: 3_600,
        nanos: 0,
    });
    assert_eq!(count(ListParkedRequest { older_than, ..all }).await, 0);
    hub.admin().retry_parked(retry(1)).await.unwrap();
    let delivery = hinoki.delivery().await;
    hinoki.answer(&delivery, Outcome::Rejected, "STILL").await;
    let ask = || GetParkedRequest {
        subscription: PENSION.to_owned(),
        sequence: 1,
        member: 1,
        ..GetParkedRequest::default()
    };
    let shown = until("both refusals are told", || async {
        let shown = hub.admin().get_parked(ask()).await.unwrap().into_inner();
        Some(shown).filter(|shown| shown.history.len() == 2)
    })
    .await;
    let refusals: Vec<_> = shown.history.iter().map(|s| s.detail.as_str()).collect();
    assert_eq!(refusals, ["UNMAPPABLE", "STILL"]);
    let acts: Vec<_> = shown.acts.iter().map(|act| act.kind()).collect();
    assert_eq!(acts, [ActKind::Retry]);
    let behind: Vec<_> = shown.followers.iter().map(|unit| unit.sequence).collect();
    assert_eq!(behind, [2, 4]);
    hub.stop().await;
}

#[tokio::test]
async fn a_stopped_binding_sends_nothing_until_an_operator_lets_it_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, hinoki) = started(folder.path()).await;
    hub.bind("010", "kaede").await;
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    assert_eq!(
        reason(hub.admin().resume(resume("026")).await),
        "NOT_STOPPED"
    );
    let stopped = hub.admin().stop(stop("026")).await.unwrap().into_inner();
    assert_eq!(stopped.subscriptions, [PENSION]);
    assert_eq!(
        reason(hub.admin().stop(stop("026")).await),
        "ALREADY_STOPPED"
    );
    hub.accept(moved("0000000001", 1)).await;
    let delivery = kaede.delivery().await;
    kaede.apply(&delivery).await;
    drop((hinoki, kaede));
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let binding = hub.subscription(PENSION).await.bindings[0].clone();
    assert_eq!(binding.paused_by(), PausedBy::Operator);
    assert_eq!(binding.pause_reason, "当初賦課の間");
    // What goes to another adapter passes through the same runner round; nothing came here.
    let mut kaede = Adapter::attach(&hub, "010", "kaede").await;
    hub.accept(moved("0000000002", 1)).await;
    let delivery = kaede.delivery().await;
    kaede.apply(&delivery).await;
    assert_eq!(hub.subscription(PENSION).await.in_flight, 0);
    let resumed = hub.admin().resume(resume("")).await.unwrap().into_inner();
    assert_eq!(resumed.subscriptions, [PENSION], "only what was stopped");
    for _ in 0..2 {
        let delivery = hinoki.delivery().await;
        hinoki.apply(&delivery).await;
    }
    let kinds: Vec<_> = acts(&hub).await.iter().map(|act| act.kind()).collect();
    assert_eq!(kinds[..2], [ActKind::Resume, ActKind::Stop]);
    hub.stop().await;
}

/// The payload of the example, corrected.
fn corrected() -> Event {
    let mut payload = payload();
    let name = payload.record.as_mut().unwrap().name.as_mut().unwrap();
    name.furigana_confirmed = Default::default();
    Event {
        data: payload.encode_to_vec().into(),
        ..Event::default()
    }
}

fn edit(sequence: u64, event: Event) -> EditParkedRequest {
    EditParkedRequest {
        subscription: PENSION.to_owned(),
        sequence,
        member: 1,
        event: Some(event),
        operator: "sato".to_owned(),
        reason: "氏名の誤り".to_owned(),
        ..EditParkedRequest::default()
    }
}

async fn told_of(hub: &Hub, event: &str) -> String {
    let case = GetCaseRequest {
        municipality: TOWN.to_owned(),
        event_or_subject: event.to_owned(),
        ..GetCaseRequest::default()
    };
    let found = hub.admin().get_case(case).await.unwrap().into_inner();
    let steps = found.cases[0].steps.iter();
    let told = steps.map(|s| format!("{} {:?} {}", s.step, s.outcome(), s.detail));
    told.collect::<Vec<_>>().join("\n")
}

#[tokio::test]
async fn a_correction_takes_the_place_of_the_refused_event_and_both_tell_the_story() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    let published = refuse(&hub, &mut hinoki).await;
    let ask = EditParkedRequest {
        dry_run: true,
        ..edit(1, corrected())
    };
    let planned = hub.admin().edit_parked(ask).await.unwrap().into_inner();
    assert_eq!(planned.freed, 3);
    let edited = hub.admin().edit_parked(edit(1, corrected())).await;
    let edited = edited.unwrap().into_inner();
    assert_eq!(edited.event_id, planned.event_id, "named by old and new");
    let order = [&edited.event_id, &published[1], &published[3]];
    for expected in order {
        let delivery = hinoki.delivery().await;
        assert_eq!(ids(&delivery), [expected.as_str()]);
        hinoki.apply(&delivery).await;
    }
    hub.wait_for(PENSION, "nothing is parked", |found| {
        found.counts.unwrap().applied == 4
    })
    .await;
    let old = told_of(&hub, &published[0]).await;
    assert!(old.contains(&format!("Skipped CORRECTED_BY {}", edited.event_id)));
    let new = told_of(&hub, &edited.event_id).await;
    assert!(new.contains("edit by sato: 氏名の誤り"), "{new}");
    assert!(new.contains("receipt Applied"), "{new}");
    let ask = GetEventRequest {
        municipality: TOWN.to_owned(),
        id: edited.event_id.clone(),
    };
    let shown = hub.events().get_event(ask).await.unwrap().into_inner();
    let shown = shown.stored.unwrap().event.unwrap();
    assert_eq!(
        (&shown.supersedes, &shown.causation_id),
        (&published[0], &published[0])
    );
    assert_eq!(
        (shown.subject.as_str(), shown.subject_version),
        ("0000000001", 1)
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_correction_of_more_than_the_payload_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    refuse(&hub, &mut hinoki).await;
    let before = (list(&hub, 10, "").await, acts(&hub).await);
    let mut other = payload();
    other
        .record
        .as_mut()
        .unwrap()
        .person
        .as_mut()
        .unwrap()
        .atenabango = "0000099999".to_owned();
    let refusals = [
        (
            "event.subject",
            Event {
                subject: "0000000002".to_owned(),
                ..corrected()
            },
        ),
        (
            "event.municipality",
            Event {
                municipality: "131016".to_owned(),
                ..corrected()
            },
        ),
        (
            "event.type",
            Event {
                r#type: "x.Y".to_owned(),
                ..corrected()
            },
        ),
        (
            "event.subject_version",
            Event {
                subject_version: 9,
                ..corrected()
            },
        ),
        (
            "event.data.record.person",
            Event {
                data: other.encode_to_vec().into(),
                ..corrected()
            },
        ),
    ];
    for (field, event) in refusals {
        let refused = hub.admin().edit_parked(edit(1, event)).await.unwrap_err();
        assert_eq!(failed(&refused), ("EDIT_NOT_ALLOWED".into(), field.into()));
    }
    assert_eq!((list(&hub, 10, "").await, acts(&hub).await), before);
    hub.stop().await;
}

#[tokio::test]
async fn a_correction_that_is_none_or_comes_late_is_refused_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (hub, mut hinoki) = started(folder.path()).await;
    refuse(&hub, &mut hinoki).await;
    let before = (list(&hub, 10, "").await, acts(&hub).await);
    let same = Event {
        data: payload().encode_to_vec().into(),
        ..Event::default()
    };
    let broken = Event {
        data: vec![0xff].into(),
        ..Event::default()
    };
    let mut admin = hub.admin();
    assert_eq!(
        reason(admin.edit_parked(edit(1, same)).await),
        "INVALID_FIELD"
    );
    admin.edit_parked(edit(1, broken)).await.unwrap_err();
    let stale = EditParkedRequest {
        revision: 9,
        ..edit(1, corrected())
    };
    assert_eq!(reason(admin.edit_parked(stale).await), "CHANGED_MEANWHILE");
    assert_eq!((list(&hub, 10, "").await, acts(&hub).await), before);
    hub.stop().await;
}
