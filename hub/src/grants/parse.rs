//! Reads and writes tables of grants, and refuses what they must not say.
//! Runs when the hub starts and when a control record brings new grants.
//! Must never skip a row: one wrong row refuses the whole table.
//! Read next: `schemas/README.md` for the columns.

use std::collections::BTreeMap;

use super::mask::{self, Holding};
use super::{Grant, GrantTable, ProtectedRule, View};
use crate::schema::{EventShape, Schema};

const COLUMNS: [&str; 10] = [
    "event",
    "receiver",
    "purpose_ja",
    "purpose_en",
    "legal_basis",
    "population",
    "granted",
    "protected_person_rule",
    "retention_note",
    "source",
];
/// Most columns may be left out of a table; these may not.
const NEEDED: [&str; 7] = [
    "event",
    "receiver",
    "purpose_ja",
    "legal_basis",
    "population",
    "granted",
    "protected_person_rule",
];
const PATH_SEPARATOR: &str = "; ";
const PROTECTION_PATH: &str = "record.protection";

/// Where and why a table of grants is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{file}` line {line}: {rule}")]
pub struct GrantError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// The broken rule.
    pub rule: GrantRule,
}

/// A rule on tables of grants.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrantRule {
    /// The text is no CSV, or a row has another number of columns.
    #[error("the row cannot be read as CSV with the columns of the first line")]
    Csv,
    /// A needed column is missing.
    #[error("the column `{0}` is missing")]
    MissingColumn(&'static str),
    /// A column is not known or stands twice.
    #[error("the column `{0}` is not known or stands twice")]
    UnknownColumn(String),
    /// The event type is not in the contracts.
    #[error("the event `{0}` does not exist")]
    UnknownEvent(String),
    /// The receiver is no 業務ID.
    #[error("the receiver `{0}` is not a 業務ID of three digits")]
    InvalidReceiver(String),
    /// The file is named after another system.
    #[error("the receiver `{0}` is not the system that the file is named after")]
    ForeignReceiver(String),
    /// The same event is granted to the same receiver twice.
    #[error("`{event}` is granted to `{receiver}` a second time")]
    ReceiverTwice {
        /// Full name of the event.
        event: String,
        /// 業務ID.
        receiver: String,
    },
    /// Nothing is granted.
    #[error("no path is granted")]
    NoPaths,
    /// A path does not name a field of the event.
    #[error("the path `{0}` does not exist in the event")]
    UnknownPath(String),
    /// A path stands twice.
    #[error("the path `{0}` stands twice")]
    PathTwice(String),
    /// An address is granted without the flag that says whether it must be protected.
    #[error("an address is granted without `record.protection`")]
    AddressWithoutProtection,
    /// The rule for protected persons is not known.
    #[error("the rule for protected persons `{0}` is not one of P0, P1, P2, P1+P2, P3")]
    UnknownProtectedRule(String),
    /// The rule for protected persons is not the one that the granted paths ask for.
    #[error("the granted paths ask for the rule {expected} for protected persons")]
    OtherProtectedRule {
        /// The right rule.
        expected: &'static str,
    },
    /// A needed cell is empty.
    #[error("the cell `{0}` is empty")]
    Empty(&'static str),
}

pub(super) fn parse(schema: &Schema, files: &[(&str, &str)]) -> Result<GrantTable, GrantError> {
    let mut table = GrantTable::default();
    for (file, text) in files {
        File { schema, name: file }.read(text, &mut table)?;
    }
    Ok(table)
}

pub(super) fn write<'g>(grants: impl Iterator<Item = &'g Grant>) -> String {
    let mut text = line(&COLUMNS);
    for grant in grants {
        text.push_str(&line(&[
            &grant.event_type,
            &grant.system,
            &grant.purpose,
            &grant.purpose_en,
            &grant.legal_basis,
            &grant.population,
            &grant.paths.join(PATH_SEPARATOR),
            grant.protected_rule.as_str(),
            &grant.retention_note,
            &grant.source,
        ]));
    }
    text
}

/// One line of CSV; quotes only where they are needed, so that the text is canonical.
fn line(cells: &[&str]) -> String {
    let mut line = String::new();
    for (place, cell) in cells.iter().enumerate() {
        if place > 0 {
            line.push(',');
        }
        if cell.contains(['"', ',', '\n', '\r']) {
            line.push('"');
            line.push_str(&cell.replace('"', "\"\""));
            line.push('"');
        } else {
            line.push_str(cell);
        }
    }
    line.push('\n');
    line
}

struct File<'a> {
    schema: &'a Schema,
    name: &'a str,
}

