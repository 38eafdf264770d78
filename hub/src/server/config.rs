//! The hub's configuration: one TOML file, every key known, every value checked.
//! Read once at start.
//! Must never accept a key that it does not know: a typo must not become a default.
//! Read next: `server/serve.rs`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::auth::line;

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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7411)),
            data: PathBuf::from("data"),
            token_file: None,
            grants: None,
            address_file: None,
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
