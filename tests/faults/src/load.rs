//! A source that publishes and a receiver that applies, as patient and careful as real ones are.
//! The source sends again with the same id until it is answered; the receiver keeps a journal of
//! effects, one for each idempotency key.
//! Must never count as published what was not acknowledged.
//! Read next: `network.rs`.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use musubi_e2e::Client;
use musubi_e2e::event::moved;
use musubi_e2e::receiver::Receiver;
use musubi_proto::google::rpc::{RetryInfo, Status as RpcStatus};
use musubi_proto::hub::v1::attach_response::Response;
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{
    Capabilities, Delivery, Event, Outcome, Stream, UnitAnswer, UnitScope,
};
use prost::Message;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use tonic::{Code, Status};

/// A call that has no answer after this long is sent again.
const CALL: Duration = Duration::from_secs(5);
/// Pause before something is tried again that says no pause itself.
const AGAIN: Duration = Duration::from_millis(50);
const HEARTBEAT: Duration = Duration::from_secs(4);
const CREDITS: u32 = 64;

/// What a source did.
#[derive(Debug, Clone, Default)]
pub struct Published {
    /// Ids that were acknowledged, with subject and version.
    pub acknowledged: BTreeMap<String, (String, u32)>,
    /// From the sending that was acknowledged to its acknowledgement.
    pub latencies: Vec<Duration>,
    /// Attempts without an answer, or that failed.
    pub failed: u64,
    /// Attempts refused with `RESOURCE_EXHAUSTED`.
    pub overloaded: u64,
    /// Of these, without a hint when to come again.
    pub without_hint: u64,
}

impl Published {
    /// Adds what another source did.
    pub fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.overloaded += other.overloaded;
        self.without_hint += other.without_hint;
    }

    /// The latency that so many of a hundred do not exceed.
    pub fn percentile(&self, hundredths: usize) -> Duration {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let last = sorted.len().saturating_sub(1);
        let place = (sorted.len() * hundredths / 100).min(last);
        sorted.get(place).copied().unwrap_or_default()
    }
}

/// A 宛名番号 of its own for a number: the check is the hub's, not the digit's.
pub fn subject(number: u32) -> String {
    format!("{number:010}")
}

/// Publishes versions of subjects, each subject in order, all subjects at once.
pub async fn publish(
    clients: &[Client],
    subjects: std::ops::Range<u32>,
    versions: std::ops::RangeInclusive<u32>,
) -> Result<Published> {
    let mut tasks = JoinSet::new();
    for (number, client) in subjects.zip(clients.iter().cycle()) {
        tasks.spawn(publish_subject(
            client.clone(),
            subject(number),
            versions.clone(),
        ));
    }
    let mut all = Published::default();
    while let Some(done) = tasks.join_next().await {
        all.add(done.context("a source failed")??);
    }
    Ok(all)
}

async fn publish_subject(
    client: Client,
    subject: String,
    versions: std::ops::RangeInclusive<u32>,
) -> Result<Published> {
    let mut published = Published::default();
    for version in versions {
        let event = moved(&subject, version)?;
        let id = event.id.clone();
        publish_until_answered(&client, event, &mut published).await?;
        let place = (subject.clone(), version);
        published.acknowledged.insert(id, place);
    }
    Ok(published)
}

async fn publish_until_answered(
    client: &Client,
    event: Event,
    published: &mut Published,
) -> Result<()> {
    loop {
        let started = Instant::now();
        let call = client.publish(vec![vec![event.clone()]]);
        let pause = match timeout(CALL, call).await {
            Ok(Ok(answers)) => {
                accepted(answers)?;
                published.latencies.push(started.elapsed());
                return Ok(());
            }
            Ok(Err(status)) if status.code() == Code::ResourceExhausted => {
                published.overloaded += 1;
                let hint = retry_hint(&status);
                published.without_hint += u64::from(hint.is_none());
                hint.unwrap_or(AGAIN)
            }
            Ok(Err(status)) if status.code() == Code::InvalidArgument => {
                bail!("a right event was refused: {status}")
            }
            Ok(Err(_)) | Err(_) => {
                published.failed += 1;
                AGAIN
            }
        };
        tokio::time::sleep(pause).await;
    }
}

