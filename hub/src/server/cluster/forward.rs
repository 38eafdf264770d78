//! Passes a request on to the instance that owns its municipality.
//! Stands before the services; does nothing in a hub that is alone.
//! Must never pass on what was passed on once, nor read more of a request than its municipality.
//! Read next: `server/cluster.rs`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use prost::Message;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Request, Status};
use tower_layer::Layer;

use super::Cluster;
use crate::event::Municipality;
use crate::limits::{MESSAGE_BYTES_MAX, OWNER_LOOK, OWNER_WAIT};
use crate::server::auth::Caller;
use crate::server::hub::Hub;
use crate::server::status::Failure;

/// Says that an instance has passed the request on already.
const PASSED_ON: &str = "musubi-passed-on";
/// Bytes before a gRPC message: a flag and its length.
const FRAME_BYTES: usize = 5;

/// Puts `Forward` before the services.
#[derive(Clone, Debug)]
pub struct ForwardLayer(pub Arc<Hub>);

impl<S> Layer<S> for ForwardLayer {
    type Service = Forward<S>;

    fn layer(&self, inner: S) -> Forward<S> {
        Forward {
            hub: self.0.clone(),
            inner,
        }
    }
}

/// The services, with the way to other instances.
#[derive(Clone, Debug)]
pub struct Forward<S> {
    hub: Arc<Hub>,
    inner: S,
}

type Answer = http::Response<Body>;

impl<S> Service<http::Request<Body>> for Forward<S>
where
    S: Service<http::Request<Body>, Response = Answer, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
{
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let Some(cluster) = self.hub.cluster().filter(|_| is_for_owner(&request)) else {
            return Box::pin(self.inner.call(request));
        };
        let fresh = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, fresh);
        let hub = self.hub.clone();
        Box::pin(async move {
            match pass_on(&hub, &cluster, request).await {
                Passed::Here(request) => inner.call(request).await,
                Passed::Answered(answer) => Ok(answer),
            }
        })
    }
}

/// Requests with one message that names its municipality first. A stream of an adapter is not
/// passed on: the adapter goes to the owner itself.
fn is_for_owner(request: &http::Request<Body>) -> bool {
    let path = request.uri().path();
    path.starts_with("/musubi.hub.v1.") && path != "/musubi.hub.v1.DeliveryService/Attach"
}

/// Says so of a request to another instance.
pub(crate) fn mark_passed_on(metadata: &mut MetadataMap) {
    metadata.insert(PASSED_ON, MetadataValue::from_static("1"));
}

/// An instance asks for what this one knows, not for what all know.
pub(crate) fn was_passed_on(metadata: &MetadataMap) -> bool {
    metadata.contains_key(PASSED_ON)
}

enum Passed {
    Here(http::Request<Body>),
    Answered(Answer),
}

impl Passed {
    fn refused(failure: Failure) -> Self {
        Self::Answered(Status::from(failure).into_http())
    }
}

async fn pass_on(hub: &Hub, cluster: &Cluster, request: http::Request<Body>) -> Passed {
    let (parts, body) = request.into_parts();
    // Before anything of it is kept: a stranger costs nothing.
    if let Err(failure) = caller(hub, &parts) {
        return Passed::refused(failure);
    }
    let Ok(body) = Limited::new(body, MESSAGE_BYTES_MAX + FRAME_BYTES)
        .collect()
        .await
    else {
        let message = format!("a message has at most {MESSAGE_BYTES_MAX} bytes");
        return Passed::Answered(Status::out_of_range(message).into_http());
    };
    let bytes = body.to_bytes();
    let here = |parts, bytes| {
        Passed::Here(http::Request::from_parts(
            parts,
            Body::new(Full::new(bytes)),
        ))
    };
    // The service itself says what is wrong with one that names none.
    let Some(m) = municipality_in(&bytes) else {
        return here(parts, bytes);
    };
    let _room = match hub.publish_bytes.enter(bytes.len()) {
        Ok(room) => room,
        Err(failure) => return Passed::refused(failure),
    };
    let began = Instant::now();
    loop {
        let address = match whose(hub, cluster, &m, &parts).await {
            Ok(Whose::Ours) => return here(parts, bytes),
            Ok(Whose::At(address)) => address,
            Err(failure) => return Passed::refused(failure),
        };
        let mut sent = parts.clone();
        sent.headers
            .insert(PASSED_ON, http::HeaderValue::from_static("1"));
        let request = http::Request::from_parts(sent, Body::new(Full::new(bytes.clone())));
        let error = match ask(cluster, &address, request).await {
            Ok(answer) => return Passed::Answered(answer),
            Err(Some(error)) => error,
            Err(None) => return Passed::refused(Failure::not_owner(&m, None)),
        };
        // An owner that is gone is replaced when its lease is over; it has not heard of this.
        if !never_sent(&error) || began.elapsed() >= OWNER_WAIT {
            return lost(&m, &error);
        }
        tokio::time::sleep(OWNER_LOOK).await;
    }
}

