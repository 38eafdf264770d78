//! The store in PostgreSQL: one database for all instances of a hub.
//! Implements every role; each delta is one transaction, fenced by the owner's epoch.
//! Must never write what belongs to a municipality outside `write`, which fences it.
//! Read next: `store/postgres/session.rs`, `store/postgres/owners.rs`, `docs/specs/store.md`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;
use thiserror::Error;
use tokio::sync::Mutex;

use self::owners::Owned;
use self::pool::Pool;
use self::session::{Trouble, retried};
use super::StoreError;
use super::delivery::group::Deltas;
use crate::limits::STORE_CONNECTIONS;

mod acts;
mod alarms;
mod delivery;
mod fences;
pub mod look;
mod migrate;
pub mod migration;
mod owners;
mod pool;
mod publish;
mod replay;
mod retention;
mod rows;
mod session;
#[cfg(test)]
mod tests;

/// Where the database is and who asks.
#[derive(Clone)]
pub struct PgConfig {
    /// Address, as `postgres://user:password@host/database`; may be that of a pooler in
    /// transaction mode.
    pub url: String,
    /// Address of the server itself, when the other one is a pooler's: for migrations.
    pub direct_url: Option<String>,
    /// Password, when it stands in no address.
    pub password: Option<String>,
    /// Connections at most.
    pub connections: u32,
    /// Who owns what this store writes. `None`: whoever opens it, as a tool or a test does.
    pub identity: Option<Identity>,
}

impl PgConfig {
    /// The database of an address, with all defaults.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            direct_url: None,
            password: None,
            connections: STORE_CONNECTIONS,
            identity: None,
        }
    }
}

/// Addresses hold passwords.
impl fmt::Debug for PgConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PgConfig")
            .field("connections", &self.connections)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// An instance that owns municipalities.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Address at which other instances and adapters reach it.
    pub address: String,
    /// How long it owns them after it last said so, by the database's clock.
    pub lease: Duration,
}

/// The database cannot be used.
#[derive(Debug, Error)]
pub enum PgOpenError {
    /// The address is none.
    #[error(
        "the database's address cannot be read; write `postgres://user:password@host:port/database`"
    )]
    Address(#[source] sqlx::Error),
    /// No connection.
    #[error(
        "the database {database} cannot be reached; check that it runs, its address, user and \
         password"
    )]
    Unreachable {
        /// Host, port and name.
        database: String,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// The tables cannot be made or read.
    #[error(
        "the tables of the database {database} cannot be made or read; its user needs the right \
         to create tables in it"
    )]
    Schema {
        /// Host, port and name.
        database: String,
        /// Cause.
        #[source]
        source: sqlx::Error,
    },
    /// Written by a newer version.
    #[error(
        "the database {database} has data version {found}, this program knows {known}: start a \
         newer version"
    )]
    Newer {
        /// Host, port and name.
        database: String,
        /// Version in the database.
        found: i64,
        /// Version that this program writes.
        known: i64,
    },
    /// A commit would not wait for the disk.
    #[error(
        "the database {0} is set to `synchronous_commit = off`: what it says is written would not \
         be on its disk; set it to `on`"
    )]
    NotDurable(String),
    /// Another cluster's events are what it knows of.
    #[error(
        "the database belongs to the Kafka cluster `{found}`, not to `{given}`: give each cluster \
         a database of its own"
    )]
    OtherCluster {
        /// Cluster that the database belongs to.
        found: String,
        /// Cluster that was given.
        given: String,
    },
    /// Subjects would get other pseudonyms than they have.
    #[error(
        "the key of the pseudonyms is not the one of the instances that use this database: take \
         their `pseudonym_key_file`"
    )]
    OtherKey,
    /// A question to it failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PgOpenError {
    fn name(of: &PgConnectOptions) -> String {
        let database = of.get_database().unwrap_or(of.get_username());
        format!("`{database}` at {}:{}", of.get_host(), of.get_port())
    }

    fn unreachable(of: &PgConnectOptions, source: sqlx::Error) -> Self {
        let database = Self::name(of);
        Self::Unreachable { database, source }
    }

    fn schema(of: &PgConnectOptions, source: sqlx::Error) -> Self {
        let database = Self::name(of);
        Self::Schema { database, source }
    }
}

