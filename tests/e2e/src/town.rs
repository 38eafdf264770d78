//! The files of a town, read by column name.
//! For stories that need single rows of it.
//! Must never change a town's folder.
//! Read next: `registry.rs`, which hands rows out as the registry does.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Folder of the town that the demo plays.
pub fn town() -> PathBuf {
    folder("town")
}

/// Folder of a smaller town of another seed.
pub fn town_7() -> PathBuf {
    folder("town_7")
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

/// A CSV file.
#[derive(Debug, Clone)]
pub struct Table {
    /// Column names.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Row>,
}

/// One row; values by column name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row(HashMap<String, String>);

impl Row {
    /// Value of a column; empty when there is no such column.
    pub fn get(&self, column: &str) -> &str {
        self.0.get(column).map_or("", String::as_str)
    }

    /// The row with another value.
    #[must_use]
    pub fn with(mut self, column: &str, value: impl ToString) -> Self {
        self.0.insert(column.to_owned(), value.to_string());
        self
    }

    /// 宛名番号.
    pub fn person(&self) -> &str {
        self.get("atenabango")
    }

    /// 履歴番号.
    pub fn version(&self) -> u32 {
        self.get("rirekibango").parse().unwrap_or_default()
    }
}

impl Table {
    /// Reads a file of a town.
    pub fn read(folder: &Path, file: &str) -> Result<Self> {
        let path = folder.join(file);
        let mut reader =
            csv::Reader::from_path(&path).with_context(|| format!("read {}", path.display()))?;
        let columns: Vec<String> = reader.headers()?.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records() {
            let record = record?;
            let values = record.iter().map(str::to_owned);
            rows.push(Row(columns.iter().cloned().zip(values).collect()));
        }
        Ok(Self { columns, rows })
    }
}

/// Number of records of a file whose rows may be no UTF-8 or lack fields.
pub fn count_records(folder: &Path, file: &str) -> Result<u64> {
    let path = folder.join(file);
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .from_path(&path)
        .with_context(|| format!("read {}", path.display()))?;
    let mut records = 0;
    for record in reader.byte_records() {
        record?;
        records += 1;
    }
    Ok(records)
}
