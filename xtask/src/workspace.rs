//! Where things are: the checkout, cargo's target folder, the folder of tools.
//! Used by every other module to build commands that run in the checkout's root.
//! Must never write anything.
//! Read next: `steps.rs` (how a command becomes a step).

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

/// The checkout in which this program was built.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    /// Cargo's target folder; this program lies in `<target>/<profile>/`.
    pub(crate) target: PathBuf,
}

impl Workspace {
    pub(crate) fn locate() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .context("the xtask folder has no parent")?
            .to_path_buf();
        let program = env::current_exe().context("where this program lies is unknown")?;
        let target = program
            .ancestors()
            .nth(2)
            .context("this program does not lie in cargo's target folder")?
            .to_path_buf();
        Ok(Self { root, target })
    }

    /// The virtual environment that holds the prebuilt programs.
    pub(crate) fn python_home(&self) -> PathBuf {
        self.root.join(".tools/python")
    }

    /// A command in the checkout's root; it finds the prebuilt programs before the system's.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut paths = OsString::from(self.python_home().join("bin"));
        if let Some(inherited) = env::var_os("PATH") {
            paths.push(":");
            paths.push(inherited);
        }
        let mut command = Command::new(program);
        command.current_dir(&self.root).env("PATH", paths);
        command
    }

    pub(crate) fn cargo(&self, arguments: &[&str]) -> Command {
        let mut command = self.command("cargo");
        command.args(arguments);
        command
    }
}
