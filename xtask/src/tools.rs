//! Installs what the tests need and the toolchain does not bring; a second run changes nothing.
//! First step of a test run. Prebuilt programs and Kafka go to `.tools/`, the rest is Debian's.
//! Must never compile a tool, and never touch the system unless something is missing.
//! Read next: `requirements.txt` beside `src/`, `tests/servers/kafka.xml` (the pinned versions), `suite.rs`.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use self::servers::{JAVA, MAVEN, POSTGRESQL, Package, kafka_present, said};
use crate::steps::execute;
use crate::workspace::Workspace;

/// What servers need: the same file as in their crate, which brings more than this program needs.
#[path = "../../tests/servers/src/tools.rs"]
#[allow(unreachable_pub, reason = "public in its own crate")]
mod servers;

const REQUIREMENTS: &str = include_str!("../requirements.txt");
const PACKAGES: [Package; 7] = [
    Package {
        program: "Python's venv",
        name: "python3-venv",
        present: || succeeds("python3", &["-c", "import venv, ensurepip"]),
    },
    POSTGRESQL,
    Package {
        program: "PgBouncer",
        name: "pgbouncer",
        present: || Path::new("/usr/sbin/pgbouncer").is_file(),
    },
    Package {
        program: "strace",
        name: "strace",
        present: || succeeds("strace", &["--version"]),
    },
    Package {
        program: "faketime",
        name: "faketime",
        present: || succeeds("faketime", &["--version"]),
    },
    JAVA,
    MAVEN,
];

pub(crate) fn install(workspace: &Workspace) -> Result<()> {
    install_packages()?;
    install_programs(workspace)?;
    install_kafka(workspace)
}

fn install_packages() -> Result<()> {
    let missing: Vec<&str> = PACKAGES
        .iter()
        .filter(|package| !(package.present)())
        .map(|package| package.name)
        .collect();
    if missing.is_empty() {
        println!("Debian packages: all present");
        return Ok(());
    }
    let packages = missing.join(" ");
    let Some(prefix) = rights_prefix() else {
        bail!("missing packages; install them: apt-get install --no-install-recommends {packages}");
    };
    println!("Debian packages: installing {packages}");
    apt_get(prefix, &["update", "-qq"], &[])?;
    apt_get(
        prefix,
        &["install", "-qq", "-y", "--no-install-recommends"],
        &missing,
    )?;
    match PACKAGES.iter().find(|package| !(package.present)()) {
        Some(package) => bail!("{package} is still missing after its installation"),
        None => Ok(()),
    }
}

/// What to put before `apt-get` to have the right to install; `None` without that right.
fn rights_prefix() -> Option<&'static [&'static str]> {
    if !succeeds("apt-get", &["--version"]) {
        return None;
    }
    if said("id", &["-u"]).is_some_and(|id| id.trim() == "0") {
        return Some(&[]);
    }
    succeeds("sudo", &["-n", "true"]).then_some(&["sudo", "-n"])
}

fn apt_get(prefix: &[&str], arguments: &[&str], packages: &[&str]) -> Result<()> {
    let mut words = prefix
        .iter()
        .chain(&["env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    let program = words.next().context("no program")?;
    execute(
        Command::new(program)
            .args(words)
            .args(arguments)
            .args(packages),
    )
}

/// The stamp holds the requirements that are installed; it is written last, so that an
/// installation that was interrupted is done again.
fn install_programs(workspace: &Workspace) -> Result<()> {
    let home = workspace.python_home();
    let stamp = home.join("installed.txt");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) {
        println!("prebuilt programs: all present");
        return Ok(());
    }
    println!("prebuilt programs: installing into .tools/python");
    let requirements = workspace.root.join("xtask/requirements.txt");
    execute(
        Command::new("python3")
            .args(["-m", "venv", "--clear"])
            .arg(&home),
    )?;
    execute(&mut pip_install(&home, &requirements))?;
    fs::write(&stamp, REQUIREMENTS).with_context(|| format!("write {}", stamp.display()))
}

fn install_kafka(workspace: &Workspace) -> Result<()> {
    let home = workspace.root.join(".tools/kafka");
    if kafka_present(&home) {
        println!("Kafka: present");
        return Ok(());
    }
    println!("Kafka: installing into .tools/kafka");
    servers::install_kafka(&home)
}

fn pip_install(home: &Path, requirements: &Path) -> Command {
    let mut command = Command::new(home.join("bin/python"));
    command
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args(["--only-binary", ":all:", "--requirement"])
        .arg(requirements);
    command
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    said(program, arguments).is_some()
}
