//! Settings of the adapter, and the tables of agreed characters.
//! The host reads them from the product's TOML.
//! They must never hold a secret: the product has none.
//! Read next: `deliver.rs`.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::PRODUCT;
use crate::connectors::cp932::Cp932;
use crate::host::OpenError;

/// Records that the interface takes in one file.
const RECORDS_MAX: usize = 5_000;

const GAIJI: &str = include_str!("tables/gaiji.csv");
const SUBSTITUTION: &str = include_str!("tables/substitution.csv");
const KANA: &str = include_str!("tables/kana.csv");

/// Settings of the adapter.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Exchange folder, with `in` and `out` below it.
    pub folder: PathBuf,
    /// Folder with the municipality's own `gaiji.csv`, `substitution.csv` and `kana.csv`; without
    /// it those of the product count.
    #[serde(default)]
    pub tables: Option<PathBuf>,
    /// How long the first record of a file waits for others, in milliseconds.
    #[serde(default = "default_file_wait_ms")]
    pub file_wait_ms: u64,
    /// Records after which a file is closed at once.
    #[serde(default = "default_records_max")]
    pub records_max: usize,
    /// How often to look for results, in milliseconds.
    #[serde(default = "default_poll_ms")]
    pub poll_ms: u64,
    /// Most units of one delivery. A file still waits for others: what comes one by one over the
    /// day would otherwise be a file each.
    #[serde(default = "default_batch_units")]
    pub batch_units: u32,
    /// How long a delivery may be without its result, in hours: until the batch of a night after
    /// holidays.
    #[serde(default = "default_answer_within_hours")]
    pub answer_within_hours: u32,
    /// Deliveries that may be under way at the same time.
    #[serde(default = "default_in_flight_max")]
    pub in_flight_max: u32,
}

impl Config {
    /// The default settings for an exchange folder.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            tables: None,
            file_wait_ms: default_file_wait_ms(),
            records_max: default_records_max(),
            poll_ms: default_poll_ms(),
            batch_units: default_batch_units(),
            answer_within_hours: default_answer_within_hours(),
            in_flight_max: default_in_flight_max(),
        }
    }

    /// How long the first record of a file waits for others.
    pub(super) fn file_wait(&self) -> Duration {
        Duration::from_millis(self.file_wait_ms)
    }

    /// Records after which a file is closed at once.
    pub(super) fn records(&self) -> usize {
        self.records_max.clamp(1, RECORDS_MAX)
    }

    /// How long a delivery may be without its result.
    pub(super) fn answer_within(&self) -> Option<prost_types::Duration> {
        let hours = u64::from(self.answer_within_hours.max(1));
        Duration::from_secs(hours * 3_600).try_into().ok()
    }

    /// How often to look for results.
    pub(super) fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(1))
    }

    /// The agreed forms of characters.
    pub(super) fn characters(&self) -> Result<Cp932, OpenError> {
        let read = |name: &str, built_in: &str| match &self.tables {
            None => Ok(built_in.to_owned()),
            Some(folder) => {
                let path = folder.join(name);
                let what = format!("the table `{}`", path.display());
                fs::read_to_string(path).map_err(|cause| OpenError::resource(PRODUCT, what, cause))
            }
        };
        let gaiji = read("gaiji.csv", GAIJI)?;
        let substitution = read("substitution.csv", SUBSTITUTION)?;
        let kana = read("kana.csv", KANA)?;
        Cp932::read(&gaiji, &substitution, &kana)
            .map_err(|cause| OpenError::resource(PRODUCT, "its tables of characters", cause))
    }
}

fn default_file_wait_ms() -> u64 {
    200
}

fn default_records_max() -> usize {
    400
}

fn default_poll_ms() -> u64 {
    50
}

fn default_batch_units() -> u32 {
    1_000
}

fn default_answer_within_hours() -> u32 {
    144
}

fn default_in_flight_max() -> u32 {
    400
}
