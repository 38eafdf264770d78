//! Ends a server when the program that started it was itself killed, and removes its folder.
//! Beside each server: a shell that waits for the end of a pipe that only this program holds.
//! Must never act after an end in order: the server's id may belong to another process by then.
//! Read next: `postgres.rs`.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// `read` ends when the pipe does. What does not end at once, as a server with a long shutdown,
/// is killed.
const WATCH: &str = "trap '' INT TERM HUP; read -r _
kill -s QUIT \"$1\" && sleep 2 && kill -s KILL \"$1\"; rm -rf -- \"$2\"";

/// Watches over one server; dropping it ends the watch and touches nothing.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Watches over a server that works in a temporary folder.
    pub fn over(pid: u32, folder: &Path) -> Result<Self> {
        let mut command = Command::new("sh");
        command
            .args(["-c", WATCH, "guard", &pid.to_string()])
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn().context("start `sh` to watch a server")?;
        Ok(Self(child))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed while the pipe is open: `wait` closes it first.
        if let Err(error) = self.0.kill() {
            eprintln!("a guard did not end: {error}");
        }
        if let Err(error) = self.0.wait() {
            eprintln!("a guard did not end: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::{Process, wait_until_blocking};

    fn sleeper(logs: &Path) -> Process {
        let mut command = Command::new("sleep");
        command.arg("600");
        Process::spawn("sleeper", command, logs).unwrap()
    }

    #[test]
    fn when_the_pipe_ends_the_server_ends_and_its_folder_goes() {
        let logs = tempfile::tempdir().unwrap();
        let folder = logs.path().join("data");
        fs::create_dir(&folder).unwrap();
        let mut process = sleeper(logs.path());
        let mut guard = Guard::over(process.pid(), &folder).unwrap();
        drop(guard.0.stdin.take());
        let gone = || Ok(process.ended()?.is_some() && !folder.exists());
        wait_until_blocking(Duration::from_secs(10), "the end of both", gone).unwrap();
    }

    #[test]
    fn a_guard_that_is_dropped_ends_nothing() {
        let logs = tempfile::tempdir().unwrap();
        let mut process = sleeper(logs.path());
        drop(Guard::over(process.pid(), logs.path()).unwrap());
        process.must_run().unwrap();
        process.kill().unwrap();
    }
}
