//! Why a folder is not taken over, each in one line that says what to do.
//! Given to the operator as it is.
//! Must never name a person, nor leave open whether anything was changed.
//! Read next: `migrate.rs`, `docs/specs/migrate.md`.

use std::io;

use thiserror::Error;

use crate::event::Municipality;
use crate::folder::FolderError;
use crate::log::{AppendError, LogError};
use crate::server::ServeError;
use crate::sqlite::OpenError;
use crate::store::StoreError;
use crate::store::postgres::PgOpenError;

/// A migration failed. Each text is one line for an operator.
#[derive(Debug, Error)]
pub enum MigrateError {
    /// The folder is in use.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// The folder holds no hub's files.
    #[error(
        "`{folder}` is no data folder of a hub: it has no `{file}`; name the folder that `musubi \
         serve --data` was given"
    )]
    NoFolder {
        /// Folder.
        folder: String,
        /// What is missing.
        file: &'static str,
    },
    /// A file of the folder cannot be used.
    #[error("`{0}` cannot be used: {1}")]
    File(String, #[source] io::Error),
    /// A file of the folder cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The cluster cannot be used.
    #[error(transparent)]
    Cluster(#[from] ServeError),
    /// The instances have another key than the configuration names.
    #[error(transparent)]
    Database(#[from] PgOpenError),
    /// The pseudonyms would not be the same.
    #[error(
        "the cluster's key of the pseudonyms is not the folder's, so nobody would be found again; \
         copy it to all instances: `cp {folder}/pseudonym.key {key}`"
    )]
    OtherKey {
        /// Folder.
        folder: String,
        /// The cluster's file.
        key: String,
    },
    /// The folder goes into another cluster.
    #[error(
        "the folder was migrated into the Kafka cluster `{0}`, or its migration there was broken \
         off: give the configuration of that cluster"
    )]
    OtherCluster(String),
    /// The brokers say too little.
    #[error("the brokers do not say what is needed: {0}; see `musubi doctor --config`")]
    Brokers(String),
    /// Topics cannot have so many replicas.
    #[error(
        "{there} brokers answer, and topics shall have {replicas} replicas (`kafka.replication`): \
         start the others"
    )]
    FewBrokers {
        /// Brokers.
        there: usize,
        /// Replicas.
        replicas: i32,
    },
    /// Topics would promise too little.
    #[error(
        "topics of `kafka.replication: {0}` lose events with their broker: set it to 3, or allow it \
         with `kafka.allow_weak_topics: true`"
    )]
    WeakConfig(i32),
    /// A topic is not this migration's.
    #[error(
        "the topic `{0}` holds records, and the database knows nothing of them: give the database \
         that they belong to, or delete the topic when nobody needs them (`kafka-topics.sh \
         --delete --topic {0}`)"
    )]
    UsedTopic(String),
    /// Another folder goes there.
    #[error(
        "`{0}` was migrated into the cluster from another folder, or is on its way from there: go on \
         with that folder; this one has other events, or no mark of what was moved"
    )]
    OtherFolder(Municipality),
    /// Its store has not all that its log has.
    #[error(
        "the hub of the folder did not stop in order: its store does not know the end of the log of \
         `{0}`; start it with `musubi serve --data`, stop it, and migrate then"
    )]
    Behind(Municipality),
    /// The cluster knows the municipality.
    #[error(
        "the cluster knows `{0}` already, and a municipality that is migrated must be new there: \
         somebody published, bound or asked there; give a database and topics without it"
    )]
    NotNew(Municipality),
    /// A row cannot be read.
    #[error("a row of the table `{0}` in the folder's store names no municipality of its log")]
    Row(&'static str),
    /// The rows cannot be read.
    #[error("the folder's store cannot be read: {0}")]
    Rows(#[source] sqlx::Error),
    /// What was read back is not what was written.
    #[error("{what}; the folder is as it was, and the cluster serves nothing of it")]
    Differs {
        /// Which part.
        what: String,
    },
    /// A log cannot be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The topics cannot be written.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// A store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
}
