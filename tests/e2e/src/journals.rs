//! What must hold in the end, whatever was killed: each change once in the log, and once at each
//! product. Read from the products' journals and from the log through the hub.
//! Sits behind `demo.rs`, which has compared the states already.
//! Must never trust a count that a killed process kept.
//! Read next: `kills.rs`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use musubi_proto::hub::v1::Stream;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AnyConnection, Connection, Row as _, SqliteConnection};

use crate::hub::Hub;
use crate::town::{Table, count_records};

/// An applied key: of whom, of which measure, and to which version.
struct Entry {
    key: String,
    person: String,
    measure: String,
    version: i64,
}

/// Checks the journals of all products below a demo's data folder; returns their lengths.
pub async fn check_journals(data: &Path) -> Result<BTreeMap<String, usize>> {
    let mut lengths = BTreeMap::new();
    for product in ["kaede", "ayame"] {
        let file = data.join(product).join(format!("{product}.db"));
        lengths.insert(product.to_owned(), check_ledger(product, &file).await?);
    }
    let file = data.join("hinoki/data/hinoki.db");
    lengths.insert("hinoki".to_owned(), check_ledger("hinoki", &file).await?);
    check_export(&data.join("hinoki/exchange/export/journal.csv"))?;
    let file = data.join("momiji/momiji.db");
    let units = check_units(&format!("sqlite://{}", file.display())).await?;
    lengths.insert("momiji".to_owned(), units);
    Ok(lengths)
}

/// Checks the journal in a product's own file: nothing twice, nothing out of order. Its length.
pub async fn check_ledger(product: &str, file: &Path) -> Result<usize> {
    check(product, &ledger(file).await?)
}

async fn open(file: &Path) -> Result<SqliteConnection> {
    let options = SqliteConnectOptions::new().filename(file);
    SqliteConnection::connect_with(&options)
        .await
        .with_context(|| format!("open {}", file.display()))
}

async fn ledger(file: &Path) -> Result<Vec<Entry>> {
    let mut connection = open(file).await?;
    let rows = sqlx::query("SELECT key, no, version, measure FROM journal ORDER BY seq")
        .fetch_all(&mut connection)
        .await
        .with_context(|| format!("read the journal in {}", file.display()))?;
    let entries = rows.iter().map(|row| {
        let measure: Option<String> = row.try_get(3)?;
        Ok(Entry {
            key: row.try_get(0)?,
            person: row.try_get(1)?,
            version: row.try_get(2)?,
            measure: measure.unwrap_or_default(),
        })
    });
    entries.collect()
}

/// No key twice, and each version of a person or measure once and in order.
fn check(product: &str, entries: &[Entry]) -> Result<usize> {
    let mut keys = BTreeSet::new();
    let mut versions: HashMap<(&str, &str), i64> = HashMap::new();
    for entry in entries {
        ensure!(
            keys.insert(entry.key.as_str()),
            "{product} applied the key {} twice",
            entry.key
        );
        let of = (entry.person.as_str(), entry.measure.as_str());
        let before = versions.insert(of, entry.version);
        ensure!(
            before.is_none_or(|before| before < entry.version),
            "{product} applied version {} of {of:?} after {before:?}",
            entry.version
        );
    }
    Ok(entries.len())
}

/// The exported journal: numbers without gap, no key twice.
fn check_export(file: &Path) -> Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let mut keys = BTreeSet::new();
    for (index, line) in text.lines().enumerate() {
        let mut columns = line.split(',');
        let number = columns.next().unwrap_or_default();
        let key = columns.next().unwrap_or_default();
        ensure!(
            number == (index + 1).to_string() && keys.insert(key),
            "hinoki's exported journal has in line {}: {line}",
            index + 1
        );
    }
    Ok(())
}

/// Units that the insurance product processed, each under a number of its own; the product may be
/// on any database.
pub async fn check_units(database: &str) -> Result<usize> {
    sqlx::any::install_default_drivers();
    // The address is left out of what is said: it may hold a password.
    let connection = AnyConnection::connect(database).await;
    let mut connection = connection.context("open momiji's database")?;
    let rows = sqlx::query("SELECT renban FROM if_kekka WHERE gyo = 0 ORDER BY renban")
        .fetch_all(&mut connection)
        .await
        .context("read momiji's results")?;
    for (index, row) in rows.iter().enumerate() {
        let number: i64 = row.try_get(0)?;
        ensure!(
            usize::try_from(number).is_ok_and(|number| number == index + 1),
            "momiji processed a unit as number {number}, expected {}",
            index + 1
        );
    }
    let left: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM if_shori_marker")
        .fetch_one(&mut connection)
        .await?;
    ensure!(left == 0, "momiji has {left} units not processed");
    Ok(rows.len())
}

/// Starts the hub of a demo that has ended, and checks that the log holds each row of the town
/// once: the snapshot in its stream, the changes in theirs and in the order of each person.
pub async fn check_log(demo: &Path, town: &Path) -> Result<usize> {
    let hub = Hub::start(demo).await?;
    let client = hub.client()?;
    let changes = Table::read(town, "changes.csv")?;
    let mut expected: BTreeSet<(String, u32)> = changes
        .rows
        .iter()
        .map(|row| (row.person().to_owned(), row.version()))
        .collect();
    let mut ids = BTreeSet::new();
    let mut last: HashMap<String, u32> = HashMap::new();
    let log = client.log(Stream::Live).await?;
    for stored in &log {
        let event = stored.event.as_ref().context("a record without event")?;
        let place = (event.subject.clone(), event.subject_version);
        ensure!(
            ids.insert(event.id.clone()),
            "{} is in the log twice",
            event.id
        );
        ensure!(
            expected.remove(&place),
            "{place:?} is in the log and not, or once only, in the town"
        );
        let before = last.insert(place.0, place.1);
        ensure!(
            before.is_none_or(|before| before < place.1),
            "position {} goes back in its person's versions",
            stored.position
        );
    }
    ensure!(
        expected.is_empty(),
        "{} changes of the town are not in the log",
        expected.len()
    );
    let snapshot =
        count_records(town, "residents_before.csv")? + count_records(town, "removed_before.csv")?;
    let bulk = client.log(Stream::Bulk).await?.len();
    // Header and trailer beside the records.
    ensure!(
        u64::try_from(bulk).is_ok_and(|bulk| bulk == snapshot + 2),
        "the snapshot of {snapshot} records is {bulk} events in the log"
    );
    Ok(log.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, version: i64, measure: &str) -> Entry {
        Entry {
            key: key.to_owned(),
            person: "0000012345".to_owned(),
            measure: measure.to_owned(),
            version,
        }
    }

    #[test]
    fn what_was_applied_twice_or_out_of_order_is_found() {
        let good = [entry("a", 1, ""), entry("b", 1, "S1"), entry("c", 3, "")];
        assert_eq!(check("x", &good).unwrap(), 3);
        let wrong = [
            [entry("a", 1, ""), entry("a", 2, "")],
            [entry("a", 2, ""), entry("b", 2, "")],
            [entry("a", 2, ""), entry("b", 1, "")],
        ];
        for entries in wrong {
            assert!(check("x", &entries).is_err());
        }
    }
}
