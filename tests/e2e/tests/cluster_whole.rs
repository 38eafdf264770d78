//! What is asked of a cluster as a whole, and an instance that lives and has lost its database.
//! Two hubs over real brokers and a real database, which one of them reaches by a way of its own.
//! Must never let a list of all lack what another instance owns.
//! Read next: `hub/src/server/admin_service/alarms.rs`, `hub/src/server/health.rs`.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::{Addresses, Cluster};
use musubi_e2e::event::moved;
use musubi_e2e::hub::{PATIENCE, reason_and_field_of};
use musubi_e2e::process::musubi;
use musubi_e2e::{Client, Hub, wait_until};
use musubi_proto::hub::v1::{
    AlarmKind, ListAlarmsRequest, PublishRequest, PublishUnit, Unit, publish_unit,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tonic::Request;
use tonic::metadata::MetadataValue;

const TOWNS: [&str; 4] = ["131016", "141003", "142042", "232033"];
/// An instance says within this time that it has lost its database.
const SAID: Duration = Duration::from_secs(15);

/// Passes connections on until it is dropped; then all are cut and nobody gets through.
struct Way(JoinHandle<()>);

impl Way {
    async fn to(port: u16) -> Result<(Self, u16)> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let own = listener.local_addr()?.port();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut from, _)) = listener.accept().await {
                connections.spawn(async move {
                    let mut to = TcpStream::connect(("127.0.0.1", port)).await?;
                    tokio::io::copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
        Ok((Self(task), own))
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn publish(client: &Client, town: &str, version: u32) -> Result<(), tonic::Status> {
    let made = moved("0000000001", version);
    let mut event = made.map_err(|error| tonic::Status::internal(error.to_string()))?;
    event.source = format!("urn:jp:lg:{town}:system:001");
    town.clone_into(&mut event.municipality);
    let request = PublishRequest {
        municipality: town.to_owned(),
        source: event.source.clone(),
        units: vec![PublishUnit {
            content: Some(publish_unit::Content::Unit(Unit {
                events: vec![event],
            })),
            ..PublishUnit::default()
        }],
        ..PublishRequest::default()
    };
    client.events().publish(request).await.map(|_| ())
}

/// Towns whose weak topics are listed; of one instance alone when `own`.
async fn alarmed(hub: &Hub, own: bool) -> Result<Vec<String>> {
    let mut towns = Vec::new();
    let mut page_token = String::new();
    loop {
        // One on a page: each next one comes from whichever instance has it.
        let mut request = Request::new(ListAlarmsRequest {
            page_size: 1,
            page_token,
            ..ListAlarmsRequest::default()
        });
        if own {
            let passed = MetadataValue::from_static("1");
            request.metadata_mut().insert("musubi-passed-on", passed);
        }
        let page = hub
            .client()?
            .admin()
            .list_alarms(request)
            .await?
            .into_inner();
        let weak = page.alarms.into_iter();
        let weak = weak.filter(|alarm| alarm.kind() == AlarmKind::WeakTopic);
        towns.extend(weak.map(|alarm| alarm.municipality));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(towns);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_instance_tells_of_all_and_one_without_its_database_sends_everybody_away() -> Result<()>
{
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path(), 1)?;
    let (way, port) = Way::to(cluster.postgres.port()).await?;
    let direct = cluster.postgres.url("postgres");
    let led = direct.replace(
        &format!(":{}", cluster.postgres.port()),
        &format!(":{port}"),
    );
    ensure!(led != direct, "{direct}");
    let addresses = Addresses {
        brokers: cluster.kafka.brokers(),
        database: led,
        own: None,
    };
    let cut_off = cluster.hub_by("first", &addresses).await?;
    let whole = cluster.hub("second").await?;
    for town in TOWNS {
        publish(&whole.client()?, town, 1).await?;
    }
    wait_until(
        PATIENCE,
        "both to own towns, and all to be told of",
        async || {
            let (a, b) = (alarmed(&cut_off, true).await?, alarmed(&whole, true).await?);
            let all: BTreeSet<&str> = a.iter().chain(&b).map(String::as_str).collect();
            ensure!(
                !a.is_empty() && !b.is_empty() && all.len() == TOWNS.len(),
                "{a:?} {b:?}"
            );
            for hub in [&cut_off, &whole] {
                let told = alarmed(hub, false).await?;
                ensure!(told == TOWNS, "{told:?}");
            }
            Ok(true)
        },
    )
    .await?;

    drop(way);
    wait_until(SAID, "the instance to send everybody away", async || {
        for (version, town) in (2..).zip(TOWNS) {
            let refused = publish(&cut_off.client()?, town, version).await.err();
            let refused = refused.context("it was taken")?;
            ensure!(reason_and_field_of(&refused).0 == "NOT_OWNER", "{refused}");
        }
        Ok(true)
    })
    .await?;
    wait_until(PATIENCE, "the other one to own all", async || {
        Ok(alarmed(&whole, true).await? == TOWNS)
    })
    .await?;
    // Whoever names both is served by the one that can.
    let mut command = musubi()?;
    let both = format!("{},{}", cut_off.url(), whole.url());
    command.args(["alarms", "--json", "--hub", &both]);
    let told = command.output()?;
    ensure!(told.status.success(), "{told:?}");
    for town in TOWNS {
        ensure!(
            String::from_utf8_lossy(&told.stdout).contains(town),
            "{town}: {told:?}"
        );
    }
    Ok(())
}
