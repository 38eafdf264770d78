//! The floor: the same job written by hand, with nothing that is not needed for it.
//! gRPC in, one file with group commit and `fdatasync`, HTTP out with each subject in order.
//! Must never answer before the sync, nor deliver what is not synced: it keeps the hub's promise.
//! Read next: `figures.rs`, which measures the hub against it.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use musubi_proto::hub::v1::event_service_server::{EventService, EventServiceServer};
use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Accepted, Event, GetCaptureCursorRequest, GetCaptureCursorResponse, GetEventRequest,
    GetEventResponse, ListEventsRequest, ListEventsResponse, PublishRequest, PublishResponse,
    UnitAnswer,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use crate::http::{Http, Told};
use crate::load::published_us;
use crate::receiver::tell_address;

pub(crate) mod kafka;

/// Lanes of a receiver: as many deliveries are under way at most.
const LANES: usize = 256;
/// Deliveries that wait in one lane.
const LANE_QUEUE: usize = 100_000;
/// Requests that wait for the writer.
const WRITE_QUEUE: usize = 1_024;
/// The hub's first wait before it tries again.
const RETRY: Duration = Duration::from_millis(200);

/// What the floor works on.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// File that gets the events
    #[arg(long)]
    pub(crate) file: Option<PathBuf>,
    /// Brokers that get the events instead
    #[arg(long)]
    pub(crate) brokers: Option<String>,
    /// File that gets the address
    #[arg(long)]
    pub(crate) address_file: PathBuf,
    /// Addresses of the receivers
    #[arg(long)]
    pub(crate) receiver: Vec<SocketAddr>,
}

struct Writing {
    events: Vec<Event>,
    reply: oneshot::Sender<u64>,
}

#[derive(Debug)]
struct Floor {
    writes: mpsc::Sender<Writing>,
}

impl std::fmt::Debug for Writing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Write").finish_non_exhaustive()
    }
}

/// Serves until it is killed.
pub(crate) async fn run(options: Options) -> Result<()> {
    let (writes, queue) = mpsc::channel(WRITE_QUEUE);
    let mut lanes = Vec::new();
    for address in &options.receiver {
        let http = Arc::new(Http::new(*address));
        lanes.push((0..LANES).map(|_| lane(http.clone())).collect());
    }
    match options.brokers {
        Some(brokers) => {
            let producer = kafka::producer(&brokers).await?;
            tokio::spawn(kafka::produce_all(producer, queue));
            std::thread::spawn(move || {
                if let Err(error) = kafka::consume_all(&brokers, &lanes) {
                    eprintln!("the floor cannot consume: {error:#}");
                }
            });
        }
        None => {
            let file = options.file.context("a file or brokers, please")?;
            let file = File::options().create(true).append(true).open(file);
            let file = file.context("open the floor's file")?;
            std::thread::spawn(move || write_all(file, queue, &lanes));
        }
    }
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    tell_address(&options.address_file, listener.local_addr()?)?;
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(EventServiceServer::new(Floor { writes }))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await?;
    Ok(())
}

/// Group commit: all that waits is written and synced at once.
fn write_all(mut file: File, mut queue: mpsc::Receiver<Writing>, lanes: &[Vec<Lane>]) {
    let mut position = 0_u64;
    let mut buffer = Vec::new();
    while let Some(first) = queue.blocking_recv() {
        let mut group = vec![first];
        while let Ok(next) = queue.try_recv() {
            group.push(next);
        }
        buffer.clear();
        for event in group.iter().flat_map(|write| &write.events) {
            // A vector takes any length.
            event.encode_length_delimited(&mut buffer).ok();
        }
        let written = file.write_all(&buffer).and_then(|()| file.sync_data());
        if let Err(error) = written {
            eprintln!("the floor cannot write: {error}");
            return;
        }
        for write in group {
            let first = position;
            position += write.events.len() as u64;
            write.reply.send(first).ok();
            for event in write.events {
                hand_over(lanes, Order { event, taken: None });
            }
        }
    }
}

/// Offsets of what all receivers have taken.
#[derive(Debug, Clone, Default)]
struct Taken(Arc<Mutex<Vec<i64>>>);

impl Taken {
    fn note(&self, offset: i64) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.push(offset);
    }

    fn take(&self) -> Vec<i64> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// An event on its way to all receivers.
#[derive(Debug)]
struct Order {
    event: Event,
    /// Where it stands, and who wants to know that all of them have taken it.
    taken: Option<(i64, Taken)>,
}

impl Drop for Order {
    fn drop(&mut self) {
        if let Some((offset, taken)) = self.taken.take() {
            taken.note(offset);
        }
    }
}

type Lane = mpsc::Sender<Arc<Order>>;

fn hand_over(lanes: &[Vec<Lane>], order: Order) {
    let mut hasher = DefaultHasher::new();
    order.event.subject.hash(&mut hasher);
    let place = hasher.finish() as usize % LANES;
    let order = Arc::new(order);
    for lane in lanes.iter().filter_map(|lanes| lanes.get(place)) {
        drop(lane.blocking_send(order.clone()));
    }
}

/// One lane: one delivery after the other, each until it is taken.
fn lane(http: Arc<Http>) -> Lane {
    let (lane, mut queue) = mpsc::channel::<Arc<Order>>(LANE_QUEUE);
    tokio::spawn(async move {
        while let Some(order) = queue.recv().await {
            let event = &order.event;
            let told = Told {
                subject: &event.subject,
                version: event.subject_version,
                published_us: published_us(event),
            };
            while !matches!(http.post(told, &event.data).await, Ok(200 | 422)) {
                tokio::time::sleep(RETRY).await;
            }
        }
    });
    lane
}

#[tonic::async_trait]
impl EventService for Floor {
    async fn publish(
        &self,
        request: Request<PublishRequest>,
    ) -> Result<Response<PublishResponse>, Status> {
        let units = request.into_inner().units.into_iter();
        let events: Vec<Event> = units
            .filter_map(|unit| match unit.content {
                Some(Content::Unit(unit)) => Some(unit.events),
                _ => None,
            })
            .flatten()
            .collect();
        let count = events.len() as u64;
        let (reply, answer) = oneshot::channel();
        let ended = || Status::unavailable("the floor's writer ended");
        let write = Writing { events, reply };
        self.writes.send(write).await.map_err(|_| ended())?;
        let first = answer.await.map_err(|_| ended())?;
        let answers = (first..first + count).map(|position| UnitAnswer {
            answer: Some(Answer::Accepted(Accepted {
                position,
                duplicate: false,
            })),
        });
        Ok(Response::new(PublishResponse {
            answers: answers.collect(),
        }))
    }

    async fn get_event(
        &self,
        _: Request<GetEventRequest>,
    ) -> Result<Response<GetEventResponse>, Status> {
        Err(Status::unimplemented("the floor only publishes"))
    }

    async fn list_events(
        &self,
        _: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        Err(Status::unimplemented("the floor only publishes"))
    }

    async fn get_capture_cursor(
        &self,
        _: Request<GetCaptureCursorRequest>,
    ) -> Result<Response<GetCaptureCursorResponse>, Status> {
        Err(Status::unimplemented("the floor only publishes"))
    }
}
