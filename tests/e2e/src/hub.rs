//! A hub of a test's own, and a client of it: what every gRPC client can do.
//! The hub runs as a process on a free port; after a kill it comes back on the same one.
//! Must never look into the hub's files: what it knows is asked.
//! Read next: `receiver.rs`, `event.rs`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use musubi_proto::google::rpc::{BadRequest, ErrorInfo, Status as RpcStatus};
use musubi_proto::hub::v1::admin_service_client::AdminServiceClient;
use musubi_proto::hub::v1::delivery_service_client::DeliveryServiceClient;
use musubi_proto::hub::v1::event_service_client::EventServiceClient;
use musubi_proto::hub::v1::{
    BindProductRequest, BindSourceRequest, CutOverRequest, CutOverResponse, Event, HeldState,
    HeldUnit, ListEventsRequest, ListHeldRequest, ListParkedRequest, ListSubscriptionsRequest,
    ParkedUnit, PublishRequest, PublishUnit, StoredEvent, Stream, Subscription, Unit, UnitAnswer,
    publish_unit,
};
use prost::Message;
use serde_json::Value;
use tonic::transport::{Channel, Endpoint};

use crate::cluster::Cluster;
use crate::process::{Process, musubi};
use crate::wait::{wait_for_text, wait_until};

/// Municipality of all towns of the tests.
pub const MUNICIPALITY: &str = "142042";
/// The resident registry as a source.
pub const SOURCE: &str = "urn:jp:lg:142042:system:001";

/// How long a hub may take to start or to reach a state.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// A hub that does not answer a ping for this long, asked as often, is lost.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const PAGE: u32 = 1_000;
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Whether hubs stand on a cluster.
static ON_CLUSTERS: AtomicBool = AtomicBool::new(false);

/// From now on each hub that this program starts below a folder is the instance of a cluster of its
/// own: a story that looks into no file is played on both.
pub fn stand_on_clusters() {
    ON_CLUSTERS.store(true, Ordering::Relaxed);
}

/// A running hub; dropping it kills it.
#[derive(Debug)]
pub struct Hub {
    process: Process,
    /// What it stands on; gone after it.
    _cluster: Option<Cluster>,
    folder: PathBuf,
    /// Options of `serve` that say where everything is.
    place: Vec<OsString>,
    address: String,
}

impl Hub {
    /// Starts a hub below a folder: `hub/` holds its data, `run/` its log.
    pub async fn start(folder: &Path) -> Result<Self> {
        let mut command = musubi()?;
        command.arg("serve");
        Self::start_as(folder, command).await
    }

    /// The same under another command line that ends in `serve` and takes its options.
    pub async fn start_as(folder: &Path, command: std::process::Command) -> Result<Self> {
        if ON_CLUSTERS.load(Ordering::Relaxed) {
            std::fs::create_dir_all(folder).context("make the folder of a hub")?;
            let cluster = Cluster::start(folder, 1)?;
            let place = vec!["--config".into(), cluster.config()?.into()];
            let hub = Self::start_at(folder, command, place).await?;
            return Ok(Self {
                _cluster: Some(cluster),
                ..hub
            });
        }
        let place = vec!["--data".into(), folder.join("hub").into()];
        Self::start_at(folder, command, place).await
    }

    /// The same with options that say where the hub finds its log and its store.
    pub async fn start_at(
        folder: &Path,
        command: std::process::Command,
        place: Vec<OsString>,
    ) -> Result<Self> {
        let (process, address) = spawn(folder, command, &place, "127.0.0.1:0").await?;
        Ok(Self {
            process,
            _cluster: None,
            folder: folder.to_owned(),
            place,
            address,
        })
    }

    /// `kill -9`, then a new process on the same data and port.
    pub async fn kill_and_restart(&mut self) -> Result<()> {
        self.process.kill()?;
        self.restart().await
    }

    /// A new process on the same data and port.
    pub async fn restart(&mut self) -> Result<()> {
        self.restart_as(musubi()?).await
    }

