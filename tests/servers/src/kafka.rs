//! Apache Kafka of a test's or a demo's own: one node or three, each broker and controller at once.
//! Stands for the log of a hub of several instances; killed, frozen and started again node by node.
//! Must never fetch anything by itself: `cargo xtask tools` brings the jars, or who asks for them.
//! Read next: `tools.rs`, `guard.rs`, `wait.rs`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::guard::Guard;
use crate::process::{Process, Signal};
use crate::tools::{JAVA, kafka_present};
use crate::wait::wait_until_blocking;

/// Where the jars are, when not in the workspace.
const LIBS_VARIABLE: &str = "MUSUBI_KAFKA_LIBS";
/// The workspace, in whose `.tools` they are.
const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
const START_TIMEOUT: Duration = Duration::from_secs(60);
/// Another program may take a free port before a node does.
const START_ATTEMPTS_MAX: u32 = 3;
/// How soon a node that is gone is noticed. Kafka's own default is 9 s.
const SESSION_TIMEOUT_MS: u32 = 6_000;

/// A running cluster; dropping it kills it and removes its folder.
#[derive(Debug)]
pub struct Kafka {
    // Before the folder: the nodes have to be gone when it is removed.
    nodes: Vec<Node>,
    libs: PathBuf,
    folder: TempDir,
}

#[derive(Debug)]
struct Node {
    /// Ended before the process is: from then on its id may be another's.
    guard: Option<Guard>,
    process: Process,
    settings: PathBuf,
    port: u16,
    ways: Vec<u16>,
}

impl Kafka {
    /// Starts a cluster of so many nodes; returns when all of them listen. Takes some seconds.
    pub fn start(nodes: usize) -> Result<Self> {
        Self::start_with_ways(nodes, &[])
    }

    /// The same with further listeners: who comes by one of these ways is told its addresses of the
    /// nodes, such as those of proxies. Nodes speak to each other by none of them.
    pub fn start_with_ways(nodes: usize, ways: &[Vec<String>]) -> Result<Self> {
        let libs = find_libs()?;
        if !(JAVA.present)() {
            bail!("{JAVA} is missing; `cargo xtask tools` installs it");
        }
        let mut last = anyhow!("not tried");
        for _ in 0..START_ATTEMPTS_MAX {
            match Self::try_start(&libs, nodes, ways) {
                Ok(cluster) => return Ok(cluster),
                Err(error) => last = error,
            }
        }
        Err(last.context("Kafka did not start"))
    }

