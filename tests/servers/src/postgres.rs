//! A PostgreSQL server of a test's own: in a temporary folder, on a free port, gone afterwards.
//! Stands for the database of the insurance product, and for that of a hub of several instances.
//! Must never touch a server of the machine, and never run as root.
//! Read next: `wait.rs`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::guard::Guard;
use crate::process::{Process, Signal};
use crate::wait::wait_until_blocking;

const VERSIONS: &str = "/usr/lib/postgresql";
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// Another program may take the free port before the server does.
const START_ATTEMPTS_MAX: u32 = 5;

/// A running server; dropping it stops it and removes its folder.
#[derive(Debug)]
pub struct Postgres {
    /// Ended before the server is: from then on its id may be another's.
    guard: Option<Guard>,
    // Before the folder: the server has to be gone when its folder is removed.
    server: Process,
    binaries: PathBuf,
    folder: TempDir,
    port: u16,
}

impl Postgres {
    /// Makes a cluster and starts it; returns when it answers. Takes a second or two.
    pub fn start() -> Result<Self> {
        let binaries = find_binaries(Path::new(VERSIONS))?;
        let owner = Owner::find()?;
        let folder = tempfile::Builder::new().prefix("musubi-pg-").tempdir()?;
        owner.take(folder.path())?;
        init_cluster(&binaries, folder.path(), owner)?;
        let mut last = anyhow!("not tried");
        for _ in 0..START_ATTEMPTS_MAX {
            let port = free_port()?;
            match start_server(&binaries, folder.path(), owner, port) {
                Ok(server) => {
                    return Ok(Self {
                        guard: Some(Guard::over(server.pid(), folder.path())?),
                        server,
                        binaries,
                        folder,
                        port,
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last.context("PostgreSQL did not start"))
    }

    /// The port on the loopback address at which it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address of a database of this server, as sqlx reads it. `postgres` exists from the start.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://musubi@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database and returns its address.
    pub fn create_database(&self, database: &str) -> Result<String> {
        self.create_database_like(database, "template1")
    }

    /// Makes a copy of a database that nobody is connected to and returns its address.
    pub fn create_database_like(&self, database: &str, template: &str) -> Result<String> {
        let mut command = Command::new(self.binaries.join("createdb"));
        command
            .args([
                "--host",
                "127.0.0.1",
                "--username",
                "musubi",
                "--no-password",
            ])
            .args(["--template", template, "--strategy", "file_copy"])
            .args(["--port", &self.port.to_string(), "--", database]);
        run(&mut command)?;
        Ok(self.url(database))
    }

    /// What the server answers to a statement: rows by line, columns apart by `|`.
    pub fn ask(&self, database: &str, sql: &str) -> Result<String> {
        let mut command = Command::new(self.binaries.join("psql"));
        command
            .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command"])
            .arg(sql)
            .arg(self.url(database));
        let output = command.output().context("start psql")?;
        if !output.status.success() {
            bail!("psql: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The id of the server's process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The server's process, to freeze it or to read its log.
    pub fn server(&mut self) -> &mut Process {
        &mut self.server
    }

    /// `kill -9`; its sessions notice by themselves.
    pub fn kill(&mut self) -> Result<()> {
        self.guard = None;
        self.server.kill()
    }

    /// Stops the server: connections are cut, shared memory is given back.
    pub fn stop(&mut self) -> Result<()> {
        self.guard = None;
        if self.server.ended()?.is_none() {
            // A fast shutdown.
            self.server.signal(Signal::Interrupt)?;
            self.server.wait(START_TIMEOUT)?;
        }
        Ok(())
    }

    /// An immediate shutdown: no checkpoint, every session is cut, recovery at the next start.
    pub fn stop_at_once(&mut self) -> Result<()> {
        self.guard = None;
        self.server.signal(Signal::Quit)?;
        self.server.wait(START_TIMEOUT)?;
        Ok(())
    }

    /// Starts the server again on the same data and port, after it was killed or stopped.
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        let owner = Owner::find()?;
        // Sessions of a killed server hold its memory until they notice; until then it refuses.
        wait_until_blocking(START_TIMEOUT, "PostgreSQL to start again", || {
            self.server = start_server(&self.binaries, self.folder.path(), owner, self.port)?;
            Ok(true)
        })?;
        self.guard = Some(Guard::over(self.server.pid(), self.folder.path())?);
        Ok(())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("PostgreSQL did not stop: {error:#}");
        }
    }
}

/// Who runs the server: this user, or `postgres` when this user is root, whom it refuses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Owner(Option<(u32, u32)>);

impl Owner {
    pub(crate) fn find() -> Result<Self> {
        use std::os::unix::fs::MetadataExt;

        let me = fs::metadata("/proc/self").context("read /proc/self")?.uid();
        if me != 0 {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").context("read /etc/passwd")?;
        let ids = ids_of(&users, "postgres")
            .context("root cannot run PostgreSQL and there is no user `postgres`")?;
        Ok(Self(Some(ids)))
    }

    /// Gives the folder to the owner and closes it to others, as the server demands.
    pub(crate) fn take(self, folder: &Path) -> Result<()> {
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
        if let Some((user, group)) = self.0 {
            chown(folder, Some(user), Some(group))
                .with_context(|| format!("give {} to `postgres`", folder.display()))?;
        }
        Ok(())
    }

    pub(crate) fn command(self, program: PathBuf, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(folder).env("LC_ALL", "C.UTF-8");
        if let Some((user, group)) = self.0 {
            command.uid(user).gid(group);
        }
        command
    }
}

fn ids_of(users: &str, name: &str) -> Option<(u32, u32)> {
    users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        match fields.as_slice() {
            [user, _, uid, gid, ..] if *user == name => {
                Some((uid.parse().ok()?, gid.parse().ok()?))
            }
            _ => None,
        }
    })
}

/// The newest version that has a server.
fn find_binaries(versions: &Path) -> Result<PathBuf> {
    let missing = "PostgreSQL is missing; `cargo xtask tools` installs it";
    let newest = fs::read_dir(versions)
        .context(missing)?
        .flatten()
        .filter_map(|entry| {
            let binaries = entry.path().join("bin");
            let version: u32 = entry.file_name().to_str()?.parse().ok()?;
            binaries
                .join("postgres")
                .is_file()
                .then_some((version, binaries))
        })
        .max();
    newest.map(|(_, binaries)| binaries).context(missing)
}

fn init_cluster(binaries: &Path, folder: &Path, owner: Owner) -> Result<()> {
    let mut command = owner.command(binaries.join("initdb"), folder);
    command
        .args([
            "--username",
            "musubi",
            "--auth",
            "trust",
            "--encoding",
            "UTF8",
        ])
        .args([
            "--locale",
            "C.UTF-8",
            "--no-sync",
            "--no-instructions",
            "--pgdata",
        ])
        .arg(folder.join("data"));
    run(&mut command)
}

/// Starts the server as a child of this process, not as a daemon: its id is known, and it dies with
/// the test's process group.
fn start_server(binaries: &Path, folder: &Path, owner: Owner, port: u16) -> Result<Process> {
    let mut command = owner.command(binaries.join("postgres"), folder);
    command
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"])
        .args(["-c", "fsync=off", "-c", "shared_buffers=16MB"]);
    let mut server = Process::spawn("postgres", command, folder)?;
    wait_until_blocking(START_TIMEOUT, "PostgreSQL", || {
        if server.ended()?.is_some() {
            return Ok(true);
        }
        let mut ready = Command::new(binaries.join("pg_isready"));
        ready
            .args(["--quiet", "--host"])
            .arg(folder)
            .args(["--port", &port.to_string()]);
        Ok(ready.status().context("start pg_isready")?.success())
    })?;
    server.must_run()?;
    Ok(server)
}

pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr()?.port())
}

fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("`{program}` could not be started"))?;
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{program}` ended with {}: {}",
            output.status,
            errors.trim()
        );
    }
    Ok(())
}
