//! A proxy that sends requests on twice and late, as proxies that retry do.
//! D5: one for publishes, and one for the requests of an adapter to a product over HTTP.
//! Must never answer a request that it did not pass on.
//! Read next: `network.rs`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request as HttpRequest, State};
use axum::response::IntoResponse;
use musubi_e2e::Client;
use musubi_proto::hub::v1::event_service_server::{EventService, EventServiceServer};
use musubi_proto::hub::v1::{
    GetCaptureCursorRequest, GetCaptureCursorResponse, GetEventRequest, GetEventResponse,
    ListEventsRequest, ListEventsResponse, PublishRequest, PublishResponse,
};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::dice::Dice;

/// A copy that comes late, comes after at most this time.
const LATE: u64 = 400;
const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// What the proxy does with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// Once, at once.
    Once,
    /// Twice, both answered, the second answer is given.
    Twice,
    /// Twice at the same time.
    Together,
    /// Once, and a copy later.
    Late(Duration),
    /// Held up, so that others overtake it.
    HeldUp(Duration),
}

#[derive(Debug)]
struct Turns {
    dice: Mutex<Dice>,
    copies: AtomicU64,
}

impl Turns {
    fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self {
            dice: Mutex::new(Dice::new(seed)),
            copies: AtomicU64::new(0),
        })
    }

    fn next(&self) -> Turn {
        let mut dice = self.dice.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = Duration::from_millis(1 + dice.below(LATE));
        let turn = match dice.below(5) {
            0 => Turn::Twice,
            1 => Turn::Together,
            2 => Turn::Late(wait),
            3 => Turn::HeldUp(wait / 4),
            _ => return Turn::Once,
        };
        self.copies.fetch_add(1, Ordering::Relaxed);
        turn
    }
}

/// A running proxy.
#[derive(Debug)]
pub struct Retrying {
    address: String,
    turns: Arc<Turns>,
    task: JoinHandle<()>,
}

impl Retrying {
    /// Between a source and a hub.
    pub async fn before_hub(hub: Client, seed: u64) -> Result<Self> {
        let (listener, address) = listen().await?;
        let turns = Turns::new(seed);
        let service = EventServiceServer::new(Publishes {
            hub,
            turns: Arc::clone(&turns),
        });
        let task = tokio::spawn(async move {
            let served = tonic::transport::Server::builder().add_service(service);
            let incoming = TcpListenerStream::new(listener);
            if let Err(error) = served.serve_with_incoming(incoming).await {
                eprintln!("the retrying proxy ended: {error}");
            }
        });
        Ok(Self {
            address,
            turns,
            task,
        })
    }

    /// Between an adapter and a product that speaks HTTP at `target`.
    pub async fn before_product(target: &str, seed: u64) -> Result<Self> {
        let (listener, address) = listen().await?;
        let turns = Turns::new(seed);
        let product = Product {
            target: target.to_owned(),
            client: reqwest::Client::builder().no_proxy().build()?,
            turns: Arc::clone(&turns),
        };
        let router = axum::Router::new().fallback(pass_on).with_state(product);
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                eprintln!("the retrying proxy ended: {error}");
            }
        });
        Ok(Self {
            address,
            turns,
            task,
        })
    }

    /// Where it listens, for clients of HTTP.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Requests that were repeated or held up.
    pub fn disturbed(&self) -> u64 {
        self.turns.copies.load(Ordering::Relaxed)
    }
}

impl Drop for Retrying {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn listen() -> Result<(TcpListener, String)> {
    let listener = TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.context("listen for the retrying proxy")?;
    let address = listener.local_addr()?.to_string();
    Ok((listener, address))
}

/// Sends as the turn says; gives the last answer.
async fn by_turn<T, F, S>(turn: Turn, send: S) -> T
where
    F: Future<Output = T> + Send + 'static,
    S: Fn() -> F + Send + 'static,
    T: Send + 'static,
{
    match turn {
        Turn::Once => send().await,
        Turn::Twice => {
            drop(send().await);
            send().await
        }
        Turn::Together => tokio::join!(send(), send()).1,
        Turn::Late(wait) => {
            let answer = send().await;
            tokio::spawn(async move {
                tokio::time::sleep(wait).await;
                drop(send().await);
            });
            answer
        }
        Turn::HeldUp(wait) => {
            tokio::time::sleep(wait).await;
            send().await
        }
    }
}

struct Publishes {
    hub: Client,
    turns: Arc<Turns>,
}

#[tonic::async_trait]
impl EventService for Publishes {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let (hub, request) = (self.hub.clone(), request.into_inner());
        let send = move || {
            let (mut events, request) = (hub.events(), request.clone());
            async move { events.publish(request).await }
        };
        by_turn(self.turns.next(), send).await
    }

    async fn get_event(
        &self,
        request: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        self.hub.events().get_event(request.into_inner()).await
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        self.hub.events().list_events(request.into_inner()).await
    }

    async fn get_capture_cursor(
        &self,
        request: Request<GetCaptureCursorRequest>,
    ) -> Result<Response<GetCaptureCursorResponse>, Status> {
        let request = request.into_inner();
        self.hub.events().get_capture_cursor(request).await
    }
}

#[derive(Clone)]
struct Product {
    target: String,
    client: reqwest::Client,
    turns: Arc<Turns>,
}

async fn pass_on(State(product): State<Product>, request: HttpRequest) -> axum::response::Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = to_bytes(body, BODY_BYTES_MAX).await else {
        return axum::http::StatusCode::BAD_GATEWAY.into_response();
    };
    let turn = product.turns.next();
    let send = move || {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let request = product
            .client
            .request(parts.method.clone(), format!("{}{path}", product.target))
            .headers(parts.headers.clone())
            .body(body.clone());
        answer(request)
    };
    let answered = by_turn(turn, send).await;
    answered.unwrap_or_else(|_| axum::http::StatusCode::BAD_GATEWAY.into_response())
}

async fn answer(request: reqwest::RequestBuilder) -> Result<axum::response::Response> {
    let answer = request.send().await?;
    let mut response = axum::response::Response::builder().status(answer.status());
    for (name, value) in answer.headers() {
        response = response.header(name, value);
    }
    let body: Bytes = answer.bytes().await?;
    Ok(response.body(Body::from(body))?)
}
