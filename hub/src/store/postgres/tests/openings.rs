//! Opening: a database that is new, newer, another's, or not there.
//! What an operator meets first.
//! Must never let a message hold a password.
//! Read next: `store/postgres/migrate.rs`.

use sqlx::Executor;

use super::*;

#[tokio::test]
async fn instances_that_start_at_once_make_the_tables_once_and_what_is_not_theirs_is_refused() {
    let server = Postgres::start().unwrap();
    let url = server.create_database("store").unwrap();
    let opened: Vec<_> = (0..8)
        .map(|_| tokio::spawn(PgStore::open(PgConfig::new(&url))))
        .collect();
    for store in opened {
        store.await.unwrap().unwrap();
    }

    let store = PgStore::open(PgConfig::new(&url)).await.unwrap();
    assert_eq!(store.incarnation().await.unwrap(), 1);
    store.belongs_to("first").await.unwrap();
    store.belongs_to("first").await.unwrap();
    let other = store.belongs_to("second").await.unwrap_err();
    assert!(
        matches!(&other, PgOpenError::OtherCluster { found, .. } if found == "first"),
        "{other}"
    );

    let mut connection = beside(&url).await;
    connection
        .execute("UPDATE meta SET version = 99")
        .await
        .unwrap();
    let newer = PgStore::open(PgConfig::new(&url)).await.unwrap_err();
    assert!(
        matches!(newer, PgOpenError::Newer { found: 99, .. }),
        "{newer}"
    );

    let idle = server.create_database("idle").unwrap();
    let set = "ALTER DATABASE idle SET synchronous_commit = off";
    connection.execute(set).await.unwrap();
    let idle = PgStore::open(PgConfig::new(&idle)).await.unwrap_err();
    assert!(matches!(idle, PgOpenError::NotDurable(_)), "{idle}");
}

#[tokio::test]
async fn a_database_that_cannot_be_reached_is_named_without_its_password() {
    let server = Postgres::start().unwrap();
    let unknown = server.url("nowhere").replace("musubi@", "musubi:secret@");
    for url in [
        unknown.as_str(),
        "postgres://musubi:secret@127.0.0.1:1/store",
    ] {
        let error = PgStore::open(PgConfig::new(url)).await.unwrap_err();
        assert!(matches!(error, PgOpenError::Unreachable { .. }), "{error}");
        let said = format!("{error} {error:?} {:?}", PgConfig::new(url));
        assert!(
            said.contains("127.0.0.1:") && !said.contains("secret"),
            "{said}"
        );
    }
    let error = PgStore::open(PgConfig::new("nonsense")).await.unwrap_err();
    assert!(matches!(error, PgOpenError::Address(_)), "{error}");
}
