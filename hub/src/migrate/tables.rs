//! Which tables of the store are moved, and which of their columns hold positions of the log.
//! Pure: a row is translated by what the list below says.
//! Must never miss a column that holds a position: a test compares the list with both schemas.
//! Read next: `migrate/rows.rs`.

use serde_json::{Map, Value};

use super::positions::{Meaning, Positions};
use crate::event::{Municipality, Position, Stream};

/// A row: its columns by name.
pub(super) type Row = Map<String, Value>;

/// Of which stream a column's positions are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Of {
    Live,
    Bulk,
    /// The row says so in its column `stream`; without a word it is live.
    Row,
}

/// A column that holds a position.
type Column = (&'static str, Of, Meaning);

/// A table that is moved.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    /// The column that names the municipality, or a subscription that begins with it.
    pub(super) owner: &'static str,
    columns: &'static [Column],
    /// Columns of the new store alone: each is the municipality.
    pub(super) added: &'static [&'static str],
}

const fn table(name: &'static str, owner: &'static str, columns: &'static [Column]) -> Table {
    Table {
        name,
        owner,
        columns,
        added: &[],
    }
}

const TOWN: &str = "municipality";
const SUBSCRIPTION: &str = "subscription";

/// All of them, in the order in which they are moved.
pub(super) const TABLES: [Table; 26] = [
    table("event", TOWN, &[("position", Of::Row, Meaning::Record)]),
    table("version", TOWN, &[]),
    table("held", TOWN, &[]),
    table("held_subject", TOWN, &[]),
    table("held_event", TOWN, &[]),
    table("capture", TOWN, &[]),
    table(
        "snapshot",
        TOWN,
        &[
            ("bulk_start", Of::Bulk, Meaning::Cursor),
            ("bulk_end", Of::Bulk, Meaning::Cursor),
            ("live_mark", Of::Live, Meaning::Cursor),
        ],
    ),
    table("protection", TOWN, &[]),
    table("tail", TOWN, &[("position", Of::Row, Meaning::Cursor)]),
    table("kept", TOWN, &[("first", Of::Row, Meaning::Cursor)]),
    table(
        "subscription",
        TOWN,
        &[
            ("live_position", Of::Live, Meaning::Cursor),
            ("bulk_position", Of::Bulk, Meaning::Cursor),
            ("until_live", Of::Live, Meaning::Cursor),
            ("until_bulk", Of::Bulk, Meaning::Cursor),
        ],
    ),
    table(
        "binding",
        SUBSCRIPTION,
        &[
            ("cut_live", Of::Live, Meaning::Cursor),
            ("cut_bulk", Of::Bulk, Meaning::Cursor),
        ],
    ),
    table("tally", SUBSCRIPTION, &[]),
    table("ahead", SUBSCRIPTION, &[]),
    table("attempt", SUBSCRIPTION, &[]),
    table("run", SUBSCRIPTION, &[]),
    table(
        "parked",
        SUBSCRIPTION,
        &[("position", Of::Row, Meaning::Record)],
    ),
    table("parked_subject", SUBSCRIPTION, &[]),
    table("history", TOWN, &[]),
    table(
        "granted",
        TOWN,
        &[
            ("live_position", Of::Live, Meaning::Cursor),
            ("bulk_position", Of::Bulk, Meaning::Cursor),
        ],
    ),
    table("act", TOWN, &[]),
    Table {
        added: &[TOWN],
        ..table("act_unit", SUBSCRIPTION, &[])
    },
    table(
        "replay",
        TOWN,
        &[
            ("from_position", Of::Row, Meaning::Cursor),
            ("to_position", Of::Row, Meaning::Record),
        ],
    ),
    table("alarm", TOWN, &[]),
    table("followed", TOWN, &[("position", Of::Row, Meaning::Record)]),
    table("rhythm", TOWN, &[]),
];

impl Table {
    /// The municipality of a row.
    fn town(&self, row: &Row) -> Option<Municipality> {
        let owner = row.get(self.owner)?.as_str()?;
        Municipality::parse(owner.split('/').next()?)
    }

