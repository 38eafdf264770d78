//! Writes units into Momiji's interface tables and reads their results.
//! The same statements serve SQLite and PostgreSQL.
//! It must never leave a part of a unit behind, nor tell what the database said: it may hold data.
//! Read next: `results.rs`.

use std::collections::HashMap;
use std::time::Duration;

use musubi_adapter_sdk::{Answer, Refusal};
use musubi_proto::crash;
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{Acquire, AnyConnection, AnyPool, AssertSqlSafe, Executor, Row};
use tokio::sync::Semaphore;

use super::answer::ResultRow;
use super::translate::Member;
use super::{Config, PRODUCT};
use crate::connectors::clock::JapanTime;
use crate::host::OpenError;

/// Keys that one statement asks for.
pub(super) const KEYS_PER_QUERY: usize = 64;

/// How long a statement waits for a database file that another process is writing.
const BUSY_TIMEOUT_PRAGMA: &str = "PRAGMA busy_timeout = 10000";

/// How long to wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Wait after the database could not be used.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Columns of a member row that `koshin_komoku` may name, in the order of the interface.
const ITEMS: [&str; 31] = [
    "shimei",
    "shimei_kana",
    "tsusho",
    "tsusho_kana",
    "umare_ymd",
    "umare_fusho",
    "seibetsu",
    "jumin_kbn",
    "jumin_ymd",
    "jumin_fusho",
    "ken",
    "shi",
    "machi",
    "banchi",
    "katagaki",
    "machi_cd",
    "yubin_no",
    "jutei_ymd",
    "jutei_fusho",
    "setai_no",
    "nushi_no",
    "nushi_misettei",
    "zokugara",
    "gaikoku_kbn",
    "zairyu_shikaku",
    "zairyu_kikan",
    "zairyu_manryo",
    "gaikoku_jumin_ymd",
    "jotai_kbn",
    "jotai_ymd",
    "jotai_fusho",
];

/// A unit to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit<'a> {
    /// 連携キー.
    pub(super) key: &'a str,
    /// 受付番号.
    pub(super) number: i64,
    /// Member rows; not empty.
    pub(super) members: &'a [Member],
}

/// What writing a unit came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Written {
    /// The unit lies in the tables, from now or from before.
    Waiting,
    /// The unit was processed before; its results stand.
    Processed(Vec<ResultRow>),
}

/// The interface tables.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    pool: AnyPool,
    insert_member: String,
    select_results: String,
    /// A database file has one writer at a time; the others need not fight for it.
    writers: std::sync::Arc<Semaphore>,
}

impl Tables {
    /// Prepares connections; the first one is made when it is needed.
    pub(super) fn new(config: &Config) -> Result<Self, OpenError> {
        config.check()?;
        install_default_drivers();
        let is_file = config.is_file();
        let connections = if is_file {
            2
        } else {
            config.connections_max.max(2)
        };
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    if is_file {
                        connection.execute(BUSY_TIMEOUT_PRAGMA).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy(&config.database)
            // The cause is left out: it may repeat the address with its password.
            .map_err(|_| OpenError::config(PRODUCT, "`database` is no address of a database"))?;
        let writers = if is_file { 1 } else { Semaphore::MAX_PERMITS };
        Ok(Self {
            pool,
            insert_member: insert_member(),
            select_results: select_results(),
            writers: std::sync::Arc::new(Semaphore::new(writers)),
        })
    }

    /// Writes units in one transaction, but for those that lie there or were processed already; one
    /// answer a unit. A unit that the database refuses leaves the others in the transaction.
    pub(super) async fn write(&self, units: &[Unit<'_>]) -> Vec<Result<Written, Answer>> {
        let keys: Vec<String> = units.iter().map(|unit| unit.key.to_owned()).collect();
        let mut former = match self.results(&keys).await {
            Ok(former) => former,
            Err(error) => return vec![Err(refusal(&error).into()); units.len()],
        };
        let open: Vec<&Unit<'_>> = units
            .iter()
            .filter(|unit| !former.contains_key(unit.key))
            .collect();
        let permit = self.writers.acquire().await;
        let written = self.insert_all(&open).await;
        drop(permit);
        let mut written = written
            .unwrap_or_else(|answer| vec![Err(answer); open.len()])
            .into_iter();
        let mut place = |unit: &Unit<'_>| match former.remove(unit.key) {
            Some(rows) => Ok(Written::Processed(rows)),
            None => written.next().unwrap_or(Ok(Written::Waiting)),
        };
        units.iter().map(&mut place).collect()
    }

    /// `Err` is the answer of all of them.
    async fn insert_all(
        &self,
        units: &[&Unit<'_>],
    ) -> Result<Vec<Result<Written, Answer>>, Answer> {
        let nothing_written = |error: sqlx::Error| Answer::from(refusal(&error));
        let mut written = Vec::with_capacity(units.len());
        if units.is_empty() {
            return Ok(written);
        }
        let mut transaction = self.pool.begin().await.map_err(nothing_written)?;
        for unit in units {
            let mut savepoint = transaction.begin().await.map_err(nothing_written)?;
            match self.insert(&mut savepoint, unit).await {
                Ok(()) => {
                    savepoint.commit().await.map_err(nothing_written)?;
                    written.push(Ok(Written::Waiting));
                }
                // It lies there and waits since an earlier delivery.
                Err(error) if is_unique_violation(&error) => {
                    savepoint.rollback().await.map_err(nothing_written)?;
                    written.push(Ok(Written::Waiting));
                }
                Err(error) if error.as_database_error().is_some() => {
                    savepoint.rollback().await.map_err(nothing_written)?;
                    written.push(Err(refusal(&error).into()));
                }
                Err(error) => return Err(nothing_written(error)),
            }
        }
        let lost = "the end of the transaction was not confirmed";
        crash::point("sql.before_commit");
        let committed = transaction.commit().await;
        committed.map_err(|_| Answer::unknown("COMMIT_LOST", lost))?;
        crash::point("sql.committed");
        Ok(written)
    }

    async fn insert(
        &self,
        connection: &mut AnyConnection,
        unit: &Unit<'_>,
    ) -> Result<(), sqlx::Error> {
        let count = i64::try_from(unit.members.len()).unwrap_or(i64::MAX);
        sqlx::query(
            "INSERT INTO if_setai_header (unit_key, meisai_kensu, sakusei_nichiji) \
             VALUES ($1, $2, $3)",
        )
        .bind(unit.key.to_owned())
        .bind(count)
        .bind(JapanTime::now().rfc3339())
        .execute(&mut *connection)
        .await?;
        for (line, member) in (1_i64..).zip(unit.members) {
            self.member_query(unit.key, line, member)
                .execute(&mut *connection)
                .await?;
        }
        sqlx::query("INSERT INTO if_shori_marker (unit_key, uketsuke_no) VALUES ($1, $2)")
            .bind(unit.key.to_owned())
            .bind(unit.number)
            .execute(&mut *connection)
            .await?;
        Ok(())
    }

    fn member_query<'a>(
        &'a self,
        key: &str,
        line: i64,
        member: &Member,
    ) -> sqlx::query::Query<'a, sqlx::Any, sqlx::any::AnyArguments> {
        let named: Vec<&str> = member.items.keys().copied().collect();
        let measure = member.measure.as_ref();
        let mut query = sqlx::query(AssertSqlSafe(self.insert_member.clone()))
            .bind(key.to_owned())
            .bind(line)
            .bind(member.action.code())
            .bind(member.person.clone())
            .bind(measure.is_none().then_some(i64::from(member.version)))
            .bind(named.join(","))
            .bind(measure.map(|measure| measure.number.clone()))
            .bind(measure.map(|measure| i64::from(measure.version)))
            .bind(measure.map(|measure| i64::from(measure.ended)))
            .bind((!member.seen.is_empty()).then(|| member.seen.join(",")));
        for column in ITEMS {
            query = query.bind(member.items.get(column).cloned().flatten());
        }
        query
    }

