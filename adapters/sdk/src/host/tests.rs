//! Both runners against a hub that the test plays, over a real connection.

mod capture;
mod deliver;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use super::HubAccess;
use super::connection::HubError;
use crate::hub::delivery_service_server::{DeliveryService, DeliveryServiceServer};
use crate::hub::event_service_server::{EventService, EventServiceServer};
use crate::hub::{
    AttachRequest, AttachResponse, FetchMissedRequest, FetchMissedResponse,
    GetCaptureCursorRequest, GetCaptureCursorResponse, GetEventRequest, GetEventResponse,
    ListEventsRequest, ListEventsResponse, PublishRequest, PublishResponse,
};
use crate::limits::{FENCED_DELAY, NOT_BOUND_DELAY};

/// One stream that an adapter opened: what it says, and what the test says back.
struct Attached {
    authorization: Option<String>,
    said: Streaming<AttachRequest>,
    say: mpsc::Sender<Result<AttachResponse, Status>>,
}

/// A call that waits for the test's answer.
struct Call<Q, A> {
    asked: Q,
    answer: tokio::sync::oneshot::Sender<Result<A, Status>>,
}

/// The hub that the test plays.
#[derive(Clone)]
struct Played {
    attached: mpsc::Sender<Attached>,
    cursors: mpsc::Sender<Call<GetCaptureCursorRequest, GetCaptureCursorResponse>>,
    published: mpsc::Sender<Call<PublishRequest, PublishResponse>>,
}

async fn ask<Q, A>(calls: &mpsc::Sender<Call<Q, A>>, asked: Q) -> Result<Response<A>, Status> {
    let (answer, answered) = tokio::sync::oneshot::channel();
    let gone = || Status::new(Code::Unavailable, "the test is over");
    calls
        .send(Call { asked, answer })
        .await
        .map_err(|_| gone())?;
    answered.await.map_err(|_| gone())?.map(Response::new)
}

#[tonic::async_trait]
impl DeliveryService for Played {
    type AttachStream = ReceiverStream<Result<AttachResponse, Status>>;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let authorization = request
            .metadata()
            .get("authorization")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let (say, answers) = mpsc::channel(8);
        let attached = Attached {
            authorization,
            said: request.into_inner(),
            say,
        };
        let gone = || Status::new(Code::Unavailable, "the test is over");
        self.attached.send(attached).await.map_err(|_| gone())?;
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn fetch_missed(
        &self,
        _: Request<FetchMissedRequest>,
    ) -> Result<Response<FetchMissedResponse>, Status> {
        Err(Status::new(Code::Unimplemented, "not played"))
    }
}

#[tonic::async_trait]
impl EventService for Played {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        ask(&self.published, request.into_inner()).await
    }

    async fn get_event(
        &self,
        _: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        Err(Status::new(Code::Unimplemented, "not played"))
    }

    async fn list_events(
        &self,
        _: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        Err(Status::new(Code::Unimplemented, "not played"))
    }

    async fn get_capture_cursor(
        &self,
        request: Request<GetCaptureCursorRequest>,
    ) -> Result<Response<GetCaptureCursorResponse>, Status> {
        ask(&self.cursors, request.into_inner()).await
    }
}

/// The test's side of the hub.
struct Hub {
    access: HubAccess,
    attached: mpsc::Receiver<Attached>,
    cursors: mpsc::Receiver<Call<GetCaptureCursorRequest, GetCaptureCursorResponse>>,
    published: mpsc::Receiver<Call<PublishRequest, PublishResponse>>,
    stop: CancellationToken,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn play() -> Hub {
    let (attached_in, attached) = mpsc::channel(8);
    let (cursors_in, cursors) = mpsc::channel(8);
    let (published_in, published) = mpsc::channel(8);
    let played = Played {
        attached: attached_in,
        cursors: cursors_in,
        published: published_in,
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let server = Server::builder()
        .add_service(DeliveryServiceServer::new(played.clone()))
        .add_service(EventServiceServer::new(played))
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
    tokio::spawn(server);
    let access = HubAccess {
        endpoint: format!("http://{address}"),
        token: Some("secret-token".to_owned()),
        municipality: "142042".to_owned(),
    };
    Hub {
        access,
        attached,
        cursors,
        published,
        stop,
    }
}

/// A status as the hub makes it, with a stable reason.
fn status(code: Code, reason: &str) -> Status {
    // google.rpc.ErrorInfo{reason} in an Any, in google.rpc.Status.details.
    let info = ReasonOnly {
        reason: reason.to_owned(),
    }
    .encode_to_vec();
    let any = prost_types::Any {
        type_url: "type.googleapis.com/google.rpc.ErrorInfo".to_owned(),
        value: info,
    };
    let rich = DetailsOnly { details: vec![any] };
    Status::with_details(code, "as the test says", rich.encode_to_vec().into())
}

#[derive(Clone, PartialEq, Message)]
struct ReasonOnly {
    #[prost(string, tag = "1")]
    reason: String,
}

#[derive(Clone, PartialEq, Message)]
struct DetailsOnly {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

#[test]
fn errors_of_the_hub_say_how_long_to_wait() {
    let refused = HubError::from(status(Code::FailedPrecondition, "NOT_BOUND"));
    assert!(matches!(refused, HubError::Status { reason, .. } if reason == "NOT_BOUND"));
    for (error, delay) in [
        (
            HubError::from(status(Code::FailedPrecondition, "NOT_BOUND")),
            Some(NOT_BOUND_DELAY),
        ),
        (
            HubError::from(status(Code::FailedPrecondition, "FENCED")),
            Some(FENCED_DELAY),
        ),
        (
            HubError::from(status(Code::PermissionDenied, "")),
            Some(FENCED_DELAY),
        ),
        (
            HubError::from(status(Code::Unavailable, "OVERLOADED")),
            None,
        ),
        (HubError::Fenced { epoch: 3 }, Some(FENCED_DELAY)),
        (HubError::Ended, None),
    ] {
        assert_eq!(error.delay(), delay, "{error}");
    }
}

#[test]
fn the_token_is_never_printed() {
    let access = HubAccess {
        endpoint: "http://127.0.0.1:1".to_owned(),
        token: Some("secret-token".to_owned()),
        municipality: "142042".to_owned(),
    };
    assert!(!format!("{access:?}").contains("secret"));
}

/// What an adapter or a capture under test notes.
type Notes<T> = Arc<Mutex<Vec<T>>>;
