//! The resident registry's out folder, written by hand: numbered data files with done-files.
//! Follows `adapters/vendors/tsubame/INTERFACE.md`, and breaks its promises where a test asks.
//! Must never write a done-file before its data file.
//! Read next: `town.rs` for the rows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::town::Row;

/// An out folder.
#[derive(Debug)]
pub struct Registry {
    folder: PathBuf,
    /// Columns of a full file.
    full: Vec<String>,
    /// Columns of a differential file.
    changes: Vec<String>,
    next_file: u32,
    next_change: u64,
}

impl Registry {
    /// An empty folder; `full` and `changes` are the columns of the two kinds of files.
    pub fn new(folder: &Path, full: Vec<String>, changes: Vec<String>) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            full,
            changes,
            next_file: 1,
            next_change: 1,
        })
    }

    /// Writes the full file.
    pub fn write_full(&mut self, rows: &[Row]) -> Result<String> {
        let bytes = text(&self.full, rows)?;
        let name = self.take_name("zenken");
        self.write_data(&name, &bytes)?;
        self.write_done(&name, rows.len(), &bytes)?;
        Ok(name)
    }

    /// Gives rows the next 異動連番, each list as one 届出 of its own.
    pub fn number(&mut self, groups: &[Vec<Row>]) -> Vec<Row> {
        let mut rows = Vec::new();
        for group in groups {
            let id = format!("H{:07}", self.next_change);
            for (place, row) in group.iter().enumerate() {
                let row = row
                    .clone()
                    .with("idorenban", self.next_change)
                    .with("todokedegurupuid", &id)
                    .with("gurupunaijunjo", place + 1)
                    .with("gurupukensu", group.len());
                self.next_change += 1;
                rows.push(row);
            }
        }
        rows
    }

    /// Writes a differential file with these 届出; returns its name.
    pub fn write_changes(&mut self, groups: &[Vec<Row>]) -> Result<String> {
        let rows = self.number(groups);
        let name = self.take_name("sabun");
        self.write_named(&name, &rows)?;
        Ok(name)
    }

    /// Takes the next file name without writing anything.
    pub fn take_name(&mut self, kind: &str) -> String {
        let name = format!("juki_{:06}_{kind}.csv", self.next_file);
        self.next_file += 1;
        name
    }

    /// Writes a differential file under a name, complete.
    pub fn write_named(&self, name: &str, rows: &[Row]) -> Result<()> {
        let bytes = self.bytes(rows)?;
        self.write_data(name, &bytes)?;
        self.write_done(name, rows.len(), &bytes)
    }

    /// Bytes of a differential file.
    pub fn bytes(&self, rows: &[Row]) -> Result<Vec<u8>> {
        text(&self.changes, rows)
    }

    /// Writes a data file, or a part of it, without its done-file.
    pub fn write_data(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("write {}", path.display()))
    }

    /// Writes a done-file at once.
    pub fn write_done(&self, name: &str, records: usize, bytes: &[u8]) -> Result<()> {
        let digest: String = Sha256::digest(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let waiting = self.folder.join(format!(".{name}.done"));
        let done = self.folder.join(format!("{name}.done"));
        fs::write(&waiting, format!("kensu={records}\nsha256={digest}\n"))
            .and_then(|()| fs::rename(&waiting, &done))
            .with_context(|| format!("write {}", done.display()))
    }
}

fn text(columns: &[String], rows: &[Row]) -> Result<Vec<u8>> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(columns.iter().map(|column| row.get(column)))?;
    }
    writer.into_inner().context("write the rows")
}
