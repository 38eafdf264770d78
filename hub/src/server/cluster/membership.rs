//! Which municipalities this instance should own, as Kafka's consumer group says.
//! A consumer that reads nothing: all its partitions are paused; it is a member, no more.
//! Must never let a municipality go to another instance before the keeper has given it back.
//! Read next: `server/cluster/keeper.rs`, `docs/specs/cluster.md`.
//!
//! ```text
//!   topics musubi.<municipality>.live ──▶ group ──▶ one partition each ──▶ one instance each
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaErrorCode;
use tokio::sync::{mpsc, oneshot};

use super::keeper::Turn;
use crate::event::Municipality;
use crate::limits::{
    MEMBER_HEARTBEAT, MEMBER_LOST_KEPT, MEMBER_SESSION, MEMBER_WITHOUT_STORE, NEW_TOPICS_LOOK,
    TOWN_CLOSE_MAX,
};
use crate::log::kafka::client::Quiet;
use crate::server::lease::Lease;

/// Topics of which each stands for a municipality: its live stream.
const TOPICS: &str = r"^musubi\.[0-9]{6}\.live$";
/// How long one poll waits; a stop is seen within it.
const POLL: Duration = Duration::from_millis(200);
/// Turns that wait for the keeper.
const TURNS: usize = 16;

/// A membership that runs.
#[derive(Debug)]
pub struct Membership {
    leave: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Tells the keeper what the group decided, from the thread that polls.
struct Told {
    turns: mpsc::Sender<Turn>,
    /// It leaves by itself: nobody waits for what it gives back.
    leaving: AtomicBool,
    /// What this member lost because the group did not hear of it, and since when.
    lost: Mutex<Option<(Instant, Vec<Municipality>)>>,
}

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        Quiet.log(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if !is_no_topic(&error) {
            Quiet.error(error, reason);
        }
    }
}

/// Before the first municipality there is no topic that the group could be about.
fn is_no_topic(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    code == Some(RDKafkaErrorCode::UnknownTopicOrPartition)
}

impl ConsumerContext for Told {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(list) = rebalance else {
            return;
        };
        if self.leaving.load(Ordering::Relaxed) {
            return;
        }
        if consumer.assignment_lost() {
            // Brokers that are away for a moment are no reason to stop a town: its lease says how
            // long it may go on, and nobody else can take it until it is given back.
            // What was lost before and did not come again is still owed since then.
            let mut lost = self.lost();
            let (_, towns) = lost.get_or_insert_with(|| (Instant::now(), Vec::new()));
            towns.extend(towns_in(list));
        } else {
            self.taken(towns_in(list));
        }
    }

    fn post_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => {
                // Nothing is read here: the owner reads from its own positions.
                if let Err(error) = consumer.pause(list) {
                    tracing::warn!(%error, "the membership's partitions were not paused");
                }
                let towns = towns_in(list);
                if let Some((_, lost)) = self.lost().as_mut() {
                    lost.retain(|m| !towns.contains(m));
                }
                tracing::info!(count = towns.len(), "membership.given");
                if !towns.is_empty() && self.turns.blocking_send(Turn::Given(towns)).is_err() {
                    tracing::debug!("the hub is stopping; nothing is taken any more");
                }
            }
            Rebalance::Revoke(_) => {}
            Rebalance::Error(error) => tracing::warn!(%error, "the group did not agree"),
        }
    }
}

impl Told {
    fn new(turns: mpsc::Sender<Turn>) -> Self {
        Self {
            turns,
            leaving: AtomicBool::new(false),
            lost: Mutex::default(),
        }
    }

    fn lost(&self) -> MutexGuard<'_, Option<(Instant, Vec<Municipality>)>> {
        self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives back what was lost and did not come again in time.
    fn give_back_lost(&self) {
        let over = {
            let mut lost = self.lost();
            let over = lost
                .as_ref()
                .is_some_and(|(since, _)| since.elapsed() >= MEMBER_LOST_KEPT);
            over.then(|| lost.take()).flatten()
        };
        if let Some((_, towns)) = over {
            self.taken(towns);
        }
    }

    /// Waits until nothing of these runs here: only then another member may get them.
    fn taken(&self, towns: Vec<Municipality>) {
        if towns.is_empty() {
            return;
        }
        tracing::info!(count = towns.len(), "membership.taken");
        let (done, given_back) = oneshot::channel();
        if self.turns.blocking_send(Turn::Taken(towns, done)).is_ok()
            && given_back.blocking_recv().is_err()
        {
            tracing::debug!("the keeper has ended");
        }
    }
}

