//! Which processes the demo starts, with which arguments and folders.
//! The only place that knows the command lines of products and the settings of adapters.
//! Must never start anything itself.
//! Read next: `children.rs`.

use std::path::{Path, PathBuf};

/// Night of the old pension product.
const NIGHT_MS: u32 = 700;

/// One process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// Its name: of its log and pid file.
    pub(crate) name: String,
    /// Arguments of `musubi`.
    pub(crate) args: Vec<String>,
    /// File that gets the address it listens on; once known, a restart takes the same.
    pub(crate) address_file: Option<PathBuf>,
}

/// Folders and processes of one demo.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    data: PathBuf,
    municipality: String,
}

impl Plan {
    /// A plan below a data folder.
    pub(crate) fn new(data: &Path, municipality: &str) -> Self {
        Self {
            data: data.to_owned(),
            municipality: municipality.to_owned(),
        }
    }

    /// Folder below the data folder.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        self.data.join(name)
    }

    /// Folder of logs and pid files.
    pub(crate) fn run_folder(&self) -> PathBuf {
        self.folder("run")
    }

    /// Exchange folder of the old pension product.
    pub(crate) fn exchange(&self) -> PathBuf {
        self.folder("hinoki/exchange")
    }

    /// File that keeps the old pension product closed while it exists: no batch runs.
    pub(crate) fn closed(&self) -> PathBuf {
        self.folder("hinoki/data/closed")
    }

    /// State of the registry's program.
    pub(crate) fn registry_status(&self) -> PathBuf {
        self.folder("tsubame/data/status.json")
    }

    /// Address of the insurance product's database.
    pub(crate) fn insurance_database(&self) -> String {
        format!("sqlite://{}", self.folder("momiji/momiji.db").display())
    }

    /// Folders that must exist before anything starts.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        [
            "run",
            "hub",
            "tsubame/out",
            "tsubame/data",
            "tsubame/adapter",
            "kaede",
            "hinoki/exchange",
            "hinoki/data",
            "ayame",
            "momiji",
        ]
        .iter()
        .map(|name| self.folder(name))
        .collect()
    }

    /// The hub, or its two instances when there is a configuration of a cluster.
    pub(crate) fn hubs(&self, cluster: Option<&Path>) -> Vec<Process> {
        match cluster {
            None => {
                let data = text(&self.folder("hub"));
                vec![self.listening("hub", &["serve", "--data", &data])]
            }
            Some(config) => ["hub-1", "hub-2"]
                .map(|name| self.listening(name, &["serve", "--config", &text(config)]))
                .into(),
        }
    }

    /// The registry. It writes its files at once when it starts.
    pub(crate) fn registry(&self, town: &Path, pace_ms: u64) -> Process {
        let args = [
            "product",
            "tsubame",
            "--town",
            &text(town),
            "--out",
            &text(&self.folder("tsubame/out")),
            "--data",
            &text(&self.folder("tsubame/data")),
            "--pace-ms",
            &pace_ms.to_string(),
            "--invalid",
        ];
        process("tsubame", &args)
    }

    /// The receivers' products: tax, pension, the pension's replacement, insurance.
    pub(crate) fn products(&self) -> Vec<Process> {
        let hinoki = [
            "product",
            "hinoki",
            "--exchange",
            &text(&self.exchange()),
            "--data",
            &text(&self.folder("hinoki/data")),
            "--night-ms",
            &NIGHT_MS.to_string(),
        ];
        let momiji = [
            "product",
            "momiji",
            "--database",
            &self.insurance_database(),
        ];
        vec![
            self.http_product("kaede"),
            self.http_product("ayame"),
            process("hinoki", &hinoki),
            process("momiji", &momiji),
        ]
    }

    fn http_product(&self, name: &str) -> Process {
        self.listening(
            name,
            &["product", name, "--data", &text(&self.folder(name))],
        )
    }

    /// A process that takes a free port and tells it in a file.
    fn listening(&self, name: &str, args: &[&str]) -> Process {
        let file = self.run_folder().join(format!("{name}.address"));
        let told = text(&file);
        let listen = ["--listen", "127.0.0.1:0", "--address-file", &told];
        let process = process(name, &[args, &listen].concat());
        Process {
            address_file: Some(file),
            ..process
        }
    }

    /// The adapter of a product; `address` is the product's own, where it has one.
    pub(crate) fn adapter(&self, product: &str, hub: &str, address: &str) -> Process {
        let settings = match product {
            "tsubame" => vec![
                format!("folder={}", text(&self.folder("tsubame/out"))),
                format!("data={}", text(&self.folder("tsubame/adapter"))),
                "poll_ms=50".to_owned(),
            ],
            "hinoki" => vec![format!("folder={}", text(&self.exchange()))],
            "momiji" => vec![format!("database={}", self.insurance_database())],
            _ => vec![format!("address={address}")],
        };
        let args = [
            "adapter",
            "run",
            "--product",
            product,
            "--hub",
            hub,
            "--municipality",
        ];
        let mut process = process(&format!("{product}-adapter"), &args);
        process.args.push(self.municipality.clone());
        for setting in settings {
            process.args.extend(["--set".to_owned(), setting]);
        }
        process
    }
}

fn process(name: &str, args: &[&str]) -> Process {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    Process {
        name: name.to_owned(),
        args,
        address_file: None,
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
