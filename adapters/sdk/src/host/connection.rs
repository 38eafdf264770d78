//! The way to the hub: address, token, channel, and what a refusal of the hub means.
//! Both runners open their clients here.
//! It must never print the token.
//! Read next: `deliver.rs` of this folder.

use std::fmt;
use std::time::Duration;

use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use crate::hub::delivery_service_client::DeliveryServiceClient;
use crate::hub::event_service_client::EventServiceClient;
use crate::limits::{
    CONNECT_TIMEOUT, FENCED_DELAY, GRPC_MESSAGE_BYTES_MAX, KEEP_ALIVE_INTERVAL, KEEP_ALIVE_TIMEOUT,
    NOT_BOUND_DELAY,
};

/// Where the hub is, who the caller is and for which municipality.
#[derive(Clone)]
pub struct HubAccess {
    /// Address of the hub, such as `http://127.0.0.1:50051`.
    pub endpoint: String,
    /// Bearer token; `None` where the hub listens on loopback only.
    pub token: Option<String>,
    /// 全国地方公共団体コード, six digits.
    pub municipality: String,
}

impl fmt::Debug for HubAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubAccess")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("municipality", &self.municipality)
            .finish()
    }
}

/// Why the hub was not reached or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HubError {
    /// The address or the token cannot be used at all.
    #[error("the access to the hub at `{endpoint}` is not usable: {what}")]
    Access {
        endpoint: String,
        what: &'static str,
    },
    /// The hub cannot be reached.
    #[error("connection to the hub at `{endpoint}` failed")]
    Connect {
        endpoint: String,
        #[source]
        cause: tonic::transport::Error,
    },
    /// The hub answered with an error.
    #[error("the hub answered {code:?} {reason}: {message}")]
    Status {
        code: Code,
        reason: String,
        message: String,
    },
    /// The stream ended.
    #[error("the stream to the hub ended")]
    Ended,
    /// Another binding serves the subscription.
    #[error("another binding with epoch {epoch} took over")]
    Fenced { epoch: u64 },
}

impl HubError {
    /// Least delay that this error asks for; `None` leaves it to the backoff.
    pub(crate) fn delay(&self) -> Option<Duration> {
        match self {
            Self::Fenced { .. } | Self::Access { .. } => Some(FENCED_DELAY),
            Self::Status { code, reason, .. } => match reason.as_str() {
                "NOT_BOUND" => Some(NOT_BOUND_DELAY),
                reason if reason.contains("FENCED") || reason.contains("EPOCH") => {
                    Some(FENCED_DELAY)
                }
                _ if matches!(code, Code::Unauthenticated | Code::PermissionDenied) => {
                    Some(FENCED_DELAY)
                }
                _ => None,
            },
            _ => None,
        }
    }
}

impl From<Status> for HubError {
    fn from(status: Status) -> Self {
        Self::Status {
            code: status.code(),
            reason: reason_of(&status),
            message: status.message().to_owned(),
        }
    }
}

/// `google.rpc.ErrorInfo`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
}

/// `google.rpc.Status`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// Stable reason in the details of a status; empty when there is none.
pub(crate) fn reason_of(status: &Status) -> String {
    let Ok(rich) = RichStatus::decode(status.details()) else {
        return String::new();
    };
    reason_in(&rich.details)
}

/// Stable reason in a list of details; empty when there is none.
pub(crate) fn reason_in(details: &[prost_types::Any]) -> String {
    details
        .iter()
        .filter(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo"))
        .find_map(|detail| ErrorInfo::decode(detail.value.as_slice()).ok())
        .map(|info| info.reason)
        .unwrap_or_default()
}

/// Adds the bearer token to each request.
#[derive(Clone)]
pub(crate) struct Bearer(Option<MetadataValue<Ascii>>);

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bearer(…)")
    }
}

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request
                .metadata_mut()
                .insert("authorization", value.clone());
        }
        Ok(request)
    }
}

type Authorised = InterceptedService<Channel, Bearer>;

/// Opens a channel and adds the token to it.
async fn connect(hub: &HubAccess) -> Result<(Channel, Bearer), HubError> {
    let unusable = |what| HubError::Access {
        endpoint: hub.endpoint.clone(),
        what,
    };
    let bearer = match &hub.token {
        None => Bearer(None),
        Some(token) => {
            Bearer(Some(format!("Bearer {token}").parse().map_err(|_| {
                unusable("the token holds characters that a header cannot")
            })?))
        }
    };
    let endpoint = Endpoint::from_shared(hub.endpoint.clone())
        .map_err(|_| unusable("the address is not a URI"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = endpoint
        .connect()
        .await
        .map_err(|cause| HubError::Connect {
            endpoint: hub.endpoint.clone(),
            cause,
        })?;
    Ok((channel, bearer))
}

/// Client of the delivery service.
pub(crate) async fn delivery_client(
    hub: &HubAccess,
) -> Result<DeliveryServiceClient<Authorised>, HubError> {
    let (channel, bearer) = connect(hub).await?;
    Ok(DeliveryServiceClient::with_interceptor(channel, bearer)
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX))
}

/// Client of the event service.
pub(crate) async fn event_client(
    hub: &HubAccess,
) -> Result<EventServiceClient<Authorised>, HubError> {
    let (channel, bearer) = connect(hub).await?;
    Ok(EventServiceClient::with_interceptor(channel, bearer)
        .max_decoding_message_size(GRPC_MESSAGE_BYTES_MAX)
        .max_encoding_message_size(GRPC_MESSAGE_BYTES_MAX))
}

/// Chain of an error's causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}
