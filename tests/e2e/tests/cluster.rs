//! Several hubs over real brokers and a real database: what a town sees when one of them ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::cloudevents::{self, Data};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::event::moved;
use musubi_e2e::hub::{MUNICIPALITY, PATIENCE};
use musubi_e2e::receiver::Receiver;
use musubi_e2e::{Client, Hub, wait_until};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Stream, UnitAnswer};

/// A hub that died is replaced within this time.
const TAKEN_OVER: Duration = Duration::from_secs(15);

fn accepted(answers: &[UnitAnswer]) -> bool {
    let accepted = |answer: &UnitAnswer| matches!(answer.answer, Some(Answer::Accepted(_)));
    answers.iter().all(accepted)
}

async fn publish(client: &Client, subject: &str, version: u32) -> Result<()> {
    let event = moved(subject, version)?;
    wait_until(PATIENCE, "an event to be accepted", async || {
        let answers = client.publish(vec![vec![event.clone()]]).await?;
        ensure!(accepted(&answers), "{answers:?}");
        Ok(true)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_town_goes_on_at_another_instance_when_its_owner_dies_or_ends() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path(), 1)?;
    let mut first = cluster.hub("first").await?;
    let mut second = cluster.hub("second").await?;
    let clients = [first.client()?, second.client()?];
    // A new municipality, at whichever instance: who asks first waits for its owner, and both give
    // the same answers.
    clients[0].bind("010", "test-tax").await?;
    publish(&clients[0], "0000000001", 1).await?;
    publish(&clients[1], "0000000001", 2).await?;
    // Over HTTP too, whichever of them owns it: what one took, the other knows.
    let event = moved("0000000002", 1)?;
    for (hub, duplicate) in [(&first, false), (&second, true)] {
        let told = cloudevents::publish(&hub.url(), "binary", &event, Data::Protobuf).await?;
        let known = &told.1["answers"][0]["accepted"]["duplicate"];
        ensure!(told.0 == 200 && known == duplicate, "{told:?}");
    }
    for client in &clients {
        let stored = client.log(Stream::Live).await?;
        ensure!(stored.len() == 3, "{}", stored.len());
    }
    for version in 3..=4 {
        let (dies, lives) = match owner(&mut first, &mut second).await? {
            0 => (&mut first, &clients[1]),
            _ => (&mut second, &clients[0]),
        };
        let started = Instant::now();
        dies.process().kill()?;
        publish(lives, "0000000001", version).await?;
        let took = started.elapsed();
        ensure!(took <= TAKEN_OVER, "taken over after {took:?}");
        dies.restart().await?;
    }
    let stored = clients[0].log(Stream::Live).await?;
    ensure!(stored.len() == 5, "{}", stored.len());
    Ok(())
}

/// Which of the two owns the municipality: the one that lets an adapter attach.
async fn owner(first: &mut Hub, second: &mut Hub) -> Result<usize> {
    let mut owner = None;
    wait_until(PATIENCE, "an owner", async || {
        for (place, hub) in [&*first, &*second].into_iter().enumerate() {
            let attached =
                Receiver::attach_here(&hub.client()?, "010", "test-tax", Default::default()).await;
            if attached.is_ok() {
                owner = Some(place);
                return Ok(true);
            }
        }
        Ok(false)
    })
    .await?;
    owner.with_context(|| format!("nobody owns {MUNICIPALITY}"))
}