    fn try_start(libs: &Path, count: usize, ways: &[Vec<String>]) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("musubi-kafka-").tempdir()?;
        let cluster = cluster_id()?;
        // Held until all are chosen, so that none is given out twice.
        let listeners: Vec<TcpListener> = (0..count * (2 + ways.len()))
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<Result<_, _>>()
            .context("no free port")?;
        let ports: Vec<u16> = listeners
            .iter()
            .map(|listener| Ok(listener.local_addr()?.port()))
            .collect::<Result<_>>()?;
        drop(listeners);
        let (controllers, brokers) = ports.split_at(count);
        let mut nodes = Vec::with_capacity(count);
        for (index, own) in brokers.chunks(1 + ways.len()).enumerate() {
            let (port, own_ways) = own.split_first().context("no port of a broker")?;
            let listeners = Listeners::of(index, *port, own_ways, ways, controllers)?;
            let settings = prepare(folder.path(), &cluster, index, &listeners)?;
            let process = spawn(libs, folder.path(), &settings, index)?;
            nodes.push(Node {
                guard: Some(Guard::over(process.pid(), folder.path())?),
                process,
                settings,
                port: *port,
                ways: own_ways.to_vec(),
            });
        }
        for node in &mut nodes {
            node.wait_until_listening()?;
        }
        Ok(Self {
            nodes,
            libs: libs.to_owned(),
            folder,
        })
    }

    /// The brokers' addresses, as every Kafka client reads them.
    pub fn brokers(&self) -> String {
        let addresses = self.nodes.iter().map(Node::address);
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Where the nodes listen for those who come by a way.
    pub fn way(&self, way: usize) -> Vec<String> {
        let ports = self.nodes.iter().filter_map(|node| node.ways.get(way));
        ports.map(|port| format!("127.0.0.1:{port}")).collect()
    }

    /// Its processes.
    pub fn pids(&self) -> Vec<u32> {
        self.nodes.iter().map(|node| node.process.pid()).collect()
    }

    /// Where the nodes keep their data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// How many nodes it has, running or not.
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// `kill -9` for one node; the id of a broker is its index and one.
    pub fn kill(&mut self, index: usize) -> Result<()> {
        let node = self.node(index)?;
        node.guard = None;
        node.process.kill()
    }

    /// Ends one node in order: it hands its leaderships over first.
    pub fn stop(&mut self, index: usize) -> Result<()> {
        let node = self.node(index)?;
        node.guard = None;
        node.process.stop()?;
        Ok(())
    }

    /// Freezes or wakes one node.
    pub fn signal(&mut self, index: usize, signal: Signal) -> Result<()> {
        self.node(index)?.process.signal(signal)
    }

    /// Starts one node again on the same data and ports, after it was killed; returns when it
    /// listens.
    pub fn restart(&mut self, index: usize) -> Result<()> {
        self.restart_together(&[index])
    }

    /// The same for several, of which none listens before most of all nodes run.
    pub fn restart_together(&mut self, indexes: &[usize]) -> Result<()> {
        for index in indexes {
            self.kill(*index)?;
            let (libs, folder) = (self.libs.clone(), self.folder.path().to_owned());
            let node = self.node(*index)?;
            node.process = spawn(&libs, &folder, &node.settings, *index)?;
            node.guard = Some(Guard::over(node.process.pid(), &folder)?);
        }
        for index in indexes {
            self.node(*index)?.wait_until_listening()?;
        }
        Ok(())
    }

    fn node(&mut self, index: usize) -> Result<&mut Node> {
        let count = self.nodes.len();
        let node = self.nodes.get_mut(index);
        node.with_context(|| format!("there is no node {index} of {count}"))
    }
}

impl Node {
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    fn wait_until_listening(&mut self) -> Result<()> {
        let address = self.address();
        wait_until_blocking(START_TIMEOUT, "Kafka", || {
            if self.process.ended()?.is_some() {
                return Ok(true);
            }
            TcpStream::connect(&address).context("not reachable")?;
            Ok(true)
        })?;
        self.process.must_run()
    }
}

/// The folder that Kafka has to be fetched into (`tools::install_kafka`); `None` when it is there.
pub fn to_fetch() -> Result<Option<PathBuf>> {
    let home = home()?;
    let given = std::env::var_os(LIBS_VARIABLE).is_some();
    Ok((!given && !kafka_present(&home)).then_some(home))
}