    /// A row as it is in the new store; `None` when a position in it cannot be told.
    pub(super) fn translate(&self, mut row: Row, positions: &Positions) -> Option<Row> {
        let m = self.town(&row)?;
        for name in self.added {
            row.insert((*name).to_owned(), m.as_str().into());
        }
        for (name, of, meaning) in self.columns {
            let Some(old) = row.get(*name).and_then(Value::as_u64) else {
                continue;
            };
            let stream = match of {
                Of::Live => Stream::Live,
                Of::Bulk => Stream::Bulk,
                Of::Row => {
                    let stream = row.get("stream").and_then(Value::as_i64);
                    Stream::from_number(stream.unwrap_or(1))
                }
            };
            let new = positions.of(&m, stream)?.at(Position(old), *meaning);
            row.insert((*name).to_owned(), new.0.into());
        }
        if self.name == "act" {
            name_of_act(&mut row, positions.of(&m, Stream::Live)?);
        }
        Some(row)
    }
}

/// What an act that a control record ordered begins with; its place in live names it, and one
/// that comes to stand there later must not be taken for it.
const CONTROL: &str = "control-";

fn name_of_act(row: &mut Row, live: &super::positions::Moved) {
    let id = row.get("id").and_then(Value::as_str);
    let old = id.and_then(|id| id.strip_prefix(CONTROL)?.parse().ok());
    let Some(old) = old.map(Position) else { return };
    let id = match live.is_kept(old) {
        true => format!("{CONTROL}{}", live.at(old, Meaning::Record).0),
        false => format!("{CONTROL}trimmed-{}", old.0),
    };
    row.insert("id".to_owned(), id.into());
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Tables of a schema with their columns.
    fn columns(schema: &str) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut tables = BTreeMap::new();
        for part in schema.split("CREATE TABLE ").skip(1) {
            let (name, rest) = part.split_once(" (\n").unwrap_or((part, ""));
            if !name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
                continue;
            }
            let (body, _) = rest.split_once("\n)").unwrap_or((rest, ""));
            let lines = body.lines().map(str::trim);
            let lines = lines.filter(|line| !line.starts_with("--"));
            let lines = lines.filter(|line| !line.starts_with("PRIMARY KEY"));
            let lines = lines.filter(|line| !line.starts_with("UNIQUE ("));
            let lines: Vec<&str> = lines.collect();
            let words = lines
                .iter()
                .flat_map(|line| line.split(','))
                .map(str::trim)
                .filter_map(|column| column.split(' ').next())
                .filter(|word| !word.is_empty());
            tables.insert(name, words.collect());
        }
        tables
    }

    /// Tables and columns of the database that say nothing about a municipality's events.
    const OF_THE_DATABASE: [&str; 6] = [
        "owners",
        "holders",
        "fences",
        "published",
        "migration",
        "migrated_rows",
    ];

    #[test]
    fn every_table_and_column_of_one_store_has_its_counterpart_and_is_moved() {
        let old = columns(include_str!("../store/sqlite/schema.sql"));
        let mut new = columns(include_str!("../store/postgres/schema.sql"));
        assert!(old.contains_key("owner") && old.len() > 20, "{old:?}");
        new.retain(|name, _| !OF_THE_DATABASE.contains(name));
        // Known only to a store that may be asked twice.
        new.get_mut("subscription").unwrap().remove("last_delta");
        let mut old = old;
        // The epoch of its owner becomes that of `owners`.
        old.remove("owner");
        for table in &TABLES {
            old.get_mut(table.name).unwrap().extend(table.added);
        }
        assert_eq!(old, new);
        let moved: BTreeSet<&str> = TABLES.iter().map(|table| table.name).collect();
        assert_eq!(moved, old.keys().copied().collect());
    }

    #[test]
    fn every_column_that_holds_a_position_is_listed() {
        let schema = columns(include_str!("../store/sqlite/schema.sql"));
        let is_position = |name: &str| {
            name.contains("position")
                || ["until_", "cut_", "bulk_start", "bulk_end", "live_mark"]
                    .iter()
                    .any(|part| name.starts_with(part))
                || name == "first"
        };
        for table in &TABLES {
            let found = schema[table.name]
                .iter()
                .filter(|name| is_position(name))
                .copied();
            let listed = table.columns.iter().map(|(name, ..)| *name);
            assert_eq!(
                found.collect::<BTreeSet<_>>(),
                listed.collect(),
                "{}",
                table.name
            );
        }
    }
}
