//! Several instances over brokers and a database, with a source and a receiver that go on.
//! The frame of the rows about clusters: one stand bears several acts, each judged by itself.
//! Must never judge before everything was whole again.
//! Read next: `rows/cluster.rs`, `scene.rs`.

use std::pin::Pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use musubi_e2e::cluster::Cluster;
use musubi_e2e::hub::{MUNICIPALITY, reason_and_field_of};
use musubi_e2e::receiver::Receiver;
use musubi_e2e::{Client, Hub, wait_until};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::time::timeout;

use crate::lines::Lines;
use crate::load::Taker;
use crate::row::{Ctx, RowReport};
use crate::scene::{PATIENCE, PRODUCT, SYSTEM, Scene, receiver_of};

/// How long brokers may take to tell what they are asked.
const ASKED: Duration = Duration::from_secs(5);

/// What an act did.
#[derive(Debug, Clone, Default)]
pub struct Harm {
    /// Faults.
    pub injected: u64,
    /// What was wrong beside what the judge finds.
    pub violations: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    took: Vec<Duration>,
}

impl Harm {
    /// Notes a fault, and how long it was until the next delivery.
    pub fn add(&mut self, took: Duration) {
        self.injected += 1;
        self.took.push(took);
    }

    /// Says how long the next delivery took, and judges it on a machine of one's own.
    pub fn judge_times(&mut self, ctx: &Ctx, what: &str, max: Duration) {
        let slowest = self.took.iter().max().copied().unwrap_or_default();
        let told = format!("{what}: next delivery after at most {slowest:.1?}");
        if ctx.measured && slowest > max {
            self.violations.push(format!("{told}, allowed are {max:?}"));
        }
        self.notes.push(told);
        self.took.clear();
    }
}

/// An act on a stand, under way.
pub type Acting<'a> = Pin<Box<dyn Future<Output = Result<Harm>> + 'a>>;
/// An act on a stand.
pub type Act = for<'a> fn(&'a mut Stand, &'a Ctx) -> Acting<'a>;

/// All of it, running.
#[derive(Debug)]
pub struct Stand {
    /// The receiver; a client of all instances.
    pub taker: Taker,
    /// The instances beside the scene's.
    others: Vec<Hub>,
    /// The first instance, the cluster and the record.
    pub scene: Scene,
    /// Its lines, where each has a proxy.
    lines: Option<Lines>,
}

impl Stand {
    /// Starts brokers, a database and instances, which serve one product.
    pub async fn start(ctx: &Ctx, brokers: usize, instances: usize) -> Result<Self> {
        std::fs::create_dir_all(&ctx.folder).context("make the folder of a stand")?;
        let cluster = Cluster::start(&ctx.folder, brokers)?;
        let mut hubs = Vec::new();
        for place in 0..instances {
            hubs.push(cluster.hub(&format!("instance-{place}")).await?);
        }
        let urls: Vec<String> = hubs.iter().map(Hub::url).collect();
        let client = Client::of(&urls)?;
        Self::of(ctx, cluster, hubs, [client.clone(), client], None).await
    }

    /// The same with a proxy in each line.
    pub async fn start_on_lines(ctx: &Ctx, brokers: usize, instances: usize) -> Result<Self> {
        std::fs::create_dir_all(&ctx.folder).context("make the folder of a stand")?;
        let started = Lines::start(&ctx.folder, brokers, instances, ctx.seed);
        let (lines, cluster, hubs) = started.await?;
        let clients = [lines.source()?, lines.adapter()?];
        Self::of(ctx, cluster, hubs, clients, Some(lines)).await
    }

    async fn of(
        ctx: &Ctx,
        cluster: Cluster,
        hubs: Vec<Hub>,
        [source, adapter]: [Client; 2],
        lines: Option<Lines>,
    ) -> Result<Self> {
        let mut hubs = hubs.into_iter();
        let hub = hubs.next().context("no instance")?;
        // The municipality is new: instances still find out whose it is.
        wait_until(PATIENCE, "the product to be bound", async || {
            source.bind(SYSTEM, PRODUCT).await?;
            Ok(true)
        })
        .await?;
        let taker = Taker::start(adapter, SYSTEM, PRODUCT);
        let scene = Scene::of(hub, source, ctx.folder.clone(), Some(cluster));
        let mut stand = Self {
            taker,
            others: hubs.collect(),
            scene,
            lines,
        };
        stand.next_delivery().await?;
        Ok(stand)
    }

