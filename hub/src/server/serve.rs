//! `musubi serve`: opens the data folder, binds the port, runs until it is told to stop.
//! Puts the parts together; the only place that knows all of them.
//! Must never listen beyond loopback without tokens, nor share a data folder.
//! Read next: `server/event_service.rs`, `server/delivery_service.rs`, `server/admin_service.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musubi_proto::hub::v1::admin_service_server::AdminServiceServer;
use musubi_proto::hub::v1::delivery_service_server::DeliveryServiceServer;
use musubi_proto::hub::v1::event_service_server::EventServiceServer;
use rdkafka::ClientConfig;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower_layer::Layer;

use super::admin_service::Admin;
use super::auth::Tokens;
use super::backend::Backend;
use super::cloudevents;
use super::cluster::Cluster;
use super::cluster::forward::ForwardLayer;
use super::cluster::keeper::keep;
use super::cluster::membership::Membership;
use super::config::Config;
use super::delivery_service::Deliveries;
use super::event_service::Events;
use super::health;
use super::hub::Hub;
use super::opening::OpenTownError;
use super::retention::{Rules, start_history};
use super::secret::write_private;
use super::tasks::Tasks;
use super::town::Commons;
use crate::event::Pseudonyms;
use crate::folder::{self, FolderError};
use crate::grants::GrantTable;
use crate::limits::{
    CONNECTION_STREAMS_MAX, DRAIN_TIMEOUT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX,
};
use crate::log::LogError;
use crate::schema::Schema;
use crate::sqlite::OpenError;

/// The hub cannot start, or ended with an error. Each text is one line for an operator.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A configuration value is wrong.
    #[error("{0}")]
    Config(String),
    /// The data folder is in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The data folder cannot be used.
    #[error("the data folder `{0}` cannot be used: {1}")]
    Data(String, std::io::Error),
    /// The file that gets the address cannot be written.
    #[error("the address file `{0}` cannot be written: {1}")]
    AddressFile(String, std::io::Error),
    /// A file of the data folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The log cannot be read.
    #[error("the file `log.sqlite` of the data folder: {0}: {cause}", cause = cause(.0))]
    Log(LogError),
    /// A municipality cannot be opened.
    #[error(transparent)]
    Town(OpenTownError),
    /// The port cannot be bound.
    #[error("cannot listen on {0}: {1}; is another program using the port?")]
    Listen(SocketAddr, std::io::Error),
    /// The server ended.
    #[error("the server ended: {0}")]
    Server(#[from] tonic::transport::Error),
}

fn cause(error: &LogError) -> String {
    std::error::Error::source(error).map_or_else(String::new, ToString::to_string)
}

/// Runs the hub until `stop` is cancelled.
///
/// # Errors
/// When it cannot start, in one line.
pub async fn run(config: Config, stop: CancellationToken) -> Result<(), ServeError> {
    let tokens = match &config.token_file {
        Some(path) => Tokens::read(path).map_err(ServeError::Config)?,
        None => Tokens::none(),
    };
    if !tokens.required() && !config.listen.ip().is_loopback() {
        return Err(ServeError::Config(format!(
            "listening on {} needs a token file; without one only loopback is allowed",
            config.listen
        )));
    }
    let rules = Rules {
        keep: config.keep().map_err(ServeError::Config)?,
        period: config.retention_period,
        data: config.cluster.is_none().then(|| config.data.clone()),
    };
    let schema = Arc::new(Schema::load().map_err(|error| ServeError::Config(error.to_string()))?);
    let grants = Arc::new(grants(&schema, config.grants.as_deref())?);
    // Before the port: who shares a folder has to hear that, not that a port is taken.
    let _lock = match config.cluster {
        None => Some(folder::lock_to_serve(&config.data)?),
        Some(_) => None,
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| ServeError::Listen(config.listen, error))?;
    let address = listener
        .local_addr()
        .map_err(|e| ServeError::Listen(config.listen, e))?;
    let told = config.cluster.as_ref().and_then(|one| one.address.clone());
    let told = told.unwrap_or_else(|| format!("http://{address}"));
    check_told(&config, address)?;
    let (backend, known) = Backend::open(&config, &told).await?;
    let ended = CancellationToken::new();
    let commons = Commons {
        incarnation: known.incarnation,
        log: backend.log(),
        concerned: backend.concerned(),
        store: backend.store(),
        schema,
        grants,
        pseudonyms: Pseudonyms::new(known.pseudonym_key),
        rules: Arc::new(rules),
        room: Arc::default(),
        alarm_limits: config.alarms,
        lease: backend.lease(),
        stop: ended.child_token(),
        tasks: Tasks::default(),
    };
    let cluster = backend.others(told);
    let hub = Arc::new(Hub::new(commons, tokens, cluster.clone()));
    let member = match (&cluster, backend.group(&config)) {
        (Some(cluster), Some((client, group))) => Some(join(&hub, cluster, client, group)?),
        _ => {
            open_known(&hub).await?;
            None
        }
    };
    start_history(&hub.commons);
    write_address(config.address_file.as_ref(), address)?;
    tracing::info!(%address, "the hub listens");
    tokio::spawn(end(stop, member, ended.clone()));
    tokio::select! {
        served = serve(hub, listener, ended) => served?,
        damaged = backend.damage() => return Err(damaged.into()),
    }
    backend.close().await;
    Ok(())
}

