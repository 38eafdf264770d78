//! An adapter as a vendor would write it for a product with a REST interface, on the SDK.
//! One process for all its systems; without a receiver it applies at once.
//! Must never retry: the hub owns every retry.
//! Read next: `http.rs`, which it posts through.

use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use musubi_adapter_sdk::hub::{Capabilities, DeliveredUnit, Delivery, Receipt, UnitScope};
use musubi_adapter_sdk::{
    Answer, CancellationToken, Deliver, HubAccess, Refusal, Spec, async_trait, receipt, run_deliver,
};
use musubi_e2e::hub::MUNICIPALITY;
use tokio::task::JoinSet;

use crate::http::{Http, Told};
use crate::load::published_us;

/// Deliveries of one system under way at a time, as many as the floor has lanes.
const IN_FLIGHT: u32 = 256;
/// Name of the product that is bound to each system.
pub(crate) const PRODUCT: &str = "bench";

/// Whom it serves.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Address of the hub
    #[arg(long)]
    pub(crate) hub: String,
    /// Municipality of all its systems
    #[arg(long, default_value = MUNICIPALITY)]
    pub(crate) municipality: String,
    /// A system, and its receiver: `500=127.0.0.1:8080`, or `500` alone
    #[arg(long)]
    pub(crate) serve: Vec<Served>,
}

/// A system with its receiver.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    system: String,
    receiver: Option<SocketAddr>,
}

impl FromStr for Served {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (system, receiver) = match text.split_once('=') {
            Some((system, receiver)) => (system, Some(receiver.parse()?)),
            None => (text, None),
        };
        Ok(Self {
            system: system.to_owned(),
            receiver,
        })
    }
}

struct Poster {
    spec: Spec,
    http: Option<Http>,
}

impl Poster {
    async fn apply(&self, unit: &DeliveredUnit) -> Result<Answer, Refusal> {
        let Some(http) = &self.http else {
            return Ok(Answer::applied());
        };
        let event = unit.events.first().and_then(|event| event.event.as_ref());
        let Some(event) = event else {
            return Err(Refusal::reject("UNIT_SHAPE", "events", "one event, please"));
        };
        let told = Told {
            subject: &event.subject,
            version: event.subject_version,
            published_us: published_us(event),
        };
        match http.post(told, &event.data).await {
            Ok(200) => Ok(Answer::applied()),
            Ok(422) => Err(Refusal::reject("NOT_TAKEN", "", "the product refuses it")),
            Ok(503) => Err(Refusal::retry(
                Duration::ZERO,
                "BUSY",
                "the product is busy",
            )),
            _ => Err(Refusal::retry(
                Duration::from_secs(1),
                "UNREACHABLE",
                "the product does not answer",
            )),
        }
    }
}

#[async_trait]
impl Deliver for Poster {
    fn spec(&self) -> &Spec {
        &self.spec
    }

    async fn deliver(&self, delivery: Delivery) -> Receipt {
        let answer = match delivery.units.first() {
            Some(unit) => self.apply(unit).await,
            None => Err(Refusal::reject("UNIT_SHAPE", "units", "one unit, please")),
        };
        receipt(&delivery, answer)
    }
}

/// Serves until it is killed.
pub(crate) async fn run(options: Options) -> Result<()> {
    let mut adapters = JoinSet::new();
    for served in options.serve {
        let spec = Spec {
            product: PRODUCT.to_owned(),
            system: served.system,
            adapter_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: Capabilities {
                unit_scope: UnitScope::Event.into(),
                protection_flag: true,
                ..Capabilities::default()
            },
            in_flight_max: IN_FLIGHT,
        };
        let adapter = Poster {
            spec,
            http: served.receiver.map(Http::new),
        };
        let access = HubAccess {
            endpoint: options.hub.clone(),
            token: None,
            municipality: options.municipality.clone(),
        };
        adapters.spawn(run_deliver(
            access,
            Arc::new(adapter),
            CancellationToken::new(),
        ));
    }
    adapters.join_next().await.context("nobody is served")??;
    Ok(())
}