fn accepted(answers: Vec<UnitAnswer>) -> Result<()> {
    match answers.into_iter().next().and_then(|answer| answer.answer) {
        Some(Answer::Accepted(_)) => Ok(()),
        other => bail!("a right event was not accepted: {other:?}"),
    }
}

/// The wait that a refusal asks for.
pub fn retry_hint(status: &Status) -> Option<Duration> {
    let rich = RpcStatus::decode(status.details()).ok()?;
    let mut details = rich.details.iter();
    let hint = details.find(|detail| detail.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(hint.value.as_slice()).ok()?.retry_delay?;
    delay.try_into().ok()
}

/// What a receiver did.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    keys: HashSet<String>,
    /// Ids in the order of their effects, with subject and version.
    pub effects: Vec<(String, String, u32)>,
    /// Every event that came, with the epoch of the binding that sent it.
    pub deliveries: Vec<(String, u64)>,
    /// Deliveries of what had its effect already: answered, and without effect.
    pub repeated: u64,
    /// When each stream was opened.
    pub attached: Vec<Instant>,
}

/// A receiver that applies everything once, and comes back whenever its stream ends.
#[derive(Debug)]
pub struct Taker {
    journal: Arc<Mutex<Journal>>,
    task: JoinHandle<()>,
}

impl Taker {
    /// Starts it as the adapter of a product that is bound.
    pub fn start(client: Client, system: &str, product: &str) -> Self {
        let journal = Arc::new(Mutex::new(Journal::default()));
        let (system, product) = (system.to_owned(), product.to_owned());
        let task = tokio::spawn(take_for_ever(client, system, product, Arc::clone(&journal)));
        Self { journal, task }
    }

    /// Ends it, and starts another one on the same product.
    pub fn replace(&mut self, client: Client, system: &str, product: &str) {
        self.task.abort();
        let (system, product) = (system.to_owned(), product.to_owned());
        let journal = Arc::clone(&self.journal);
        self.task = tokio::spawn(take_for_ever(client, system, product, journal));
    }

    /// Ends it; what comes from now on waits at the hub, until `replace`.
    pub fn leave(&self) {
        self.task.abort();
    }

    /// Another one on the same product, which writes into the same journal.
    pub fn beside(&self, client: Client, system: &str, product: &str) -> Self {
        let journal = Arc::clone(&self.journal);
        let (system, product) = (system.to_owned(), product.to_owned());
        let task = tokio::spawn(take_for_ever(client, system, product, Arc::clone(&journal)));
        Self { journal, task }
    }

    /// Whether an event had its effect.
    pub fn has(&self, id: &str) -> bool {
        let journal = lock(&self.journal);
        journal.effects.iter().rev().any(|effect| effect.0 == id)
    }

    /// Number of effects so far.
    pub fn effects(&self) -> usize {
        lock(&self.journal).effects.len()
    }

    /// What it did so far.
    pub fn journal(&self) -> Journal {
        lock(&self.journal).clone()
    }
}

