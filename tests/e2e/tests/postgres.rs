//! The tests' own PostgreSQL starts, survives a kill and is gone afterwards.

use std::time::Duration;

use anyhow::Result;
use musubi_e2e::{Postgres, wait_until};
use sqlx::{Connection, PgConnection};

async fn select_one(url: &str) -> Result<i32> {
    let mut connection = PgConnection::connect(url).await?;
    let one = sqlx::query_scalar("select 1")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(one)
}

#[tokio::test]
async fn own_server_answers_and_vanishes() -> Result<()> {
    let postgres = Postgres::start()?;
    let url = postgres.create_database("momiji")?;
    assert_eq!(select_one(&url).await?, 1);
    assert!(
        postgres.create_database("momiji").is_err(),
        "the name is taken"
    );
    drop(postgres);
    assert!(select_one(&url).await.is_err(), "the server must be gone");
    Ok(())
}

#[tokio::test]
async fn killed_server_keeps_its_address_when_started_again() -> Result<()> {
    let mut postgres = Postgres::start()?;
    let url = postgres.url("postgres");
    postgres.kill()?;
    postgres.restart()?;
    wait_until(
        Duration::from_secs(20),
        "an answer after the restart",
        async || Ok(select_one(&url).await? == 1),
    )
    .await
}