    /// The same under another command line, to which `serve` and its options are added.
    pub async fn restart_as(&mut self, mut command: std::process::Command) -> Result<()> {
        command.arg("serve");
        let (process, _) = spawn(&self.folder, command, &self.place, &self.address).await?;
        self.process = process;
        Ok(())
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Where it listens, such as `127.0.0.1:7411`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Address for clients and for `--hub`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What an operator's command answers, as JSON.
    pub fn command(&self, arguments: &[&str]) -> Result<Value> {
        let mut command = musubi()?;
        command
            .args(arguments)
            .args(["--json", "--hub", &self.url()]);
        command.args(["--municipality", MUNICIPALITY]);
        let output = command.output().context("start `musubi`")?;
        if !output.status.success() {
            let errors = String::from_utf8_lossy(&output.stderr);
            bail!("`musubi {}`: {errors}", arguments.join(" "));
        }
        serde_json::from_slice(&output.stdout).context("read the answer")
    }

    /// A client; it finds the hub again after a restart.
    pub fn client(&self) -> Result<Client> {
        Client::new(&self.url())
    }
}

async fn spawn(
    folder: &Path,
    mut command: std::process::Command,
    place: &[OsString],
    listen: &str,
) -> Result<(Process, String)> {
    let run = folder.join("run");
    let told = run.join("hub.address");
    if told.exists() {
        std::fs::remove_file(&told).context("remove the hub's former address")?;
    }
    command
        .args(place)
        .args(["--listen", listen, "--address-file"])
        .arg(&told);
    let mut process = Process::spawn("hub", command, &run)?;
    let address = match wait_for_text(PATIENCE, &told).await {
        Ok(address) => address,
        Err(error) => {
            process.must_run()?;
            return Err(error);
        }
    };
    Ok((process, address))
}

fn endpoint(url: &str) -> Result<Endpoint> {
    let endpoint = Endpoint::from_shared(url.to_owned()).context("the address of the hub")?;
    Ok(endpoint
        .connect_timeout(Duration::from_secs(5))
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true))
}