fn towns_in(list: &TopicPartitionList) -> Vec<Municipality> {
    let elements = list.elements();
    let code = |topic: &str| {
        let rest = topic.strip_prefix("musubi.")?;
        Municipality::parse(rest.strip_suffix(".live")?)
    };
    elements
        .iter()
        .filter_map(|element| code(element.topic()))
        .collect()
}

impl Membership {
    /// Joins a group. What it says comes out of the receiver, until `leave`.
    ///
    /// # Errors
    /// When the settings of the client cannot be used.
    pub fn join(
        client: &ClientConfig,
        group: &str,
        lease: Lease,
    ) -> Result<(Self, mpsc::Receiver<Turn>), KafkaError> {
        let (turns, receiver) = mpsc::channel(TURNS);
        let millis = |time: Duration| time.as_millis().to_string();
        let mut config = client.clone();
        config
            .set("group.id", group)
            .set("group.protocol", "classic")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("session.timeout.ms", millis(MEMBER_SESSION))
            .set("heartbeat.interval.ms", millis(MEMBER_HEARTBEAT))
            .set(
                "topic.metadata.refresh.interval.ms",
                millis(NEW_TOPICS_LOOK),
            )
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "latest");
        let consumer: BaseConsumer<Told> =
            BaseConsumer::from_config_and_context(&config, Told::new(turns))?;
        consumer.subscribe(&[TOPICS])?;
        let leave = Arc::new(AtomicBool::new(false));
        let left = leave.clone();
        let thread = std::thread::Builder::new()
            .name("membership".to_owned())
            .spawn(move || poll(&consumer, &left, &lease))
            .map_err(|_| KafkaError::ClientCreation("no thread for the membership".to_owned()))?;
        let membership = Self {
            leave,
            thread: Some(thread),
        };
        Ok((membership, receiver))
    }

    /// Leaves the group: everything is given back, and then the others get it.
    pub async fn leave(mut self) {
        self.leave.store(true, Ordering::Relaxed);
        let Some(thread) = self.thread.take() else {
            return;
        };
        let joined = tokio::task::spawn_blocking(move || thread.join());
        if tokio::time::timeout(TOWN_CLOSE_MAX, joined).await.is_err() {
            tracing::warn!(
                "leaving the group took too long; the others get its places by time-out"
            );
        }
    }
}

fn poll(consumer: &BaseConsumer<Told>, leave: &AtomicBool, lease: &Lease) {
    let mut told = String::new();
    let mut aside = false;
    while !leave.load(Ordering::Relaxed) {
        if aside {
            if lease.is_lost() {
                std::thread::sleep(POLL);
                continue;
            }
            aside = consumer.subscribe(&[TOPICS]).is_err();
        } else if lease
            .lost_for()
            .is_some_and(|lost| lost >= MEMBER_WITHOUT_STORE)
        {
            step_aside(consumer);
            aside = true;
            continue;
        }
        consumer.context().give_back_lost();
        match consumer.poll(POLL) {
            None => {}
            Some(Ok(_)) => tracing::debug!("a record came to the membership and was not read"),
            Some(Err(error)) if is_no_topic(&error) => {}
            Some(Err(error)) => tell_once(&error, &mut told),
        }
    }
    // Runs the callback that gives everything back, and says goodbye to the group.
    unsubscribe(consumer);
}

/// Leaves the group while the store does not answer here: others may own what this one cannot. They
/// need not wait for it: its lease is over.
fn step_aside(consumer: &BaseConsumer<Told>) {
    tracing::warn!("the store does not answer; the group gives the municipalities to others");
    let told = consumer.context();
    let mut towns = told.lost().take().map_or_else(Vec::new, |(_, towns)| towns);
    if let Ok(assigned) = consumer.assignment() {
        towns.extend(towns_in(&assigned));
    }
    told.leaving.store(true, Ordering::Relaxed);
    consumer.unsubscribe();
    // What is assigned goes with a turn of polling.
    let since = Instant::now();
    while since.elapsed() < MEMBER_SESSION
        && consumer.assignment().is_ok_and(|list| list.count() > 0)
    {
        if let Some(Err(error)) = consumer.poll(POLL) {
            tracing::debug!(%error, "leaving the group");
        }
    }
    told.leaving.store(false, Ordering::Relaxed);
    told.taken(towns);
}

fn unsubscribe(consumer: &BaseConsumer<Told>) {
    let told = consumer.context();
    if let Some((_, towns)) = told.lost().take() {
        told.taken(towns);
    }
    if let Ok(assigned) = consumer.assignment() {
        told.taken(towns_in(&assigned));
    }
    consumer.unsubscribe();
}

fn tell_once(error: &KafkaError, told: &mut String) {
    let text = error.to_string();
    if *told != text {
        tracing::warn!(error = text, "the group's brokers do not answer");
        *told = text;
    }
}
