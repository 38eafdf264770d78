//! A hub with a source and a receiver that go on while something is harmed, and the record of it.
//! The frame of the rows about process death; `history.rs` judges what is left.
//! Must never let the source stop before the harm was done.
//! Read next: `rows/hub.rs`, `stand.rs`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::event::moved;
use musubi_e2e::process::musubi;
use musubi_e2e::{Client, Hub, wait_until};
use musubi_proto::hub::v1::unit_answer::Answer;
use musubi_proto::hub::v1::{Event, Group, Stream};
use tokio::task::JoinHandle;

use crate::history::{Attempt, Effect, History, Known, Parked, Receiver, Sent, judge};
use crate::load::{self, Published, Taker};
use crate::row::{Ctx, RowReport};

/// System that receives.
pub const SYSTEM: &str = "010";
/// Its product, where the receiver is a client of the row's own.
pub const PRODUCT: &str = "test-tax";
/// How long a harm may take to happen, or everything to come to rest.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Variable that names the point at which a process dies.
pub const CRASH_AT: &str = "MUSUBI_CRASH_AT";
/// Subjects of one round, and versions of each.
const SUBJECTS: u32 = 8;
const VERSIONS: u32 = 3;
/// Subjects from here on are probes', beside those of a source that goes on.
const FIRST_PROBE: u32 = 800_000_000;

/// `musubi` that dies at a point.
pub fn dying(point: &str, times: u64) -> Result<Command> {
    let mut command = musubi()?;
    command.env(CRASH_AT, format!("{point}:{times}"));
    Ok(command)
}

/// A running hub, and what was published so far.
#[derive(Debug)]
pub struct Scene {
    /// The hub.
    pub hub: Hub,
    /// A client of it.
    pub client: Client,
    /// Where everything is.
    pub folder: PathBuf,
    /// What several instances stand on; gone after the hub.
    pub cluster: Option<Cluster>,
    sent: Vec<Sent>,
    next_subject: u32,
    next_probe: u32,
}

/// A source that goes on until it is told to stop.
#[derive(Debug)]
pub struct Source {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<(Vec<Sent>, u32)>>,
}

impl Scene {
    /// Starts a hub that serves a product.
    pub async fn start(ctx: &Ctx, product: &str) -> Result<Self> {
        let hub = Hub::start(&ctx.folder).await?;
        let client = hub.client()?;
        client.bind(SYSTEM, product).await?;
        Ok(Self::of(hub, client, ctx.folder.clone(), None))
    }

    /// The same of what runs and serves a product already.
    pub fn of(hub: Hub, client: Client, folder: PathBuf, cluster: Option<Cluster>) -> Self {
        Self {
            hub,
            client,
            folder,
            cluster,
            sent: Vec::new(),
            next_subject: 0,
            next_probe: FIRST_PROBE,
        }
    }

    /// Starts a source: units of one event, each sent until it is answered, and units of two that
    /// are sent once, so that some of them stay unknown.
    pub fn source(&self) -> Source {
        let stop = Arc::new(AtomicBool::new(false));
        let (client, first) = (self.client.clone(), self.next_subject);
        let task = tokio::spawn(publish_rounds(client, first, Arc::clone(&stop)));
        Source { stop, task }
    }

    /// Ends a source and notes what it did.
    pub async fn end(&mut self, source: Source) -> Result<()> {
        source.stop.store(true, Ordering::SeqCst);
        let (sent, next) = source.task.await.context("the source failed")??;
        self.sent.extend(sent);
        self.next_subject = next;
        Ok(())
    }

    /// Publishes versions of subjects and notes them.
    pub async fn publish(
        &mut self,
        subjects: std::ops::Range<u32>,
        versions: std::ops::RangeInclusive<u32>,
    ) -> Result<()> {
        let clients = [self.client.clone()];
        self.next_subject = self.next_subject.max(subjects.end);
        let published = load::publish(&clients, subjects, versions).await?;
        self.sent.extend(acknowledged(published));
        Ok(())
    }

    /// Publishes the first version of a new subject until it is acknowledged; its id.
    pub async fn probe(&mut self, client: &Client) -> Result<String> {
        let own = self.next_probe;
        self.next_probe += 1;
        let published = load::publish(std::slice::from_ref(client), own..own + 1, 1..=1).await?;
        let sent: Vec<Sent> = acknowledged(published).collect();
        let id = sent.first().context("no probe")?.id.clone();
        self.sent.extend(sent);
        Ok(id)
    }

    /// Publishes the first version of a new subject once, whatever comes of it.
    pub async fn try_once(&mut self) -> Result<Known> {
        let event = moved(&load::subject(self.next_probe), 1)?;
        self.next_probe += 1;
        let sent = once(&self.client, vec![event]).await;
        let known = sent.first().context("no event")?.known;
        self.sent.extend(sent);
        Ok(known)
    }

    /// Publishes one event once.
    pub async fn publish_event(&mut self, event: Event) -> Result<()> {
        let sent = once(&self.client, vec![event]).await;
        ensure!(
            sent.iter().all(|sent| sent.known == Known::Acknowledged),
            "a right event was not accepted"
        );
        self.sent.extend(sent);
        Ok(())
    }

