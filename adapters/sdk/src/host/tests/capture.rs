//! Captures: the cursor decides, a page is published whole or captured again.

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{Hub, Notes, play, status};
use crate::capture::{Capture, CaptureError, Page, SourceSpec};
use crate::hub::{
    Accepted, CaptureCursor, GetCaptureCursorResponse, PublishRequest, PublishResponse,
    PublishUnit, Stream, UnitAnswer, unit_answer::Answer,
};

/// Gives pages 1, 2, 3 … after its cursor.
struct Counting {
    at: u32,
    resumed: Notes<Option<String>>,
}

#[async_trait]
impl Capture for Counting {
    fn source(&self) -> SourceSpec {
        SourceSpec {
            municipality: "142042".to_owned(),
            source: "urn:jp:lg:142042:system:001".to_owned(),
            product: "tsubame".to_owned(),
        }
    }

    async fn resume(&mut self, cursor: Option<String>) -> Result<(), CaptureError> {
        self.at = cursor
            .as_deref()
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        self.resumed.lock().unwrap().push(cursor);
        Ok(())
    }

    async fn next(&mut self) -> Result<Page, CaptureError> {
        self.at += 1;
        Ok(Page {
            stream: Stream::Live,
            units: vec![PublishUnit::default()],
            cursor: self.at.to_string(),
        })
    }
}

struct Running {
    hub: Hub,
    resumed: Notes<Option<String>>,
    shutdown: CancellationToken,
    runner: tokio::task::JoinHandle<()>,
}

async fn start() -> Running {
    let hub = play().await;
    let resumed = Notes::default();
    let capture = Counting {
        at: 0,
        resumed: std::sync::Arc::clone(&resumed),
    };
    let shutdown = CancellationToken::new();
    let runner = tokio::spawn(crate::host::run_capture(
        hub.access.clone(),
        Box::new(capture),
        shutdown.clone(),
    ));
    Running {
        hub,
        resumed,
        shutdown,
        runner,
    }
}

async fn answer_cursor(running: &mut Running, cursor: Option<&str>, capture_epoch: u64) {
    let call = running.hub.cursors.recv().await.unwrap();
    assert_eq!(call.asked.source, "urn:jp:lg:142042:system:001");
    let cursor = cursor.map(|value| CaptureCursor {
        value: value.to_owned(),
    });
    assert!(
        call.answer
            .send(Ok(GetCaptureCursorResponse {
                cursor,
                capture_epoch
            }))
            .is_ok()
    );
}

fn accepted() -> Result<PublishResponse, tonic::Status> {
    let answer = Some(Answer::Accepted(Accepted::default()));
    Ok(PublishResponse {
        answers: vec![UnitAnswer { answer }],
    })
}

async fn published(
    running: &mut Running,
    answer: Result<PublishResponse, tonic::Status>,
) -> PublishRequest {
    let call = running.hub.published.recv().await.unwrap();
    assert!(call.answer.send(answer).is_ok());
    call.asked
}

fn cursor_of(request: &PublishRequest) -> &str {
    request
        .cursor
        .as_ref()
        .map_or("", |cursor| cursor.value.as_str())
}

#[tokio::test]
async fn pages_follow_each_other_with_cursor_and_epoch() {
    let mut running = start().await;
    answer_cursor(&mut running, Some("7"), 4).await;
    for cursor in ["8", "9"] {
        let request = published(&mut running, accepted()).await;
        assert_eq!((cursor_of(&request), request.capture_epoch), (cursor, 4));
        assert_eq!(request.stream(), Stream::Live);
    }
    running.shutdown.cancel();
    running.runner.await.unwrap();
}

#[tokio::test]
async fn whatever_went_wrong_is_captured_again_from_the_hubs_cursor() {
    let mut running = start().await;
    answer_cursor(&mut running, None, 1).await;
    let refused = UnitAnswer {
        answer: Some(Answer::Refused(Default::default())),
    };
    for answer in [
        Err(status(Code::Unavailable, "NOT_DURABLE")),
        Ok(PublishResponse {
            answers: Vec::new(),
        }),
        Ok(PublishResponse {
            answers: vec![UnitAnswer::default()],
        }),
        Ok(PublishResponse {
            answers: vec![refused],
        }),
    ] {
        let request = published(&mut running, answer).await;
        assert_eq!(cursor_of(&request), "1");
        answer_cursor(&mut running, None, 1).await;
    }
    published(&mut running, accepted()).await;
    let request = published(&mut running, Err(status(Code::Unavailable, ""))).await;
    assert_eq!(cursor_of(&request), "2");
    // The page was stored, though no answer came: the hub's cursor says so.
    answer_cursor(&mut running, Some("2"), 1).await;
    let request = published(&mut running, accepted()).await;
    assert_eq!(cursor_of(&request), "3");
    let resumed = running.resumed.lock().unwrap().clone();
    assert_eq!(resumed.last(), Some(&Some("2".to_owned())));
}

#[tokio::test]
async fn a_source_that_is_not_bound_publishes_nothing() {
    let mut running = start().await;
    answer_cursor(&mut running, None, 0).await;
    answer_cursor(&mut running, None, 1).await;
    let request = published(&mut running, accepted()).await;
    assert_eq!(request.capture_epoch, 1);
}
