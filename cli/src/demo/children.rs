//! Runs the demo's processes and starts again each one that dies.
//! Each has a log file and a pid file in the run folder.
//! Must never end a process that it did not start, nor leave one behind.
//! Read next: `story.rs`.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::cluster::Cluster;
use super::plan::Process;
use super::progress::Progress;

/// Time that a process has to end by itself.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);
/// A process that lived shorter than this did not really start.
const ALIVE: Duration = Duration::from_secs(1);
/// Starts in a row that may fail.
const STARTS_MAX: u32 = 5;
const RESTART_DELAY: Duration = Duration::from_millis(100);
const POLL: Duration = Duration::from_millis(10);

/// All processes of one demo.
#[derive(Debug)]
pub(crate) struct Children {
    folder: PathBuf,
    program: PathBuf,
    progress: Progress,
    stop: CancellationToken,
    failed: watch::Sender<Option<String>>,
    restarts: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<()>>,
    kills: HashMap<String, CancellationToken>,
    /// Brokers and database of the hubs; they end after all others.
    pub(crate) cluster: Option<Cluster>,
}

impl Children {
    /// Nothing is started yet.
    pub(crate) fn new(folder: PathBuf, progress: Progress) -> Result<Self> {
        Ok(Self {
            folder,
            program: std::env::current_exe().context("find the program itself")?,
            progress,
            stop: CancellationToken::new(),
            failed: watch::Sender::new(None),
            restarts: Arc::default(),
            tasks: Vec::new(),
            kills: HashMap::new(),
            cluster: None,
        })
    }

    /// Starts a process; returns the address it listens on, if it tells one.
    pub(crate) async fn start(&mut self, process: Process) -> Result<String> {
        let kill = CancellationToken::new();
        self.kills.insert(process.name.clone(), kill.clone());
        let keeper = Keeper {
            process: process.clone(),
            program: self.program.clone(),
            log: self.log_file(&process.name),
            pid: self.folder.join(format!("{}.pid", process.name)),
            progress: self.progress.clone(),
            failed: self.failed.clone(),
            restarts: Arc::clone(&self.restarts),
            kill,
        };
        self.tasks.push(tokio::spawn(keeper.run(self.stop.clone())));
        let Some(file) = &process.address_file else {
            return Ok(String::new());
        };
        loop {
            self.check()?;
            if let Some(address) = read_address(file) {
                return Ok(address);
            }
            sleep(POLL).await;
        }
    }

    /// Fails when a process could not be kept running.
    pub(crate) fn check(&self) -> Result<()> {
        match self.failed.borrow().as_ref() {
            Some(line) => bail!("{line}"),
            None => Ok(()),
        }
    }

    /// How often a process was started again.
    pub(crate) fn restarts(&self) -> u32 {
        self.restarts.load(Ordering::Relaxed)
    }

    /// `kill -9` for a process; it is not started again.
    pub(crate) fn kill(&self, name: &str) {
        if let Some(kill) = self.kills.get(name) {
            kill.cancel();
        }
    }

    /// Pid of a process, as last started.
    pub(crate) fn pid(&self, name: &str) -> Option<u32> {
        fs::read_to_string(self.folder.join(format!("{name}.pid")))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Log file of a process.
    pub(crate) fn log_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    /// Stops all processes and waits for their end.
    pub(crate) async fn stop(&mut self) {
        self.stop.cancel();
        for task in self.tasks.drain(..) {
            if let Err(error) = task.await {
                self.progress
                    .note(&format!("a process was not watched to its end: {error}"));
            }
        }
        self.cluster = None;
    }
}

fn read_address(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let address = text.trim();
    (!address.is_empty()).then(|| address.to_owned())
}

/// Keeps one process running.
struct Keeper {
    process: Process,
    program: PathBuf,
    log: PathBuf,
    pid: PathBuf,
    progress: Progress,
    failed: watch::Sender<Option<String>>,
    restarts: Arc<AtomicU32>,
    kill: CancellationToken,
}

impl Keeper {
    async fn run(mut self, stop: CancellationToken) {
        let mut short_lives = 0;
        while !stop.is_cancelled() {
            let started = Instant::now();
            let mut child = match self.spawn() {
                Ok(child) => child,
                Err(error) => return self.fail(&format!("{error:#}")),
            };
            // Waiting would close it, and the process would end.
            let input = child.stdin.take();
            let status = tokio::select! {
                status = child.wait() => status,
                () = stop.cancelled() => {
                    drop(input);
                    return self.end(child, STOP_TIMEOUT).await;
                }
                () = self.kill.cancelled() => return self.end(child, Duration::ZERO).await,
            };
            short_lives = if started.elapsed() < ALIVE {
                short_lives + 1
            } else {
                0
            };
            let how = status.map_or_else(|error| error.to_string(), |status| said(&status));
            if short_lives >= STARTS_MAX {
                return self.fail(&format!("it ended {STARTS_MAX} times, last: {how}"));
            }
            self.restarts.fetch_add(1, Ordering::Relaxed);
            self.progress.note(&format!(
                "{} ended ({how}); started again",
                self.process.name
            ));
            self.keep_address();
            sleep(RESTART_DELAY).await;
        }
    }

    fn spawn(&self) -> Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("open `{}`", self.log.display()))?;
        let child = Command::new(&self.program)
            // It ends when this process ends: it watches its standard input.
            .arg("--with-parent")
            .args(&self.process.args)
            .stdin(Stdio::piped())
            .stdout(log.try_clone().context("share the log")?)
            .stderr(log)
            // Ctrl-C is for the demo, which then ends its processes in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("start {}", self.process.name))?;
        if let Some(pid) = child.id() {
            fs::write(&self.pid, pid.to_string())
                .with_context(|| format!("write `{}`", self.pid.display()))?;
        }
        Ok(child)
    }

    /// A process that listens takes the same address when it starts again.
    fn keep_address(&mut self) {
        let address = self.process.address_file.as_deref().and_then(read_address);
        let listen = self.process.args.iter().position(|arg| arg == "--listen");
        if let (Some(address), Some(at)) = (address, listen)
            && let Some(value) = self.process.args.get_mut(at + 1)
        {
            *value = address;
        }
    }

    /// Gives it so much time to end by itself.
    async fn end(&self, mut child: Child, time: Duration) {
        if timeout(time, child.wait()).await.is_err()
            && let Err(error) = child.kill().await
        {
            self.progress
                .note(&format!("{} does not end: {error}", self.process.name));
        }
        // Its pid may soon be another program's.
        if let Err(error) = fs::remove_file(&self.pid) {
            self.progress
                .note(&format!("the pid file of {}: {error}", self.process.name));
        }
    }

    fn fail(&self, what: &str) {
        let last = fs::read_to_string(&self.log).unwrap_or_default();
        let last = last
            .lines()
            .rev()
            .find(|line| !line.is_empty())
            .unwrap_or("")
            .to_owned();
        let line = format!(
            "{} does not run: {what}; its last line: {last} (see `{}`)",
            self.process.name,
            self.log.display()
        );
        self.failed.send_replace(Some(line));
    }
}

fn said(status: &ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
