//! `musubi serve`: opens the data folder, binds the port, runs until it is told to stop.
//! Puts the parts together; the only place that knows all of them.
//! Must never listen beyond loopback without tokens, nor share a data folder.
//! Read next: `server/event_service.rs`, `server/delivery_service.rs`, `server/admin_service.rs`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use musubi_proto::hub::v1::admin_service_server::AdminServiceServer;
use musubi_proto::hub::v1::delivery_service_server::DeliveryServiceServer;
use musubi_proto::hub::v1::event_service_server::EventServiceServer;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use super::admin_service::Admin;
use super::auth::Tokens;
use super::cloudevents;
use super::config::Config;
use super::delivery_service::Deliveries;
use super::event_service::Events;
use super::gate::Gate;
use super::lease::Lease;
use super::retention::{Rules, start_history};
use super::status::Failure;
use super::town::{Commons, Town, watch_alarms};
use crate::event::{Municipality, Pseudonyms, Stream};
use crate::folder::{self, FolderError};
use crate::grants::GrantTable;
use crate::limits::{
    ATTACH_RETRY, ATTACH_STREAMS_MAX, CONNECTION_STREAMS_MAX, DRAIN_TIMEOUT, KEEPALIVE_INTERVAL,
    KEEPALIVE_TIMEOUT, MESSAGE_BYTES_MAX, OVERLOAD_RETRY, PUBLISH_CALLS_MAX, PUBLISH_WAITING_BYTES,
};
use crate::log::LogError;
use crate::log::sqlite::SqliteLog;
use crate::schema::Schema;
use crate::sqlite::OpenError;
use crate::store::sqlite::SqliteStore;

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
    /// The log lost records that the store knows of.
    #[error(
        "the log of `{municipality}` lost its end: {stream} positions {from} to {to} were \
         acknowledged and are gone; keep the data folder as it is and restore a backup with \
         `musubi restore`"
    )]
    EndLost {
        /// Whose log.
        municipality: Municipality,
        /// Stream.
        stream: &'static str,
        /// First position that is missing.
        from: u64,
        /// Last position that is missing.
        to: u64,
    },
    /// The log forgot more than the store knows of.
    #[error(
        "the log of `{municipality}` begins with {stream} position {first}, and the store knows of \
         its trimming up to {noted} only: they are not of one time; restore a backup with \
         `musubi restore`"
    )]
    NotOfOneTime {
        /// Whose log.
        municipality: Municipality,
        /// Stream.
        stream: &'static str,
        /// First position of the log.
        first: u64,
        /// First position that the store noted.
        noted: u64,
    },
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

/// The running hub.
#[derive(Debug)]
pub struct Hub {
    /// What all municipalities share.
    pub commons: Commons,
    /// Known clients.
    pub tokens: Tokens,
    /// Publish requests that may still come in.
    pub publish_calls: Gate,
    /// Bytes that publish requests may still hold.
    pub publish_bytes: Gate,
    /// Streams that adapters may still open.
    pub attach_streams: Gate,
    towns: Mutex<HashMap<Municipality, Arc<Town>>>,
}

impl Hub {
    /// The municipality, opened on first use.
    ///
    /// # Errors
    /// When it cannot be recovered; a later call tries again.
    pub async fn town(&self, m: &Municipality) -> Result<Arc<Town>, Failure> {
        let mut towns = self.towns.lock().await;
        if let Some(town) = towns.get(m) {
            return Ok(town.clone());
        }
        let town = Arc::new(Town::open(self.commons.clone(), m.clone()).await?);
        towns.insert(m.clone(), town.clone());
        watch_alarms(town.clone());
        Ok(town)
    }

    /// Municipalities that are open, by code.
    pub async fn towns(&self) -> Vec<Arc<Town>> {
        let mut towns: Vec<_> = self.towns.lock().await.values().cloned().collect();
        towns.sort_by(|a, b| a.municipality.cmp(&b.municipality));
        towns
    }
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
        data: config.data.clone(),
    };
    let schema = Arc::new(Schema::load().map_err(|error| ServeError::Config(error.to_string()))?);
    let grants = Arc::new(grants(&schema, config.grants.as_deref())?);
    let _lock = folder::lock(&config.data)?;
    let log = Arc::new(SqliteLog::open(&config.data.join("log.sqlite")).await?);
    let store = Arc::new(SqliteStore::open(&config.data.join("store.sqlite")).await?);
    let commons = Commons {
        incarnation: log.incarnation().await.map_err(ServeError::Log)?,
        log: log.clone(),
        store: store.clone(),
        schema,
        grants,
        pseudonyms: Pseudonyms::new(pseudonym_key(&config.data)?),
        rules: Arc::new(rules),
        room: Arc::default(),
        alarm_limits: config.alarms,
        lease: Lease::forever(),
        stop: stop.child_token(),
        tasks: TaskTracker::new(),
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(|error| ServeError::Listen(config.listen, error))?;
    let address = listener
        .local_addr()
        .map_err(|e| ServeError::Listen(config.listen, e))?;
    let hub = Arc::new(Hub {
        commons,
        tokens,
        publish_calls: Gate::new(PUBLISH_CALLS_MAX, OVERLOAD_RETRY),
        publish_bytes: Gate::new(PUBLISH_WAITING_BYTES, OVERLOAD_RETRY),
        attach_streams: Gate::new(ATTACH_STREAMS_MAX, ATTACH_RETRY),
        towns: Mutex::default(),
    });
    open_known(&hub).await?;
    start_history(&hub.commons);
    write_address(config.address_file.as_ref(), address)?;
    tracing::info!(%address, data = %config.data.display(), "the hub listens");
    tokio::select! {
        served = serve(hub, listener, stop) => served?,
        damaged = damage(&store) => return Err(damaged.into()),
    }
    log.settle().await;
    store.seal().await;
    Ok(())
}