/// A client of a hub without a token, for one municipality.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client that connects when it is first used.
    pub fn new(url: &str) -> Result<Self> {
        let channel = endpoint(url)?.connect_lazy();
        Ok(Self { channel })
    }

    /// A client of several instances, which uses any of those that answer.
    pub fn of(urls: &[String]) -> Result<Self> {
        let endpoints: Vec<Endpoint> = urls
            .iter()
            .map(|url| endpoint(url))
            .collect::<Result<_>>()?;
        let channel = Channel::balance_list(endpoints.into_iter());
        Ok(Self { channel })
    }

    /// The event service.
    pub fn events(&self) -> EventServiceClient<Channel> {
        EventServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The operator's service.
    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// The adapters' service.
    pub fn deliveries(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Publishes units, each of the events given, as a client that is no capture adapter.
    pub async fn publish(&self, units: Vec<Vec<Event>>) -> Result<Vec<UnitAnswer>, tonic::Status> {
        let units = units.into_iter().map(|events| PublishUnit {
            content: Some(publish_unit::Content::Unit(Unit { events })),
            ..PublishUnit::default()
        });
        let request = PublishRequest {
            municipality: MUNICIPALITY.to_owned(),
            source: SOURCE.to_owned(),
            units: units.collect(),
            ..PublishRequest::default()
        };
        let answer = self.events().publish(request).await?;
        Ok(answer.into_inner().answers)
    }

    /// Binds a product to a system.
    pub async fn bind(&self, system: &str, product: &str) -> Result<()> {
        let request = BindProductRequest {
            municipality: MUNICIPALITY.to_owned(),
            system: system.to_owned(),
            product: product.to_owned(),
            operator: "test".to_owned(),
            reason: "a test".to_owned(),
        };
        let bound = self.admin().bind_product(request).await;
        bound.with_context(|| format!("bind {product} to {system}"))?;
        Ok(())
    }

    /// Binds the registry's adapter; returns the epoch to publish under.
    pub async fn bind_source(&self, product: &str) -> Result<u64> {
        let request = BindSourceRequest {
            municipality: MUNICIPALITY.to_owned(),
            source: SOURCE.to_owned(),
            product: product.to_owned(),
            operator: "test".to_owned(),
            reason: "a test".to_owned(),
        };
        let bound = self.admin().bind_source(request).await;
        let bound = bound.with_context(|| format!("bind the source to {product}"))?;
        Ok(bound.into_inner().capture_epoch)
    }

    /// Cuts a system over to a product that is being filled.
    pub async fn cut_over(&self, system: &str, product: &str) -> Result<CutOverResponse> {
        let request = CutOverRequest {
            municipality: MUNICIPALITY.to_owned(),
            system: system.to_owned(),
            product: product.to_owned(),
            operator: "test".to_owned(),
            reason: "a test".to_owned(),
        };
        let cut = self.admin().cut_over(request).await;
        Ok(cut
            .with_context(|| format!("cut {system} over to {product}"))?
            .into_inner())
    }

    /// All subscriptions.
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>> {
        let request = ListSubscriptionsRequest {
            municipality: MUNICIPALITY.to_owned(),
        };
        let listed = self.admin().list_subscriptions(request).await?;
        Ok(listed.into_inner().subscriptions)
    }

    /// The subscription of a system, not those that fill a product.
    pub async fn subscription(&self, system: &str) -> Result<Subscription> {
        let id = format!("{MUNICIPALITY}/{system}");
        let mut all = self.subscriptions().await?.into_iter();
        all.find(|subscription| subscription.id == id)
            .with_context(|| format!("there is no subscription `{id}`"))
    }

    /// Units held in a state; unspecified means all that still wait.
    pub async fn held(&self, state: HeldState) -> Result<Vec<HeldUnit>> {
        let request = ListHeldRequest {
            municipality: MUNICIPALITY.to_owned(),
            state: state.into(),
            page_size: PAGE,
            page_token: String::new(),
        };
        let listed = self.admin().list_held(request).await?.into_inner();
        if !listed.next_page_token.is_empty() {
            bail!("more than {PAGE} held units");
        }
        Ok(listed.held)
    }

    /// Parked units of a system.
    pub async fn parked(&self, system: &str) -> Result<Vec<ParkedUnit>> {
        let request = ListParkedRequest {
            municipality: MUNICIPALITY.to_owned(),
            system: system.to_owned(),
            page_size: PAGE,
            page_token: String::new(),
            ..ListParkedRequest::default()
        };
        let listed = self.admin().list_parked(request).await?.into_inner();
        if !listed.next_page_token.is_empty() {
            bail!("more than {PAGE} parked units");
        }
        Ok(listed.parked)
    }

    /// Everything that stands in a stream of the log.
    pub async fn log(&self, stream: Stream) -> Result<Vec<StoredEvent>> {
        let mut stored = Vec::new();
        let mut from_position = 0;
        loop {
            let request = ListEventsRequest {
                municipality: MUNICIPALITY.to_owned(),
                stream: stream.into(),
                from_position,
                page_size: PAGE,
            };
            let page = self.events().list_events(request).await?.into_inner();
            stored.extend(page.events);
            from_position = page.next_position;
            if from_position == 0 {
                return Ok(stored);
            }
        }
    }

    /// Waits until the live stream of the log holds that many events.
    pub async fn wait_until_logged(&self, events: u64) -> Result<()> {
        let (mut seen, mut from_position) = (0, 0);
        let what = format!("{events} events in the log");
        wait_until(PATIENCE, &what, async || {
            let request = ListEventsRequest {
                municipality: MUNICIPALITY.to_owned(),
                stream: Stream::Live.into(),
                from_position,
                page_size: PAGE,
            };
            let page = self.events().list_events(request).await?.into_inner();
            seen += u64::try_from(page.events.len())?;
            from_position = from_position.max(page.next_position);
            if seen < events {
                bail!("{seen} so far");
            }
            Ok(true)
        })
        .await
    }

    /// Waits until every subscription named has nothing left to deliver.
    pub async fn wait_until_delivered(&self, systems: &[&str]) -> Result<()> {
        let what = format!("everything to be delivered to {}", systems.join(", "));
        wait_until(PATIENCE, &what, async || {
            for system in systems {
                let own = self.subscription(system).await?;
                if own.lag > 0 || own.in_flight > 0 {
                    bail!("{system}: lag {}, in flight {}", own.lag, own.in_flight);
                }
            }
            Ok(true)
        })
        .await
    }
}

/// Reason and offending field of a refusal; empty where it names none.
pub fn reason_and_field(status: &RpcStatus) -> (String, String) {
    let mut found = (String::new(), String::new());
    for detail in &status.details {
        if detail.type_url.ends_with("google.rpc.ErrorInfo")
            && let Ok(info) = ErrorInfo::decode(detail.value.as_slice())
        {
            found.0 = info.reason;
        }
        if detail.type_url.ends_with("google.rpc.BadRequest")
            && let Ok(bad) = BadRequest::decode(detail.value.as_slice())
            && let Some(violation) = bad.field_violations.into_iter().next()
        {
            found.1 = violation.field;
        }
    }
    found
}

/// The same for a call that failed as a whole.
pub fn reason_and_field_of(status: &tonic::Status) -> (String, String) {
    RpcStatus::decode(status.details())
        .map(|status| reason_and_field(&status))
        .unwrap_or_default()
}