/// Listening on all addresses says nothing about how others reach this one.
fn check_told(config: &Config, address: SocketAddr) -> Result<(), ServeError> {
    match &config.cluster {
        Some(cluster) if cluster.address.is_none() && address.ip().is_unspecified() => {
            Err(ServeError::Config(format!(
                "other instances cannot reach `{address}`; name an address that they reach under \
                 `cluster.address`"
            )))
        }
        _ => Ok(()),
    }
}

/// When it is told to stop: gives back what it owns, and serves the way there until then.
async fn end(stop: CancellationToken, member: Option<Member>, ended: CancellationToken) {
    stop.cancelled().await;
    if let Some(member) = member {
        member.leave().await;
    }
    ended.cancel();
}

/// An instance that is a member of the group.
struct Member {
    membership: Membership,
    keeper: JoinHandle<()>,
}

impl Member {
    /// Gives everything back, then leaves.
    async fn leave(self) {
        self.membership.leave().await;
        if let Err(error) = self.keeper.await {
            tracing::error!(%error, "the keeper of the municipalities did not end in order");
        }
    }
}

fn join(
    hub: &Arc<Hub>,
    cluster: &Arc<Cluster>,
    client: &ClientConfig,
    group: &str,
) -> Result<Member, ServeError> {
    let (membership, turns) = Membership::join(client, group, hub.commons.lease.clone())
        .map_err(|error| ServeError::Config(format!("the group `{group}`: {error}")))?;
    let keeper = tokio::spawn(keep(hub.clone(), cluster.clone(), turns));
    Ok(Member { membership, keeper })
}

/// Opens the municipalities of the data folder, so that deliveries go on without a publish.
async fn open_known(hub: &Hub) -> Result<(), ServeError> {
    let known = hub.commons.store.municipalities().await;
    let known = known.map_err(|error| ServeError::Config(error.to_string()))?;
    for m in known {
        hub.open(&m).await.map_err(|error| match error {
            OpenTownError::Log(error) => ServeError::Log(error),
            error => ServeError::Town(error),
        })?;
    }
    Ok(())
}

async fn serve(
    hub: Arc<Hub>,
    listener: TcpListener,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let events =
        EventServiceServer::new(Events(hub.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let deliveries = DeliveryServiceServer::new(Deliveries(hub.clone()))
        .max_decoding_message_size(MESSAGE_BYTES_MAX);
    let admin =
        AdminServiceServer::new(Admin(hub.clone())).max_decoding_message_size(MESSAGE_BYTES_MAX);
    let (health, health_service) = tonic_health::server::health_reporter();
    health::tell(&health, true).await;
    tokio::spawn(health::keep_telling(
        health,
        hub.commons.lease.clone(),
        stop.clone(),
    ));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(musubi_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Config(format!("reflection: {error}")))?;
    // An answer in two small pieces would otherwise wait for the peer's delayed acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let forward = ForwardLayer(hub.clone());
    let routes = cloudevents::routes(hub, forward.layer(events.clone()));
    let served = Server::builder()
        // CloudEvents clients speak HTTP/1.1.
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(CONNECTION_STREAMS_MAX))
        .layer(forward)
        .add_routes(routes.into())
        .add_service(events)
        .add_service(deliveries)
        .add_service(admin)
        .add_service(health_service)
        .add_service(reflection)
        .serve_with_incoming_shutdown(incoming, stop.cancelled());
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_TIMEOUT).await;
    };
    // Endless streams end with the stop token; a peer that does not read is left behind.
    tokio::select! {
        served = served => served.map_err(ServeError::from),
        () = drained => Ok(()),
    }
}

fn grants(schema: &Schema, folder: Option<&Path>) -> Result<GrantTable, ServeError> {
    let Some(folder) = folder else {
        return GrantTable::builtin(schema).map_err(|e| ServeError::Config(e.to_string()));
    };
    let unreadable = |error: std::io::Error| {
        ServeError::Config(format!(
            "cannot read the grants in `{}`: {error}",
            folder.display()
        ))
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "csv") {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            files.push((name, std::fs::read_to_string(&path).map_err(unreadable)?));
        }
    }
    files.sort();
    let pairs: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    GrantTable::parse(schema, &pairs).map_err(|error| ServeError::Config(error.to_string()))
}

fn write_address(file: Option<&PathBuf>, address: SocketAddr) -> Result<(), ServeError> {
    let Some(path) = file else { return Ok(()) };
    write_private(path, address.to_string().as_bytes())
        .map_err(|error| ServeError::AddressFile(path.display().to_string(), error))
}
