//! What the servers need on the machine: Debian's programs, and Kafka's jars by Maven.
//! Used by the demo on a cluster, and by `cargo xtask tools`, which compiles this file as its own.
//! Must never install a package, nor need more than the standard library and `anyhow`.
//! Read next: `kafka.rs`, and `../kafka.xml`, which names the version.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Which Kafka; its jars come from Maven Central.
const KAFKA: &str = include_str!("../kafka.xml");
/// Kafka's brokers need it.
const JAVA_MIN: u32 = 17;

/// A program and the Debian package that brings it.
#[derive(Debug)]
pub struct Package {
    /// What people call it.
    pub program: &'static str,
    /// Debian's name.
    pub name: &'static str,
    /// The test for whether it is there.
    pub present: fn() -> bool,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (package {})", self.program, self.name)
    }
}

/// Runs Kafka.
pub const JAVA: Package = Package {
    program: "Java 17",
    name: "openjdk-17-jre-headless",
    present: java_present,
};

/// Fetches Kafka.
pub const MAVEN: Package = Package {
    program: "Maven",
    name: "maven",
    present: || said("mvn", &["-version"]).is_some(),
};

/// The database.
pub const POSTGRESQL: Package = Package {
    program: "PostgreSQL",
    name: "postgresql",
    present: postgresql_present,
};

/// True when the jars of this version are in `home`.
pub fn kafka_present(home: &Path) -> bool {
    let installed = fs::read_to_string(home.join("installed.xml"));
    installed.is_ok_and(|installed| installed == KAFKA)
}

/// Fetches the jars into `<home>/libs`. They lie in another folder until all are there, so that a
/// fetch that was interrupted is done again.
pub fn install_kafka(home: &Path) -> Result<()> {
    let fetched = home.with_extension(std::process::id().to_string());
    fs::create_dir_all(&fetched).with_context(|| format!("make {}", fetched.display()))?;
    let versions = fetched.join("installed.xml");
    fs::write(&versions, KAFKA).with_context(|| format!("write {}", versions.display()))?;
    let status = Command::new("mvn")
        .args(["--quiet", "--batch-mode", "-Dstyle.color=never", "--file"])
        .arg(&versions)
        .args(["dependency:copy-dependencies", "-DincludeScope=runtime"])
        .arg(format!(
            "-DoutputDirectory={}",
            fetched.join("libs").display()
        ))
        .stdin(Stdio::null())
        // Standard output may be somebody's document.
        .stdout(std::io::stderr())
        .status()
        .context("`mvn` could not be started")?;
    if !status.success() {
        fs::remove_dir_all(&fetched).with_context(|| format!("remove {}", fetched.display()))?;
        bail!("Kafka's jars could not be fetched: `mvn` ended with {status}");
    }
    if home.exists() {
        fs::remove_dir_all(home).with_context(|| format!("remove {}", home.display()))?;
    }
    fs::rename(&fetched, home).with_context(|| format!("make {}", home.display()))
}

fn java_present() -> bool {
    let version = said("java", &["-version"]);
    version.is_some_and(|text| java_version(&text).is_some_and(|number| number >= JAVA_MIN))
}

/// 17 of `openjdk version "17.0.19" 2026-04-21`.
fn java_version(text: &str) -> Option<u32> {
    let (_, after) = text.split_once('"')?;
    after.split(['.', '"', '-']).next()?.parse().ok()
}

fn postgresql_present() -> bool {
    let Ok(versions) = fs::read_dir("/usr/lib/postgresql") else {
        return false;
    };
    versions
        .flatten()
        .any(|version| version.path().join("bin/initdb").is_file())
}

/// What a program says when it succeeds: output, then errors.
pub fn said(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let text = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&text).into_owned();
    output.status.success().then_some(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_java_is_read_old_and_new() {
        let new = "openjdk version \"17.0.19\" 2026-04-21";
        assert_eq!(java_version(new), Some(17));
        assert_eq!(java_version("openjdk version \"21\" 2023-09-19"), Some(21));
        assert_eq!(java_version("java version \"1.8.0_392\""), Some(1));
        assert_eq!(java_version("no such thing"), None);
    }
}
