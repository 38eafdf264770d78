//! Settings of the adapter.
//! The host reads them from the product's TOML.
//! They must never hold a secret: the product has none.
//! Read next: `capture.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use musubi_proto::rules::municipality_code_valid;
use serde::Deserialize;

use super::PRODUCT;
use crate::host::OpenError;

/// Settings of the adapter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The registry's out folder (連携フォルダ).
    pub folder: PathBuf,
    /// Folder of the adapter for its index, which it can build again.
    pub data: PathBuf,
    /// Name of this installation of the product: part of every event id, never to be changed.
    #[serde(default = "default_instance")]
    pub instance: String,
    /// How often to look for a new file, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
}

fn default_instance() -> String {
    "tsubame-1".to_owned()
}

fn default_poll_ms() -> u64 {
    200
}

impl Config {
    /// How often to look for a new file.
    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(1))
    }

    /// File of the index.
    pub(super) fn index_file(&self) -> PathBuf {
        self.data.join("tsubame-index.sqlite")
    }

    /// Checks what can be checked before the first file.
    pub(super) fn check(&self, municipality: &str) -> Result<(), OpenError> {
        if !municipality_code_valid(municipality) {
            let problem = format!("`{municipality}` is no municipality code");
            return Err(OpenError::config(PRODUCT, problem));
        }
        if self.instance.is_empty() {
            return Err(OpenError::config(PRODUCT, "`instance` is empty"));
        }
        check_folder(&self.folder, "folder")?;
        std::fs::create_dir_all(&self.data).map_err(|cause| {
            OpenError::resource(
                PRODUCT,
                format!("the folder `{}`", self.data.display()),
                cause,
            )
        })
    }
}

fn check_folder(folder: &Path, key: &str) -> Result<(), OpenError> {
    if folder.is_dir() {
        return Ok(());
    }
    let problem = format!("`{key}` names no folder: `{}`", folder.display());
    Err(OpenError::config(PRODUCT, problem))
}
