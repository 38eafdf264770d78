//! The rows of an embedded store, one table after the other, as the new store has them.
//! Between the file and the database; always in the same order, so that copying can go on.
//! Must never leave out a row or a column.
//! Read next: `migrate/tables.rs`, `store/postgres/migration.rs`.

use std::collections::HashMap;
use std::path::Path;

use futures::TryStreamExt;
use sha2::{Digest, Sha256};
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row as _};

use super::positions::Positions;
use super::tables::{Row, Table};
use super::{MigrateError, Verified, hex};
use crate::event::Municipality;
use crate::sqlite::open_reader;

/// The embedded store as rows.
pub(super) struct Rows {
    connection: SqliteConnection,
}

/// Columns of a table that the file keeps as a list in JSON.
const LISTS: [(&str, &str); 3] = [
    ("parked", "event_ids"),
    ("replay", "subjects"),
    ("replay", "types"),
];

fn unreadable(source: sqlx::Error) -> MigrateError {
    MigrateError::Rows(source)
}

/// Municipalities that have records in a log.
pub(super) async fn towns_of_log(log: &Path) -> Result<Vec<Municipality>, MigrateError> {
    let mut connection = open_reader(log).await.map_err(unreadable)?;
    // From one to the next along the key: the records themselves are many.
    let codes: Result<Vec<String>, _> = sqlx::query_scalar(
        "WITH RECURSIVE town (code) AS (
           SELECT min(municipality) FROM record UNION ALL
           SELECT (SELECT min(municipality) FROM record WHERE municipality > code)
           FROM town WHERE code IS NOT NULL)
         SELECT code FROM town WHERE code IS NOT NULL",
    )
    .fetch_all(&mut connection)
    .await;
    let codes = codes.map_err(unreadable)?;
    Ok(codes
        .iter()
        .filter_map(|m| Municipality::parse(m))
        .collect())
}

impl Rows {
    pub(super) async fn open(store: &Path) -> Result<Self, MigrateError> {
        let connection = open_reader(store).await.map_err(unreadable)?;
        Ok(Self { connection })
    }

    /// Epochs of the former owner, by municipality.
    pub(super) async fn epochs(&mut self) -> Result<HashMap<String, u64>, MigrateError> {
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT municipality, epoch FROM owner")
            .fetch_all(&mut self.connection)
            .await
            .map_err(unreadable)?;
        let rows = rows.into_iter();
        Ok(rows.map(|(m, epoch)| (m, epoch.cast_unsigned())).collect())
    }

    /// How many rows a table has.
    pub(super) async fn count(&mut self, table: &Table) -> Result<u64, MigrateError> {
        let count = format!("SELECT count(*) FROM {}", table.name);
        let count: Result<i64, _> = sqlx::query_scalar(AssertSqlSafe(count))
            .fetch_one(&mut self.connection)
            .await;
        Ok(count.map_err(unreadable)?.cast_unsigned())
    }

    /// Names of a table's columns in the new store.
    pub(super) async fn columns(&mut self, table: &Table) -> Result<Vec<String>, MigrateError> {
        let names = sqlx::query_scalar("SELECT name FROM pragma_table_info($1) ORDER BY cid");
        let names = names.bind(table.name).fetch_all(&mut self.connection).await;
        let mut names: Vec<String> = names.map_err(unreadable)?;
        names.extend(table.added.iter().map(ToString::to_string));
        Ok(names)
    }

