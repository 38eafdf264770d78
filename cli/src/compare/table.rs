//! Rows of the town's files by column name.
//! First step of the comparer: everything that it knows comes from here.
//! Must never trim or repair a value.
//! Read next: `fact.rs`.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};

/// Columns that the comparer reads from every file with persons.
const PERSON_COLUMNS: &[&str] = &[
    "atenabango",
    "rirekibango",
    "setaibango",
    "juminshubetsu",
    "juminjotai",
    "shimei",
    "shimei_furigana",
    "tsusho",
    "tsusho_furigana",
    "seibetsu",
    "seinengappi",
    "seinengappi_fushohyoki",
    "zokugara",
    "zokugarakodo",
    "setainushi_shimei",
    "setainushimisetteifuragu",
    "jumintonattanengappi",
    "jushoosadametanengappi",
    "jusho_choazakodo",
    "jusho_todofuken",
    "jusho_shikugunchosonmei",
    "jusho_choaza",
    "jusho_banchigohyoki",
    "jusho_katagaki",
    "jusho_yubinbango",
    "dai30jono45kubun",
    "zairyushikaku",
    "zairyukikan",
    "zairyukikannomanryobi",
    "gaikokujinjumintonattanengappi",
    "tenshutsukakuteinengappi",
    "shojonengappi",
    "shojonengappi_fushohyoki",
    "shiensochikubun",
    "shiensochibango",
    "shiensochihan",
];

/// Columns that a row of `changes.csv` has besides.
const CHANGE_COLUMNS: &[&str] = &[
    "idorenban",
    "todokedegurupuid",
    "gurupunaijunjo",
    "gurupukensu",
    "idojiyukodo",
    "taishoshiensochibango",
];

/// One record.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    columns: Arc<HashMap<String, usize>>,
    cells: Vec<String>,
}

impl Row {
    /// Text of a column; empty when there is none.
    pub(crate) fn get(&self, column: &str) -> &str {
        self.columns
            .get(column)
            .and_then(|index| self.cells.get(*index))
            .map_or("", String::as_str)
    }

    /// 宛名番号.
    pub(crate) fn person(&self) -> &str {
        self.get("atenabango")
    }

    /// 履歴番号; 0 when it is no number.
    pub(crate) fn version(&self) -> u32 {
        self.get("rirekibango").parse().unwrap_or(0)
    }

    /// True for a registered person (住民).
    pub(crate) fn is_resident(&self) -> bool {
        self.get("juminjotai") == "1"
    }

    /// Names of all columns, in no order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.keys().map(String::as_str)
    }
}

/// Reads a file of persons, such as `residents_before.csv`.
pub(crate) fn read_persons(path: &Path) -> Result<Vec<Row>> {
    read(open(path)?, PERSON_COLUMNS).with_context(|| format!("read `{}`", path.display()))
}

/// Reads `changes.csv`.
pub(crate) fn read_changes(path: &Path) -> Result<Vec<Row>> {
    let columns: Vec<&str> = [CHANGE_COLUMNS, PERSON_COLUMNS].concat();
    read(open(path)?, &columns).with_context(|| format!("read `{}`", path.display()))
}

fn open(path: &Path) -> Result<File> {
    File::open(path).with_context(|| format!("open `{}`", path.display()))
}

/// Reads records with a header and makes sure that the needed columns are there.
pub(crate) fn read(input: impl Read, needed: &[&str]) -> Result<Vec<Row>> {
    let mut reader = csv::Reader::from_reader(input);
    let columns: HashMap<String, usize> = reader
        .headers()?
        .iter()
        .enumerate()
        .map(|(index, name)| (name.to_owned(), index))
        .collect();
    if let Some(missing) = needed.iter().find(|name| !columns.contains_key(**name)) {
        bail!("the column `{missing}` is missing");
    }
    let columns = Arc::new(columns);
    reader
        .records()
        .map(|record| {
            let cells = record?.iter().map(str::to_owned).collect();
            let columns = Arc::clone(&columns);
            Ok(Row { columns, cells })
        })
        .collect()
}
