//! gRPC as bytes: any body, any frame, any header, and whatever the hub says to it.
//! For requests that no generated client can make.
//! Must never hide an answer without a status: that is what a panic looks like.
//! Read next: `data.rs`.

use anyhow::{Context, Result};
use http_body_util::{BodyExt, Full};
use musubi_e2e::Hub;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

/// Path of the publish call.
pub const PUBLISH: &str = "/musubi.hub.v1.EventService/Publish";
/// Path of the adapters' stream.
pub const ATTACH: &str = "/musubi.hub.v1.DeliveryService/Attach";

/// What the hub answered.
#[derive(Debug, Clone)]
pub struct Said {
    /// The status; none when the stream or the connection broke.
    pub status: Option<Status>,
    /// Body, with its frames.
    pub body: Bytes,
    /// What broke.
    pub broken: Option<String>,
}

impl Said {
    /// The code; none when the stream broke.
    pub fn code(&self) -> Option<Code> {
        self.status.as_ref().map(Status::code)
    }

    /// The first message of the body.
    pub fn message(&self) -> &[u8] {
        self.body.get(5..).unwrap_or_default()
    }
}

/// A connection for wrong requests.
#[derive(Debug, Clone)]
pub struct Wire {
    channel: Channel,
}

impl Wire {
    /// Connects to a hub.
    pub async fn connect(hub: &Hub) -> Result<Self> {
        let endpoint = Endpoint::from_shared(hub.url())?;
        let channel = endpoint.connect().await.context("connect to the hub")?;
        Ok(Self { channel })
    }

    /// Sends a body as it is, with further headers; waits for the whole answer.
    pub async fn send(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Said> {
        let mut request = http::Request::post(path)
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::new(Full::new(Bytes::from(body))))?;
        let mut channel = self.channel.clone();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await?;
        let response = match channel.call(request).await {
            Ok(response) => response,
            Err(error) => return Ok(broken(format!("{error:?}"))),
        };
        let (head, body) = response.into_parts();
        let early = Status::from_header_map(&head.headers);
        let collected = match body.collect().await {
            Ok(collected) => collected,
            // A status in the head counts, whatever became of the rest.
            Err(_) if early.is_some() => return Ok(said(early, Bytes::new())),
            Err(error) => return Ok(broken(format!("{error:?}"))),
        };
        let late = collected.trailers().and_then(Status::from_header_map);
        Ok(said(late.or(early), collected.to_bytes()))
    }

    /// Sends one message in a right frame.
    pub async fn message(&self, path: &str, message: &[u8]) -> Result<Said> {
        self.send(path, &[], frame(0, message)).await
    }
}

fn said(status: Option<Status>, body: Bytes) -> Said {
    let broken = status.is_none().then(|| "no status".to_owned());
    Said {
        status,
        body,
        broken,
    }
}

fn broken(what: String) -> Said {
    Said {
        status: None,
        body: Bytes::new(),
        broken: Some(what),
    }
}

/// A message in its frame; the flag is 1 for a compressed one.
pub fn frame(flag: u8, message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut bytes = vec![flag];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(message);
    bytes
}

/// A field of the wire format that holds bytes.
pub fn field(number: u32, bytes: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(bytes.len() as u64));
    out.extend_from_slice(bytes);
    out
}

/// A number of the wire format.
pub fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// So many groups of the wire format, one inside the other.
pub fn nested_groups(number: u32, levels: usize) -> Vec<u8> {
    let start = varint(u64::from(number) << 3 | 3);
    let end = varint(u64::from(number) << 3 | 4);
    [start.repeat(levels), end.repeat(levels)].concat()
}
