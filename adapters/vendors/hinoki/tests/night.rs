//! Runs through the stand-in product's nightly batch.
//! Each test has its own exchange folder and its own product, which it can stop.
//! Nothing here may wait for a time: every wait is for a condition.
//! Read next: `../deliver.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use musubi_adapter_sdk::Deliver;
use musubi_adapter_sdk::hub::{DeliveredUnit, Delivery, Mode, Receipt};
use musubi_products::hinoki;
use tempfile::TempDir;
use tokio::task::JoinHandle;

use crate::connectors::files;
use crate::connectors::testing::{
    WHOLE_RECORD, corrected, delivery, event, measure_started, moved_in, record, told, unit,
};
use crate::vendors::hinoki::{Config, open};

struct Product {
    root: TempDir,
    task: Option<JoinHandle<()>>,
}

impl Product {
    /// A product that is not running yet, with its folders.
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        for name in ["in", "out"] {
            std::fs::create_dir_all(root.path().join("exchange").join(name)).unwrap();
        }
        Self { root, task: None }
    }

    fn start(&mut self) {
        let args = hinoki::Args {
            exchange: self.root.path().join("exchange"),
            data: self.root.path().join("data"),
            night_ms: 10,
        };
        self.task = Some(tokio::spawn(
            async move { hinoki::run(args).await.unwrap() },
        ));
    }

    async fn stop(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        assert!(task.await.is_err());
    }

    async fn adapter(&self) -> Arc<dyn Deliver> {
        let folder = self.root.path().join("exchange");
        open(Config {
            file_wait_ms: 30,
            poll_ms: 5,
            ..Config::new(folder)
        })
        .await
        .unwrap()
    }

    fn folder(&self, name: &str) -> std::path::PathBuf {
        self.root.path().join("exchange").join(name)
    }

    /// 処理キー of the product's journal.
    fn journal(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder("export/journal.csv")).unwrap();
        text.lines()
            .map(|line| line.split(',').nth(1).unwrap().to_owned())
            .collect()
    }
}

async fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(
        tokio::time::timeout(Duration::from_secs(20), wait)
            .await
            .is_ok(),
        "{what}"
    );
}

fn created(key: &str, person: &str, version: u32) -> DeliveredUnit {
    unit(
        key,
        1,
        vec![event(person, version, &moved_in(record()), WHOLE_RECORD)],
    )
}

fn changed(key: &str, person: &str, version: u32) -> DeliveredUnit {
    unit(
        key,
        2,
        vec![event(
            person,
            version,
            &corrected(record()),
            &["record.name"],
        )],
    )
}

fn named(key: &str, person: &str, version: u32, name: &str) -> DeliveredUnit {
    let mut record = record();
    record.name.as_mut().unwrap().full_name = name.to_owned();
    unit(
        key,
        2,
        vec![event(person, version, &corrected(record), &["record.name"])],
    )
}

fn run(units: Vec<DeliveredUnit>) -> Delivery {
    delivery(units, Mode::Live)
}

fn each(receipt: &Receipt) -> Vec<String> {
    receipt
        .units
        .iter()
        .map(|unit| {
            let outcome = unit.outcome().as_str_name().trim_start_matches("OUTCOME_");
            format!("{outcome} {}", unit.reason).trim_end().to_owned()
        })
        .collect()
}

