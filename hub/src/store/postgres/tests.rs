//! What holds of the store in PostgreSQL beyond the contract: openings, leases, lost connections.
//! Run against a server of the test's own; without one it fails.
//! Must never depend on what another test left in the database.
//! Read next: `store/contract/postgres.rs`.

use std::time::Duration;

use musubi_servers::{Postgres, wait_until};
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::{Identity, PgConfig, PgOpenError, PgStore};
use crate::event::{Municipality, Position, Stream, Subject};
use crate::store::{Claim, Placed, PublishDelta};

mod deliveries;
mod leases;
mod losses;
mod openings;

const REGISTRY: &str = "urn:jp:lg:142042:system:001";
/// Longer than any test.
const LONG: Duration = Duration::from_secs(600);
/// In which everything that is waited for has happened.
const SOON: Duration = Duration::from_secs(20);

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn other_town() -> Municipality {
    Municipality::parse("131016").unwrap()
}

/// A store that owns what it writes.
async fn instance(url: &str, address: &str, lease: Duration) -> PgStore {
    let address = address.to_owned();
    let config = PgConfig {
        identity: Some(Identity { address, lease }),
        ..PgConfig::new(url)
    };
    PgStore::open(config).await.unwrap()
}

/// A connection beside the store's.
async fn beside(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

/// Waits until somebody waits for a lock of the server.
async fn until_one_waits(url: &str) {
    let mut connection = beside(url).await;
    wait_until(SOON, "a statement that waits for a lock", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(waiting)
            .fetch_one(&mut connection)
            .await?;
        Ok(waiting > 0)
    })
    .await
    .unwrap();
}

fn claim(id: &str, version: u32) -> Claim {
    Claim {
        id: id.to_owned(),
        digest: b"digest".to_vec(),
        event_type: "musubi.standard.resident.v1.ResidentMovedIn".to_owned(),
        subject: Subject("p".to_owned()),
        version,
        file: "R0010001.csv".to_owned(),
        line: 7,
        published_ms: 1_700_000_000_000,
        traceparent: String::new(),
    }
}

/// Places one event at a position.
fn place(id: &str, version: u32, at: u64) -> PublishDelta {
    PublishDelta {
        placed: vec![Placed {
            source: REGISTRY.to_owned(),
            claim: claim(id, version),
            stream: Stream::Live,
            position: Position(at),
        }],
        tail: vec![(Stream::Live, Position(at + 1))],
        ..PublishDelta::default()
    }
}
