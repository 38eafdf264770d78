//! One process of a test: started, watched, frozen, killed; its output is kept in a file.
//! Stands for the operator's machine: the product runs as it does in a municipality.
//! Must never leave a process behind, and never end one that it did not start.
//! Read next: `wait.rs`.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::wait::wait_until_blocking;

/// How long a process may take to end after it was asked to.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A signal that tests send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// Ends the process in order (SIGTERM).
    Terminate,
    /// Interrupts it as the keyboard does (SIGINT).
    Interrupt,
    /// Ends a server without its shutdown (SIGQUIT).
    Quit,
    /// Freezes it (SIGSTOP).
    Freeze,
    /// Wakes it (SIGCONT).
    Wake,
}

impl Signal {
    fn name(self) -> &'static str {
        match self {
            Self::Terminate => "TERM",
            Self::Interrupt => "INT",
            Self::Quit => "QUIT",
            Self::Freeze => "STOP",
            Self::Wake => "CONT",
        }
    }
}

/// A running process; dropping it kills it.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the command. Output and errors are appended to `<logs>/<name>.log`, so that a process
    /// that is started again under its name continues the file.
    pub fn spawn(name: &str, command: Command, logs: &Path) -> Result<Self> {
        fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
        let log = logs.join(format!("{name}.log"));
        let output = append_to(&log)?;
        let errors = output.try_clone().context("share the log file")?;
        Self::spawn_into(name, command, log, output, errors)
    }

    /// The same for a process whose output is an answer: it goes to the file `output` alone.
    pub fn spawn_for_output(
        name: &str,
        command: Command,
        logs: &Path,
        output: &Path,
    ) -> Result<Self> {
        fs::create_dir_all(logs).with_context(|| format!("create {}", logs.display()))?;
        let log = logs.join(format!("{name}.log"));
        let errors = append_to(&log)?;
        let output =
            File::create(output).with_context(|| format!("create {}", output.display()))?;
        Self::spawn_into(name, command, log, output, errors)
    }

    fn spawn_into(
        name: &str,
        mut command: Command,
        log: PathBuf,
        output: File,
        errors: File,
    ) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start `{name}`"))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log,
        })
    }

    /// Starts the `musubi` binary with these arguments.
    pub fn musubi(name: &str, arguments: &[&str], logs: &Path) -> Result<Self> {
        let mut command = musubi()?;
        command.args(arguments);
        Self::spawn(name, command, logs)
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The file that holds everything it wrote.
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// Everything it wrote so far.
    pub fn log_text(&self) -> Result<String> {
        let bytes = fs::read(&self.log).with_context(|| format!("read {}", self.log.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Its exit status if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child
            .try_wait()
            .with_context(|| format!("ask for the state of `{}`", self.name))
    }

    /// Fails when the process has ended, and shows the last lines it wrote.
    pub fn must_run(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("`{}` ended with {status}:\n{}", self.name, self.tail(20)),
        }
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("kill `{}`", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("wait for `{}`", self.name))?;
        Ok(())
    }

    /// Sends a signal. A process that has ended already is an error.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        // The child is not reaped before this returns, so its id cannot belong to another process.
        self.must_run()?;
        let status = Command::new("sh")
            .args([
                "-c",
                "kill -s \"$1\" \"$2\"",
                "kill",
                signal.name(),
                &self.pid().to_string(),
            ])
            .status()
            .context("start `sh` to send a signal")?;
        if !status.success() {
            bail!("signal {} did not reach `{}`", signal.name(), self.name);
        }
        Ok(())
    }

    /// Asks it to end and waits for it; kills it and fails when it does not.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.signal(Signal::Terminate)?;
        self.wait(STOP_TIMEOUT)
    }

    /// Waits for its end; kills it and fails when it takes longer than `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let what = format!("the end of `{}`", self.name);
        let in_time = wait_until_blocking(timeout, &what, || Ok(self.ended()?.is_some()));
        if let Err(error) = in_time {
            self.kill()?;
            return Err(error.context(self.tail(20)));
        }
        self.child.wait().with_context(|| what)
    }

    /// Memory it holds now, in bytes (resident set).
    pub fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
        let kibibytes = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
            .with_context(|| format!("{path} names no resident memory"))?;
        Ok(kibibytes * 1024)
    }

    /// The last lines it wrote, for messages.
    pub fn tail(&self, lines: usize) -> String {
        let text = self.log_text().unwrap_or_else(|error| format!("{error:#}"));
        let all: Vec<&str> = text.lines().collect();
        all.get(all.len().saturating_sub(lines)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None))
            && let Err(error) = self.kill()
        {
            eprintln!("{error:#}");
        }
    }
}