    /// Plays an act, waits until everything is whole, and judges all that happened so far.
    pub async fn play(&mut self, ctx: &Ctx, act: Act) -> Result<RowReport> {
        let harm = act(self, ctx).await?;
        self.whole().await?;
        self.scene.settle().await?;
        let receiver = receiver_of(&self.taker);
        let mut report = self.scene.finish(harm.injected, receiver).await?;
        report.violations.extend(harm.violations);
        report.notes.extend(harm.notes);
        Ok(report)
    }

    /// Brokers and database.
    pub fn cluster(&mut self) -> Result<&mut Cluster> {
        self.scene.cluster.as_mut().context("no cluster")
    }

    /// The lines.
    pub fn lines(&self) -> Result<&Lines> {
        self.lines.as_ref().context("no lines")
    }

    /// How many instances there are.
    pub fn instances(&self) -> usize {
        1 + self.others.len()
    }

    /// An instance.
    pub fn instance(&mut self, place: usize) -> Result<&mut Hub> {
        match place.checked_sub(1) {
            None => Ok(&mut self.scene.hub),
            Some(other) => self.others.get_mut(other).context("no such instance"),
        }
    }

    /// Ends every instance in order, and starts it again.
    pub async fn restart_all(&mut self) -> Result<()> {
        for place in 0..self.instances() {
            self.instance(place)?.process().stop()?;
        }
        for place in 0..self.instances() {
            self.instance(place)?.restart().await?;
        }
        Ok(())
    }

    /// How often the instances wrote a text into their logs.
    pub fn said(&mut self, text: &str) -> Result<usize> {
        let mut found = 0;
        for place in 0..self.instances() {
            let log = self.instance(place)?.process().log_text()?;
            found += log.matches(text).count();
        }
        Ok(found)
    }

    /// A client of all instances but one.
    pub fn client_without(&self, place: usize) -> Result<Client> {
        let all = [&self.scene.hub].into_iter().chain(&self.others);
        let rest = all.enumerate().filter(|(own, _)| *own != place);
        Client::of(&rest.map(|(_, hub)| hub.url()).collect::<Vec<_>>())
    }

    /// Publishes something new at any instance; the time until the receiver has it.
    pub async fn next_delivery(&mut self) -> Result<Duration> {
        let client = self.scene.client.clone();
        self.next_delivery_from(&client).await
    }

    /// The same at the instances that a client asks.
    pub async fn next_delivery_from(&mut self, client: &Client) -> Result<Duration> {
        let started = Instant::now();
        let id = self.scene.probe(client).await?;
        wait_until(PATIENCE, "the next delivery", async || {
            Ok(self.taker.has(&id))
        })
        .await?;
        Ok(started.elapsed())
    }

    /// The instance that owns the municipality: it says that nothing is bound, and not where to go.
    pub async fn owner(&self) -> Result<usize> {
        let mut owner = None;
        wait_until(PATIENCE, "an owner", async || {
            let all = [&self.scene.hub].into_iter().chain(&self.others);
            for (place, hub) in all.enumerate() {
                let client = hub.client()?;
                let asked = Receiver::attach_here(&client, SYSTEM, "nobody", Default::default());
                // One that is frozen must not hold up the search.
                let Ok(Err(refused)) = timeout(ASKED, asked).await else {
                    continue;
                };
                if reason_and_field_of(&refused).0 == "NOT_BOUND" {
                    owner = Some(place);
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await?;
        owner.context("no owner")
    }

    /// Waits until every broker has all of the log, and somebody owns the municipality.
    pub async fn whole(&mut self) -> Result<()> {
        let cluster = self.cluster()?;
        let (brokers, count) = (cluster.kafka.brokers(), cluster.kafka.count());
        let topic = format!("musubi.{MUNICIPALITY}.live");
        wait_until(PATIENCE, "all brokers to have the log", async || {
            let found = in_sync(&brokers, &topic).await?;
            ensure!(found == count, "{found} of {count}");
            Ok(true)
        })
        .await?;
        self.owner().await?;
        Ok(())
    }
}

/// How many brokers have all of a topic.
async fn in_sync(brokers: &str, topic: &str) -> Result<usize> {
    let (brokers, topic) = (brokers.to_owned(), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || -> Result<usize> {
        let asker: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .create()?;
        let told = asker.fetch_metadata(Some(&topic), ASKED)?;
        let topic = told.topics().first().context("no topic")?;
        let partition = topic.partitions().first().context("no partition")?;
        Ok(partition.isr().len())
    });
    asked.await.context("asking ended")?
}
