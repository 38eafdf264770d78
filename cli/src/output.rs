//! What commands print: tables for people, one JSON document for programs.
//! Last step of every command.
//! Must never print a payload in a table.
//! Read next: `payload.rs`.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result};
use serde_json::Value;

/// True once a document went out: there is one a command.
static PRINTED: AtomicBool = AtomicBool::new(false);

/// Rows under a header, padded by what a terminal shows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with this header.
    pub(crate) fn new(header: &[&str]) -> Self {
        Self {
            rows: vec![header.iter().map(|cell| (*cell).to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines; columns of numbers are set to the right.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &'_ [String], column: usize| row.get(column).cloned().unwrap_or_default();
        let shape: Vec<(usize, bool)> = (0..columns)
            .map(|column| {
                let cells: Vec<String> = self.rows.iter().map(|row| cell(row, column)).collect();
                let width = cells.iter().map(|cell| width(cell)).max().unwrap_or(0);
                let body = cells.iter().skip(1).filter(|cell| !cell.is_empty());
                let right = self.rows.len() > 1
                    && body.clone().count() > 0
                    && body
                        .clone()
                        .all(|cell| cell.bytes().all(|b| b.is_ascii_digit() || b == b'-'));
                (width, right)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (wide, right)) in shape.iter().enumerate() {
                let cell = cell(row, column);
                let padding = " ".repeat(wide.saturating_sub(width(&cell)));
                if column > 0 {
                    line.push_str("  ");
                }
                match right {
                    true => line.extend([padding, cell]),
                    false => line.extend([cell, padding]),
                }
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// Columns of a terminal that a text takes.
fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match u32::from(c) {
            0x0300..=0x036f | 0x3099..=0x309a | 0xfe00..=0xfe0f | 0xe0100..=0xe01ef => 0,
            0x1100..=0x115f
            | 0x2e80..=0xa4cf
            | 0xac00..=0xd7a3
            | 0xf900..=0xfaff
            | 0xfe30..=0xfe6f
            | 0xff00..=0xff60
            | 0xffe0..=0xffe6
            | 0x1f300..=0x1faff
            | 0x20000..=0x3fffd => 2,
            _ => 1,
        })
        .sum()
}

/// Prints text to standard output; a reader that went away is no failure.
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("write to standard output"),
    }
}

/// Prints a JSON document.
pub(crate) fn print_json(document: &Value) -> Result<()> {
    let mut text = serde_json::to_string_pretty(document).context("make JSON")?;
    text.push('\n');
    PRINTED.store(true, Ordering::Relaxed);
    print(&text)
}

/// Prints a failure as the JSON document, unless the command printed its own.
pub(crate) fn print_json_failure(document: &Value) -> Result<()> {
    match PRINTED.load(Ordering::Relaxed) {
        true => Ok(()),
        false => print_json(document),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right_and_wide_signs_count_twice() {
        let mut table = Table::new(&["SYSTEM", "EVENTS"]);
        table.row(vec!["国保".into(), "7".into()]);
        table.row(vec!["tax".into(), "120".into()]);
        assert_eq!(
            table.render(),
            "SYSTEM  EVENTS\n国保         7\ntax        120\n"
        );
    }
}
