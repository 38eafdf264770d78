//! Connections to the database: a fixed number at most, the last used first.
//! Under every operation of the store. The driver's own pool asks each connection whether it lives
//! whenever it comes back; here an operation that finds it dead is tried again.
//! Must never keep a connection whose state is not known.
//! Read next: `store/postgres/session.rs`.

use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::limits::{STORE_CONNECT_WITHIN, STORE_CONNECTION_WAIT};

/// Connections.
#[derive(Debug)]
pub(super) struct Pool {
    options: PgConnectOptions,
    places: Arc<Semaphore>,
    /// The one that is kept for leases, whatever else waits.
    kept: Arc<Semaphore>,
    idle: Mutex<Vec<PgConnection>>,
}

/// A connection in use, with its place.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) connection: PgConnection,
    place: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(options: PgConnectOptions, connections: u32) -> Self {
        Self {
            options,
            places: Arc::new(Semaphore::new(connections.saturating_sub(1).max(1) as usize)),
            kept: Arc::new(Semaphore::new(1)),
            idle: Mutex::default(),
        }
    }

    /// A connection, once one is free. Dropping it closes it.
    pub(super) async fn take(&self) -> Result<Taken, sqlx::Error> {
        self.take_of(&self.places).await
    }

    /// The connection that is kept for leases: a lease must not end because others work.
    pub(super) async fn take_kept(&self) -> Result<Taken, sqlx::Error> {
        self.take_of(&self.kept).await
    }

    async fn take_of(&self, places: &Arc<Semaphore>) -> Result<Taken, sqlx::Error> {
        let place = timeout(STORE_CONNECTION_WAIT, places.clone().acquire_owned());
        let place = match place.await {
            Ok(Ok(place)) => place,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => connect(&self.options).await?,
        };
        Ok(Taken { connection, place })
    }

    /// Takes one back on which nothing is under way.
    pub(super) fn put(&self, taken: Taken) {
        let Taken { connection, place } = taken;
        if !self.places.is_closed() {
            self.idle().push(connection);
        }
        drop(place);
    }

    /// Closes those that nobody uses: when one was cut off, the others probably were too.
    pub(super) fn forget_idle(&self) {
        self.idle().clear();
    }

    /// Closes all; those in use when they come back.
    pub(super) async fn close(&self) {
        self.places.close();
        self.kept.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "a connection to the database was closed already");
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<PgConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a connection within the time that it may take.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    match timeout(STORE_CONNECT_WITHIN, options.connect()).await {
        Ok(connected) => connected,
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