impl Drop for Taker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(journal: &Mutex<Journal>) -> std::sync::MutexGuard<'_, Journal> {
    journal.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn take_for_ever(
    client: Client,
    system: String,
    product: String,
    journal: Arc<Mutex<Journal>>,
) {
    let capabilities = Capabilities {
        unit_scope: UnitScope::Event.into(),
        protection_flag: true,
        idempotent: true,
        ..Capabilities::default()
    };
    loop {
        let attached = Receiver::attach(&client, &system, &product, capabilities);
        if let Ok(Ok(receiver)) = timeout(CALL, attached).await {
            lock(&journal).attached.push(Instant::now());
            // Whatever ended the stream, the next one goes on.
            drop(take(receiver, &journal).await);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn take(mut receiver: Receiver, journal: &Mutex<Journal>) -> Result<()> {
    receiver.allow(CREDITS).await?;
    let mut beat = tokio::time::interval(HEARTBEAT);
    loop {
        let said = tokio::select! {
            _ = beat.tick() => {
                receiver.beat().await?;
                continue;
            }
            said = receiver.next() => said?,
        };
        match said {
            Some(Response::Delivery(delivery)) => {
                let outcome = apply(&delivery, &mut lock(journal));
                receiver.answer(&delivery, outcome).await?;
                receiver.allow(1).await?;
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// The product: the effect and its key are one transaction.
fn apply(delivery: &Delivery, journal: &mut Journal) -> Outcome {
    let mut outcome = Outcome::Duplicate;
    for unit in &delivery.units {
        let ids = unit.events.iter().filter_map(|event| event.event.as_ref());
        let epoch = delivery.binding_epoch;
        journal
            .deliveries
            .extend(ids.map(|event| (event.id.clone(), epoch)));
        if !journal.keys.insert(unit.idempotency_key.clone()) {
            journal.repeated += 1;
            continue;
        }
        outcome = Outcome::Applied;
        for event in unit.events.iter().filter_map(|event| event.event.as_ref()) {
            let effect = (
                event.id.clone(),
                event.subject.clone(),
                event.subject_version,
            );
            journal.effects.push(effect);
        }
    }
    outcome
}

/// What is wrong in the end: acknowledged and not applied, applied twice, out of order.
pub fn violations(published: &Published, journal: &Journal) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut seen = HashSet::new();
    let mut versions: BTreeMap<&str, u32> = BTreeMap::new();
    for (id, subject, version) in &journal.effects {
        if !seen.insert(id.as_str()) {
            wrong.push(format!("I2: {id} had its effect twice"));
        }
        let before = versions.insert(subject, *version).unwrap_or(0);
        if *version <= before {
            wrong.push(format!("I3: version {version} of a subject after {before}"));
        }
    }
    for id in published.acknowledged.keys() {
        if !seen.contains(id.as_str()) {
            wrong.push(format!("I1: {id} was acknowledged and had no effect"));
        }
    }
    for (subject, version) in published.acknowledged.values() {
        if versions
            .get(subject.as_str())
            .is_none_or(|last| last < version)
        {
            wrong.push(format!("I4: a subject stays below version {version}"));
        }
    }
    wrong
}

/// What is wrong in the log: each acknowledged id stands there once.
pub async fn log_violations(client: &Client, published: &Published) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut seen = HashSet::new();
    for stored in client.log(Stream::Live).await? {
        let event = stored.event.context("a record without event")?;
        if !seen.insert(event.id.clone()) {
            wrong.push(format!("{} stands twice in the log", event.id));
        }
    }
    let lost = published
        .acknowledged
        .keys()
        .filter(|id| !seen.contains(*id));
    wrong.extend(lost.map(|id| format!("I1: {id} was acknowledged and is not in the log")));
    Ok(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn played(effects: &[(&str, &str, u32)]) -> Vec<String> {
        let place = |subject: &str, version| (subject.to_owned(), version);
        let published = Published {
            acknowledged: [
                ("a".to_owned(), place("P", 1)),
                ("b".to_owned(), place("P", 2)),
            ]
            .into(),
            ..Published::default()
        };
        let effect = |(id, subject, version): &(&str, &str, u32)| {
            ((*id).to_owned(), (*subject).to_owned(), *version)
        };
        let journal = Journal {
            effects: effects.iter().map(effect).collect(),
            ..Journal::default()
        };
        let wrong = violations(&published, &journal);
        wrong
            .iter()
            .filter_map(|text| text.get(..2))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn planted_violations_are_found_and_a_right_journal_has_none() {
        let (a, b) = (("a", "P", 1), ("b", "P", 2));
        assert!(played(&[a, b]).is_empty());
        assert_eq!(played(&[b, a]), ["I3", "I4"]);
        assert_eq!(played(&[a, b, b]), ["I2", "I3"]);
        assert_eq!(played(&[a]), ["I1", "I4"]);
    }
}
