//! A hub, publishers and adapters for the stories.
//! Waits for conditions with a deadline, never for a time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use musubi_hub::server::{Config, ServeError, run};
use musubi_proto::google::rpc;
use musubi_proto::hub::v1::admin_service_client::AdminServiceClient;
use musubi_proto::hub::v1::attach_request::Request as Ask;
use musubi_proto::hub::v1::attach_response::Response as Tell;
use musubi_proto::hub::v1::delivery_service_client::DeliveryServiceClient;
use musubi_proto::hub::v1::event_service_client::EventServiceClient;
use musubi_proto::hub::v1::publish_unit::Content;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Accepted, AttachRequest, AttachResponse, BindProductRequest, Capabilities, Credits, Delivery,
    Event, Hello, ListSubscriptionsRequest, Outcome, PublishRequest, PublishUnit, Receipt,
    Subscription, Unit, UnitAnswer, Welcome,
};
use musubi_proto::standard::resident::v1::ResidentMovedWithin;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

pub(crate) const TOWN: &str = "142042";
pub(crate) const SOURCE: &str = "urn:jp:lg:142042:system:001";
pub(crate) const MOVED: &str = "musubi.standard.resident.v1.ResidentMovedWithin";
pub(crate) const EXAMPLE: &str =
    include_str!("../../../schemas/examples/resident_moved_within.json");
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Asks until the answer is there.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A running hub.
pub(crate) struct Hub {
    address: String,
    channel: Channel,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Hub {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::with(folder, None).await
    }

    pub(crate) async fn with(folder: &Path, token_file: Option<PathBuf>) -> Self {
        let config = Config {
            token_file,
            ..Config::default()
        };
        Self::configured(folder, config).await
    }