/// Store in one PostgreSQL database.
#[derive(Debug)]
pub struct PgStore {
    pool: Pool,
    behind_pooler: bool,
    owned: Owned,
    /// Deltas of deliveries that wait for their turn.
    deltas: Deltas,
    committing: Mutex<()>,
    months: delivery::Months,
}

impl PgStore {
    /// Connects, and makes the tables when they are not there.
    pub async fn open(config: PgConfig) -> Result<Self, PgOpenError> {
        let with_password = |options: PgConnectOptions| match &config.password {
            Some(password) => options.password(password),
            None => options,
        };
        let options = with_password(options_of(&config.url)?);
        let direct = config.direct_url.as_deref().unwrap_or(&config.url);
        let behind_pooler = direct != config.url;
        migrate::migrate(&with_password(options_of(direct)?)).await?;
        let options = match behind_pooler {
            true => options,
            false => options.options(PLANNER),
        };
        let store = Self {
            pool: Pool::new(options.clone(), config.connections),
            behind_pooler,
            owned: Owned::new(config.identity),
            deltas: Deltas::default(),
            committing: Mutex::default(),
            months: delivery::Months::default(),
        };
        let session = store.session_to_see().await;
        session.map_err(|error| PgOpenError::unreachable(&options, error))?;
        store.introduce().await?;
        Ok(store)
    }

    /// Says which Kafka cluster the database belongs to: the first one to say so has it for ever.
    pub async fn belongs_to(&self, cluster: &str) -> Result<(), PgOpenError> {
        let found = retried!(self, "asking whose the database is", async {
            let mut session = self.begin().await?;
            let found = session
                .scalar("UPDATE meta SET cluster = coalesce(cluster, $1) RETURNING cluster")
                .bind(cluster)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            Ok::<String, Trouble>(found)
        })?;
        if found != cluster {
            let given = cluster.to_owned();
            return Err(PgOpenError::OtherCluster { found, given });
        }
        Ok(())
    }

    /// Says by which digest the key of the pseudonyms is known: the first instance to say so has it
    /// for ever.
    pub async fn uses_key(&self, check: &str) -> Result<(), PgOpenError> {
        let found = retried!(self, "asking for the key of the pseudonyms", async {
            let mut session = self.begin().await?;
            let found = session
                .scalar("UPDATE meta SET key_check = coalesce(key_check, $1) RETURNING key_check")
                .bind(check)
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            Ok::<String, Trouble>(found)
        })?;
        match found == check {
            true => Ok(()),
            false => Err(PgOpenError::OtherKey),
        }
    }

    /// The number of the log's life that the database knows; it rises when a backup is restored.
    pub async fn incarnation(&self) -> Result<u64, StoreError> {
        retried!(self, "reading the incarnation", async {
            let mut session = self.read().await?;
            let number: i64 = session
                .scalar("SELECT incarnation FROM meta")
                .fetch_one(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(number.cast_unsigned())
        })
    }

    /// Closes the connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }

    /// A first connection, so that a wrong address is said at the start.
    async fn session_to_see(&self) -> Result<(), sqlx::Error> {
        let taken = self.pool.take().await?;
        self.pool.put(taken);
        Ok(())
    }
}

/// Statements are parsed once and planned each time: a plan that was made while a table was small
/// would be kept, and read all of a municipality for each row of a batch. Nothing runs for so long
/// that compiling it would pay. Poolers do not pass settings on; behind them nothing is kept.
const PLANNER: [(&str, &str); 2] = [("plan_cache_mode", "force_custom_plan"), ("jit", "off")];

fn options_of(url: &str) -> Result<PgConnectOptions, PgOpenError> {
    let options = PgConnectOptions::from_str(url).map_err(PgOpenError::Address)?;
    // Poolers know no `extra_float_digits`, and no table has a floating-point number.
    let options = options
        .application_name("musubi")
        .extra_float_digits(None)
        .disable_statement_logging();
    Ok(options)
}
