//! E5, E6, E9: a topic is made weak, loses its beginning, or gets more partitions.
//! Acts on a stand, and one row of its own, after which the stand is of no use.
//! Must never call a jump over records a recovery.
//! Read next: `../../stand.rs`, `docs/specs/log.md`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use musubi_e2e::hub::MUNICIPALITY;
use musubi_e2e::wait_until;
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::{BROKERS, INSTANCES};
use crate::dice::Dice;
use crate::history::Known;
use crate::row::{Ctx, RowReport};
use crate::scene::{PATIENCE, PRODUCT, SYSTEM};
use crate::stand::{Harm, Stand};

/// Bytes that the log may keep in E6, and subjects whose three events are more than half of that,
/// and more than all of it.
const KEPT_BYTES: u64 = 60_000;
const HALF: u32 = 20;
const MORE: u32 = 150;
/// Brokers answer within this time.
const ASKED: Duration = Duration::from_secs(10);
/// What the hub's topics are set to.
const RIGHT: [(&str, &str); 5] = [
    ("min.insync.replicas", "2"),
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
    ("unclean.leader.election.enable", "false"),
];
/// The same, each too weak.
const WEAK: [&str; 5] = ["1", "compact", "60000", "1000000", "true"];

/// E5: an operator weakens a topic; whoever owns it next refuses, names the setting, and goes on
/// when it is mended.
pub(super) async fn are_made_weak(stand: &mut Stand, ctx: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let mut dice = Dice::new(ctx.seed);
    for _ in 0..ctx.count {
        let place = usize::try_from(dice.below(RIGHT.len() as u64))?;
        let (setting, _) = RIGHT.get(place).context("a setting")?;
        let named = format!("has `{setting}`");
        let before = stand.said(&named)?;
        let owner = stand.owner().await?;
        set(stand, Some(place)).await?;
        let hub = stand.instance(owner)?;
        hub.process().stop()?;
        hub.restart().await?;
        wait_until(PATIENCE, "the setting to be named", async || {
            Ok(stand.said(&named)? > before)
        })
        .await?;
        if stand.scene.try_once().await? == Known::Acknowledged {
            let wrong = format!("E5: acknowledged with a weak `{setting}`");
            harm.violations.push(wrong);
        }
        set(stand, None).await?;
        harm.add(stand.next_delivery().await?);
        harm.notes.push(format!("E5: `{setting}` was refused"));
    }
    Ok(harm)
}

/// Sets the live topic right, but for one place.
async fn set(stand: &mut Stand, weak: Option<usize>) -> Result<()> {
    let admin = admin(stand)?;
    let topic = topic();
    let mut settings = AlterConfig::new(ResourceSpecifier::Topic(&topic));
    for (place, ((setting, right), wrong)) in RIGHT.iter().zip(WEAK).enumerate() {
        let value = if weak == Some(place) { wrong } else { right };
        settings = settings.set(setting, value);
    }
    // What is not named falls back to the brokers' own value.
    settings = settings.set("max.message.bytes", "16777216");
    settings = settings.set("message.timestamp.type", "LogAppendTime");
    for done in admin
        .alter_configs([&settings], &AdminOptions::new())
        .await?
    {
        done.map_err(|(_, code)| code).context("set the topic")?;
    }
    Ok(())
}

