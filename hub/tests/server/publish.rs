//! Publishing and reading back.

use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    BindSourceRequest, CaptureCursor, GetCaptureCursorRequest, GetEventRequest, ListEventsRequest,
    PublishRequest,
};
use tonic::Code;

use super::stage::{Hub, SOURCE, TOWN, failed, moved, refused, request, unit};

#[tokio::test]
async fn an_event_is_stored_as_it_was_given_and_read_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let event = moved("0000000001", 1);
    let position = hub.accept(event.clone()).await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let ask = GetEventRequest {
        municipality: TOWN.to_owned(),
        id: event.id.clone(),
    };
    let stored = hub
        .events()
        .get_event(ask)
        .await
        .unwrap()
        .into_inner()
        .stored
        .unwrap();
    assert_eq!(stored.position, position);
    let read = stored.event.unwrap();
    assert_eq!((&read.data, &read.subject), (&event.data, &event.subject));
    assert!(read.recorded_at.is_some());
    let ask = ListEventsRequest {
        municipality: TOWN.to_owned(),
        page_size: 10,
        ..ListEventsRequest::default()
    };
    let listed = hub.events().list_events(ask).await.unwrap().into_inner();
    assert_eq!(listed.events.len(), 1);
    let ask = GetEventRequest {
        municipality: TOWN.to_owned(),
        id: "none".to_owned(),
    };
    let error = hub.events().get_event(ask).await.unwrap_err();
    assert_eq!(
        (error.code(), failed(&error).0.as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
    hub.stop().await;
}

#[tokio::test]
async fn the_same_event_is_acknowledged_again_and_stands_once() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let event = moved("0000000001", 1);
    let position = hub.accept(event.clone()).await;
    hub.stop().await;
    let hub = Hub::start(folder.path()).await;
    let answers = hub.publish(vec![unit(vec![event.clone()])]).await;
    let Some(Answer::Accepted(accepted)) = &answers[0].answer else {
        panic!("{answers:?}");
    };
    assert_eq!((accepted.position, accepted.duplicate), (position, true));
    let mut other = event;
    other.data = moved("0000000001", 1).data[..].to_vec().into();
    other.source_digest = vec![7; 32].into();
    let answers = hub.publish(vec![unit(vec![other])]).await;
    assert_eq!(
        refused(&answers[0]),
        ("ID_REUSED".to_owned(), "id".to_owned())
    );
    hub.stop().await;
}

#[tokio::test]
async fn a_replaced_capture_publishes_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await;
    let bind = |product: &str| BindSourceRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        product: product.to_owned(),
        operator: "operator".to_owned(),
        reason: "story".to_owned(),
    };
    let old = hub
        .admin()
        .bind_source(bind("tsubame"))
        .await
        .unwrap()
        .into_inner();
    let page = |epoch: u64, name: &str, cursor: &str| PublishRequest {
        capture_epoch: epoch,
        cursor: Some(CaptureCursor {
            value: cursor.to_owned(),
        }),
        ..request(vec![unit(vec![moved(name, 1)])])
    };
    let old = old.capture_epoch;
    hub.events()
        .publish(page(old, "0000000001", "c1"))
        .await
        .unwrap();
    let new = hub
        .admin()
        .bind_source(bind("suzume"))
        .await
        .unwrap()
        .into_inner()
        .capture_epoch;
    let late = hub
        .events()
        .publish(page(old, "0000000002", "c2"))
        .await
        .unwrap_err();
    assert_eq!(
        failed(&late),
        ("FENCED".to_owned(), "capture_epoch".to_owned())
    );
    hub.events()
        .publish(page(new, "0000000003", "c3"))
        .await
        .unwrap();
    let ask = GetCaptureCursorRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        ..GetCaptureCursorRequest::default()
    };
    let capture = hub
        .events()
        .get_capture_cursor(ask)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(capture.cursor.unwrap().value, "c3");
    hub.stop().await;
}
