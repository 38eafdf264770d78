//! Starts adapters and products beside a hub, with the command lines that an operator would use.
//! For stories that need some of the processes, not the whole demo.
//! Must never know more of a product than its manual says.
//! Read next: `hub.rs`, `process.rs`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::hub::{MUNICIPALITY, PATIENCE};
use crate::process::{Process, musubi};
use crate::wait::{wait_for_text, wait_until_blocking};

/// Folders of one story, below one folder.
#[derive(Debug, Clone)]
pub struct Stage {
    folder: PathBuf,
    environment: Vec<(String, String)>,
}

impl Stage {
    /// A stage below a folder.
    pub fn new(folder: &Path) -> Self {
        Self {
            folder: folder.to_owned(),
            environment: Vec::new(),
        }
    }

    /// The same, with further variables for every process.
    #[must_use]
    pub fn with_environment(mut self, environment: &[(String, String)]) -> Self {
        self.environment.extend_from_slice(environment);
        self
    }

    /// A command for the `musubi` binary, with the stage's variables.
    pub fn musubi(&self) -> Result<Command> {
        let mut command = musubi()?;
        let pairs = self.environment.iter();
        command.envs(pairs.map(|(name, value)| (name, value)));
        Ok(command)
    }

    /// A folder of the story, made when it is missing.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(folder)
    }

    /// Folder of logs and addresses.
    pub fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    /// The adapter of a product.
    pub fn adapter(&self, hub: &str, product: &str, settings: &[String]) -> Result<Process> {
        self.adapter_as(self.musubi()?, hub, product, settings)
    }

    /// The same under another command of the program, as with an environment of its own.
    pub fn adapter_as(
        &self,
        mut command: Command,
        hub: &str,
        product: &str,
        settings: &[String],
    ) -> Result<Process> {
        command.args(["adapter", "run", "--product", product, "--hub", hub]);
        command.args(["--municipality", MUNICIPALITY]);
        for setting in settings {
            command.args(["--set", setting]);
        }
        Process::spawn(&format!("{product}-adapter"), command, &self.run())
    }

    /// The registry's adapter on an out folder.
    pub fn registry_adapter(&self, hub: &str, out: &Path) -> Result<Process> {
        let settings = [
            format!("folder={}", out.display()),
            format!("data={}", self.folder("tsubame/adapter")?.display()),
            "poll_ms=20".to_owned(),
        ];
        self.adapter(hub, "tsubame", &settings)
    }

    /// The registry, which plays a town's files into `tsubame/out`.
    pub fn registry(&self, town: &Path, pace_ms: u32) -> Result<Process> {
        let mut command = self.musubi()?;
        command.args(["product", "tsubame", "--town"]).arg(town);
        command.arg("--out").arg(self.folder("tsubame/out")?);
        command.arg("--data").arg(self.folder("tsubame/data")?);
        command.args(["--pace-ms", &pace_ms.to_string()]);
        Process::spawn("tsubame", command, &self.run())
    }

    /// A product with a REST interface; returns its address too.
    pub async fn rest_product(&self, product: &str) -> Result<(Process, String)> {
        let told = self.run().join(format!("{product}.address"));
        let mut command = self.musubi()?;
        command.args(["product", product, "--data"]);
        command.arg(self.folder(product)?);
        command.args(["--listen", "127.0.0.1:0", "--address-file"]);
        command.arg(&told);
        let process = Process::spawn(product, command, &self.run())?;
        let address = wait_for_text(PATIENCE, &told).await?;
        Ok((process, format!("http://{address}")))
    }

    /// The old pension product with its exchange folder.
    pub fn hinoki(&self, night_ms: u32) -> Result<(Process, PathBuf)> {
        let exchange = self.folder("hinoki/exchange")?;
        let mut command = self.musubi()?;
        command.args(["product", "hinoki", "--exchange"]);
        command.arg(&exchange);
        command.arg("--data").arg(self.folder("hinoki/data")?);
        command.args(["--night-ms", &night_ms.to_string()]);
        let process = Process::spawn("hinoki", command, &self.run())?;
        // The product makes the folders; its adapter does not start without them.
        wait_until_blocking(PATIENCE, "the exchange folder", || {
            Ok(["in", "out"]
                .iter()
                .all(|name| exchange.join(name).is_dir()))
        })?;
        Ok((process, exchange))
    }

    /// The insurance product on a database.
    pub fn momiji(&self, name: &str, database: &str) -> Result<Process> {
        let mut command = self.musubi()?;
        command.args(["product", "momiji", "--database", database]);
        Process::spawn(name, command, &self.run())
    }
}
