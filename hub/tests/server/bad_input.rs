//! Bad input gets a clear answer: a stable reason and the field, and nothing of it is kept.

use musubi_proto::hub::v1::{
    CaptureCursor, Event, Group, ListEventsRequest, PublishRequest, PublishUnit,
};
use prost::Message;
use tonic::Code;

use super::stage::{Hub, MOVED, TOWN, event, failed, moved, payload, refused, request, unit};

/// A right event with one thing changed.
fn but(change: impl FnOnce(&mut Event)) -> PublishUnit {
    let mut event = moved("0000000001", 1);
    change(&mut event);
    unit(vec![event])
}

fn of_type(name: &str, data: Vec<u8>) -> PublishUnit {
    unit(vec![event("0000000001", 1, name, data)])
}

fn members(sizes: &[(u32, u32)]) -> PublishUnit {
    let events = sizes.iter().map(|(seq, size)| Event {
        group: Some(Group {
            id: "G1".to_owned(),
            seq: *seq,
            size: *size,
        }),
        ..moved(&format!("000000000{seq}"), 1)
    });
    unit(events.collect())
}

fn with_building(text: &str) -> PublishUnit {
    let mut moved = payload();
    let record = moved.record.as_mut().unwrap();
    record.address.as_mut().unwrap().building = text.to_owned();
    of_type(MOVED, moved.encode_to_vec())
}

fn with_unknown_gender() -> PublishUnit {
    let mut moved = payload();
    moved.record.as_mut().unwrap().gender = 99;
    of_type(MOVED, moved.encode_to_vec())
}

/// A wrong unit with the reason and the field below `units[0].unit.`.
type Case = (PublishUnit, &'static str, &'static str);

fn wrong_envelopes() -> Vec<Case> {
    const MISSING: &str = "MISSING_FIELD";
    vec![
        (
            but(|event| event.municipality = "131016".to_owned()),
            "WRONG_MUNICIPALITY",
            "events[0].municipality",
        ),
        (
            but(|event| event.source = "urn:jp:lg:142042:system:010".to_owned()),
            "WRONG_SOURCE",
            "events[0].source",
        ),
        (but(|event| event.id.clear()), MISSING, "events[0].id"),
        (but(|event| event.r#type.clear()), MISSING, "events[0].type"),
        (
            but(|event| event.subject.clear()),
            MISSING,
            "events[0].subject",
        ),
        (
            but(|event| event.subject_version = 0),
            MISSING,
            "events[0].subject_version",
        ),
        (but(|event| event.data.clear()), MISSING, "events[0].data"),
        (
            but(|event| event.id = "17".to_owned()),
            "INVALID_FIELD",
            "events[0].id",
        ),
        (
            but(|event| event.reason = 100),
            "INVALID_FIELD",
            "events[0].reason",
        ),
    ]
}

fn wrong_payloads() -> Vec<Case> {
    let nonsense = "musubi.standard.resident.v1.Nonsense";
    vec![
        (of_type(nonsense, vec![1]), "UNKNOWN_TYPE", "events[0].type"),
        (
            of_type(MOVED, vec![0xff; 3]),
            "UNDECODABLE_PAYLOAD",
            "events[0].data",
        ),
        (
            but(|event| event.data = vec![0; 256 * 1024 + 1].into()),
            "PAYLOAD_TOO_LARGE",
            "events[0].data",
        ),
        (
            with_unknown_gender(),
            "UNKNOWN_ENUM_VALUE",
            "events[0].data.record.gender",
        ),
        (
            with_building("番号は 123456789018 です"),
            "MY_NUMBER_IN_TEXT",
            "events[0].data.record.address.building",
        ),
    ]
}

fn wrong_groups() -> Vec<Case> {
    let loose = vec![moved("0000000001", 1), moved("0000000002", 1)];
    vec![
        (
            members(&[(1, 3), (2, 3)]),
            "GROUP_INCOMPLETE",
            "events[0].group.size",
        ),
        (
            members(&[(2, 2), (1, 2)]),
            "INVALID_FIELD",
            "events[0].group.seq",
        ),
        (unit(loose), "MISSING_FIELD", "events[0].group"),
        (unit(vec![]), "MISSING_FIELD", "events"),
    ]
}

fn cases() -> Vec<Case> {
    [wrong_envelopes(), wrong_payloads(), wrong_groups()].concat()
}

#[tokio::test]
async fn each_wrong_unit_is_refused_with_its_reason_and_field_and_the_others_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    for (wrong, reason, field) in cases() {
        let answers = hub.publish(vec![wrong]).await;
        let expected = (reason.to_owned(), format!("units[0].unit.{field}"));
        assert_eq!(refused(&answers[0]), expected);
    }
    // In one request with a right one, each gets its own answer, in order.
    let mut units: Vec<PublishUnit> = cases().into_iter().map(|case| case.0).collect();
    let right = moved("0000000009", 1);
    units.insert(3, unit(vec![right.clone()]));
    let answers = hub.publish(units).await;
    assert_eq!(answers.len(), cases().len() + 1);
    for (place, answer) in answers.iter().enumerate() {
        if place != 3 {
            let (_, field) = refused(answer);
            assert!(
                field.starts_with(&format!("units[{place}].unit")),
                "{field}"
            );
        }
    }
    let ask = ListEventsRequest {
        municipality: TOWN.to_owned(),
        ..ListEventsRequest::default()
    };
    let stored = hub
        .events()
        .list_events(ask)
        .await
        .unwrap()
        .into_inner()
        .events;
    let stored: Vec<&str> = stored
        .iter()
        .map(|s| s.event.as_ref().unwrap().id.as_str())
        .collect();
    assert_eq!(
        stored,
        [right.id.as_str()],
        "nothing of a refused unit is kept"
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_unit_without_content_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let answers = hub.publish(vec![PublishUnit::default()]).await;
    let expected = ("INVALID_FIELD".to_owned(), "units[0].content".to_owned());
    assert_eq!(refused(&answers[0]), expected);
    hub.stop().await;
}

#[tokio::test]
async fn a_request_that_is_wrong_as_a_whole_fails_with_its_field() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let long = CaptureCursor {
        value: "c".repeat(1_025),
    };
    let wrong = [
        (
            PublishRequest {
                municipality: "142041".to_owned(),
                ..request(vec![])
            },
            "INVALID_FIELD",
            "municipality",
        ),
        (
            PublishRequest {
                source: "urn:jp:lg:131016:system:001".to_owned(),
                ..request(vec![])
            },
            "INVALID_FIELD",
            "source",
        ),
        (
            request(vec![PublishUnit::default(); 1_001]),
            "TOO_MANY_UNITS",
            "units",
        ),
        (
            PublishRequest {
                cursor: Some(long),
                ..request(vec![])
            },
            "INVALID_FIELD",
            "cursor.value",
        ),
    ];
    for (wrong, reason, field) in wrong {
        let error = hub.events().publish(wrong).await.unwrap_err();
        assert_eq!(failed(&error), (reason.to_owned(), field.to_owned()));
    }
    // A message beyond what the hub reads at all.
    let huge = but(|event| event.data = vec![0; 5 * 1024 * 1024].into());
    let error = hub.events().publish(request(vec![huge])).await.unwrap_err();
    assert!(
        matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{error:?}"
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_refusal_never_repeats_a_value() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let answers = hub.publish(vec![with_building("号 123456789018")]).await;
    assert!(!format!("{answers:?}").contains("123456789018"));
    hub.stop().await;
}
