//! The swap of the pension product: nobody else notices, and the old one has no effect any more.
//! Tax and insurance are recorded in two runs of the same town, with and without the swap.
//! Must never compare anything less than what an adapter is given.
//! Read next: `src/receiver.rs`, `hub/src/server/runner/closing.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use musubi_e2e::event::moved;
use musubi_e2e::hub::{MUNICIPALITY, PATIENCE, SOURCE, reason_and_field_of};
use musubi_e2e::process::Signal;
use musubi_e2e::receiver::{Book, Receiver, Recorder, receipt};
use musubi_e2e::registry::Registry;
use musubi_e2e::stage::Stage;
use musubi_e2e::town::{Table, count_records, town};
use musubi_e2e::{Client, Hub, Process, wait_until};
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::{
    BindingState, Capabilities, CaptureCursor, GetEventRequest, Outcome, OutcomeCounts,
    PublishRequest, Stream, UnitScope,
};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};

const PENSION: &str = "026";
/// Time from file to file: the town is still being played when the product is swapped.
const PACE_MS: u32 = 150;
const LAG_MAX: u64 = 100;
/// Changes that flow before the swap begins: about a third of the town's.
const BEFORE_SWAP: u64 = 500;

fn capabilities(scope: UnitScope) -> Capabilities {
    Capabilities {
        unit_scope: scope.into(),
        version_check: true,
        lookup: true,
        protection_flag: true,
        ..Capabilities::default()
    }
}

/// A town on its way to recorders for tax and insurance and to the old pension product.
struct Play {
    tax: Recorder,
    insurance: Recorder,
    pension: Process,
    pension_adapter: Process,
    exchange: std::path::PathBuf,
    _registry: [Process; 2],
    client: Client,
    hub: Hub,
    stage: Stage,
}

impl Play {
    async fn start(folder: &Path) -> Self {
        let stage = Stage::new(folder);
        // Tokens in place of withheld addresses come from the hub's key: the same in both runs.
        let key = stage.folder("hub").unwrap().join("pseudonym.key");
        fs::write(key, [7; 32]).unwrap();
        let hub = Hub::start(folder).await.unwrap();
        let client = hub.client().unwrap();
        client.bind("010", "test-tax").await.unwrap();
        client.bind("024", "test-insurance").await.unwrap();
        client.bind(PENSION, "hinoki").await.unwrap();
        client.bind_source("tsubame").await.unwrap();
        let tax = capabilities(UnitScope::Event);
        let tax = Recorder::start(&client, "010", "test-tax", tax)
            .await
            .unwrap();
        let insurance = capabilities(UnitScope::Group);
        let insurance = Recorder::start(&client, "024", "test-insurance", insurance);
        let insurance = insurance.await.unwrap();
        let (pension, exchange) = stage.hinoki(300).unwrap();
        let settings = [format!("folder={}", exchange.display())];
        let pension_adapter = stage.adapter(&hub.url(), "hinoki", &settings).unwrap();
        let out = stage.folder("tsubame/out").unwrap();
        let adapter = stage.registry_adapter(&hub.url(), &out).unwrap();
        let registry = stage.registry(&town(), PACE_MS).unwrap();
        Self {
            tax,
            insurance,
            pension,
            pension_adapter,
            exchange,
            _registry: [registry, adapter],
            client,
            hub,
            stage,
        }
    }

    /// Waits for the whole town, and returns what tax and insurance were given.
    async fn finish(self) -> (Book, Book) {
        let changes = count_records(&town(), "changes.csv").unwrap();
        self.client.wait_until_logged(changes).await.unwrap();
        let systems = ["010", "024", PENSION];
        if let Err(error) = self.client.wait_until_delivered(&systems).await {
            panic!("{error:#}\n{}", self.last_words());
        }
        (self.tax.book().unwrap(), self.insurance.book().unwrap())
    }

