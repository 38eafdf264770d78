//! One stream to the hub, from Hello to its end.
//! Deliveries run side by side up to the credits; each receipt gives one more credit.
//! It must never hold a receipt back, nor let a panic of one delivery end another.
//! Read next: `../deliver.rs`, which it calls.

use std::sync::Arc;
use std::time::Duration;

use musubi_proto::crash;
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::connection::{HubAccess, HubError, delivery_client, reason_in};
use super::marks::Marks;
use crate::deliver::Deliver;
use crate::hub::{
    AttachRequest, AttachResponse, CompleteUpTo, Credits, Delivery, Heartbeat, Hello, Receipt,
    Welcome, attach_request::Request, attach_response::Response,
};
use crate::limits::{
    FIRST_ANSWER_TIMEOUT, HEARTBEATS_PER_LEASE, LEASE_DEFAULT, PANIC_RETRY_AFTER, SHUTDOWN_GRACE,
};
use crate::receipt::{Refusal, receipt};
use crate::telemetry;

/// Messages beside receipts and credits that may wait to be sent.
const REQUESTS_SPARE: usize = 8;

/// Attaches once and serves until the stream ends. `Ok` means that a shutdown was asked for, and
/// that what was under way then had its time to end.
pub(crate) async fn attach(
    hub: &HubAccess,
    adapter: &Arc<dyn Deliver>,
    shutdown: &CancellationToken,
    marks: &mut Marks,
    attached: &mut (dyn FnMut() + Send),
) -> Result<(), HubError> {
    let opened = tokio::select! {
        () = shutdown.cancelled() => return Ok(()),
        opened = timeout(FIRST_ANSWER_TIMEOUT, open(hub, adapter)) => opened.map_err(|_| HubError::Ended)?,
    };
    let (requests, mut responses, welcome) = opened?;
    attached();
    marks.attached(&welcome.subscription);
    let spec = adapter.spec();
    tracing::info!(
        product = spec.product,
        subscription = welcome.subscription,
        binding_epoch = welcome.binding_epoch,
        "adapter attached"
    );
    let mut session = Session {
        adapter,
        requests,
        running: JoinSet::new(),
        started: Vec::new(),
        marks,
        told_gap: false,
    };
    session
        .send(Request::Credits(Credits {
            add: spec.in_flight_max.max(1),
        }))
        .await?;
    session
        .serve(&mut responses, heartbeats(&welcome), shutdown)
        .await?;
    let finished = timeout(SHUTDOWN_GRACE, session.finish(&mut responses)).await;
    if let Ok(Err(error)) = finished {
        tracing::debug!(%error, "receipts after the shutdown were not taken");
    }
    Ok(())
}

type Opened = (
    mpsc::Sender<AttachRequest>,
    Streaming<AttachResponse>,
    Welcome,
);

async fn open(hub: &HubAccess, adapter: &Arc<dyn Deliver>) -> Result<Opened, HubError> {
    let spec = adapter.spec();
    let mut client = delivery_client(hub).await?;
    let in_flight = usize::try_from(spec.in_flight_max.max(1)).unwrap_or(usize::MAX);
    let (requests, receiver) = mpsc::channel(in_flight.saturating_mul(2) + REQUESTS_SPARE);
    let hello = Hello {
        municipality: hub.municipality.clone(),
        system: spec.system.clone(),
        product: spec.product.clone(),
        adapter_version: spec.adapter_version.clone(),
        capabilities: Some(spec.capabilities),
    };
    send(&requests, Request::Hello(hello)).await?;
    let mut responses = client
        .attach(ReceiverStream::new(receiver))
        .await?
        .into_inner();
    match responses
        .message()
        .await?
        .and_then(|answer| answer.response)
    {
        Some(Response::Welcome(welcome)) => Ok((requests, responses, welcome)),
        Some(Response::Fenced(fenced)) => Err(HubError::Fenced {
            epoch: fenced.binding_epoch,
        }),
        _ => Err(HubError::Ended),
    }
}

