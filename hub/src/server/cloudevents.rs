//! CloudEvents 1.0 over HTTP, on the port of gRPC: the front door for clients without gRPC.
//! Reads the events (`cloudevents/read.rs`) and publishes them through the EventService.
//! Must never judge or keep an event itself: what gRPC answers is the answer here too.
//! Read next: `cloudevents/read.rs`, `cloudevents/answer.rs`.

mod answer;
mod read;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use musubi_proto::hub::v1::event_service_client::EventServiceClient;
use musubi_proto::hub::v1::event_service_server::EventServiceServer;
use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::{PublishRequest, PublishUnit, Stream, Unit, UnitAnswer};
use serde::Deserialize;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Extensions, Request, Status};

use self::answer::Problem;
use self::read::Events as Read;
use super::cluster::forward::Forward;
use super::event_service::Events;
use super::gate::Gate;
use super::hub::Hub;
use super::status::Failure;
use crate::limits::{HTTP_BODIES_BYTES, HTTP_BODY_BYTES_MAX, HTTP_BODY_WITHIN, OVERLOAD_RETRY};

/// The EventService as gRPC clients reach it, at whichever instance.
type Service = Forward<EventServiceServer<Events>>;

#[derive(Clone, Debug)]
struct Door {
    hub: Arc<Hub>,
    service: Service,
    bodies: Gate,
}

/// The routes; everything that is neither one of them nor gRPC is not found.
pub(super) fn routes(hub: Arc<Hub>, service: Service) -> Router {
    let door = Door {
        hub,
        service,
        bodies: Gate::new(HTTP_BODIES_BYTES, OVERLOAD_RETRY),
    };
    Router::new()
        .route("/v1/municipalities/{code}/events", post(publish))
        .fallback(unknown)
        .with_state(door)
}

/// A gRPC client hears it as gRPC says it; to any other, success would be a lie.
async fn unknown(headers: HeaderMap) -> Response {
    if read::media_type(&headers).starts_with("application/grpc") {
        return Status::unimplemented("").into_http::<Body>();
    }
    let message = "publish to `/v1/municipalities/<code>/events`";
    Problem::new(StatusCode::NOT_FOUND, "NOT_FOUND", message).into_response()
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Options {
    #[serde(default)]
    stream: StreamName,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum StreamName {
    #[default]
    Live,
    Bulk,
}

async fn publish(
    State(door): State<Door>,
    Path(code): Path<String>,
    options: Result<Query<Options>, QueryRejection>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let Ok(Query(options)) = options else {
        let message = "the only option is `stream`, which is `live` or `bulk`";
        return Problem::invalid("stream", message).into_response();
    };
    match door.publish(code, options.stream, &headers, body).await {
        Ok(answered) => answered,
        Err(problem) => problem.into_response(),
    }
}

impl Door {
    async fn publish(
        mut self,
        municipality: String,
        stream: StreamName,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Response, Problem> {
        // Before anything is read: a refusal must cost next to nothing.
        let metadata = authorization(headers);
        let asked = Request::from_parts(metadata.clone(), Extensions::default(), ());
        self.hub.tokens.caller(&asked).map_err(refused)?;
        let _pass = self.bodies.enter(announced(headers)?).map_err(refused)?;
        let body = collect(body, HTTP_BODY_WITHIN).await?;
        let Read { batch, events } = read::events(&municipality, headers, body)?;
        // Each unit has its own answer, also one that cannot be read.
        let mut right = Vec::new();
        let refused: Vec<Option<Problem>> = read::units(events)
            .into_iter()
            .map(|unit| unit.map(|unit| right.push(unit)).err())
            .collect();
        let request = request(municipality, stream, right);
        let request = Request::from_parts(metadata, Extensions::default(), request);
        let mut answers = self.ask(request).await?.into_iter();
        let answers = refused.into_iter().filter_map(|refused| match refused {
            Some(problem) => Some(Err(problem)),
            None => answers.next().map(answer::read),
        });
        Ok(answer::response(batch, &answers.collect::<Vec<_>>()))
    }

    /// Publishes as a gRPC client does; a request in which nothing is left to publish is not sent.
    async fn ask(&mut self, request: Request<PublishRequest>) -> Result<Vec<UnitAnswer>, Problem> {
        if request.get_ref().units.is_empty() {
            return Ok(Vec::new());
        }
        let mut client = EventServiceClient::new(&mut self.service);
        let answered = client.publish(request).await;
        let answered = answered.map_err(|status| Problem::of_call(&status))?;
        Ok(answered.into_inner().answers)
    }
}

fn request(municipality: String, stream: StreamName, units: Vec<Unit>) -> PublishRequest {
    let first = units.first().and_then(|unit| unit.events.first());
    PublishRequest {
        municipality,
        source: first.map_or_else(String::new, |event| event.source.clone()),
        stream: match stream {
            StreamName::Live => Stream::Live,
            StreamName::Bulk => Stream::Bulk,
        } as i32,
        units: units
            .into_iter()
            .map(|unit| PublishUnit {
                content: Some(Content::Unit(unit)),
                ..PublishUnit::default()
            })
            .collect(),
        ..PublishRequest::default()
    }
}

fn refused(failure: Failure) -> Problem {
    Problem::of(&failure.rpc())
}

/// What a gRPC call carries of the headers.
fn authorization(headers: &HeaderMap) -> MetadataMap {
    let mut metadata = MetadataMap::new();
    let token = headers.get(AUTHORIZATION);
    if let Some(token) = token.and_then(|token| MetadataValue::try_from(token.as_bytes()).ok()) {
        metadata.insert("authorization", token);
    }
    metadata
}

/// Bytes that the body may need: those that are announced, or else the most.
fn announced(headers: &HeaderMap) -> Result<usize, Problem> {
    let length = headers.get(CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
    match length.unwrap_or(HTTP_BODY_BYTES_MAX) {
        length if length > HTTP_BODY_BYTES_MAX => Err(too_large()),
        length => Ok(length),
    }
}

async fn collect(body: Body, within: Duration) -> Result<Bytes, Problem> {
    let mut chunks = body.into_data_stream();
    let whole = async {
        let mut bytes = BytesMut::new();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| late())?;
            if bytes.len() + chunk.len() > HTTP_BODY_BYTES_MAX {
                return Err(too_large());
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.freeze())
    };
    let read = tokio::time::timeout(within, whole).await;
    read.unwrap_or_else(|_| Err(late()))
}

fn too_large() -> Problem {
    let message = format!("a body has at most {HTTP_BODY_BYTES_MAX} bytes; send several");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", message)
}

fn late() -> Problem {
    let seconds = HTTP_BODY_WITHIN.as_secs();
    let message = format!("the body did not come whole within {seconds} s; send it again");
    Problem::new(StatusCode::REQUEST_TIMEOUT, "BODY_LATE", message)
}

#[cfg(test)]
mod tests;
