//! What a source handed out wrongly: held, shown, corrected, followed.

use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Act, ActKind, BindSourceRequest, Event, GetHeldRequest, HeldState, HeldUnit, ListActsRequest,
    ListHeldRequest, Origin, PublishRequest, PublishUnit, RefusedRow, RefusedUnit, UnitAnswer,
};

use super::stage::{Adapter, Hub, SOURCE, TOWN, failed, ids, moved, refused, request, unit};

const FILE: &str = "diff-0001.csv";

async fn bind_source(hub: &Hub) -> u64 {
    let ask = BindSourceRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        product: "tsubame".to_owned(),
        operator: "operator".to_owned(),
        reason: "story".to_owned(),
    };
    let bound = hub.admin().bind_source(ask).await;
    bound.unwrap().into_inner().capture_epoch
}

fn captured(unit: PublishUnit, line: u64) -> PublishUnit {
    PublishUnit {
        origin: Some(Origin {
            file: FILE.to_owned(),
            line,
        }),
        ..unit
    }
}

fn refused_rows() -> PublishUnit {
    let row = RefusedRow {
        origin: Some(Origin {
            file: FILE.to_owned(),
            line: 7,
        }),
        rule: "BAD_DATE".to_owned(),
        item: "異動日".to_owned(),
        message: "the date does not exist".to_owned(),
        subject: "0000000001".to_owned(),
        subject_version: 1,
        row: b"0000000001,2026-02-30".to_vec().into(),
    };
    let unit = PublishUnit {
        content: Some(Content::Refused(RefusedUnit {
            key: "G1".to_owned(),
            rows: vec![row],
        })),
        ..PublishUnit::default()
    };
    captured(unit, 7)
}

async fn publish(hub: &Hub, epoch: u64, units: Vec<PublishUnit>) -> Vec<UnitAnswer> {
    let page = PublishRequest {
        capture_epoch: epoch,
        ..request(units)
    };
    hub.events()
        .publish(page)
        .await
        .unwrap()
        .into_inner()
        .answers
}

async fn list(hub: &Hub, state: HeldState) -> Vec<HeldUnit> {
    let ask = ListHeldRequest {
        municipality: TOWN.to_owned(),
        state: state as i32,
        ..ListHeldRequest::default()
    };
    hub.admin().list_held(ask).await.unwrap().into_inner().held
}

fn rule(answer: &UnitAnswer) -> &str {
    match &answer.answer {
        Some(Answer::Held(held)) => &held.rule,
        other => panic!("not held: {other:?}"),
    }
}

/// A page with a refused row, a later row of the same person, and somebody else's; the later row
/// and the other one.
async fn publish_page(hub: &Hub) -> (Event, Event) {
    let epoch = bind_source(hub).await;
    let (later, other) = (moved("0000000001", 2), moved("0000000002", 1));
    let units = vec![
        refused_rows(),
        captured(unit(vec![later.clone()]), 8),
        captured(unit(vec![other.clone()]), 9),
    ];
    let answers = publish(hub, epoch, units).await;
    assert_eq!(
        (rule(&answers[0]), rule(&answers[1])),
        ("BAD_DATE", "BEHIND_HELD")
    );
    assert!(matches!(answers[2].answer, Some(Answer::Accepted(_))));
    (later, other)
}

