//! The one writing connection of the store's file, with the durability of each commit.
//! Every write of both roles takes it from here.
//! Must never hand out the connection before it is set to what the commit needs.
//! Read next: `store.rs` (`Durability`), `docs/specs/store.md`.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};

use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Sqlite, Transaction};
use tokio::sync::{Mutex, MutexGuard};

use crate::sqlite;
use crate::store::Durability;

/// The writing connection.
#[derive(Debug)]
pub(super) struct Writer(Mutex<State>);

#[derive(Debug)]
struct State {
    path: PathBuf,
    connection: SqliteConnection,
    /// What the connection is set to; `None` when setting it failed half way.
    set_to: Option<Durability>,
}

impl Writer {
    /// Takes a connection as `sqlite::open_writer` opens it.
    pub(super) fn new(path: &Path, connection: SqliteConnection) -> Self {
        Self(Mutex::new(State {
            path: path.to_owned(),
            connection,
            set_to: Some(Durability::Now),
        }))
    }

    /// The connection, once nobody else writes; what is committed on it keeps `durability`.
    pub(super) async fn lock(&self, durability: Durability) -> Result<Writing<'_>, sqlx::Error> {
        let mut writing = self.turn().await;
        writing.keep(durability).await?;
        Ok(writing)
    }

    /// The connection, for whoever decides only then what is written: `keep` comes before.
    pub(super) async fn turn(&self) -> Writing<'_> {
        Writing(self.0.lock().await)
    }

    /// Closes the connection.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        self.0.into_inner().connection.close().await
    }
}

/// The writing connection in one's hands.
#[derive(Debug)]
pub(super) struct Writing<'a>(MutexGuard<'a, State>);

impl Writing<'_> {
    /// What is committed from now on keeps `durability`.
    pub(super) async fn keep(&mut self, durability: Durability) -> Result<(), sqlx::Error> {
        let state = &mut *self.0;
        let State {
            path, connection, ..
        } = state;
        if sqlite::renew(connection, path, &sqlite::BY_NAME).await? {
            state.set_to = Some(Durability::Now);
        }
        if state.set_to != Some(durability) {
            let statement = match durability {
                Durability::Now => "PRAGMA synchronous = FULL",
                Durability::WithLog => "PRAGMA synchronous = NORMAL",
            };
            state.set_to = None;
            sqlx::query(statement)
                .execute(&mut state.connection)
                .await?;
            state.set_to = Some(durability);
        }
        Ok(())
    }

    /// Begins a transaction that may write from its first statement on.
    pub(super) async fn begin(&mut self) -> Result<Transaction<'_, Sqlite>, sqlx::Error> {
        self.0.connection.begin_with("BEGIN IMMEDIATE").await
    }
}

impl Deref for Writing<'_> {
    type Target = SqliteConnection;

    fn deref(&self) -> &SqliteConnection {
        &self.0.connection
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.0.connection
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_commit_gets_the_durability_that_it_names() {
        let connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        let writer = Writer::new(Path::new(":memory:"), connection);
        for (durability, expected) in [
            (Durability::WithLog, 1),
            (Durability::Now, 2),
            (Durability::WithLog, 1),
            (Durability::WithLog, 1),
            (Durability::Now, 2),
        ] {
            let mut writing = writer.lock(durability).await.unwrap();
            let set: i64 = sqlx::query_scalar("PRAGMA synchronous")
                .fetch_one(&mut *writing)
                .await
                .unwrap();
            assert_eq!(set, expected);
        }
    }
}
