//! The town that is played: the one built into the program, or a folder of the user.
//! First step of the demo.
//! Must never change a user's folder.
//! Read next: `plan.rs`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::compare::fold::Town;
use crate::failure::Failure;

/// The town built into the program.
const BUILT_IN: &[(&str, &[u8])] = &[
    (
        "residents_before.csv",
        include_bytes!("../../../tests/town/residents_before.csv"),
    ),
    (
        "removed_before.csv",
        include_bytes!("../../../tests/town/removed_before.csv"),
    ),
    (
        "changes.csv",
        include_bytes!("../../../tests/town/changes.csv"),
    ),
    (
        "residents_after.csv",
        include_bytes!("../../../tests/town/residents_after.csv"),
    ),
    (
        "removed.csv",
        include_bytes!("../../../tests/town/removed.csv"),
    ),
    (
        "invalid.csv",
        include_bytes!("../../../tests/town/invalid.csv"),
    ),
];

/// A town that is ready to be played.
#[derive(Debug)]
pub(crate) struct Scene {
    /// Folder with its files.
    pub(crate) folder: PathBuf,
    /// Municipality of its persons.
    pub(crate) municipality: String,
    /// Its rows as events, for the comparison.
    pub(crate) town: Town,
    /// Rows that must be refused.
    pub(crate) invalid: Vec<InvalidRow>,
}

/// A row that must be refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InvalidRow {
    /// Rule that it breaks.
    pub(crate) rule: String,
    /// 届出グループID.
    pub(crate) group: String,
}

/// Prepares the town: the user's folder as it is, or the built-in one below `data`.
pub(crate) fn prepare(folder: Option<&Path>, data: &Path) -> Result<Scene> {
    let folder = match folder {
        Some(folder) => folder
            .canonicalize()
            .with_context(|| format!("--town `{}`", folder.display()))
            .map_err(|error| Failure::usage(&error))?,
        None => write_built_in(&data.join("town"))?,
    };
    read(folder).map_err(|error| Failure::usage(&error).into())
}

fn write_built_in(folder: &Path) -> Result<PathBuf> {
    fs::create_dir_all(folder).with_context(|| format!("make `{}`", folder.display()))?;
    for (name, bytes) in BUILT_IN {
        let file = folder.join(name);
        fs::write(&file, bytes).with_context(|| format!("write `{}`", file.display()))?;
    }
    Ok(folder.to_owned())
}

fn read(folder: PathBuf) -> Result<Scene> {
    let town = Town::read(&folder)?;
    let municipality = town
        .happenings
        .first()
        .map(|happening| happening.row.get("shikuchosonkodo").to_owned())
        .unwrap_or_default();
    if municipality.len() != 6 {
        bail!(
            "the town in `{}` has no municipality code",
            folder.display()
        );
    }
    let invalid = read_invalid(&folder.join("invalid.csv"))?;
    Ok(Scene {
        folder,
        municipality,
        town,
        invalid,
    })
}

/// Reads the rows as bytes: some of them are no UTF-8, some have too few items.
fn read_invalid(path: &Path) -> Result<Vec<InvalidRow>> {
    let file = File::open(path).with_context(|| format!("open `{}`", path.display()))?;
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(file);
    let header = reader.byte_headers()?.clone();
    let column = |name: &str| header.iter().position(|column| column == name.as_bytes());
    let (Some(rule), Some(group)) = (column("ihankisoku"), column("todokedegurupuid")) else {
        bail!("`{}` lacks a column", path.display());
    };
    reader
        .byte_records()
        .map(|record| {
            let record = record?;
            let cell = |index| String::from_utf8_lossy(record.get(index).unwrap_or(b"")).into();
            Ok(InvalidRow {
                rule: cell(rule),
                group: cell(group),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_town_works_from_anywhere() {
        let data = tempfile::tempdir().unwrap();
        let scene = prepare(None, data.path()).unwrap();
        assert_eq!(scene.municipality, "142042");
        assert_eq!(scene.invalid.len(), 42);
        assert_eq!(scene.invalid[0].rule, "MISSING_ATENABANGO");
    }
}