fn names(folder: &Path) -> Vec<String> {
    files::names(folder).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gets_through_in_one_file_and_each_unit_has_its_outcome() {
    let mut product = Product::new();
    product.start();
    let adapter = product.adapter().await;
    assert!(!adapter.spec().capabilities.protection_flag && adapter.spec().capabilities.runs);
    let units = vec![
        created("k1", "1", 1),
        changed("k2", "1", 3),
        changed("k3", "1", 2),
        unit(
            "k4",
            4,
            vec![event("1", 0, &measure_started(1), &["measure_id"])],
        ),
        changed("k5", "9", 1),
    ];
    let receipt = adapter.deliver(run(units.clone())).await;
    let expected = [
        "APPLIED",
        "APPLIED",
        "SUPERSEDED",
        "NOT_RELEVANT NO_PROTECTION_FLAG",
        "NOT_RELEVANT UNKNOWN_PERSON",
    ];
    assert_eq!(each(&receipt), expected);
    assert_eq!(told(&receipt), "APPLIED");
    let again = each(&adapter.deliver(run(units)).await);
    assert_eq!(again[..3], ["DUPLICATE", "DUPLICATE", "SUPERSEDED"]);
    wait_until("the results are taken away", || {
        names(&product.folder("out")).is_empty()
    })
    .await;
    wait_until("the journal has both keys", || {
        product.journal() == ["k1", "k2"]
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_share_a_file() {
    let mut product = Product::new();
    let adapter = product.adapter().await;
    let deliveries: Vec<_> = (0..20_u32)
        .map(|number| {
            let adapter = Arc::clone(&adapter);
            let unit = created(&format!("k{number}"), &format!("{number}"), 1);
            tokio::spawn(async move { told(&adapter.deliver(run(vec![unit])).await) })
        })
        .collect();
    wait_until("a manifest", || names(&product.folder("in")).len() == 2).await;
    product.start();
    for told in join_all(deliveries).await {
        assert_eq!(told.unwrap(), "APPLIED");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_unit_that_cannot_be_expressed_is_not_sent() {
    let mut product = Product::new();
    product.start();
    let adapter = product.adapter().await;
    let units = vec![
        created("k1", "1", 1),
        named("k2", "1", 2, "\u{10de92}"),
        changed("k3", "1", 3),
    ];
    let receipt = adapter.deliver(run(units)).await;
    assert_eq!(
        each(&receipt),
        ["APPLIED", "REJECTED UNMAPPABLE", "RETRY NOT_REACHED"]
    );
    assert_eq!(told(&receipt), "REJECTED UNMAPPABLE record.name.full_name");
    wait_until("the journal has the first", || product.journal() == ["k1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_many_persons_shares_a_file_and_a_refused_person_stops_no_other() {
    let mut product = Product::new();
    let adapter = product.adapter().await;
    assert!(adapter.spec().capabilities.batch_units > 1);
    let units = vec![
        created("a1", "1", 1),
        named("b1", "2", 1, "\u{10de92}"),
        changed("a2", "1", 2),
        changed("b2", "2", 2),
        created("c1", "3", 1),
        changed("c2", "3", 0),
        changed("c3", "3", 3),
        created("d1", "4", 1),
    ];
    let delivered = tokio::spawn(async move { adapter.deliver(run(units)).await });
    wait_until("a manifest", || names(&product.folder("in")).len() == 2).await;
    product.start();
    let expected = [
        "APPLIED",
        "REJECTED UNMAPPABLE",
        "APPLIED",
        "RETRY NOT_REACHED",
        "APPLIED",
        "REJECTED FORM",
        "RETRY NOT_REACHED",
        "APPLIED",
    ];
    assert_eq!(each(&delivered.await.unwrap()), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_a_record_that_the_product_refuses_is_not_applied() {
    let mut product = Product::new();
    product.start();
    let adapter = product.adapter().await;
    let future = vec![
        created("k1", "1", 1),
        changed("k2", "1", 0),
        changed("k3", "1", 3),
    ];
    let receipt = adapter.deliver(run(future)).await;
    assert_eq!(
        each(&receipt),
        ["APPLIED", "REJECTED FORM", "RETRY NOT_REACHED"]
    );
    wait_until("the journal has the first", || product.journal() == ["k1"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_waits_for_what_was_written_and_writes_nothing_twice() {
    let mut product = Product::new();
    let adapter = product.adapter().await;
    let units = vec![created("k1", "1", 1), changed("k2", "1", 2)];
    let lost = tokio::spawn({
        let (adapter, units) = (Arc::clone(&adapter), units.clone());
        async move { adapter.deliver(run(units)).await }
    });
    wait_until("a manifest", || names(&product.folder("in")).len() == 2).await;
    lost.abort();
    drop(adapter);
    let successor = product.adapter().await;
    let again = tokio::spawn({
        let (successor, units) = (Arc::clone(&successor), units.clone());
        async move { each(&successor.deliver(run(units)).await) }
    });
    product.start();
    assert_eq!(again.await.unwrap(), ["APPLIED", "APPLIED"]);
    wait_until("the journal has both keys", || {
        product.journal() == ["k1", "k2"]
    })
    .await;
    product.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_reads_the_result_that_was_there_before_it() {
    let mut product = Product::new();
    let adapter = product.adapter().await;
    let lost = tokio::spawn({
        let adapter = Arc::clone(&adapter);
        async move { adapter.deliver(run(vec![created("k1", "1", 1)])).await }
    });
    wait_until("a manifest", || names(&product.folder("in")).len() == 2).await;
    lost.abort();
    assert!(lost.await.is_err());
    // The task of the first adapter ends before the night, so that nobody takes the result.
    drop(adapter);
    tokio::task::yield_now().await;
    let successor = product.adapter().await;
    product.start();
    let receipt = successor.deliver(run(vec![created("k1", "1", 1)])).await;
    assert_eq!(told(&receipt), "APPLIED");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_refused() {
    assert!(open(Config::new("no-such-folder")).await.is_err());
}