impl File<'_> {
    fn read(&self, text: &str, table: &mut GrantTable) -> Result<(), GrantError> {
        let mut reader = csv::ReaderBuilder::new().from_reader(text.as_bytes());
        let header = reader
            .headers()
            .map_err(|error| self.csv_error(&error))?
            .clone();
        let columns = columns(&header).map_err(|rule| self.error(1, rule))?;
        for record in reader.records() {
            let record = record.map_err(|error| self.csv_error(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            let row = Row {
                columns: &columns,
                record: &record,
            };
            let grant = self.grant(&row).map_err(|rule| self.error(line, rule))?;
            let events = table.systems.entry(grant.system.clone()).or_default();
            if let Some(first) = events.insert(grant.event_type.clone(), grant) {
                let rule = GrantRule::ReceiverTwice {
                    event: first.event_type,
                    receiver: first.system,
                };
                return Err(self.error(line, rule));
            }
        }
        Ok(())
    }

    fn error(&self, line: u64, rule: GrantRule) -> GrantError {
        GrantError {
            file: self.name.to_owned(),
            line,
            rule,
        }
    }

    fn csv_error(&self, error: &csv::Error) -> GrantError {
        self.error(
            error.position().map_or(1, csv::Position::line),
            GrantRule::Csv,
        )
    }

    fn grant(&self, row: &Row<'_>) -> Result<Grant, GrantRule> {
        let event_type = row.needed("event")?;
        let unknown = || GrantRule::UnknownEvent(event_type.to_owned());
        let event = self.schema.event_type(event_type).ok_or_else(unknown)?;
        let system = self.system(row.needed("receiver")?)?;
        let paths = paths(row.cell("granted"))?;
        let unknown = |path: &str| GrantRule::UnknownPath(path.to_owned());
        let open = mask::open(self.schema, event, &paths).map_err(unknown)?;
        let protected_rule = protected_rule(row.needed("protected_person_rule")?)?;
        let expected = expected_rule(self.schema, event, &open);
        if protected_rule != expected {
            return Err(GrantRule::OtherProtectedRule {
                expected: expected.as_str(),
            });
        }
        let shows_address = !matches!(
            expected,
            ProtectedRule::Protection | ProtectedRule::NoAddress
        );
        let shows_flag = paths
            .iter()
            .any(|path| path == PROTECTION_PATH || path == "record");
        if shows_address && !shows_flag {
            return Err(GrantRule::AddressWithoutProtection);
        }
        let view = |holding| mask::protected(self.schema, event, &open, &paths, holding);
        Ok(Grant {
            system,
            event_type: event_type.to_owned(),
            protected_rule,
            population: row.needed("population")?.to_owned(),
            purpose: row.needed("purpose_ja")?.to_owned(),
            purpose_en: row.cell("purpose_en").to_owned(),
            legal_basis: row.needed("legal_basis")?.to_owned(),
            retention_note: row.cell("retention_note").to_owned(),
            source: row.cell("source").to_owned(),
            guarded: view(Holding::Flag),
            blind: view(Holding::Nothing),
            open: View {
                mask: open,
                paths: paths.clone(),
            },
            paths,
        })
    }

    fn system(&self, receiver: &str) -> Result<String, GrantRule> {
        if !is_system(receiver) {
            return Err(GrantRule::InvalidReceiver(receiver.to_owned()));
        }
        let named_after = self
            .name
            .strip_suffix(".csv")
            .filter(|stem| is_system(stem));
        if named_after.is_some_and(|system| system != receiver) {
            return Err(GrantRule::ForeignReceiver(receiver.to_owned()));
        }
        Ok(receiver.to_owned())
    }
}

struct Row<'a> {
    columns: &'a BTreeMap<&'static str, usize>,
    record: &'a csv::StringRecord,
}

impl Row<'_> {
    fn cell(&self, column: &str) -> &str {
        self.columns
            .get(column)
            .and_then(|place| self.record.get(*place))
            .map_or("", str::trim)
    }

    fn needed(&self, column: &'static str) -> Result<&str, GrantRule> {
        Some(self.cell(column))
            .filter(|cell| !cell.is_empty())
            .ok_or(GrantRule::Empty(column))
    }
}

fn columns(header: &csv::StringRecord) -> Result<BTreeMap<&'static str, usize>, GrantRule> {
    let mut columns = BTreeMap::new();
    for (place, cell) in header.iter().enumerate() {
        let unknown = || GrantRule::UnknownColumn(cell.to_owned());
        let name = COLUMNS
            .iter()
            .find(|name| **name == cell)
            .ok_or_else(unknown)?;
        if columns.insert(*name, place).is_some() {
            return Err(unknown());
        }
    }
    match NEEDED.iter().find(|name| !columns.contains_key(**name)) {
        Some(name) => Err(GrantRule::MissingColumn(name)),
        None => Ok(columns),
    }
}

fn is_system(text: &str) -> bool {
    text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn paths(cell: &str) -> Result<Vec<String>, GrantRule> {
    let mut paths: Vec<String> = Vec::new();
    for path in cell
        .split(';')
        .map(str::trim)
        .filter(|path| !path.is_empty())
    {
        if paths.iter().any(|other| other == path) {
            return Err(GrantRule::PathTwice(path.to_owned()));
        }
        paths.push(path.to_owned());
    }
    if paths.is_empty() {
        Err(GrantRule::NoPaths)
    } else {
        Ok(paths)
    }
}

fn protected_rule(cell: &str) -> Result<ProtectedRule, GrantRule> {
    [
        ProtectedRule::Protection,
        ProtectedRule::NoAddress,
        ProtectedRule::Current,
        ProtectedRule::Others,
        ProtectedRule::CurrentAndOthers,
    ]
    .into_iter()
    .find(|rule| rule.as_str() == cell)
    .ok_or_else(|| GrantRule::UnknownProtectedRule(cell.to_owned()))
}

/// The rule that the granted paths ask for. An event without a record that shows no address is
/// about the protection itself.
fn expected_rule(schema: &Schema, event: &EventShape, open: &mask::Mask) -> ProtectedRule {
    let shown = mask::addresses(schema, event, open);
    match (shown.current, shown.others) {
        (true, true) => ProtectedRule::CurrentAndOthers,
        (true, false) => ProtectedRule::Current,
        (false, true) => ProtectedRule::Others,
        (false, false) if event.record.is_none() => ProtectedRule::Protection,
        (false, false) => ProtectedRule::NoAddress,
    }
}
