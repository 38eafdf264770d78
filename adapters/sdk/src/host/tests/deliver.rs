//! Deliveries: credits, receipts, panics, fencing, reconnection, shutdown.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use super::{Attached, Hub, Notes, play, status};
use crate::deliver::Deliver;
use crate::hub::{
    AttachResponse, Capabilities, Delivery, Fenced, Outcome, Receipt, Welcome,
    attach_request::Request as Ask, attach_response::Response as Tell,
};
use crate::receipt::{Answer, receipt};
use crate::spec::Spec;

/// An adapter that answers when the test lets it.
struct Gated {
    spec: Spec,
    gate: Arc<Semaphore>,
    seen: Notes<String>,
}

#[async_trait]
impl Deliver for Gated {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        self.seen.lock().unwrap().push(delivery.delivery_id.clone());
        assert!(delivery.delivery_id != "panic", "as the test wants");
        let permit = self.gate.acquire().await.unwrap();
        permit.forget();
        receipt(&delivery, Answer::applied())
    }
}

struct Running {
    hub: Hub,
    gate: Arc<Semaphore>,
    seen: Notes<String>,
    shutdown: CancellationToken,
    runner: tokio::task::JoinHandle<()>,
}

async fn start() -> Running {
    let hub = play().await;
    let gate = Arc::new(Semaphore::new(0));
    let seen = Notes::default();
    let spec = Spec {
        product: "kaede".to_owned(),
        system: "010".to_owned(),
        adapter_version: "1".to_owned(),
        capabilities: Capabilities {
            version_check: true,
            ..Capabilities::default()
        },
        in_flight_max: 3,
    };
    let adapter = Gated {
        spec,
        gate: Arc::clone(&gate),
        seen: Arc::clone(&seen),
    };
    let shutdown = CancellationToken::new();
    let runner = tokio::spawn(crate::host::run_deliver(
        hub.access.clone(),
        Arc::new(adapter),
        shutdown.clone(),
    ));
    Running {
        hub,
        gate,
        seen,
        shutdown,
        runner,
    }
}

async fn said(attached: &mut Attached) -> Ask {
    attached
        .said
        .message()
        .await
        .unwrap()
        .unwrap()
        .request
        .unwrap()
}

async fn tell(attached: &Attached, response: Tell) {
    attached
        .say
        .send(Ok(AttachResponse {
            response: Some(response),
        }))
        .await
        .unwrap();
}

fn delivery(id: &str) -> Tell {
    Tell::Delivery(Delivery {
        delivery_id: id.to_owned(),
        ..Delivery::default()
    })
}

/// Accepts the next stream up to its credits.
async fn welcome(running: &mut Running, lease: Duration) -> Attached {
    let mut attached = running.hub.attached.recv().await.unwrap();
    let Ask::Hello(hello) = said(&mut attached).await else {
        panic!("no Hello first")
    };
    assert_eq!(
        (hello.product.as_str(), hello.municipality.as_str()),
        ("kaede", "142042")
    );
    assert!(hello.capabilities.unwrap().version_check);
    let lease = Some(lease.try_into().unwrap());
    tell(
        &attached,
        Tell::Welcome(Welcome {
            lease,
            ..Welcome::default()
        }),
    )
    .await;
    let Ask::Credits(credits) = said(&mut attached).await else {
        panic!("no credits")
    };
    assert_eq!(credits.add, 3);
    attached
}

const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn every_receipt_is_followed_by_one_more_credit() {
    let mut running = start().await;
    let mut attached = welcome(&mut running, LONG).await;
    assert_eq!(
        attached.authorization.as_deref(),
        Some("Bearer secret-token")
    );
    tell(&attached, delivery("d1")).await;
    tell(&attached, delivery("d2")).await;
    running.gate.add_permits(2);
    let mut answered = Vec::new();
    for _ in 0..2 {
        let Ask::Receipt(receipt) = said(&mut attached).await else {
            panic!("no receipt")
        };
        assert_eq!(receipt.outcome(), Outcome::Applied);
        answered.push(receipt.delivery_id);
        let Ask::Credits(credits) = said(&mut attached).await else {
            panic!("no credit")
        };
        assert_eq!(credits.add, 1);
    }
    answered.sort();
    assert_eq!(answered, ["d1", "d2"]);
}