fn heartbeats(welcome: &Welcome) -> Interval {
    let lease = welcome
        .lease
        .and_then(|lease| Duration::try_from(lease).ok())
        .filter(|lease| !lease.is_zero())
        .unwrap_or(LEASE_DEFAULT);
    let period = (lease / HEARTBEATS_PER_LEASE).max(Duration::from_millis(1));
    let mut interval = interval_at(Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

async fn send(requests: &mpsc::Sender<AttachRequest>, request: Request) -> Result<(), HubError> {
    let message = AttachRequest {
        request: Some(request),
    };
    requests.send(message).await.map_err(|_| HubError::Ended)
}

/// The state of one stream. Dropping it ends the deliveries that are under way.
struct Session<'a> {
    adapter: &'a Arc<dyn Deliver>,
    requests: mpsc::Sender<AttachRequest>,
    running: JoinSet<Receipt>,
    /// Deliveries under way, so that a panic can still be answered.
    started: Vec<(Id, Delivery)>,
    marks: &'a mut Marks,
    /// A gap was warned of on this stream; one line is enough.
    told_gap: bool,
}

impl Session<'_> {
    async fn serve(
        &mut self,
        responses: &mut Streaming<AttachResponse>,
        mut heartbeats: Interval,
        shutdown: &CancellationToken,
    ) -> Result<(), HubError> {
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(()),
                Some(ended) = self.running.join_next_with_id() => {
                    self.answer(ended).await?;
                    self.send(Request::Credits(Credits { add: 1 })).await?;
                }
                _ = heartbeats.tick() => self.send(Request::Heartbeat(Heartbeat {})).await?,
                message = responses.message() => {
                    let message = message?.ok_or(HubError::Ended)?;
                    self.receive(message)?;
                }
            }
        }
    }

    fn receive(&mut self, message: AttachResponse) -> Result<(), HubError> {
        match message.response {
            Some(Response::Delivery(delivery)) => {
                crash::point("adapter.read");
                self.marks.delivered(&delivery);
                let adapter = Arc::clone(self.adapter);
                let copy = Delivery {
                    units: Vec::new(),
                    ..delivery.clone()
                };
                let task = self.running.spawn(telemetry::process(adapter, delivery));
                self.started.push((task.id(), copy));
                Ok(())
            }
            Some(Response::Fenced(fenced)) => Err(HubError::Fenced {
                epoch: fenced.binding_epoch,
            }),
            Some(Response::CompleteUpTo(mark)) => {
                self.complete(mark);
                Ok(())
            }
            Some(Response::Refused(refused)) => {
                let reason = refused.status.map(|status| reason_in(&status.details));
                tracing::warn!(
                    delivery = refused.delivery_id,
                    reason = reason.unwrap_or_default(),
                    "the hub did not take a receipt"
                );
                Ok(())
            }
            Some(Response::Welcome(_)) | None => Ok(()),
        }
    }

    fn complete(&mut self, mark: CompleteUpTo) {
        let last = self.marks.last(mark.stream());
        match self.marks.complete(&mark) {
            Some(gap) if !self.told_gap => {
                self.told_gap = true;
                let stream = mark.stream().as_str_name();
                tracing::warn!(
                    stream,
                    mark = mark.sequence,
                    last,
                    ?gap,
                    "units up to the hub's mark did not come here: they are parked at the hub, or \
                     another stream had them; ask the operator for this product's parked units"
                );
            }
            _ => tracing::trace!(sequence = mark.sequence, last, "complete up to"),
        }
    }

    async fn answer(&mut self, ended: Result<(Id, Receipt), JoinError>) -> Result<(), HubError> {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => error.id(),
        };
        let place = self.started.iter().position(|(started, _)| *started == id);
        let delivery = place
            .map(|place| self.started.swap_remove(place).1)
            .unwrap_or_default();
        let receipt = match ended {
            Ok((_, receipt)) => Receipt {
                delivery_id: delivery.delivery_id,
                ..receipt
            },
            Err(_) => {
                let what = "the adapter failed in a way that it must not";
                tracing::error!(delivery = delivery.delivery_id, "adapter panicked");
                receipt(
                    &delivery,
                    Refusal::retry(PANIC_RETRY_AFTER, "ADAPTER_PANICKED", what),
                )
            }
        };
        crash::point("adapter.answered");
        self.send(Request::Receipt(receipt)).await?;
        crash::point("adapter.receipted");
        Ok(())
    }

    /// Lets what is under way end, without asking for more, and waits until the hub has read it.
    async fn finish(mut self, responses: &mut Streaming<AttachResponse>) -> Result<(), HubError> {
        while let Some(ended) = self.running.join_next_with_id().await {
            self.answer(ended).await?;
        }
        drop(self.requests);
        while responses.message().await?.is_some() {}
        Ok(())
    }

    async fn send(&self, request: Request) -> Result<(), HubError> {
        send(&self.requests, request).await
    }
}
