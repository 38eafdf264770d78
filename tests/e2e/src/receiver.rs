//! An adapter of a test's own, which speaks the delivery protocol and decides each answer itself.
//! Beside it a recorder, which takes everything and keeps what it was given.
//! Must never answer what the test did not ask it to answer.
//! Read next: `hub.rs`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use musubi_proto::hub::v1::attach_request::Request;
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::{
    AttachRequest, AttachResponse, Capabilities, Credits, Delivery, Heartbeat, Hello, Outcome,
    Receipt, Welcome,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::hub::{Client, MUNICIPALITY, PATIENCE};
use crate::wait::wait_until;

const QUEUE: usize = 1_024;
const HEARTBEAT: Duration = Duration::from_secs(4);
const CREDITS: u32 = 256;

/// An attached stream.
#[derive(Debug)]
pub struct Receiver {
    requests: mpsc::Sender<AttachRequest>,
    responses: Streaming<AttachResponse>,
    welcome: Welcome,
}

impl Receiver {
    /// Attaches as the adapter of a product, at the instance that an other one names.
    pub async fn attach(
        client: &Client,
        system: &str,
        product: &str,
        capabilities: Capabilities,
    ) -> Result<Self, tonic::Status> {
        match Self::attach_here(client, system, product, capabilities).await {
            Err(status) => match owner_in(&status) {
                None => Err(status),
                Some(owner) => Self::attach_here(&owner, system, product, capabilities).await,
            },
            attached => attached,
        }
    }

    /// Attaches at the instance that the client asks, and nowhere else.
    pub async fn attach_here(
        client: &Client,
        system: &str,
        product: &str,
        capabilities: Capabilities,
    ) -> Result<Self, tonic::Status> {
        let (requests, queue) = mpsc::channel(QUEUE);
        let hello = Hello {
            municipality: MUNICIPALITY.to_owned(),
            system: system.to_owned(),
            product: product.to_owned(),
            adapter_version: "test".to_owned(),
            capabilities: Some(capabilities),
        };
        send(&requests, Request::Hello(hello)).await?;
        let mut deliveries = client.deliveries();
        let attached = deliveries.attach(ReceiverStream::new(queue)).await;
        let mut responses = attached?.into_inner();
        match responses.message().await?.and_then(|first| first.response) {
            Some(Response::Welcome(welcome)) => Ok(Self {
                requests,
                responses,
                welcome,
            }),
            other => Err(tonic::Status::internal(format!("no Welcome: {other:?}"))),
        }
    }

    /// Attaches as soon as the hub lets it.
    pub async fn attach_when_bound(
        client: &Client,
        system: &str,
        product: &str,
        capabilities: Capabilities,
    ) -> Result<Self> {
        let mut attached = None;
        let what = format!("{product} to be let in as {system}");
        wait_until(PATIENCE, &what, async || {
            attached = Some(Self::attach(client, system, product, capabilities).await?);
            Ok(true)
        })
        .await?;
        attached.context("not attached")
    }

    /// What the hub said first.
    pub fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// Allows that many more deliveries.
    pub async fn allow(&self, deliveries: u32) -> Result<()> {
        let credits = Credits { add: deliveries };
        Ok(send(&self.requests, Request::Credits(credits)).await?)
    }

    /// A sign of life.
    pub async fn beat(&self) -> Result<()> {
        Ok(send(&self.requests, Request::Heartbeat(Heartbeat {})).await?)
    }

    /// Answers a delivery.
    pub async fn answer(&self, delivery: &Delivery, outcome: Outcome) -> Result<()> {
        self.send(receipt(delivery, outcome)).await
    }

    /// Answers with a receipt of the test's own.
    pub async fn send(&self, receipt: Receipt) -> Result<()> {
        Ok(send(&self.requests, Request::Receipt(receipt)).await?)
    }

    /// The next thing the hub says; `None` at the end of the stream.
    pub async fn next(&mut self) -> Result<Option<Response>> {
        let next = tokio::time::timeout(PATIENCE, self.responses.next()).await;
        match next.context("the hub said nothing")? {
            None => Ok(None),
            Some(said) => said?
                .response
                .map(Some)
                .ok_or_else(|| anyhow!("the hub said nothing at all")),
        }
    }

    /// The next delivery; marks and refusals in between are passed over.
    pub async fn delivery(&mut self) -> Result<Delivery> {
        loop {
            match self.next().await? {
                Some(Response::Delivery(delivery)) => return Ok(delivery),
                Some(Response::CompleteUpTo(_) | Response::Refused(_)) => {}
                other => bail!("no delivery but {other:?}"),
            }
        }
    }
}

async fn send(
    requests: &mpsc::Sender<AttachRequest>,
    request: Request,
) -> Result<(), tonic::Status> {
    let request = AttachRequest {
        request: Some(request),
    };
    let sent = requests.send(request).await;
    sent.map_err(|_| tonic::Status::unavailable("the stream to the hub has ended"))
}

/// A receipt for a delivery; outcomes that need a reason get one.
pub fn receipt(delivery: &Delivery, outcome: Outcome) -> Receipt {
    let needs_reason = matches!(outcome, Outcome::Rejected | Outcome::Retry | Outcome::Pause);
    Receipt {
        delivery_id: delivery.delivery_id.clone(),
        outcome: outcome.into(),
        reason: if needs_reason { "TEST" } else { "" }.to_owned(),
        ..Receipt::default()
    }
}

/// A client of the instance that a refusal names as the owner.
fn owner_in(status: &tonic::Status) -> Option<Client> {
    let rich = musubi_proto::google::rpc::Status::decode(status.details()).ok()?;
    let mut details = rich.details.iter();
    let info = details.find(|detail| detail.type_url.ends_with("google.rpc.ErrorInfo"))?;
    let info = musubi_proto::google::rpc::ErrorInfo::decode(&info.value[..]).ok()?;
    Client::new(info.metadata.get("address")?).ok()
}

/// Place of an event at a receiver: stream, sequence, member of the delivery, place in it.
pub type Place = (i32, u64, u32, usize);

/// One event as a receiver got it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Event id.
    pub id: String,
    /// Type.
    pub event_type: String,
    /// Payload as it was cut down.
    pub data: Vec<u8>,
    /// Paths granted.
    pub granted: Vec<String>,
}

