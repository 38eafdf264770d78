//! A product that speaks Kaede's interface and misbehaves by a script, call by call.
//! The real adapter stands before it; its own journal says what took effect.
//! Must never forget a key that had its effect, unless the script says that it lost its data.
//! Read next: `rows/vendor.rs`; `adapters/vendors/kaede/INTERFACE.md` is what it speaks.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_stream::StreamExt;

use crate::history::{Effect, Receiver};

/// What to do with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// What the interface promises.
    Right,
    /// A status and no effect, with `Retry-After` in seconds unless it is 0.
    Status(u16, u64),
    /// The effect, then a status.
    ApplyThenStatus(u16),
    /// The effect, then no answer.
    ApplyThenSilence,
    /// No effect and no answer.
    Silence,
    /// 200 with an error in the body; no effect.
    ErrorInBody,
    /// 200 with a body that is cut off; no effect.
    CutBody,
    /// 204; no effect.
    NoContent,
    /// 200 with a page for people; no effect.
    Page,
    /// The right answer after a time.
    Late(Duration),
    /// The right answer, byte by byte, each after a time.
    Dribble(Duration),
    /// A permanent refusal.
    Refuse,
}

/// One call.
#[derive(Debug)]
pub struct Call<'a> {
    /// Its number, from 1.
    pub number: u64,
    /// How often its key came, from 1.
    pub attempt: u64,
    /// Person.
    pub subject: &'a str,
}

type Script = Box<dyn FnMut(&Call<'_>) -> Act + Send>;

/// What the product has, and what happened to it.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Effects in order.
    pub effects: Vec<Effect>,
    /// Version of each person.
    pub state: BTreeMap<String, u32>,
    /// The last body of each person.
    pub bodies: BTreeMap<String, Value>,
    /// Calls.
    pub calls: u64,
    /// Calls that were answered otherwise than right.
    pub harmed: u64,
    /// Questions whether a key had its effect.
    pub asked: u64,
    /// Calls whose key had its effect already.
    pub repeated: u64,
    /// Calls that came before the time that `Retry-After` named.
    pub early: u64,
    keys: HashMap<String, u32>,
    attempts: HashMap<String, u64>,
    not_before: HashMap<String, Instant>,
}

struct Inner {
    ledger: Mutex<Ledger>,
    script: Mutex<Script>,
}

/// The running product.
pub struct Stub {
    inner: Arc<Inner>,
    address: SocketAddr,
    /// Its own, so that it can die with every connection that it has.
    runtime: Option<Runtime>,
}

