//! The way to the hub: address, token, channel, and what a refusal of the hub means.
//! Both runners open their clients here.
//! It must never print the token.
//! Read next: `deliver.rs` of this folder.

use std::collections::HashMap;
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
    NOT_BOUND_DELAY, NOT_OWNER_DELAY,
};

/// Where the hub is, who the caller is and for which municipality.
#[derive(Clone)]
pub struct HubAccess {
    /// Address of the hub, such as `http://127.0.0.1:50051`; of one with several instances those
    /// of some of them, separated by commas.
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
        /// Address of the instance that serves the municipality, when another one was asked.
        owner: Option<String>,
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
                "NOT_OWNER" => Some(NOT_OWNER_DELAY),
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
        let info = info_of(&status);
        Self::Status {
            code: status.code(),
            reason: info.reason,
            message: status.message().to_owned(),
            owner: info.metadata.get("address").cloned(),
        }
    }
}

/// `google.rpc.ErrorInfo`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct ErrorInfo {
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(map = "string, string", tag = "3")]
    metadata: HashMap<String, String>,
}

/// `google.rpc.Status`, as far as it is read here.
#[derive(Clone, PartialEq, Message)]
struct RichStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

/// What the details of a status say; nothing when there are none.
fn info_of(status: &Status) -> ErrorInfo {
    let rich = RichStatus::decode(status.details()).unwrap_or_default();
    info_in(&rich.details)
}

fn info_in(details: &[prost_types::Any]) -> ErrorInfo {
    details
        .iter()
        .filter(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo"))
        .find_map(|detail| ErrorInfo::decode(detail.value.as_slice()).ok())
        .unwrap_or_default()
}

/// Stable reason in a list of details; empty when there is none.
pub(crate) fn reason_in(details: &[prost_types::Any]) -> String {
    info_in(details).reason
}

/// Which instance of the hub is tried next: the one that another one named, else the next of those
/// that are known.
#[derive(Debug)]
pub(crate) struct Way {
    hub: HubAccess,
    known: Vec<String>,
    next: usize,
    named: Option<String>,
}

impl Way {
    pub(crate) fn new(hub: HubAccess) -> Self {
        let known = hub.endpoint.split(',').map(|one| one.trim().to_owned());
        Self {
            known: known.collect(),
            hub,
            next: 0,
            named: None,
        }
    }

    /// The access to the instance that is tried now.
    pub(crate) fn access(&self) -> HubAccess {
        let known = self.known.get(self.next).cloned().unwrap_or_default();
        HubAccess {
            endpoint: self.named.clone().unwrap_or(known),
            ..self.hub.clone()
        }
    }

    /// Takes in what the last attempt said.
    pub(crate) fn failed(&mut self, error: &HubError) {
        let away = match error {
            HubError::Connect { .. } | HubError::Ended => true,
            // It lives, and can do nothing now: another one may.
            HubError::Status { code, .. } => *code == Code::Unavailable,
            _ => false,
        };
        let owner = match error {
            HubError::Status { owner, .. } => owner.clone(),
            _ => None,
        };
        if owner.is_some() || self.named.is_some() {
            self.named = owner;
        } else if away {
            self.next = (self.next + 1) % self.known.len().max(1);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn way(endpoint: &str) -> Way {
        Way::new(HubAccess {
            endpoint: endpoint.to_owned(),
            token: None,
            municipality: "142042".to_owned(),
        })
    }

    fn not_owner(owner: Option<&str>) -> HubError {
        HubError::Status {
            code: Code::Unavailable,
            reason: "NOT_OWNER".to_owned(),
            message: String::new(),
            owner: owner.map(str::to_owned),
        }
    }

    #[test]
    fn a_lost_instance_gives_way_to_the_next_and_the_last_to_the_first() {
        let mut way = way("http://a:1, http://b:2");
        assert_eq!(way.access().endpoint, "http://a:1");
        way.failed(&HubError::Ended);
        assert_eq!(way.access().endpoint, "http://b:2");
        way.failed(&HubError::Ended);
        assert_eq!(way.access().endpoint, "http://a:1");
        way.failed(&HubError::Fenced { epoch: 2 });
        assert_eq!(way.access().endpoint, "http://a:1", "it is not away");
    }

    #[test]
    fn an_instance_that_lives_and_can_do_nothing_gives_way_too() {
        let mut way = way("http://a:1, http://b:2");
        way.failed(&not_owner(None));
        assert_eq!(way.access().endpoint, "http://b:2");
    }

    #[test]
    fn the_owner_that_an_instance_names_is_asked_until_it_is_lost() {
        let mut way = way("http://a:1");
        way.failed(&not_owner(Some("http://c:3")));
        assert_eq!(way.access().endpoint, "http://c:3");
        way.failed(&not_owner(Some("http://d:4")));
        assert_eq!(way.access().endpoint, "http://d:4");
        way.failed(&HubError::Ended);
        assert_eq!(way.access().endpoint, "http://a:1");
        way.failed(&not_owner(None));
        assert_eq!(way.access().endpoint, "http://a:1");
    }
}