/// `kill -9` for a child of another process that is still watched by it; false when the id does not
/// belong to a living child of that process.
pub fn kill_child_of(pid: u32, parent: u32) -> Result<bool> {
    let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return Ok(false);
    };
    // After the name in brackets: the state, then the parent.
    let mut after_name = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split(' ')
        .skip(1);
    let state = after_name.next().unwrap_or_default();
    let its_parent = after_name.next().unwrap_or_default();
    if state == "Z" || its_parent != parent.to_string() {
        return Ok(false);
    }
    let status = Command::new("sh")
        .args(["-c", "kill -s KILL \"$1\"", "kill", &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .context("start `sh` to kill a process")?;
    Ok(status.success())
}

/// A command for the `musubi` binary of this build, with no arguments yet.
///
/// It is `MUSUBI_BIN` if that is set, else the binary beside this program in cargo's target folder;
/// if there is none it is built. `cargo xtask test` builds it before the tests, so it is never old.
pub fn musubi() -> Result<Command> {
    Ok(Command::new(musubi_path()?))
}

/// Where the `musubi` binary of this build lies.
pub fn musubi_path() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("MUSUBI_BIN") {
        return Ok(PathBuf::from(given));
    }
    let folder = profile_folder()?;
    let binary = folder.join("musubi");
    if !binary.is_file() {
        build_musubi(&folder)?;
    }
    Ok(binary)
}

/// `target/debug` or its like: tests lie in its `deps` folder, programs in itself.
fn profile_folder() -> Result<PathBuf> {
    let program = std::env::current_exe().context("where this program lies is unknown")?;
    let folder = program.parent().context("this program lies in no folder")?;
    let folder = if folder.ends_with("deps") {
        folder.parent()
    } else {
        Some(folder)
    };
    Ok(folder
        .context("the target folder has no parent")?
        .to_path_buf())
}

fn build_musubi(folder: &Path) -> Result<()> {
    let target = folder.parent().context("the target folder has no parent")?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .args(["build", "--quiet", "-p", "musubi", "--target-dir"])
        .arg(target);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    let status = build
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .status()
        .context("start cargo to build `musubi`")?;
    if !status.success() {
        bail!("`musubi` could not be built");
    }
    Ok(())
}

fn append_to(log: &Path) -> Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(log)
        .with_context(|| format!("open {}", log.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_of_a_process_and_of_its_successor_is_in_one_file() {
        let logs = tempfile::tempdir().unwrap();
        for word in ["first", "second"] {
            let command = shell(&format!("echo {word}; echo {word} error >&2"));
            let mut process = Process::spawn("echo", command, logs.path()).unwrap();
            assert!(process.wait(STOP_TIMEOUT).unwrap().success());
        }
        let text = fs::read_to_string(logs.path().join("echo.log")).unwrap();
        assert_eq!(text, "first\nfirst error\nsecond\nsecond error\n");
    }

    #[test]
    fn a_process_that_ended_is_reported_with_its_last_words() {
        let logs = tempfile::tempdir().unwrap();
        let mut process =
            Process::spawn("short", shell("echo no such town; exit 3"), logs.path()).unwrap();
        process.wait(STOP_TIMEOUT).unwrap();
        let error = process.must_run().unwrap_err().to_string();
        assert!(error.contains("no such town"), "{error}");
    }

    #[test]
    fn a_frozen_process_can_be_woken_stopped_and_killed() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = Process::spawn("sleeper", shell("exec sleep 600"), logs.path()).unwrap();
        process.signal(Signal::Freeze).unwrap();
        process.must_run().unwrap();
        assert!(process.resident_bytes().unwrap() > 0);
        process.signal(Signal::Wake).unwrap();
        assert!(!process.stop().unwrap().success());

        let mut process = Process::spawn("sleeper", shell("exec sleep 600"), logs.path()).unwrap();
        process.kill().unwrap();
        assert!(process.ended().unwrap().is_some());
    }

    #[test]
    fn a_process_that_does_not_end_in_time_is_killed() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = Process::spawn("deaf", shell("exec sleep 600"), logs.path()).unwrap();
        assert!(process.wait(Duration::from_millis(50)).is_err());
        assert!(process.ended().unwrap().is_some());
    }
}