impl std::fmt::Debug for Stub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stub")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Stub {
    /// Starts it; it does everything right.
    pub async fn start() -> Result<Self> {
        let inner = Arc::new(Inner {
            ledger: Mutex::default(),
            script: Mutex::new(Box::new(|_| Act::Right)),
        });
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .context("the stub's port")?;
        let address = listener.local_addr()?;
        drop(listener);
        let mut stub = Self {
            inner,
            address,
            runtime: None,
        };
        stub.live()?;
        Ok(stub)
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What to do with the calls from now on.
    pub fn script(&self, script: impl FnMut(&Call<'_>) -> Act + Send + 'static) {
        *lock(&self.inner.script) = Box::new(script);
    }

    /// Number of effects so far.
    pub fn effects(&self) -> usize {
        lock(&self.inner.ledger).effects.len()
    }

    /// What it has now.
    pub fn ledger(&self) -> Ledger {
        lock(&self.inner.ledger).clone()
    }

    /// What the judge wants to know of it.
    pub fn receiver(&self) -> Receiver {
        let ledger = self.ledger();
        Receiver {
            name: "kaede".to_owned(),
            applied: ledger.effects,
            state: Some(ledger.state),
            ..Receiver::default()
        }
    }

    /// Dies, with every call that is under way; what took effect is kept.
    pub async fn die(&mut self) -> Result<()> {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
        let address = self.address;
        musubi_e2e::wait_until(Duration::from_secs(10), "the stub to be gone", async || {
            Ok(TcpStream::connect(address).await.is_err())
        })
        .await
    }

    /// Starts again on the same port.
    pub fn live(&mut self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .context("the stub's runtime")?;
        let listener = std::net::TcpListener::bind(self.address).context("the stub's port")?;
        listener.set_nonblocking(true)?;
        let router = Router::new()
            .route("/api/nozeisha/{no}", put(call).patch(call))
            .route("/api/jisseki/{key}", get(asked))
            .with_state(Arc::clone(&self.inner));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener)?;
            axum::serve(listener, router).await
        });
        self.runtime = Some(runtime);
        Ok(())
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn call(
    State(inner): State<Arc<Inner>>,
    Path(subject): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let key = headers.get("idempotency-key");
    let key = key
        .and_then(|key| key.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let Ok(body) = serde_json::from_slice::<Value>(&body) else {
        return refusal("KEISHIKI");
    };
    let act = decide(&inner, &subject, &key);
    let apply = || lock(&inner.ledger).apply(&key, &subject, &body);
    match act {
        Act::Right => apply(),
        Act::Status(status, after) => status_of(status, after),
        Act::ApplyThenStatus(status) => {
            drop(apply());
            status_of(status, 0)
        }
        Act::ApplyThenSilence => {
            drop(apply());
            std::future::pending().await
        }
        Act::Silence => std::future::pending().await,
        Act::ErrorInBody => axum::Json(json!({"error": {"code": "SHOGAI"}})).into_response(),
        Act::CutBody => cut(),
        Act::NoContent => StatusCode::NO_CONTENT.into_response(),
        Act::Page => axum::response::Html("<p>Welcome to the maintenance page").into_response(),
        Act::Late(time) => {
            tokio::time::sleep(time).await;
            apply()
        }
        Act::Dribble(time) => dribble(apply(), time).await,
        Act::Refuse => refusal("KODO"),
    }
}

/// §5: whether a key had its effect.
async fn asked(State(inner): State<Arc<Inner>>, Path(key): Path<String>) -> Response {
    let mut ledger = lock(&inner.ledger);
    ledger.asked += 1;
    let done = ledger.effects.iter().position(|effect| effect.id == key);
    let Some((place, effect)) = done.and_then(|at| Some((at, ledger.effects.get(at)?))) else {
        let error = json!({"code": "MITOROKU", "setsumei": "no such key"});
        return (StatusCode::NOT_FOUND, axum::Json(json!({"error": error}))).into_response();
    };
    axum::Json(json!({
        "renban": place + 1,
        "key": key,
        "atenabango": effect.subject,
        "rireki": effect.version,
        "sochi": null,
    }))
    .into_response()
}

fn decide(inner: &Inner, subject: &str, key: &str) -> Act {
    let mut ledger = lock(&inner.ledger);
    ledger.calls += 1;
    let number = ledger.calls;
    let attempt = ledger.attempts.entry(key.to_owned()).or_default();
    *attempt += 1;
    let call = Call {
        number,
        attempt: *attempt,
        subject,
    };
    let act = lock(&inner.script)(&call);
    ledger.harmed += u64::from(act != Act::Right);
    let now = Instant::now();
    let early = ledger
        .not_before
        .remove(key)
        .is_some_and(|not_before| now < not_before);
    ledger.early += u64::from(early);
    if let Act::Status(_, after) = act
        && after > 0
    {
        ledger
            .not_before
            .insert(key.to_owned(), now + Duration::from_secs(after));
    }
    act
}

impl Ledger {
    /// §4 of the interface, for a product that knows everybody.
    fn apply(&mut self, key: &str, subject: &str, body: &Value) -> Response {
        if let Some(version) = self.keys.get(key) {
            self.repeated += 1;
            return axum::Json(json!({"kekka": "SUMI", "rireki": version})).into_response();
        }
        let version = body["rireki"]
            .as_u64()
            .and_then(|version| u32::try_from(version).ok());
        let Some(version) = version else {
            return refusal("HISSU");
        };
        let held = self.state.get(subject).copied().unwrap_or_default();
        if held >= version {
            let error = json!({"code": "FURUI_RIREKI", "setsumei": "as new or newer"});
            let body = json!({"error": error, "hojiRireki": held});
            return (StatusCode::CONFLICT, axum::Json(body)).into_response();
        }
        self.keys.insert(key.to_owned(), version);
        self.state.insert(subject.to_owned(), version);
        self.bodies.insert(subject.to_owned(), body.clone());
        self.effects.push(Effect {
            id: key.to_owned(),
            subject: subject.to_owned(),
            version,
        });
        axum::Json(json!({"kekka": "KOSHIN", "rireki": version})).into_response()
    }
}

fn status_of(status: u16, after: u64) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if after == 0 {
        return status.into_response();
    }
    (status, [(header::RETRY_AFTER, after.to_string())]).into_response()
}

fn refusal(code: &str) -> Response {
    let error = json!({"code": code, "komoku": "jusho", "setsumei": "by the script"});
    (StatusCode::BAD_REQUEST, axum::Json(json!({"error": error}))).into_response()
}

/// The connection ends within the body.
fn cut() -> Response {
    let parts = [
        Ok(Bytes::from_static(b"{\"kekka\":\"KOSH")),
        Err(std::io::Error::other("cut by the script")),
    ];
    Body::from_stream(tokio_stream::iter(parts)).into_response()
}

async fn dribble(answer: Response, time: Duration) -> Response {
    let (parts, body) = answer.into_parts();
    let bytes = axum::body::to_bytes(body, 4_096).await.unwrap_or_default();
    let bytes: Vec<Bytes> = bytes.iter().map(|byte| Bytes::from(vec![*byte])).collect();
    let slow = tokio_stream::iter(bytes).then(move |byte| async move {
        tokio::time::sleep(time).await;
        Ok::<_, Infallible>(byte)
    });
    let mut response = Response::new(Body::from_stream(slow));
    *response.status_mut() = parts.status;
    response
}