/// Everything a receiver got, by its place.
pub type Book = BTreeMap<Place, Received>;

/// An adapter that takes everything and keeps it.
#[derive(Debug)]
pub struct Recorder {
    book: Arc<Mutex<Book>>,
    task: JoinHandle<()>,
}

impl Recorder {
    /// Attaches and begins to take.
    pub async fn start(
        client: &Client,
        system: &str,
        product: &str,
        capabilities: Capabilities,
    ) -> Result<Self> {
        let receiver = Receiver::attach_when_bound(client, system, product, capabilities).await?;
        receiver.allow(CREDITS).await?;
        let book = Arc::new(Mutex::new(Book::new()));
        let task = tokio::spawn(record(receiver, Arc::clone(&book)));
        Ok(Self { book, task })
    }

    /// What it got so far. Fails when it stopped taking.
    pub fn book(&self) -> Result<Book> {
        if self.task.is_finished() {
            bail!("the recorder ended");
        }
        let book = self
            .book
            .lock()
            .map_err(|_| anyhow!("the recorder failed"))?;
        Ok(book.clone())
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn record(mut receiver: Receiver, book: Arc<Mutex<Book>>) {
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        let said = tokio::select! {
            _ = beat.tick() => match receiver.beat().await {
                Ok(()) => continue,
                Err(_) => return,
            },
            said = receiver.responses.next() => said,
        };
        let said = match said {
            Some(Ok(said)) => said,
            ended => return eprintln!("the recorder's stream ended: {ended:?}"),
        };
        let Some(Response::Delivery(delivery)) = said.response else {
            continue;
        };
        if let Err(error) = note(&delivery, &book) {
            return eprintln!("the recorder cannot go on: {error:#}");
        }
        let answered = receiver.answer(&delivery, Outcome::Applied).await;
        if answered.is_err() || receiver.allow(1).await.is_err() {
            return;
        }
    }
}

/// Enters a delivery; the same place may come again, but never with something else.
fn note(delivery: &Delivery, book: &Mutex<Book>) -> Result<()> {
    let mut book = book.lock().map_err(|_| anyhow!("the recorder failed"))?;
    for unit in &delivery.units {
        for (index, delivered) in unit.events.iter().enumerate() {
            let event = delivered
                .event
                .as_ref()
                .context("a delivery without event")?;
            let place = (unit.stream, unit.sequence, unit.member, index);
            let received = Received {
                id: event.id.clone(),
                event_type: event.r#type.clone(),
                data: event.data.to_vec(),
                granted: delivered.granted_paths.clone(),
            };
            let before = book.insert(place, received.clone());
            if before.is_some_and(|before| before != received) {
                bail!("{place:?} came twice with different content");
            }
        }
    }
    Ok(())
}
