//! Tests of the capture on the project's town, or on another one named by `MUSUBI_TEST_TOWN`.
//! They write the files that the registry would write, and drive the capture as the host does.

mod faults;
mod golden;
mod resume;
mod town;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use musubi_adapter_sdk::hub::{Event, PublishUnit, RefusedRow, publish_unit::Content};
use musubi_adapter_sdk::{Capture, Page};
use sha2::{Digest, Sha256};

use super::Config;

const MUNICIPALITY: &str = "142042";

fn town() -> PathBuf {
    std::env::var_os("MUSUBI_TEST_TOWN").map_or_else(own_town, PathBuf::from)
}

/// The project's own town, whatever town the tests play.
fn own_town() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/town")
}

/// Records of a CSV file as bytes, the header first.
fn records(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut records = Vec::new();
    let (mut start, mut quoted) = (0, false);
    for (place, byte) in bytes.iter().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            b'\n' if !quoted => {
                records.push(bytes[start..=place].to_vec());
                start = place + 1;
            }
            _ => {}
        }
    }
    records
}

/// Field of a record without quotes in the fields before it.
fn field(record: &[u8], place: usize) -> String {
    let cell = record
        .split(|byte| *byte == b',')
        .nth(place)
        .unwrap_or_default();
    String::from_utf8_lossy(cell).into_owned()
}

/// The registry's out folder, written by the test.
struct Registry {
    root: tempfile::TempDir,
    files: u32,
    /// Items that the capture gives for what was written: rows, headers and trailers.
    items: usize,
}

impl Registry {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("out")).unwrap();
        Self {
            root,
            files: 0,
            items: 0,
        }
    }

    fn folder(&self) -> PathBuf {
        self.root.path().join("out")
    }

    fn path(&self, number: u32, kind: &str) -> PathBuf {
        self.folder().join(format!("juki_{number:06}_{kind}.csv"))
    }

    /// Writes a file and its done-file. `rows` holds the header too.
    fn write(&mut self, kind: &str, rows: &[Vec<u8>]) {
        let content = rows.concat();
        self.files += 1;
        self.items += rows.len() - 1 + if kind == "zenken" { 2 } else { 0 };
        let path = self.path(self.files, kind);
        std::fs::write(&path, &content).unwrap();
        std::fs::write(done(&path), done_text(rows.len() - 1, &content)).unwrap();
    }

    fn config(&self) -> Config {
        let mut text = String::new();
        writeln!(text, "folder = {:?}", self.folder()).unwrap();
        writeln!(text, "data = {:?}", self.root.path().join("data")).unwrap();
        writeln!(text, "poll_ms = 1").unwrap();
        toml::from_str(&text).unwrap()
    }

    async fn open(&self) -> Box<dyn Capture> {
        super::open(self.config(), MUNICIPALITY).await.unwrap()
    }

    /// The whole town: full file, all changes in files of at most `groups` 届出.
    fn with_town(groups: usize) -> Self {
        Self::with_part_of_town(&town(), usize::MAX, groups)
    }

    /// The full file, and the first `rows` changes in files of at most `groups` 届出.
    fn with_part_of_town(town: &Path, rows: usize, groups: usize) -> Self {
        let mut registry = Self::new();
        let mut full = records(&town.join("residents_before.csv"));
        full.extend(
            records(&town.join("removed_before.csv"))
                .into_iter()
                .skip(1),
        );
        registry.write("zenken", &full);
        let changes = records(&town.join("changes.csv"));
        let rows = changes.len().min(rows);
        registry.write_changes(&changes[..rows], groups);
        registry
    }

    fn write_changes(&mut self, changes: &[Vec<u8>], groups: usize) {
        let (header, rows) = changes.split_first().unwrap();
        let mut rest = rows
            .chunk_by(|one, other| field(one, 1) == field(other, 1))
            .peekable();
        while rest.peek().is_some() {
            let mut file = vec![header.clone()];
            for group in rest.by_ref().take(groups) {
                file.extend_from_slice(group);
            }
            self.write("sabun", &file);
        }
    }

    /// The town's invalid rows as one more file; returns the rule of each row.
    fn write_invalid(&mut self) -> Vec<String> {
        let mut rows = records(&town().join("invalid.csv"));
        let rules = rows.iter().skip(1).map(|row| field(row, 0)).collect();
        for row in &mut rows {
            let second = row
                .iter()
                .enumerate()
                .filter(|(_, byte)| **byte == b',')
                .nth(1);
            let start = second.unwrap().0 + 1;
            row.drain(..start);
        }
        self.write("sabun", &rows);
        rules
    }
}

fn done(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".done");
    PathBuf::from(name)
}

fn done_text(kensu: usize, content: &[u8]) -> String {
    let digest: String = Sha256::digest(content)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("kensu={kensu}\nsha256={digest}\n")
}

fn items(unit: &PublishUnit) -> usize {
    match unit.content.as_ref().unwrap() {
        Content::Unit(unit) => unit.events.len(),
        Content::Refused(refused) => refused.rows.len(),
    }
}

/// Asks for pages until `wanted` items came.
async fn drain(capture: &mut dyn Capture, wanted: usize) -> Vec<Page> {
    let mut pages = Vec::new();
    let mut found = 0;
    while found < wanted {
        let page = capture.next().await.unwrap();
        found += page.units.iter().map(items).sum::<usize>();
        pages.push(page);
    }
    assert_eq!(found, wanted);
    pages
}

fn units(pages: &[Page]) -> Vec<PublishUnit> {
    pages.iter().flat_map(|page| page.units.clone()).collect()
}

fn events(units: &[PublishUnit]) -> Vec<Event> {
    units
        .iter()
        .flat_map(|unit| match unit.content.as_ref().unwrap() {
            Content::Unit(unit) => unit.events.clone(),
            Content::Refused(_) => Vec::new(),
        })
        .collect()
}

fn refused(units: &[PublishUnit]) -> Vec<RefusedRow> {
    units
        .iter()
        .flat_map(|unit| match unit.content.as_ref().unwrap() {
            Content::Unit(_) => Vec::new(),
            Content::Refused(refused) => refused.rows.clone(),
        })
        .collect()
}
