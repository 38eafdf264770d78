//! What holds of the store in PostgreSQL beyond the contract: leases, migrations, lost connections.
//! Run against a server of the test's own; without one it fails.
//! Must never depend on what another test left in the database.
//! Read next: `store/contract.rs`.

use musubi_servers::Postgres;

use super::*;
use crate::event::Municipality;
use crate::store::{ActStore, NewAct, Owners, RhythmStore};

fn town() -> Municipality {
    Municipality::parse("142042").unwrap()
}

fn instance(url: &str, address: &str, lease: Duration) -> PgConfig {
    let address = address.to_owned();
    PgConfig {
        identity: Some(Identity { address, lease }),
        ..PgConfig::new(url)
    }
}

#[tokio::test]
async fn smoke() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let store = PgStore::open(instance(&url, "a:1", Duration::from_secs(60)))
        .await
        .unwrap();
    let act = NewAct {
        id: "a".to_owned(),
        ..NewAct::default()
    };
    let refused = store.record_act(&town(), act.clone()).await;
    assert!(matches!(refused, Err(StoreError::Fenced(_))), "{refused:?}");
    assert_eq!(store.own_town(&town()).await.unwrap(), 1);
    store.record_act(&town(), act).await.unwrap();
    assert_eq!(store.acts(&town(), 0, 9).await.unwrap().len(), 1);
    assert_eq!(store.renew().await.unwrap(), []);
    assert_eq!(
        store.owner_of(&town()).await.unwrap().unwrap().address,
        "a:1"
    );
    store.heard(&town(), &[]).await.unwrap();
    store.belongs_to("x").await.unwrap();
    store.belongs_to("y").await.unwrap_err();
    assert_eq!(store.incarnation().await.unwrap(), 1);
}