/// Where the jars belong: in the workspace this was built in, or else in the user's cache.
fn home() -> Result<PathBuf> {
    let workspace = Path::new(WORKSPACE);
    if workspace.is_dir() {
        return Ok(workspace.join(".tools/kafka"));
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let cache = cache.context("no folder for Kafka: neither XDG_CACHE_HOME nor HOME is set")?;
    Ok(cache.join("musubi/kafka"))
}

fn find_libs() -> Result<PathBuf> {
    let libs = match std::env::var_os(LIBS_VARIABLE) {
        Some(given) => PathBuf::from(given),
        None => home()?.join("libs"),
    };
    if !libs.is_dir() {
        bail!(
            "Kafka is missing: no jars in {}; `cargo xtask tools` fetches them",
            libs.display()
        );
    }
    Ok(libs)
}

/// 16 bytes as Kafka writes them: 22 characters, of which the last one holds two bits.
fn cluster_id() -> Result<String> {
    let random = fs::read_to_string("/proc/sys/kernel/random/uuid").context("no random id")?;
    let digits = random.chars().filter(char::is_ascii_hexdigit).take(21);
    Ok(digits.chain(['A']).collect())
}

/// Where a node listens, and what it tells of that.
struct Listeners {
    listen: Vec<String>,
    told: Vec<String>,
    protocols: Vec<String>,
    voters: Vec<String>,
}

impl Listeners {
    fn of(
        index: usize,
        port: u16,
        own_ways: &[u16],
        ways: &[Vec<String>],
        controllers: &[u16],
    ) -> Result<Self> {
        let own = controllers.get(index).context("no port of a controller")?;
        let plain = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut listeners = Self {
            listen: vec![plain.clone(), format!("CONTROLLER://127.0.0.1:{own}")],
            told: vec![plain],
            protocols: vec!["PLAINTEXT:PLAINTEXT".into(), "CONTROLLER:PLAINTEXT".into()],
            voters: Vec::new(),
        };
        for ((way, told), port) in ways.iter().enumerate().zip(own_ways) {
            let told = told
                .get(index)
                .context("a way tells an address of each node")?;
            let listen = format!("WAY{way}://127.0.0.1:{port}");
            listeners.listen.push(listen);
            listeners.told.push(format!("WAY{way}://{told}"));
            listeners.protocols.push(format!("WAY{way}:PLAINTEXT"));
        }
        let voters = (1..).zip(controllers);
        let voters = voters.map(|(id, port)| format!("{id}@127.0.0.1:{port}"));
        listeners.voters = voters.collect();
        Ok(listeners)
    }
}

/// Writes what a node needs to start: its settings, and the name of its cluster in its data.
fn prepare(folder: &Path, cluster: &str, index: usize, listeners: &Listeners) -> Result<PathBuf> {
    let id = index + 1;
    let data = folder.join(format!("node-{id}"));
    fs::create_dir_all(&data).with_context(|| format!("create {}", data.display()))?;
    let meta = format!("version=1\ncluster.id={cluster}\nnode.id={id}\n");
    fs::write(data.join("meta.properties"), meta).context("write meta.properties")?;
    let nodes = listeners.voters.len();
    let in_sync = nodes.min(2);
    let settings = folder.join(format!("node-{id}.properties"));
    let text = format!(
        "process.roles=broker,controller\n\
         node.id={id}\n\
         controller.quorum.voters={}\n\
         controller.listener.names=CONTROLLER\n\
         listeners={}\n\
         advertised.listeners={}\n\
         listener.security.protocol.map={}\n\
         log.dirs={}\n\
         auto.create.topics.enable=false\n\
         group.initial.rebalance.delay.ms=0\n\
         offsets.topic.replication.factor={nodes}\n\
         offsets.topic.num.partitions=3\n\
         transaction.state.log.replication.factor={nodes}\n\
         transaction.state.log.min.isr={in_sync}\n\
         log.cleaner.dedupe.buffer.size=4194304\n\
         broker.session.timeout.ms={SESSION_TIMEOUT_MS}\n",
        listeners.voters.join(","),
        listeners.listen.join(","),
        listeners.told.join(","),
        listeners.protocols.join(","),
        data.display(),
    );
    fs::write(&settings, text).with_context(|| format!("write {}", settings.display()))?;
    Ok(settings)
}

fn spawn(libs: &Path, folder: &Path, settings: &Path, index: usize) -> Result<Process> {
    let mut command = Command::new("java");
    command
        .args([
            "-Xmx256m",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
        ])
        .arg(libs.join("*"))
        .arg("kafka.Kafka")
        .arg(settings);
    Process::spawn(&format!("kafka-{}", index + 1), command, folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_starts_and_starts_again_after_it_was_killed() {
        let mut kafka = Kafka::start(1).unwrap();
        assert!(kafka.brokers().starts_with("127.0.0.1:"));
        kafka.signal(0, Signal::Freeze).unwrap();
        kafka.kill(0).unwrap();
        TcpStream::connect(kafka.brokers()).unwrap_err();
        kafka.restart(0).unwrap();
        TcpStream::connect(kafka.brokers()).unwrap();
    }
}