    async fn statement(&mut self, table: &Table) -> Result<String, MigrateError> {
        let columns = sqlx::query("SELECT name, type, pk FROM pragma_table_info($1) ORDER BY cid")
            .bind(table.name)
            .fetch_all(&mut self.connection)
            .await
            .map_err(unreadable)?;
        let without_rowid: i64 = sqlx::query_scalar("SELECT wr FROM pragma_table_list($1)")
            .bind(table.name)
            .fetch_one(&mut self.connection)
            .await
            .map_err(unreadable)?;
        let mut key: Vec<(i64, String)> = Vec::new();
        let mut parts = Vec::new();
        for column in &columns {
            let name: String = column.get(0);
            let value = if column.get::<&str, _>(1).eq_ignore_ascii_case("blob") {
                format!("'\\x' || lower(hex({name}))")
            } else if LISTS.contains(&(table.name, &name)) {
                format!("json({name})")
            } else {
                name.clone()
            };
            parts.push(format!("'{name}', {value}"));
            key.push((column.get(2), name));
        }
        key.retain(|(place, _)| *place > 0);
        key.sort();
        let order = match without_rowid {
            0 => "rowid".to_owned(),
            _ => {
                let names: Vec<String> = key.into_iter().map(|(_, name)| name).collect();
                names.join(", ")
            }
        };
        Ok(format!(
            "SELECT json_object({}) FROM {} ORDER BY {order} LIMIT -1 OFFSET $1",
            parts.join(", "),
            table.name
        ))
    }

    /// Gives the rows of a table from one on, in pieces, as the new store has them.
    pub(super) async fn each<F>(
        &mut self,
        table: &'static Table,
        positions: &Positions,
        from: u64,
        piece: usize,
        mut take: F,
    ) -> Result<(), MigrateError>
    where
        F: AsyncFnMut(Vec<Row>) -> Result<(), MigrateError>,
    {
        let statement = self.statement(table).await?;
        let mut rows = sqlx::query_scalar::<_, String>(AssertSqlSafe(statement))
            .bind(from.cast_signed())
            .fetch(&mut self.connection);
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(text) = rows.try_next().await.map_err(unreadable)? {
            let wrong = || MigrateError::Row(table.name);
            let row: Row = serde_json::from_str(&text).map_err(|_| wrong())?;
            taken.push(table.translate(row, positions).ok_or_else(wrong)?);
            bytes += text.len();
            if bytes >= piece && table.name != "granted" {
                take(std::mem::take(&mut taken)).await?;
                bytes = 0;
            }
        }
        if table.name == "granted" {
            taken = last_of_each_place(taken);
        }
        if !taken.is_empty() {
            take(taken).await?;
        }
        Ok(())
    }
}

/// Grants whose places were trimmed begin at the first place that is kept: there the last ones
/// hold. Few rows, in the order of their places.
fn last_of_each_place(rows: Vec<Row>) -> Vec<Row> {
    let place = |row: &Row| {
        ["municipality", "live_position", "bulk_position"]
            .map(|name| row.get(name).map(ToString::to_string))
    };
    let mut kept: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        if kept.last().is_some_and(|last| place(last) == place(&row)) {
            kept.pop();
        }
        kept.push(row);
    }
    kept
}

/// Count and digest of a table's rows, in whatever order they come.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sum {
    count: u64,
    sum: [u64; 4],
}

impl Sum {
    /// Takes a row; only the named columns count, a truth value as its number.
    pub(super) fn add(&mut self, row: &Row, columns: &[String]) {
        let mut hasher = Sha256::new();
        for name in columns {
            let value = row.get(name);
            let text = match value.and_then(serde_json::Value::as_bool) {
                Some(truth) => u8::from(truth).to_string(),
                None => value.map_or_else(|| "null".to_owned(), ToString::to_string),
            };
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
        let digest = hasher.finalize();
        for (sum, part) in self.sum.iter_mut().zip(digest.chunks_exact(8)) {
            let part = part
                .iter()
                .fold(0_u64, |all, byte| (all << 8) | u64::from(*byte));
            *sum = sum.wrapping_add(part);
        }
        self.count += 1;
    }

    /// For people.
    pub(super) fn verified(&self, name: &str) -> Verified {
        let bytes: Vec<u8> = self
            .sum
            .iter()
            .flat_map(|part| part.to_be_bytes())
            .collect();
        Verified {
            name: name.to_owned(),
            count: self.count,
            digest: hex(&bytes),
        }
    }
}