#[tokio::test]
async fn a_panic_is_answered_as_a_retry_and_ends_no_other_delivery() {
    let mut running = start().await;
    let mut attached = welcome(&mut running, LONG).await;
    tell(&attached, delivery("slow")).await;
    tell(&attached, delivery("panic")).await;
    let Ask::Receipt(receipt) = said(&mut attached).await else {
        panic!("no receipt")
    };
    assert_eq!(
        (receipt.delivery_id.as_str(), receipt.outcome()),
        ("panic", Outcome::Retry)
    );
    assert_eq!(receipt.reason, "ADAPTER_PANICKED");
    let Ask::Credits(_) = said(&mut attached).await else {
        panic!("no credit")
    };
    running.gate.add_permits(1);
    let Ask::Receipt(receipt) = said(&mut attached).await else {
        panic!("no receipt")
    };
    assert_eq!(
        (receipt.delivery_id.as_str(), receipt.outcome()),
        ("slow", Outcome::Applied)
    );
}

#[tokio::test]
async fn heartbeats_keep_the_lease_while_a_delivery_is_pending() {
    let mut running = start().await;
    let mut attached = welcome(&mut running, Duration::from_millis(60)).await;
    tell(&attached, delivery("pending")).await;
    for _ in 0..3 {
        assert!(matches!(said(&mut attached).await, Ask::Heartbeat(_)));
    }
}

#[tokio::test]
async fn a_lost_stream_is_opened_again_and_unanswered_deliveries_are_given_up() {
    let mut running = start().await;
    let attached = welcome(&mut running, LONG).await;
    tell(&attached, delivery("d1")).await;
    drop(attached);
    let mut attached = welcome(&mut running, LONG).await;
    tell(&attached, delivery("d1-again")).await;
    running.gate.add_permits(1);
    let Ask::Receipt(receipt) = said(&mut attached).await else {
        panic!("no receipt")
    };
    assert_eq!(receipt.delivery_id, "d1-again");
    let seen = running.seen.lock().unwrap().clone();
    assert_eq!(seen.last().map(String::as_str), Some("d1-again"));
}

#[tokio::test]
async fn a_product_that_is_not_bound_asks_again() {
    let mut running = start().await;
    let refused = running.hub.attached.recv().await.unwrap();
    refused
        .say
        .send(Err(status(Code::FailedPrecondition, "NOT_BOUND")))
        .await
        .unwrap();
    drop(refused);
    welcome(&mut running, LONG).await;
}

#[tokio::test]
async fn a_fenced_adapter_stops_and_does_not_ask_again_at_once() {
    let mut running = start().await;
    let attached = welcome(&mut running, LONG).await;
    tell(&attached, Tell::Fenced(Fenced { binding_epoch: 2 })).await;
    let several_reconnects = crate::limits::RECONNECT_DELAY_MIN * 5;
    let again = tokio::time::timeout(several_reconnects, running.hub.attached.recv()).await;
    assert!(again.is_err(), "it waits longer than after a lost stream");
    running.shutdown.cancel();
    running.runner.await.unwrap();
}

#[tokio::test]
async fn a_shutdown_lets_a_running_delivery_end_and_takes_no_more() {
    let mut running = start().await;
    let mut attached = welcome(&mut running, LONG).await;
    tell(&attached, delivery("d1")).await;
    while running.seen.lock().unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    running.shutdown.cancel();
    running.gate.add_permits(1);
    let Ask::Receipt(receipt) = said(&mut attached).await else {
        panic!("no receipt")
    };
    assert_eq!(receipt.delivery_id, "d1");
    let end = attached.said.message().await.unwrap();
    assert!(end.is_none(), "no more credits");
    drop(attached);
    running.runner.await.unwrap();
}
