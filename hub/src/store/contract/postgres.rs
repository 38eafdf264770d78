//! The whole suite on PostgreSQL: one server, and for each rule a database of its own.
//! Run straight to the server, and once more through a pooler in transaction mode.
//! Must never pass without a server.
//! Read next: `store/postgres/tests.rs`.

use std::sync::Arc;

use musubi_servers::{PgBouncer, Postgres};
use tokio::task::JoinSet;

use super::subscriptions;
use super::{Harness, Rule, Store, acts, alarms, delivery, held, publish, replay, retention};
use crate::store::postgres::{PgConfig, PgStore};

/// Rules that run at the same time.
const RULES_AT_ONCE: usize = 4;

/// Copied for each rule: making all tables anew would take longer.
const TEMPLATE: &str = "empty";

struct Database(PgConfig);

#[async_trait::async_trait]
impl Harness for Database {
    async fn open(&self) -> Arc<dyn Store> {
        Arc::new(PgStore::open(self.0.clone()).await.unwrap())
    }
}

fn rules() -> impl Iterator<Item = &'static Rule> {
    let all = [
        acts::RULES,
        alarms::RULES,
        delivery::RULES,
        held::RULES,
        publish::RULES,
        replay::RULES,
        retention::RULES,
        subscriptions::RULES,
    ];
    all.into_iter().flatten()
}

/// Runs every rule and names those that failed.
async fn run(server: &Postgres, pooler: Option<&PgBouncer>) {
    let empty = PgStore::open(PgConfig::new(&server.create_database(TEMPLATE).unwrap())).await;
    empty.unwrap().close().await;
    let mut running = JoinSet::new();
    let (mut passed, mut failed) = (0, Vec::new());
    let mut end = |name: &str, ended: bool| match ended {
        true => passed += 1,
        false => failed.push(name.to_owned()),
    };
    for &(name, rule) in rules() {
        if running.len() == RULES_AT_ONCE {
            let (name, ended) = running.join_next().await.unwrap().unwrap();
            end(name, ended);
        }
        // The number alone: names of databases have an end.
        let database: String = name.chars().take("store_101".len()).collect();
        let direct = server.create_database_like(&database, TEMPLATE).unwrap();
        let config = match pooler {
            None => PgConfig::new(&direct),
            Some(pooler) => PgConfig {
                direct_url: Some(direct),
                ..PgConfig::new(&pooler.url(&database))
            },
        };
        running.spawn(async move {
            let rule = async move { rule(&Database(config)).await };
            (name, tokio::spawn(rule).await.is_ok())
        });
    }
    while let Some(ended) = running.join_next().await {
        let (name, ended) = ended.unwrap();
        end(name, ended);
    }
    println!("{passed} rules hold");
    assert!(failed.is_empty(), "these rules do not hold: {failed:#?}");
    assert!(passed > 70, "only {passed} rules were run");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_holds_on_postgresql() {
    let server = Postgres::start().unwrap();
    run(&server, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_rule_holds_on_postgresql_behind_a_pooler() {
    let server = Postgres::start().unwrap();
    let pooler = PgBouncer::before(&server).unwrap();
    run(&server, Some(&pooler)).await;
}
