//! DeliveryService: adapters attach, get leased deliveries, answer with receipts.
//! One stream an adapter; the runner of the subscription is behind it.
//! Must never keep a stream whose adapter is silent longer than its lease.
//! Read next: `server/runner/session.rs`.

use std::sync::Arc;

use musubi_proto::hub::v1::attach_request::Request as Ask;
use musubi_proto::hub::v1::attach_response::Response as Tell;
use musubi_proto::hub::v1::delivery_service_server::DeliveryService;
use musubi_proto::hub::v1::{
    AttachRequest, AttachResponse, FetchMissedRequest, FetchMissedResponse, Hello, Mode, Welcome,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::auth::{Role, municipality};
use super::gate::overloaded;
use super::hub::Hub;
use super::runner::{AttachAsk, Command, Runner};
use super::status::{Failure, invalid};
use super::town::{Town, subscription_id};
use crate::limits::{
    ATTACH_RETRY, CREDITS_MAX, HELLO_TIMEOUT, IDENTIFIER_CHARS_MAX, STREAM_LEASE, STREAM_QUEUE,
};

mod missed;

/// The service.
#[derive(Clone, Debug)]
pub struct Deliveries(pub Arc<Hub>);

/// What an attached stream is.
struct Attached {
    runner: Runner,
    session: u64,
    end: CancellationToken,
    binding_epoch: u64,
}

/// Finds the subscription that serves or fills a product, and attaches there.
async fn attach(
    town: &Town,
    hello: &Hello,
    out: &mpsc::Sender<AttachResponse>,
) -> Result<Attached, Failure> {
    let own = subscription_id(&town.municipality, &hello.system);
    let rows = town.rows().await?;
    for row in &rows {
        let of_system = row.id == own || row.id.starts_with(&format!("{own}~"));
        let bound = row
            .binding()
            .is_some_and(|binding| binding.product == hello.product);
        if !of_system || !bound || row.closed {
            continue;
        }
        let Some(runner) = town.runner(&row.id) else {
            continue;
        };
        let end = CancellationToken::new();
        let ask = AttachAsk {
            product: hello.product.clone(),
            capabilities: hello.capabilities.unwrap_or_default(),
            out: out.clone(),
            end: end.clone(),
        };
        let (reply, answer) = oneshot::channel();
        let asked = runner
            .commands
            .try_send(Command::Attach(Box::new(ask), reply));
        if matches!(asked, Err(TrySendError::Full(_))) {
            return Err(overloaded(
                "the subscription has too much to do",
                ATTACH_RETRY,
            ));
        }
        if let Ok(Some(session)) = answer.await {
            let binding_epoch = row.binding().map_or(0, |binding| binding.epoch);
            return Ok(Attached {
                runner,
                session,
                end,
                binding_epoch,
            });
        }
    }
    let (product, system) = (&hello.product, &hello.system);
    let elsewhere = rows.iter().find(|row| {
        let binding = row.binding();
        row.system != *system && binding.is_some_and(|binding| binding.product == *product)
    });
    let message = match elsewhere {
        Some(row) => format!(
            "`{product}` is bound to system `{}`, and its adapter says `{system}`; bind the product \
             to the system that it is",
            row.system
        ),
        None => format!(
            "`{product}` is not bound to system `{system}` now; bind it, or wait until it is filled"
        ),
    };
    Err(Failure::new(Code::FailedPrecondition, "NOT_BOUND", message).field("product"))
}

/// Passes what the adapter says to the runner until the stream ends or falls silent.
///
/// # Errors
/// When the adapter breaks the protocol: its stream ends with that, and nothing changed.
async fn listen(
    attached: &Attached,
    incoming: &mut Streaming<AttachRequest>,
) -> Result<(), Failure> {
    loop {
        let next = tokio::select! {
            () = attached.end.cancelled() => return Ok(()),
            next = tokio::time::timeout(STREAM_LEASE, incoming.next()) => next,
        };
        let Ok(Some(Ok(message))) = next else {
            return Ok(());
        };
        let command = match message.request {
            Some(Ask::Credits(credits)) => {
                check_credits(credits.add)?;
                Command::Credits(attached.session, credits.add)
            }
            Some(Ask::Receipt(receipt)) => Command::Receipt(attached.session, Box::new(receipt)),
            Some(Ask::Hello(_)) => return Err(invalid("hello", "a stream has one Hello")),
            // What a newer adapter says beyond this contract is a sign of life, no more.
            Some(Ask::Heartbeat(_)) | None => continue,
        };
        if attached.runner.commands.send(command).await.is_err() {
            return Ok(());
        }
    }
}

fn check_credits(add: u32) -> Result<(), Failure> {
    if add > CREDITS_MAX {
        let message = format!("at most {CREDITS_MAX} deliveries can be under way");
        return Err(invalid("credits.add", &message));
    }
    Ok(())
}

/// What is wrong with a Hello, before anybody is asked whether the product is bound.
fn check_hello(hello: &Hello) -> Result<(), Failure> {
    let system = &hello.system;
    if system.len() != 3 || !system.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(invalid(
            "hello.system",
            "a system is a 業務ID of three digits",
        ));
    }
    let named = |text: &str| {
        let length = text.chars().count();
        (1..=IDENTIFIER_CHARS_MAX).contains(&length) && !text.contains(char::is_control)
    };
    if !named(&hello.product) {
        return Err(invalid("hello.product", "name the product in one line"));
    }
    if !named(&hello.adapter_version) {
        let message = "name the version of the adapter in one line";
        return Err(invalid("hello.adapter_version", message));
    }
    Ok(())
}

