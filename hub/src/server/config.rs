//! The hub's configuration: one TOML file, every key known, every value checked.
//! Read once at start.
//! Must never accept a key that it does not know: a typo must not become a default.
//! Read next: `server/serve.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::auth::line;
use crate::alarms::Limits;
use crate::limits::RETENTION_PERIOD;
use crate::retention::Keep;

/// Default address: loopback.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:7411";

/// Configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Address to listen on. Without a token file only loopback is allowed.
    pub listen: SocketAddr,
    /// Folder that holds everything the hub knows.
    pub data: PathBuf,
    /// Token file; see the operator's guide.
    pub token_file: Option<PathBuf>,
    /// Folder of grant tables (`<業務ID>.csv`); the built-in ones when absent.
    pub grants: Option<PathBuf>,
    /// File that gets the bound address, for a port of 0.
    pub address_file: Option<PathBuf>,
    /// Days that the log keeps; for ever when absent.
    pub retention_days: Option<u32>,
    /// Bytes of content that each stream of a municipality's log keeps; all when absent.
    pub retention_bytes: Option<u64>,
    /// Days that the store keeps outcomes and closed held units; for ever when absent.
    pub history_days: Option<u32>,
    /// Time between two looks at what may be forgotten; no key of the file.
    #[serde(skip)]
    pub retention_period: Duration,
    /// From which age on things alarm; not of the file: tests cannot wait for days.
    #[serde(skip)]
    pub alarms: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            data: PathBuf::from("data"),
            token_file: None,
            grants: None,
            address_file: None,
            retention_days: None,
            retention_bytes: None,
            history_days: None,
            retention_period: RETENTION_PERIOD,
            alarms: Limits::default(),
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// One line that names the file, the place and what is wrong.
    pub fn read(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("cannot read the configuration `{name}`: {error}"))?;
        Self::parse(&text)
            .map_err(|error| format!("the configuration `{name}` is not valid: {error}"))
    }

    /// How much is kept.
    ///
    /// # Errors
    /// One line that names a number that cannot hold.
    pub fn keep(&self) -> Result<Keep, String> {
        let keep = Keep {
            log_days: self.retention_days,
            log_bytes: self.retention_bytes,
            history_days: self.history_days,
        };
        keep.check()
    }

    /// Reads text.
    ///
    /// # Errors
    /// One line that says where and what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| line(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = Config::parse("lisen = \"127.0.0.1:1\"").unwrap_err();
        assert!(
            error.contains("lisen") && error.contains("listen"),
            "{error}"
        );
    }

    #[test]
    fn a_wrong_value_is_refused_with_its_place() {
        let error = Config::parse("listen = \"nowhere\"").unwrap_err();
        assert!(error.contains("line 1"), "{error}");
    }
}