    /// Result rows of those keys that have any.
    pub(super) async fn results(
        &self,
        keys: &[String],
    ) -> Result<HashMap<String, Vec<ResultRow>>, sqlx::Error> {
        let mut found: HashMap<String, Vec<ResultRow>> = HashMap::new();
        for keys in keys.chunks(KEYS_PER_QUERY) {
            let mut query = sqlx::query(AssertSqlSafe(self.select_results.clone()));
            // The statement always has the same number of keys, so that it is prepared once.
            for index in 0..KEYS_PER_QUERY {
                query = query.bind(keys[index.min(keys.len() - 1)].clone());
            }
            for row in query.fetch_all(&self.pool).await? {
                let result = ResultRow {
                    line: row.try_get(1)?,
                    code: row.try_get(2)?,
                    column: row.try_get::<Option<String>, _>(3)?.unwrap_or_default(),
                    held: row.try_get(4)?,
                };
                found.entry(row.try_get(0)?).or_default().push(result);
            }
        }
        Ok(found)
    }
}

fn insert_member() -> String {
    let mut columns = vec![
        "unit_key",
        "gyo",
        "shori",
        "kojin_no",
        "rireki",
        "koshin_komoku",
        "sochi_no",
        "sochi_han",
        "sochi_shuryo",
        "sochi_tsuika",
    ];
    columns.extend(ITEMS);
    let places: Vec<String> = (1..=columns.len())
        .map(|place| format!("${place}"))
        .collect();
    format!(
        "INSERT INTO if_setaiin_meisai ({}) VALUES ({})",
        columns.join(", "),
        places.join(", ")
    )
}

fn select_results() -> String {
    let places: Vec<String> = (1..=KEYS_PER_QUERY)
        .map(|place| format!("${place}"))
        .collect();
    format!(
        "SELECT unit_key, gyo, kekka, komoku, hoji_rireki FROM if_kekka \
         WHERE unit_key IN ({}) ORDER BY unit_key, gyo",
        places.join(", ")
    )
}

fn is_unique_violation(error: &sqlx::Error) -> bool {
    error
        .as_database_error()
        .is_some_and(|error| error.is_unique_violation())
}

/// Nothing was written: later, or never without a human.
pub(super) fn refusal(error: &sqlx::Error) -> Refusal {
    let Some(database) = error.as_database_error() else {
        return Refusal::retry(RETRY_AFTER, "UNREACHABLE", "the database cannot be reached");
    };
    let code = database.code().unwrap_or_default().into_owned();
    let message = database.message();
    match code.as_str() {
        "28000" | "28P01" | "3D000" | "42501" => Refusal::pause(
            "CREDENTIALS",
            format!("the database refused access ({code})"),
        ),
        "42703" => Refusal::pause("CONFIGURATION", "the tables are not those of the interface"),
        _ if message.contains("has no column") || message.contains("no such column") => {
            Refusal::pause("CONFIGURATION", "the tables are not those of the interface")
        }
        "42P01" => tables_missing(),
        _ if message.contains("no such table") => tables_missing(),
        _ => Refusal::retry(
            RETRY_AFTER,
            "DATABASE",
            format!("the database failed ({code})"),
        ),
    }
}

fn tables_missing() -> Refusal {
    Refusal::retry(
        RETRY_AFTER,
        "TABLES_MISSING",
        "the product has not made its tables yet",
    )
}
