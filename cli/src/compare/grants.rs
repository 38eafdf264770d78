//! Which fields a system learns from which event, read from `schemas/grants/` on its own.
//! Between the town's rows and what a product can know.
//! Must never grant what the table does not.
//! Read next: `fold.rs`.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::fold::Happening;
use super::table;

/// Granted paths by the short name of the event.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    paths: HashMap<String, Vec<String>>,
}

impl Grants {
    /// Grants of a system, as built into the program.
    pub(crate) fn of(system: &str) -> Result<Self> {
        let text = match system {
            "010" => include_str!("../../../schemas/grants/010.csv"),
            "024" => include_str!("../../../schemas/grants/024.csv"),
            "026" => include_str!("../../../schemas/grants/026.csv"),
            other => bail!("there are no grants for the system {other}"),
        };
        Self::parse(text).with_context(|| format!("read the grants of {system}"))
    }

    /// Reads a table of grants.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut paths = HashMap::new();
        for row in table::read(text.as_bytes(), &["event", "granted"])? {
            let event = row.get("event");
            let short = event.rsplit('.').next().unwrap_or(event);
            let granted = row
                .get("granted")
                .split(';')
                .map(|path| path.trim().to_owned());
            paths.insert(short.to_owned(), granted.collect());
        }
        Ok(Self { paths })
    }

    /// Paths of an event; `None` when the system does not receive it.
    pub(crate) fn paths(&self, event: &str) -> Option<&[String]> {
        self.paths.get(event).map(Vec::as_slice)
    }

    /// True when the event is granted with this path, or with a message above it.
    pub(crate) fn covers(&self, event: &str, path: &str) -> bool {
        self.paths(event)
            .is_some_and(|paths| paths.iter().any(|granted| below(path, granted)))
    }

    /// True when the hub gives a row's event to the system.
    pub(crate) fn receives(&self, happening: &Happening) -> bool {
        self.paths(happening.event).is_some() && self.concerns(happening.event, &happening.changed)
    }

    /// True when an event concerns the system: a correction only when a path that it names as
    /// changed (below `record`) touches a granted one.
    pub(crate) fn concerns(&self, event: &str, changed: &[&str]) -> bool {
        changed.is_empty()
            || changed.iter().any(|changed| {
                let changed = format!("record.{changed}");
                self.paths(event).is_some_and(|paths| {
                    paths
                        .iter()
                        .any(|path| below(path, &changed) || below(&changed, path))
                })
            })
    }
}

/// True when `path` is `above` or stands below it.
fn below(path: &str, above: &str) -> bool {
    path.strip_prefix(above)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
