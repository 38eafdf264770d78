//! What a look at a deployment asks the database: what it is, how it is set, who owns what.
//! Beside the store: an operator's command calls it, no instance does.
//! Must never write: a look at the wrong database must leave no trace in it.
//! Read next: `doctor.rs`, `store/postgres/owners.rs`.

use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{Connection, Row};

use super::migrate::SCHEMA_VERSION;
use super::pool::connect;
use super::{PgConfig, PgOpenError, options_of};
use crate::event::{Municipality, Position, Stream};

/// Version of the tables that this program makes.
pub const KNOWN_VERSION: i64 = SCHEMA_VERSION;

/// A database as it is.
#[derive(Clone, Debug)]
pub struct Database {
    /// Tells this database of this server from all others, for as long as the server runs.
    pub identity: String,
    /// How the server is set.
    pub settings: Settings,
    /// Its clock, between two readings of this machine's, in milliseconds since 1970.
    pub clock: (i64, i64, i64),
    /// What the hub wrote there; `None` when it never did.
    pub meta: Option<Meta>,
}

/// Settings and rights that matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// `synchronous_commit`.
    pub synchronous_commit: String,
    /// `fsync`.
    pub fsync: String,
    /// `full_page_writes`.
    pub full_page_writes: String,
    /// Connections that are there for the hub's user.
    pub connections: i64,
    /// A standby takes no writes.
    pub standby: bool,
    /// The user may make tables.
    pub may_create: bool,
}

/// What the hub wrote.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Meta {
    /// Version of the tables.
    pub version: i64,
    /// Kafka cluster that the database belongs to.
    pub cluster: Option<String>,
    /// Digest by which the key of the pseudonyms is known.
    pub key_check: Option<String>,
    /// The user may change the tables, as partitions of the history need it.
    pub may_alter: bool,
    /// Municipalities.
    pub towns: Vec<Town>,
    /// Addresses of the instances whose lease holds.
    pub instances: Vec<String>,
    /// Where the slowest subscription of each municipality and stream stands.
    pub slowest: Vec<(Municipality, Stream, Position)>,
}

/// A municipality and its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Town {
    /// Which.
    pub municipality: String,
    /// Address of its owner; `None` when it was given back.
    pub owner: Option<String>,
    /// The owner's lease holds.
    pub holds: bool,
    /// The migration that brought it, or brings it.
    pub migration: Option<String>,
}

const SETTINGS: &str = "
  SELECT
  pg_postmaster_start_time()::text || ' ' || (SELECT oid::text FROM pg_database
    WHERE datname = current_database()),
  current_setting('synchronous_commit'), current_setting('fsync'),
  current_setting('full_page_writes'),
  current_setting('max_connections')::bigint
    - current_setting('superuser_reserved_connections')::bigint,
  pg_is_in_recovery(),
  coalesce(has_schema_privilege(current_schema(), 'create'), FALSE),
  (extract(epoch FROM clock_timestamp()) * 1000)::bigint";

/// As JSON, so that a column that a version does not have is no error.
const META: &str = "SELECT m.version, to_jsonb(m) ->> 'cluster', to_jsonb(m) ->> 'key_check'
  FROM meta m";

const MAY_ALTER: &str = "SELECT coalesce(bool_and(pg_has_role(c.relowner, 'usage')), TRUE)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = current_schema() AND c.relname IN ('meta', 'history', 'owners')";

const TOWNS: &str = "SELECT o.municipality, h.address,
    coalesce(h.lease_until > clock_timestamp(), FALSE), i.id
  FROM owners o LEFT JOIN holders h ON h.id = o.holder
  LEFT JOIN migration i ON i.municipality = o.municipality ORDER BY o.municipality";

const INSTANCES: &str = "SELECT DISTINCT address FROM holders
  WHERE lease_until > clock_timestamp() AND address <> '' ORDER BY address";

const SLOWEST: &str = "SELECT municipality, min(live_position), min(bulk_position)
  FROM subscription WHERE NOT closed GROUP BY municipality ORDER BY municipality";

/// Looks at a database, through its pooler or directly.
///
/// # Errors
/// When it cannot be reached or read.
pub async fn look(config: &PgConfig, url: &str) -> Result<Database, PgOpenError> {
    let mut options = options_of(url)?;
    if let Some(password) = &config.password {
        options = options.password(password);
    }
    let mut connection = connect(&options)
        .await
        .map_err(|error| PgOpenError::unreachable(&options, error))?;
    let looked = look_at(&mut connection).await;
    let looked = looked.map_err(|error| PgOpenError::schema(&options, error))?;
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "the connection was closed already");
    }
    Ok(looked)
}

async fn look_at(connection: &mut PgConnection) -> Result<Database, sqlx::Error> {
    // One transaction: behind a pooler, statements outside of one may meet different servers.
    let mut transaction = connection.begin_with("BEGIN READ ONLY").await?;
    let before = crate::clock::now_ms();
    let row = all(&mut transaction, SETTINGS).await?;
    let after = crate::clock::now_ms();
    let row = row.first().ok_or(sqlx::Error::RowNotFound)?;
    let settings = Settings {
        synchronous_commit: row.get(1),
        fsync: row.get(2),
        full_page_writes: row.get(3),
        connections: row.get(4),
        standby: row.get(5),
        may_create: row.get(6),
    };
    let (identity, clock) = (row.get(0), (before, row.get(7), after));
    let there = all(&mut transaction, "SELECT to_regclass('meta') IS NOT NULL").await?;
    let meta = match there.first().is_some_and(|row| row.get(0)) {
        true => Some(meta(&mut transaction).await?),
        false => None,
    };
    transaction.rollback().await?;
    Ok(Database {
        identity,
        settings,
        clock,
        meta,
    })
}

async fn meta(connection: &mut PgConnection) -> Result<Meta, sqlx::Error> {
    let row = all(connection, META).await?;
    let row = row.first().ok_or(sqlx::Error::RowNotFound)?;
    let mut meta = Meta {
        version: row.get(0),
        cluster: row.get(1),
        key_check: row.get(2),
        ..Meta::default()
    };
    let may_alter = all(connection, MAY_ALTER).await?;
    meta.may_alter = may_alter.first().is_some_and(|row| row.get(0));
    // Of another version only the number is known.
    if meta.version != SCHEMA_VERSION {
        return Ok(meta);
    }
    let towns = all(connection, TOWNS).await?;
    let towns = towns.iter().map(|row| Town {
        municipality: row.get(0),
        owner: row.get(1),
        holds: row.get(2),
        migration: row.get(3),
    });
    meta.towns = towns.collect();
    let instances = all(connection, INSTANCES).await?;
    meta.instances = instances.iter().map(|row| row.get(0)).collect();
    let slowest = all(connection, SLOWEST).await?;
    meta.slowest = slowest.iter().flat_map(places).collect();
    Ok(meta)
}

fn places(row: &PgRow) -> Vec<(Municipality, Stream, Position)> {
    let Some(m) = Municipality::parse(row.get(0)) else {
        return Vec::new();
    };
    let place = |stream, column: usize| {
        let position = Position(row.get::<i64, _>(column).cast_unsigned());
        (m.clone(), stream, position)
    };
    vec![place(Stream::Live, 1), place(Stream::Bulk, 2)]
}

async fn all(connection: &mut PgConnection, sql: &'static str) -> Result<Vec<PgRow>, sqlx::Error> {
    let statement = sqlx::query(sql).persistent(false);
    statement.fetch_all(connection).await
}