    /// Waits until the hub's process has ended.
    pub async fn hub_died(&mut self) -> Result<()> {
        let hub = &mut self.hub;
        wait_until(PATIENCE, "the hub to die", async || {
            Ok(hub.process().ended()?.is_some())
        })
        .await
    }

    /// Waits until everything in the log has an end at the receiver.
    pub async fn settle(&self) -> Result<()> {
        self.client.wait_until_delivered(&[SYSTEM]).await
    }

    /// What is recorded of the source and of the log, with one receiver.
    pub async fn history(&self, mut receiver: Receiver) -> Result<History> {
        let stored = self.client.log(Stream::Live).await?;
        let log = stored.into_iter().map(|stored| {
            let event = stored.event.context("a record without event")?;
            Ok(event.id)
        });
        for unit in self.client.parked(SYSTEM).await? {
            // The hub tells pseudonyms; the source knows whose its events are.
            let own = self
                .sent
                .iter()
                .filter(|sent| unit.event_ids.contains(&sent.id));
            let subjects = own.map(|sent| sent.subject.clone()).collect();
            receiver.parked.push(Parked {
                ids: unit.event_ids,
                subjects,
            });
        }
        Ok(History {
            sent: self.sent.clone(),
            log: log.collect::<Result<_>>()?,
            receivers: vec![receiver],
            bounds: Vec::new(),
        })
    }

    /// Waits for the end, judges, and says what came of it.
    pub async fn finish(&self, injected: u64, receiver: Receiver) -> Result<RowReport> {
        let history = self.history(receiver).await?;
        let delivered = history.receivers.iter().map(|one| one.applied.len() as u64);
        let acknowledged = history.sent.iter();
        Ok(RowReport {
            injected,
            published: acknowledged
                .filter(|sent| sent.known == Known::Acknowledged)
                .count() as u64,
            delivered: delivered.sum(),
            violations: judge(&history),
            ..RowReport::default()
        })
    }

    /// A subject that nothing was published about, and none after it.
    pub fn next_subject(&self) -> u32 {
        self.next_subject
    }

    /// What was sent.
    pub fn sent(&self) -> &[Sent] {
        &self.sent
    }
}

/// A receiver of the row's own, as the judge wants it.
pub fn receiver_of(taker: &Taker) -> Receiver {
    let journal = taker.journal();
    let attempts = journal.deliveries.into_iter();
    let mut state: BTreeMap<String, u32> = BTreeMap::new();
    for (_, subject, version) in &journal.effects {
        state.insert(subject.clone(), *version);
    }
    let applied = journal.effects.into_iter();
    Receiver {
        name: PRODUCT.to_owned(),
        attempts: attempts.map(|(id, epoch)| Attempt { id, epoch }).collect(),
        applied: applied
            .map(|(id, subject, version)| Effect {
                id,
                subject,
                version,
            })
            .collect(),
        state: Some(state),
        ..Receiver::default()
    }
}

async fn publish_rounds(
    client: Client,
    first: u32,
    stop: Arc<AtomicBool>,
) -> Result<(Vec<Sent>, u32)> {
    let clients = [client];
    let [client] = &clients;
    let mut next = first;
    let mut sent = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let end = next + SUBJECTS;
        let pair = group(&[load::subject(end), load::subject(end + 1)])?;
        let (published, pair) = tokio::join!(
            load::publish(&clients, next..end, 1..=VERSIONS),
            once(client, pair)
        );
        sent.extend(acknowledged(published?));
        sent.extend(pair);
        next = end + 2;
    }
    Ok((sent, next))
}

fn acknowledged(published: Published) -> impl Iterator<Item = Sent> {
    let all = published.acknowledged.into_iter();
    all.map(|(id, (subject, version))| Sent {
        id,
        subject,
        version,
        group: String::new(),
        known: Known::Acknowledged,
    })
}

/// First versions of subjects, as one group.
fn group(subjects: &[String]) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    for subject in subjects {
        events.push(moved(subject, 1)?);
    }
    let id = events.first().context("no subject")?.id.clone();
    let size = u32::try_from(events.len())?;
    for (seq, event) in (1..).zip(&mut events) {
        event.group = Some(Group {
            id: id.clone(),
            seq,
            size,
        });
    }
    Ok(events)
}

/// Sends a unit once, whatever comes of it.
async fn once(client: &Client, events: Vec<Event>) -> Vec<Sent> {
    let mut sent: Vec<Sent> = events
        .iter()
        .map(|event| Sent {
            id: event.id.clone(),
            subject: event.subject.clone(),
            version: event.subject_version,
            group: event
                .group
                .as_ref()
                .map_or(String::new(), |group| group.id.clone()),
            known: Known::Unknown,
        })
        .collect();
    let call = tokio::time::timeout(Duration::from_secs(5), client.publish(vec![events])).await;
    let known = match call {
        Ok(Ok(answers)) => match answers.into_iter().next().and_then(|one| one.answer) {
            Some(Answer::Accepted(_)) => Known::Acknowledged,
            Some(_) => Known::Refused,
            None => Known::Unknown,
        },
        Ok(Err(_)) | Err(_) => Known::Unknown,
    };
    for sent in &mut sent {
        sent.known = known;
    }
    sent
}
