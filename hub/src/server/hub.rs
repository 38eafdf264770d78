//! The running hub: what all edges share, and the municipalities that are open in it.
//! Alone it opens each on first use; in a cluster the keeper opens those that it owns.
//! Must never open one whose log and store are not of one time.
//! Read next: `server/town.rs`, `server/cluster.rs`.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::Mutex;

use super::auth::Tokens;
use super::cluster::Cluster;
use super::gate::Gate;
use super::opening::OpenTownError;
use super::status::Failure;
use super::town::{Commons, Town, watch_alarms};
use crate::event::Municipality;
use crate::limits::{
    ATTACH_RETRY, ATTACH_STREAMS_MAX, OVERLOAD_RETRY, PUBLISH_CALLS_MAX, PUBLISH_WAITING_BYTES,
};

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
    /// The other instances; `None` for a hub that is alone.
    cluster: Option<Arc<Cluster>>,
    towns: Mutex<HashMap<Municipality, Arc<Town>>>,
}

impl Hub {
    /// A hub without an open municipality.
    pub fn new(commons: Commons, tokens: Tokens, cluster: Option<Arc<Cluster>>) -> Self {
        Self {
            commons,
            tokens,
            publish_calls: Gate::new(PUBLISH_CALLS_MAX, OVERLOAD_RETRY),
            publish_bytes: Gate::new(PUBLISH_WAITING_BYTES, OVERLOAD_RETRY),
            attach_streams: Gate::new(ATTACH_STREAMS_MAX, ATTACH_RETRY),
            cluster,
            towns: Mutex::default(),
        }
    }

    /// The other instances; `None` for a hub that is alone.
    pub fn cluster(&self) -> Option<Arc<Cluster>> {
        self.cluster.clone()
    }

    /// The municipality. A hub that is alone opens it on first use.
    ///
    /// # Errors
    /// When it cannot be recovered (a later call tries again), or another instance owns it.
    pub async fn town(&self, m: &Municipality) -> Result<Arc<Town>, Failure> {
        if let Some(cluster) = &self.cluster {
            self.must_have_its_store(m)?;
            return match self.open_town(m).await {
                Some(town) => Ok(town),
                None => Err(Failure::not_owner(m, cluster.elsewhere(m).await?)),
            };
        }
        Ok(self.open(m).await?)
    }

    /// Whoever asks an instance that lives and has lost its store goes to another one.
    ///
    /// # Errors
    /// When it is so.
    pub fn must_have_its_store(&self, m: &Municipality) -> Result<(), Failure> {
        match self.commons.lease.is_lost() {
            true => Err(Failure::not_owner(m, None)),
            false => Ok(()),
        }
    }

    /// Opens a municipality, unless it is open.
    ///
    /// # Errors
    /// When it cannot be opened; a later call tries again.
    pub async fn open(&self, m: &Municipality) -> Result<Arc<Town>, OpenTownError> {
        let mut towns = self.towns.lock().await;
        if let Some(town) = towns.get(m) {
            return Ok(town.clone());
        }
        let town = self.take(m).await?;
        towns.insert(m.clone(), town.clone());
        watch_alarms(town.clone());
        Ok(town)
    }

    /// The municipality, if it is open here.
    pub async fn open_town(&self, m: &Municipality) -> Option<Arc<Town>> {
        self.towns.lock().await.get(m).cloned()
    }

    /// Municipalities that are open, by code.
    pub async fn towns(&self) -> Vec<Arc<Town>> {
        let mut towns: Vec<_> = self.towns.lock().await.values().cloned().collect();
        towns.sort_by(|a, b| a.municipality.cmp(&b.municipality));
        towns
    }

    /// Takes ownership of a municipality and recovers it; nobody sees it until it is shown.
    ///
    /// # Errors
    /// When its log and its store are not of one time, or cannot be read.
    pub async fn take(&self, m: &Municipality) -> Result<Arc<Town>, OpenTownError> {
        let town = Town::open(self.commons.clone(), m.clone()).await?;
        Ok(Arc::new(town))
    }

    /// Lets everybody see a municipality.
    pub async fn show(&self, town: Arc<Town>) {
        let m = town.municipality.clone();
        self.towns.lock().await.insert(m, town.clone());
        watch_alarms(town);
    }

    /// Lets nobody see it any more.
    pub async fn hide(&self, m: &Municipality) {
        self.towns.lock().await.remove(m);
    }
}