#[tokio::test]
async fn a_refused_row_is_kept_and_shown_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (later, _) = publish_page(&hub).await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let held = list(&hub, HeldState::Unspecified).await;
    assert_eq!(held.len(), 2);
    let first = &held[0];
    assert_eq!(
        (first.file.as_str(), first.line, first.item.as_str()),
        (FILE, 7, "異動日")
    );
    assert_eq!(
        (first.state(), held[1].state()),
        (HeldState::Refused, HeldState::Waiting)
    );
    let subjects = held.iter().flat_map(|held| &held.subjects);
    assert!(
        subjects.into_iter().all(|shown| shown.len() == 32),
        "a list shows pseudonyms"
    );
    let ask = |id: &str| GetHeldRequest {
        municipality: TOWN.to_owned(),
        id: id.to_owned(),
    };
    let shown = hub
        .admin()
        .get_held(ask(&first.id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.rows, [b"0000000001,2026-02-30".to_vec()]);
    let shown = hub
        .admin()
        .get_held(ask(&held[1].id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.events[0].id, later.id);
    let error = hub
        .admin()
        .get_held(ask("held-000000009999"))
        .await
        .unwrap_err();
    assert_eq!(failed(&error).0, "NOT_FOUND");
    hub.stop().await;
}

#[tokio::test]
async fn a_correction_takes_a_new_number_and_what_waited_is_delivered_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    hub.bind("026", "hinoki").await;
    let (later, other) = publish_page(&hub).await;
    let corrected = moved("0000000001", 1);
    hub.accept(corrected.clone()).await;
    assert!(list(&hub, HeldState::Unspecified).await.is_empty());
    let closed = list(&hub, HeldState::Corrected).await;
    assert_eq!(closed[0].corrected_by, corrected.id);
    let mut hinoki = Adapter::attach(&hub, "026", "hinoki").await;
    let mut delivered = Vec::new();
    for _ in 0..3 {
        let delivery = hinoki.delivery().await;
        delivered.extend(ids(&delivery));
        hinoki.apply(&delivery).await;
    }
    delivered.retain(|id| *id != other.id);
    assert_eq!(delivered, [corrected.id, later.id]);
    hub.stop().await;
}

#[tokio::test]
async fn a_captured_unit_that_the_hub_finds_wrong_is_held_with_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let epoch = bind_source(&hub).await;
    let mut wrong = moved("0000000001", 1);
    wrong.data = vec![0xff; 3].into();
    let answers = publish(&hub, epoch, vec![captured(unit(vec![wrong]), 3)]).await;
    assert_eq!(rule(&answers[0]), "UNDECODABLE_PAYLOAD");
    let held = list(&hub, HeldState::Refused).await;
    assert_eq!((held[0].file.as_str(), held[0].line), (FILE, 3));
    assert!(
        held[0].item.starts_with("events[0].data"),
        "{}",
        held[0].item
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_correction_of_nothing_that_is_held_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let correction = PublishUnit {
        corrects_held_id: "held-000000000099".to_owned(),
        operator: "desk-1".to_owned(),
        reason: "story".to_owned(),
        ..unit(vec![moved("0000000001", 1)])
    };
    let answers = hub.publish(vec![correction]).await;
    assert_eq!(
        refused(&answers[0]),
        (
            "NOT_FOUND".to_owned(),
            "units[0].corrects_held_id".to_owned()
        )
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_correction_by_name_says_who_and_why_and_is_recorded_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let (_, other) = publish_page(&hub).await;
    let held = list(&hub, HeldState::Refused).await;
    let nameless = PublishUnit {
        corrects_held_id: held[0].id.clone(),
        ..unit(vec![moved("0000000001", 1)])
    };
    let answers = hub.publish(vec![nameless.clone()]).await;
    let field = "units[0].operator".to_owned();
    assert_eq!(refused(&answers[0]), ("INVALID_FIELD".to_owned(), field));
    let correction = PublishUnit {
        operator: "desk-1".to_owned(),
        reason: "as the citizen says".to_owned(),
        ..nameless
    };
    // The second is what a caller sends who has not heard the first answer.
    for _ in 0..2 {
        let answers = hub.publish(vec![correction.clone()]).await;
        assert!(matches!(answers[0].answer, Some(Answer::Accepted(_))));
    }
    // It is closed: what the hub has already corrects nothing, whatever it names.
    let known = PublishUnit {
        content: unit(vec![other]).content,
        ..correction
    };
    hub.publish(vec![known]).await;
    let ask = ListActsRequest {
        municipality: TOWN.to_owned(),
        ..ListActsRequest::default()
    };
    let acts = hub.admin().list_acts(ask).await.unwrap().into_inner().acts;
    let corrections = acts.iter().filter(|act| act.kind() == ActKind::CorrectHeld);
    let corrections: Vec<&Act> = corrections.collect();
    assert_eq!(corrections.len(), 1);
    assert_eq!(
        (corrections[0].operator.as_str(), corrections[0].subjects),
        ("desk-1", 1)
    );
    assert!(corrections[0].target.ends_with(&held[0].id));
    hub.stop().await;
}