/// Ends when the store, which was too large to be checked before the start, is damaged.
async fn damage(store: &SqliteStore) -> OpenError {
    match store.check_beside().await {
        Ok(()) => std::future::pending().await,
        Err(damaged) => damaged,
    }
}

/// Opens the municipalities of the data folder, so that deliveries go on without a publish.
async fn open_known(hub: &Hub) -> Result<(), ServeError> {
    let known = hub.commons.store.municipalities().await;
    let known = known.map_err(|error| ServeError::Config(error.to_string()))?;
    for m in known {
        check_ends(&hub.commons, &m).await?;
        hub.town(&m)
            .await
            .map_err(|failure| ServeError::Config(failure.message))?;
    }
    Ok(())
}

/// The log is written before the store: a store that knows more tells of a log that lost its end.
/// It is trimmed after the store has noted it: a log that begins later is another store's.
async fn check_ends(commons: &Commons, m: &Municipality) -> Result<(), ServeError> {
    for stream in Stream::ALL {
        let tail = commons.store.committed_tail(m, stream).await;
        let tail = tail.map_err(|error| ServeError::Config(error.to_string()))?;
        let bounds = commons.log.bounds(m, stream).await;
        let bounds = bounds.map_err(ServeError::Log)?;
        if tail > bounds.next {
            return Err(ServeError::EndLost {
                municipality: m.clone(),
                stream: stream.name(),
                from: bounds.next.0,
                to: tail.0 - 1,
            });
        }
        let noted = commons.store.kept_from(m, stream).await;
        let noted = noted.map_err(|error| ServeError::Config(error.to_string()))?;
        if bounds.first > noted {
            return Err(ServeError::NotOfOneTime {
                municipality: m.clone(),
                stream: stream.name(),
                first: bounds.first.0,
                noted: noted.0,
            });
        }
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
    health.set_serving::<EventServiceServer<Events>>().await;
    health
        .set_serving::<DeliveryServiceServer<Deliveries>>()
        .await;
    health.set_serving::<AdminServiceServer<Admin>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(musubi_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| ServeError::Config(format!("reflection: {error}")))?;
    // An answer in two small pieces would otherwise wait for the peer's delayed acknowledgement.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let routes = cloudevents::routes(hub, events.clone());
    let served = Server::builder()
        // CloudEvents clients speak HTTP/1.1.
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(Some(CONNECTION_STREAMS_MAX))
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

/// The key of the pseudonyms: made once, readable by the hub alone.
fn pseudonym_key(folder: &Path) -> Result<[u8; 32], ServeError> {
    let failed = |error| ServeError::Data(folder.display().to_string(), error);
    let path = folder.join("pseudonym.key");
    if let Ok(bytes) = std::fs::read(&path) {
        return <[u8; 32]>::try_from(bytes)
            .map_err(|_| ServeError::Config(format!("`{}` must have 32 bytes", path.display())));
    }
    let mut key = [0; 32];
    key[..16].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    key[16..].copy_from_slice(uuid::Uuid::new_v4().as_bytes());
    write_private(&path, &key).map_err(failed)?;
    Ok(key)
}

/// Writes beside, flushes, renames: a crash leaves the whole file or none.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let beside = path.with_extension("new");
    let mut file = File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)?;
    File::open(folder_of(path))?.sync_all()
}

/// The folder of a file; a bare name stands in the working folder.
fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

fn write_address(file: Option<&PathBuf>, address: SocketAddr) -> Result<(), ServeError> {
    let Some(path) = file else { return Ok(()) };
    write_private(path, address.to_string().as_bytes())
        .map_err(|error| ServeError::AddressFile(path.display().to_string(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_stands_in_the_working_folder() {
        for (path, folder) in [("port", "."), ("run/port", "run"), ("/run/port", "/run")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder));
        }
    }
}