    /// Names of the files that are complete and have no results yet.
    fn files(&self) -> BTreeSet<String> {
        let names = |folder: &str| -> BTreeSet<String> {
            let entries = fs::read_dir(self.exchange.join(folder))
                .into_iter()
                .flatten();
            let names = entries.flatten().map(|entry| entry.file_name());
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        let (given, results) = (names("in"), names("out"));
        let manifests = given.iter().filter_map(|name| name.strip_suffix(".mf"));
        let open = manifests.filter(|name| {
            let result = format!("{name}.kekka.mf");
            given.contains(&format!("{name}.csv")) && !results.contains(&result)
        });
        open.map(str::to_owned).collect()
    }

    /// Freezes the old product at a moment when it has a file without results.
    async fn freeze_with_open_file(&mut self) {
        let parked = wait_until(
            PATIENCE,
            "a parked subject at the old product",
            async || Ok(!self.client.parked(PENSION).await?.is_empty()),
        );
        if let Err(error) = parked.await {
            panic!("{error:#}\n{}", self.last_words());
        }
        let open = wait_until(PATIENCE, "a file without results", async || {
            if self.files().is_empty() {
                return Ok(false);
            }
            self.pension.signal(Signal::Freeze)?;
            if self.files().is_empty() {
                self.pension.signal(Signal::Wake)?;
                return Ok(false);
            }
            Ok(true)
        });
        if let Err(error) = open.await {
            panic!("{error:#}\n{}", self.last_words());
        }
    }

    /// What the old product and its adapter said last.
    fn last_words(&self) -> String {
        [&self.pension, &self.pension_adapter]
            .map(|process| format!("{}:\n{}", process.name(), process.tail(15)))
            .join("\n")
    }

    /// Keys that the old product applied.
    async fn applied_by_old(&self) -> BTreeSet<String> {
        let file = self.stage.folder("hinoki/data").unwrap().join("hinoki.db");
        let options = SqliteConnectOptions::new().filename(file).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
        let keys = sqlx::query_scalar("SELECT key FROM journal");
        let keys: Vec<String> = keys.fetch_all(&mut connection).await.unwrap();
        keys.into_iter().collect()
    }

    async fn counts_of_pension(&self) -> OutcomeCounts {
        let pension = self.client.subscription(PENSION).await.unwrap();
        pension.counts.unwrap()
    }
}

/// Swaps while the old product and its adapter are frozen, and wakes them after the cut.
async fn swap(play: &mut Play) -> [Process; 2] {
    play.client.wait_until_logged(BEFORE_SWAP).await.unwrap();
    let (product, address) = play.stage.rest_product("ayame").await.unwrap();
    let settings = [format!("address={address}")];
    let adapter = play
        .stage
        .adapter(&play.hub.url(), "ayame", &settings)
        .unwrap();
    play.client.bind(PENSION, "ayame").await.unwrap();
    wait_until(PATIENCE, "the new product to be filled", async || {
        let all = play.client.subscriptions().await?;
        Ok(all.iter().any(|one| {
            let attached = one.bindings.iter().any(|binding| binding.attached);
            one.id.contains("~fill") && attached && one.filled && one.lag <= LAG_MAX
        }))
    })
    .await
    .unwrap();
    play.freeze_with_open_file().await;
    play.pension_adapter.signal(Signal::Freeze).unwrap();
    let cut = play.client.cut_over(PENSION, "ayame").await.unwrap();
    assert!(cut.closed_open > 0 && cut.closed_parked > 0, "{cut:?}");
    assert!(cut.closed_open >= cut.closed_parked, "{cut:?}");
    wait_until(PATIENCE, "the new product to serve", async || {
        let own = play.client.subscription(PENSION).await?;
        let serving = own.bindings.first().is_some_and(|binding| {
            binding.product == "ayame"
                && binding.state() == BindingState::Serving
                && binding.attached
                && binding.cut_position == cut.position
        });
        Ok(serving)
    })
    .await
    .unwrap();

    let before = play.applied_by_old().await;
    play.pension.signal(Signal::Wake).unwrap();
    play.pension_adapter.signal(Signal::Wake).unwrap();
    wait_until(PATIENCE, "the old adapter to notice", async || {
        let log = play.pension_adapter.log_text()?;
        Ok(log.contains("waiting for an operator") || log.contains("fenced"))
    })
    .await
    .unwrap();
    wait_until(PATIENCE, "the old product's night", async || {
        Ok(play.files().is_empty())
    })
    .await
    .unwrap();
    // What it did after the cut had been given to it before: nothing of behind the cut.
    for key in play.applied_by_old().await.difference(&before) {
        let request = GetEventRequest {
            municipality: MUNICIPALITY.to_owned(),
            id: key.clone(),
        };
        let stored = play.client.events().get_event(request).await.unwrap();
        let stored = stored.into_inner().stored.unwrap();
        let behind = stored.stream() == Stream::Live && stored.position > cut.position;
        assert!(!behind, "{key} stands at {}, {cut:?}", stored.position);
    }
    [product, adapter]
}

#[tokio::test(flavor = "multi_thread")]
async fn tax_and_insurance_get_the_same_with_and_without_the_swap() {
    let folder = tempfile::tempdir().unwrap();
    let without = Play::start(folder.path()).await.finish();
    let swapped = async {
        let folder = tempfile::tempdir().unwrap();
        let mut play = Play::start(folder.path()).await;
        let new = swap(&mut play).await;
        let parked = play.client.parked(PENSION).await.unwrap();
        assert!(
            parked.is_empty(),
            "the new product holds every character: {parked:?}"
        );
        let client = play.client.clone();
        let changes = count_records(&town(), "changes.csv").unwrap();
        client.wait_until_logged(changes).await.unwrap();
        client.wait_until_delivered(&[PENSION]).await.unwrap();
        let counts = play.counts_of_pension().await;
        assert!(counts.superseded > 0, "{counts:?}");
        let books = play.finish().await;
        drop(new);
        books
    };
    let (without, swapped) = tokio::join!(without, swapped);
    for (name, without, swapped) in [
        ("tax", without.0, swapped.0),
        ("insurance", without.1, swapped.1),
    ] {
        assert!(without.len() > 1_000, "{name}: {}", without.len());
        assert_eq!(without.len(), swapped.len(), "{name}");
        for ((place, one), (other_place, other)) in without.iter().zip(&swapped) {
            assert_eq!((place, one), (other_place, other), "{name}");
        }
    }
}

#[tokio::test]
async fn an_old_adapter_that_wakes_after_the_cut_gets_nothing_and_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind(PENSION, "old").await.unwrap();
    let scope = capabilities(UnitScope::Event);
    let mut old = Receiver::attach_when_bound(&client, PENSION, "old", scope)
        .await
        .unwrap();
    old.allow(100).await.unwrap();
    let persons = ["0000012345", "0000012353", "0000012361"];
    let units = persons.iter().map(|person| vec![moved(person, 1).unwrap()]);
    client.publish(units.collect()).await.unwrap();
    let [applied, refused, open] = [
        old.delivery().await.unwrap(),
        old.delivery().await.unwrap(),
        old.delivery().await.unwrap(),
    ];
    old.answer(&applied, Outcome::Applied).await.unwrap();
    old.answer(&refused, Outcome::Rejected).await.unwrap();
    wait_until(PATIENCE, "the refused one to be parked", async || {
        Ok(client.parked(PENSION).await?.len() == 1)
    })
    .await
    .unwrap();