/// E9: more partitions than the one that orders a municipality.
pub(super) async fn get_more_partitions(stand: &mut Stand, _: &Ctx) -> Result<Harm> {
    let mut harm = Harm::default();
    let source = stand.scene.source();
    stand.next_delivery().await?;
    let (admin, topic) = (admin(stand)?, topic());
    let more = NewPartitions::new(&topic, 2);
    for made in admin
        .create_partitions([&more], &AdminOptions::new())
        .await?
    {
        made.map_err(|(_, code)| code).context("add a partition")?;
    }
    let owner = stand.owner().await?;
    let hub = stand.instance(owner)?;
    hub.process().stop()?;
    hub.restart().await?;
    let named = "has `partitions` 2";
    wait_until(PATIENCE, "the partitions to be named", async || {
        Ok(stand.said(named)? > 0)
    })
    .await?;
    if stand.scene.try_once().await? == Known::Acknowledged {
        let wrong = "E9: acknowledged with two partitions".to_owned();
        harm.violations.push(wrong);
    }
    // A topic cannot lose partitions: who allows it keeps the first one.
    stand.cluster()?.allow_weak_topics()?;
    stand.restart_all().await?;
    harm.add(stand.next_delivery().await?);
    stand.scene.end(source).await?;
    Ok(harm)
}

/// E6: the log may keep less than a receiver still needs, and alarms before it keeps more; then an
/// operator deletes what the receiver needs.
pub(super) async fn are_trimmed(ctx: Ctx) -> Result<RowReport> {
    let mut stand = Stand::start(&ctx, BROKERS, INSTANCES).await?;
    stand.cluster()?.keep_bytes(KEPT_BYTES)?;
    stand.restart_all().await?;
    stand.next_delivery().await?;
    stand.taker.leave();
    let mut published = stand.scene.next_subject();
    for (kind, subjects) in [("LOG_HELD", HALF), ("LOG_OVERDUE", MORE)] {
        let next = published + subjects;
        stand.scene.publish(published..next, 1..=3).await?;
        published = next;
        wait_until(PATIENCE, kind, async || {
            Ok(stand.said(&format!("kind=\"{kind}\""))? > 0)
        })
        .await?;
    }
    let client = stand.scene.client.clone();
    stand.taker.replace(client.clone(), SYSTEM, PRODUCT);
    stand.scene.settle().await?;
    let receiver = crate::scene::receiver_of(&stand.taker);
    let mut report = stand.scene.finish(1, receiver).await?;

    stand.taker.leave();
    let effects = stand.taker.effects();
    let next = published + HALF;
    stand.scene.publish(published..next, 1..=3).await?;
    delete_before_the_last(&mut stand).await?;
    stand.restart_all().await?;
    stand.taker.replace(client, SYSTEM, PRODUCT);
    wait_until(PATIENCE, "the loss to be named", async || {
        Ok(stand.said("RECORD_DAMAGED")? > 0)
    })
    .await?;
    if stand.scene.try_once().await? == Known::Acknowledged {
        let wrong = "E6: acknowledged by a log without its beginning".to_owned();
        report.violations.push(wrong);
    }
    let jumped = stand.taker.effects() - effects;
    if jumped > 0 {
        let wrong = format!("E6: {jumped} events behind the gap took effect");
        report.violations.push(wrong);
    }
    report.injected += 1;
    Ok(report)
}

/// As retention of the topic's own would do.
async fn delete_before_the_last(stand: &mut Stand) -> Result<()> {
    let (admin, topic) = (admin(stand)?, topic());
    let asked = topic.clone();
    let asker: BaseConsumer = client(stand)?.create()?;
    let marks = tokio::task::spawn_blocking(move || asker.fetch_watermarks(&asked, 0, ASKED));
    let (_, high) = marks.await.context("asking ended")??;
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&topic, 0, Offset::Offset(high - 1))?;
    let deleted = admin.delete_records(&before, &AdminOptions::new()).await?;
    for element in deleted.elements() {
        element.error()?;
    }
    ensure!(high > 1, "nothing to delete");
    Ok(())
}

fn topic() -> String {
    format!("musubi.{MUNICIPALITY}.live")
}

fn client(stand: &mut Stand) -> Result<ClientConfig> {
    let mut client = ClientConfig::new();
    client.set("bootstrap.servers", stand.cluster()?.kafka.brokers());
    Ok(client)
}

fn admin(stand: &mut Stand) -> Result<AdminClient<DefaultClientContext>> {
    Ok(client(stand)?.create()?)
}