async fn first(incoming: &mut Streaming<AttachRequest>) -> Result<Hello, Failure> {
    let bad = || {
        Failure::new(
            Code::InvalidArgument,
            "HELLO_EXPECTED",
            "the first message must be Hello",
        )
        .field("hello")
    };
    let message = tokio::time::timeout(HELLO_TIMEOUT, incoming.next()).await;
    match message.ok().flatten() {
        Some(Ok(AttachRequest {
            request: Some(Ask::Hello(hello)),
        })) => Ok(hello),
        _ => Err(bad()),
    }
}

#[tonic::async_trait]
impl DeliveryService for Deliveries {
    type AttachStream = std::pin::Pin<
        Box<dyn tokio_stream::Stream<Item = Result<AttachResponse, Status>> + Send + 'static>,
    >;

    async fn attach(
        &self,
        request: Request<Streaming<AttachRequest>>,
    ) -> Result<Response<Self::AttachStream>, Status> {
        let caller = self.0.tokens.caller(&request)?;
        let pass = self.0.attach_streams.enter(1)?;
        let mut incoming = request.into_inner();
        let hello = first(&mut incoming).await?;
        let m = municipality(&hello.municipality)?;
        caller.check(&m, Role::Receiver, &hello.system)?;
        check_hello(&hello)?;
        let town = self.0.town(&m).await?;
        let (out, queue) = mpsc::channel(STREAM_QUEUE);
        // The Welcome stands before everything that the runner sends.
        let (relay, relayed) = mpsc::channel(STREAM_QUEUE);
        let attached = attach(&town, &hello, &relay).await?;
        drop(relay);
        let filling = attached.runner.id.contains('~');
        let welcome = Welcome {
            subscription: attached.runner.id.clone(),
            binding_epoch: attached.binding_epoch,
            owner_epoch: town.shared().owner_epoch,
            incarnation: self.0.commons.incarnation,
            lease: Some(prost_types::Duration {
                seconds: i64::try_from(STREAM_LEASE.as_secs()).unwrap_or(i64::MAX),
                nanos: 0,
            }),
            mode: if filling { Mode::Backfill } else { Mode::Live } as i32,
        };
        tokio::spawn(async move {
            let hello = AttachResponse {
                response: Some(Tell::Welcome(welcome)),
            };
            if out.send(Ok(hello)).await.is_ok() {
                serve(attached, incoming, relayed, out).await;
            }
            drop(pass);
        });
        // Asked once more as a message leaves: it may have waited for a slow reader, or a frozen hub.
        let lease = self.0.commons.lease.clone();
        let leaving = ReceiverStream::new(queue).take_while(move |_| lease.holds());
        Ok(Response::new(Box::pin(leaving)))
    }

    async fn fetch_missed(
        &self,
        request: Request<FetchMissedRequest>,
    ) -> Result<Response<FetchMissedResponse>, Status> {
        let caller = self.0.tokens.caller(&request)?;
        let ask = request.into_inner();
        let m = municipality(&ask.municipality)?;
        caller.check(&m, Role::Receiver, &ask.system)?;
        let town = self.0.town(&m).await?;
        Ok(Response::new(missed::fetch(&town, &ask).await?))
    }
}

/// Runs both directions; when one ends, the other ends and the session is given up.
async fn serve(
    attached: Attached,
    mut incoming: Streaming<AttachRequest>,
    mut relayed: mpsc::Receiver<AttachResponse>,
    out: mpsc::Sender<Result<AttachResponse, Status>>,
) {
    let relay = async {
        while let Some(message) = relayed.recv().await {
            if out.send(Ok(message)).await.is_err() {
                return;
            }
        }
    };
    let refused = tokio::select! {
        listened = listen(&attached, &mut incoming) => listened.err(),
        () = relay => None,
    };
    // A fence is said before the stream ends; what else was on its way is not delivered.
    while let Ok(message) = relayed.try_recv() {
        if matches!(message.response, Some(Tell::Fenced(_))) && out.try_send(Ok(message)).is_err() {
            tracing::debug!("an adapter that was fenced does not read");
        }
    }
    if let Some(failure) = refused
        && out.try_send(Err(failure.into())).is_err()
    {
        tracing::debug!("an adapter that was refused does not read");
    }
    let detach = Command::Detach(attached.session);
    if attached.runner.commands.send(detach).await.is_err() {
        tracing::debug!("the hub is shutting down");
    }
}