    pub(crate) async fn configured(folder: &Path, config: Config) -> Self {
        let address_file = folder.join("address");
        if address_file.exists() {
            std::fs::remove_file(&address_file).unwrap();
        }
        let config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: folder.join("data"),
            address_file: Some(address_file.clone()),
            ..config
        };
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(config, stop.clone()));
        let address = until("the hub writes its address", || async {
            std::fs::read_to_string(&address_file).ok()
        });
        let address = address.await;
        let channel = Channel::from_shared(format!("http://{address}")).unwrap();
        Self {
            address,
            channel: channel.connect().await.unwrap(),
            stop,
            running,
        }
    }

    /// Ends it; the data folder is free then.
    pub(crate) async fn stop(self) {
        let Self {
            channel,
            stop,
            running,
            ..
        } = self;
        drop(channel);
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel())
    }

    pub(crate) fn deliveries(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel())
    }

    pub(crate) fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel())
    }

    pub(crate) async fn bind(&self, system: &str, product: &str) -> Subscription {
        let ask = BindProductRequest {
            municipality: TOWN.to_owned(),
            system: system.to_owned(),
            product: product.to_owned(),
            operator: "operator".to_owned(),
            reason: "story".to_owned(),
        };
        let bound = self.admin().bind_product(ask).await;
        bound.unwrap().into_inner().subscription.unwrap()
    }

    pub(crate) async fn publish(&self, units: Vec<PublishUnit>) -> Vec<UnitAnswer> {
        let published = self.events().publish(request(units)).await;
        published.unwrap().into_inner().answers
    }

    /// Publishes one event, which must be accepted.
    pub(crate) async fn accept(&self, event: Event) -> u64 {
        let mut answers = self.publish(vec![unit(vec![event])]).await;
        match answers.pop().and_then(|answer| answer.answer) {
            Some(Answer::Accepted(Accepted { position, .. })) => position,
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub(crate) async fn subscription(&self, id: &str) -> Subscription {
        let ask = ListSubscriptionsRequest {
            municipality: TOWN.to_owned(),
        };
        let listed = self.admin().list_subscriptions(ask).await;
        let found = listed.unwrap().into_inner().subscriptions;
        let found = found.into_iter().find(|found| found.id == id);
        found.unwrap_or_else(|| panic!("no subscription {id}"))
    }

    /// Waits until a subscription is as wanted.
    pub(crate) async fn wait_for(
        &self,
        id: &str,
        what: &str,
        wanted: impl Fn(&Subscription) -> bool,
    ) -> Subscription {
        until(what, || async {
            Some(self.subscription(id).await).filter(|found| wanted(found))
        })
        .await
    }
}

pub(crate) fn request(units: Vec<PublishUnit>) -> PublishRequest {
    PublishRequest {
        municipality: TOWN.to_owned(),
        source: SOURCE.to_owned(),
        units,
        ..PublishRequest::default()
    }
}

pub(crate) fn unit(events: Vec<Event>) -> PublishUnit {
    PublishUnit {
        content: Some(Content::Unit(Unit { events })),
        ..PublishUnit::default()
    }
}

/// The payload of the example: a move within the town.
pub(crate) fn payload() -> ResidentMovedWithin {
    let pool = musubi_proto::descriptor_pool();
    let descriptor = pool.get_message_by_name(MOVED).unwrap();
    let mut json = serde_json::Deserializer::from_str(EXAMPLE);
    let message = prost_reflect::DynamicMessage::deserialize(descriptor, &mut json);
    message.unwrap().transcode_to().unwrap()
}

/// An event about a person, with an id of its own.
pub(crate) fn event(name: &str, version: u32, event_type: &str, data: Vec<u8>) -> Event {
    Event {
        id: uuid::Uuid::new_v4().to_string(),
        source: SOURCE.to_owned(),
        r#type: event_type.to_owned(),
        municipality: TOWN.to_owned(),
        subject: name.to_owned(),
        subject_version: version,
        reason: 40,
        data: data.into(),
        ..Event::default()
    }
}

/// A move within the town.
pub(crate) fn moved(name: &str, version: u32) -> Event {
    event(name, version, MOVED, payload().encode_to_vec())
}

/// An attached adapter.
pub(crate) struct Adapter {
    say: mpsc::Sender<AttachRequest>,
    hear: Streaming<AttachResponse>,
    pub(crate) welcome: Welcome,
}

pub(crate) const FLAG: Capabilities = Capabilities {
    unit_scope: 0,
    runs: false,
    version_check: false,
    lookup: false,
    protection_flag: true,
    batch_units: 0,
    idempotent: true,
    answer_within: None,
};

impl Adapter {
    pub(crate) async fn try_attach(
        hub: &Hub,
        system: &str,
        product: &str,
        capabilities: Capabilities,
    ) -> Result<Self, Status> {
        let hello = Hello {
            municipality: TOWN.to_owned(),
            system: system.to_owned(),
            product: product.to_owned(),
            adapter_version: "1".to_owned(),
            capabilities: Some(capabilities),
        };
        let adapter = Self::try_hello(hub, hello).await?;
        adapter.say(Ask::Credits(Credits { add: 50 })).await;
        Ok(adapter)
    }

    /// Attaches with a Hello of the story's own, and grants no credit.
    pub(crate) async fn try_hello(hub: &Hub, hello: Hello) -> Result<Self, Status> {
        let (say, said) = mpsc::channel(64);
        let first = Ask::Hello(hello);
        say.send(asked(first)).await.unwrap();
        let mut deliveries = hub.deliveries();
        let attached = deliveries.attach(ReceiverStream::new(said)).await?;
        let mut hear = attached.into_inner();
        let Some(Tell::Welcome(welcome)) = hear.message().await?.unwrap().response else {
            panic!("the first word is no welcome");
        };
        Ok(Self { say, hear, welcome })
    }

    /// Attaches as a product that holds the protection flag.
    pub(crate) async fn attach(hub: &Hub, system: &str, product: &str) -> Self {
        Self::attach_with(hub, system, product, FLAG).await
    }

    /// Attaches, also when the former stream or a cut is just ending.
    pub(crate) async fn attach_with(
        hub: &Hub,
        system: &str,
        product: &str,
        capabilities: Capabilities,
    ) -> Self {
        until("the product is bound", || async {
            let attached = Self::try_attach(hub, system, product, capabilities);
            attached.await.ok()
        })
        .await
    }

    /// Says a word; into a stream that has ended it is said to nobody.
    pub(crate) async fn say(&self, ask: Ask) {
        drop(self.say.send(asked(ask)).await);
    }

    /// The next word; `None` at the end of the stream.
    pub(crate) async fn hear(&mut self) -> Option<Tell> {
        let heard = tokio::time::timeout(PATIENCE, self.hear.next()).await;
        let message = heard.expect("the hub says nothing")?.ok()?;
        message.response
    }

    /// Waits for the end of the stream.
    pub(crate) async fn end(&mut self) -> Result<(), Status> {
        let read = async {
            while self.hear.message().await?.is_some() {}
            Ok(())
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .expect("the stream goes on")
    }

    /// The next delivery; marks are passed over.
    pub(crate) async fn delivery(&mut self) -> Delivery {
        loop {
            match self.hear().await {
                Some(Tell::Delivery(delivery)) => return delivery,
                Some(Tell::CompleteUpTo(_) | Tell::Refused(_)) => {}
                other => panic!("no delivery but {other:?}"),
            }
        }
    }

    pub(crate) async fn answer(&self, delivery: &Delivery, outcome: Outcome, reason: &str) {
        let receipt = Receipt {
            delivery_id: delivery.delivery_id.clone(),
            outcome: outcome as i32,
            reason: reason.to_owned(),
            ..Receipt::default()
        };
        self.say(Ask::Receipt(receipt)).await;
        self.say(Ask::Credits(Credits { add: 1 })).await;
    }

    pub(crate) async fn apply(&self, delivery: &Delivery) {
        self.answer(delivery, Outcome::Applied, "").await;
    }
}

fn asked(request: Ask) -> AttachRequest {
    AttachRequest {
        request: Some(request),
    }
}

/// Ids of the events of a delivery.
pub(crate) fn ids(delivery: &Delivery) -> Vec<String> {
    let events = delivery.units.iter().flat_map(|unit| &unit.events);
    events
        .map(|event| event.event.as_ref().unwrap().id.clone())
        .collect()
}

/// Reason and field of an error.
pub(crate) fn told(status: &rpc::Status) -> (String, String) {
    let detail = |name: &str| {
        let mut details = status.details.iter();
        details.find(|detail| detail.type_url.ends_with(name))
    };
    let info = detail("google.rpc.ErrorInfo").expect("an ErrorInfo");
    let info = rpc::ErrorInfo::decode(&info.value[..]).unwrap();
    let field = detail("google.rpc.BadRequest").map_or_else(String::new, |bad| {
        let bad = rpc::BadRequest::decode(&bad.value[..]).unwrap();
        bad.field_violations[0].field.clone()
    });
    (info.reason, field)
}

/// Reason and field of a failed call.
pub(crate) fn failed(status: &Status) -> (String, String) {
    told(&rpc::Status::decode(status.details()).unwrap())
}

/// Reason and field of a refused unit.
#[track_caller]
pub(crate) fn refused(answer: &UnitAnswer) -> (String, String) {
    match &answer.answer {
        Some(Answer::Refused(status)) => told(status),
        other => panic!("not refused: {other:?}"),
    }
}