    client.bind(PENSION, "new").await.unwrap();
    let mut new = Receiver::attach_when_bound(&client, PENSION, "new", scope)
        .await
        .unwrap();
    new.allow(100).await.unwrap();
    for _ in persons {
        let filled = new.delivery().await.unwrap();
        new.answer(&filled, Outcome::Applied).await.unwrap();
    }
    // The old adapter stands still from here: it neither reads nor answers.
    let cut = client.cut_over(PENSION, "new").await.unwrap();
    assert_eq!((cut.closed_open, cut.closed_parked), (2, 1));
    let units = persons.iter().map(|person| vec![moved(person, 2).unwrap()]);
    client.publish(units.collect()).await.unwrap();
    drop(new);
    let mut new = Receiver::attach_when_bound(&client, PENSION, "new", scope)
        .await
        .unwrap();
    new.allow(100).await.unwrap();
    for _ in persons {
        let delivery = new.delivery().await.unwrap();
        assert_eq!(delivery.binding_epoch, cut.epoch);
        new.answer(&delivery, Outcome::Applied).await.unwrap();
    }
    client.wait_until_delivered(&[PENSION]).await.unwrap();
    let before = client.subscription(PENSION).await.unwrap();

    // It wakes: its late answer reaches nobody, its stream holds nothing but its end.
    drop(old.send(receipt(&open, Outcome::Rejected)).await);
    drop(old.allow(100).await);
    loop {
        match old.next().await {
            Ok(Some(Response::Delivery(delivery))) => panic!("delivered late: {delivery:?}"),
            Ok(Some(Response::Fenced(fenced))) => assert_eq!(fenced.binding_epoch, cut.epoch),
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    let again = Receiver::attach(&client, PENSION, "old", scope).await;
    let (reason, field) = reason_and_field_of(&again.unwrap_err());
    assert_eq!((reason.as_str(), field.as_str()), ("NOT_BOUND", "product"));
    let after = client.subscription(PENSION).await.unwrap();
    assert_eq!(before.counts, after.counts);
    assert!(client.parked(PENSION).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_publish_of_a_replaced_source_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    let old = client.bind_source("tsubame").await.unwrap();
    let new = client.bind_source("matsuba").await.unwrap();
    assert_eq!(new, old + 1);
    let request = |capture_epoch| PublishRequest {
        municipality: MUNICIPALITY.to_owned(),
        source: SOURCE.to_owned(),
        cursor: Some(CaptureCursor {
            value: "2:1".to_owned(),
        }),
        capture_epoch,
        ..PublishRequest::default()
    };
    let late = client.events().publish(request(old)).await.unwrap_err();
    let (reason, field) = reason_and_field_of(&late);
    assert_eq!(
        (reason.as_str(), field.as_str()),
        ("FENCED", "capture_epoch")
    );
    client.events().publish(request(new)).await.unwrap();
}

#[tokio::test]
async fn a_registry_adapter_that_was_frozen_over_its_replacement_publishes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stage = Stage::new(folder.path());
    let hub = Hub::start(folder.path()).await.unwrap();
    let client = hub.client().unwrap();
    client.bind_source("tsubame").await.unwrap();
    let residents = Table::read(&town(), "residents_before.csv").unwrap();
    let changes = Table::read(&town(), "changes.csv").unwrap();
    let out = stage.folder("out").unwrap();
    let mut registry = Registry::new(&out, residents.columns, changes.columns).unwrap();
    registry.write_full(&residents.rows).unwrap();
    let mut adapter = stage.registry_adapter(&hub.url(), &out).unwrap();
    let snapshot = residents.rows.len() + 2;
    wait_until(PATIENCE, "the snapshot", async || {
        Ok(client.log(Stream::Bulk).await?.len() == snapshot)
    })
    .await
    .unwrap();
    adapter.signal(Signal::Freeze).unwrap();
    client.bind_source("matsuba").await.unwrap();
    let group: Vec<_> = changes.rows.iter().take(2).cloned().collect();
    registry.write_changes(&[group]).unwrap();
    adapter.signal(Signal::Wake).unwrap();
    wait_until(PATIENCE, "the old adapter to notice", async || {
        let log = adapter.log_text()?;
        Ok(log.contains("FENCED") || log.contains("waiting for an operator"))
    })
    .await
    .unwrap();
    assert!(client.log(Stream::Live).await.unwrap().is_empty());
}