/// Asks another instance. `Err(None)`: its address is none.
async fn ask(
    cluster: &Cluster,
    address: &str,
    request: http::Request<Body>,
) -> Result<Answer, Option<tonic::transport::Error>> {
    let mut peer = cluster.peer(address).ok_or(None)?;
    futures::future::poll_fn(|context| peer.poll_ready(context)).await?;
    Ok(peer.call(request).await?)
}

/// No connection was made, so nothing of the request has left.
fn never_sent(error: &tonic::transport::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = cause {
        if inner.is::<tonic::ConnectError>() {
            return true;
        }
        cause = inner.source();
    }
    false
}

/// The owner did not answer: what was asked may or may not be done.
fn lost(m: &Municipality, error: &tonic::transport::Error) -> Passed {
    tracing::debug!(%error, municipality = m.as_str(), "the owner did not answer");
    Passed::refused(Failure::not_owner(m, None))
}

enum Whose {
    Ours,
    At(String),
}

/// Finds the owner; waits for one while the municipality is changing hands, is new, or is being
/// opened here. What was passed on once stays here or is refused.
async fn whose(
    hub: &Hub,
    cluster: &Cluster,
    m: &Municipality,
    parts: &http::request::Parts,
) -> Result<Whose, Failure> {
    if let Some(whose) = whose_now(hub, cluster, m, parts).await? {
        return Ok(whose);
    }
    let _place = cluster.waiting.enter(1)?;
    // Only who has to do with a municipality makes it known.
    caller(hub, parts)?.belongs_to(m)?;
    let since = Instant::now();
    let preparing = cluster.new_towns.prepare(m);
    tokio::pin!(preparing);
    let mut prepared = None;
    while since.elapsed() < OWNER_WAIT {
        tokio::select! {
            made = &mut preparing, if prepared.is_none() => prepared = Some(made),
            () = tokio::time::sleep(OWNER_LOOK) => {}
        }
        if let Some(whose) = whose_now(hub, cluster, m, parts).await? {
            return Ok(whose);
        }
    }
    // One that is there and changes hands needs no brokers for this; a new one does.
    prepared.unwrap_or(Ok(()))?;
    Err(Failure::not_owner(m, None))
}

async fn whose_now(
    hub: &Hub,
    cluster: &Cluster,
    m: &Municipality,
    parts: &http::request::Parts,
) -> Result<Option<Whose>, Failure> {
    hub.must_have_its_store(m)?;
    if hub.open_town(m).await.is_some() {
        return Ok(Some(Whose::Ours));
    }
    let Some(address) = cluster.elsewhere(m).await? else {
        return Ok(None);
    };
    match parts.headers.contains_key(PASSED_ON) {
        true => Err(Failure::not_owner(m, Some(address))),
        false => Ok(Some(Whose::At(address))),
    }
}

fn caller(hub: &Hub, parts: &http::request::Parts) -> Result<Caller, Failure> {
    let metadata = MetadataMap::from_headers(parts.headers.clone());
    let request = Request::from_parts(metadata, tonic::Extensions::default(), ());
    hub.tokens.caller(&request)
}

/// The first field of every request: a municipality, or a subscription that begins with one.
#[derive(Clone, PartialEq, Message)]
struct First {
    #[prost(string, tag = "1")]
    municipality: String,
}

fn municipality_in(frame: &Bytes) -> Option<Municipality> {
    let message = frame.get(FRAME_BYTES..)?;
    let first = First::decode(message).ok()?.municipality;
    let code = first.split('/').next()?;
    Municipality::parse(code)
}

#[cfg(test)]
mod tests {
    use musubi_proto::hub::v1::{ListSubscriptionsRequest, StartReplayRequest};

    use super::*;

    fn frame(message: &impl Message) -> Bytes {
        let mut bytes = vec![0; FRAME_BYTES];
        bytes.extend(message.encode_to_vec());
        bytes.into()
    }

    #[test]
    fn a_request_names_its_municipality_first_also_by_a_subscription() {
        let list = ListSubscriptionsRequest {
            municipality: "142042".to_owned(),
        };
        let replay = StartReplayRequest {
            subscription: "142042/026".to_owned(),
            ..Default::default()
        };
        for frame in [frame(&list), frame(&replay)] {
            assert_eq!(municipality_in(&frame), Municipality::parse("142042"));
        }
        assert_eq!(municipality_in(&Bytes::from_static(b"\0\0\0")), None);
        let none = frame(&ListSubscriptionsRequest::default());
        assert_eq!(municipality_in(&none), None);
    }
}
