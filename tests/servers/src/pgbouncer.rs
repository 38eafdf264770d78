//! A PgBouncer before a PostgreSQL of a test's own, in transaction mode, with few connections.
//! Stands for the pooler that many operators put before their database.
//! Must never outlive the test.
//! Read next: `postgres.rs`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;

use crate::guard::Guard;
use crate::postgres::{Owner, Postgres, free_port};
use crate::process::Process;
use crate::wait::wait_until_blocking;

const PROGRAM: &str = "/usr/sbin/pgbouncer";
const START_TIMEOUT: Duration = Duration::from_secs(10);
const START_ATTEMPTS_MAX: u32 = 5;

/// A running pooler; dropping it kills it.
#[derive(Debug)]
pub struct PgBouncer {
    // Before the process: from its end on its id may be another's.
    _guard: Guard,
    process: Process,
    _folder: TempDir,
    port: u16,
}

impl PgBouncer {
    /// Starts one before a server: each database has two connections to it, whatever many clients
    /// there are, and no client keeps one beyond its transaction.
    pub fn before(server: &Postgres) -> Result<Self> {
        let mut last = anyhow!("not tried");
        for _ in 0..START_ATTEMPTS_MAX {
            match Self::start(server, free_port()?) {
                Ok(started) => return Ok(started),
                Err(error) => last = error,
            }
        }
        Err(last.context("PgBouncer did not start; `cargo xtask tools` installs it"))
    }

    fn start(server: &Postgres, port: u16) -> Result<Self> {
        let owner = Owner::find()?;
        let folder = tempfile::Builder::new().prefix("musubi-pgb-").tempdir()?;
        let users = folder.path().join("users");
        fs::write(&users, "\"musubi\" \"\"\n").context("write the users of PgBouncer")?;
        let settings = folder.path().join("pgbouncer.ini");
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 500\n",
            server.port(),
            users.display()
        );
        fs::write(&settings, text).context("write the settings of PgBouncer")?;
        owner.take(folder.path())?;
        let mut command = owner.command(PathBuf::from(PROGRAM), folder.path());
        command.arg(&settings);
        let mut process = Process::spawn("pgbouncer", command, folder.path())?;
        wait_until_blocking(START_TIMEOUT, "PgBouncer", || {
            process.must_run()?;
            Ok(process.log_text()?.contains("process up"))
        })?;
        process.must_run()?;
        Ok(Self {
            _guard: Guard::over(process.pid(), folder.path())?,
            process,
            _folder: folder,
            port,
        })
    }

    /// The address of a database through this pooler.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://musubi@127.0.0.1:{}/{database}", self.port)
    }

    /// The pooler's process, to freeze or kill it.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
