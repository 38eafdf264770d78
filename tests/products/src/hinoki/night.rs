//! The nightly batch: request files with a manifest, in name order, each in one transaction.
//! Between the exchange folder and the ledger.
//! It must never write a result before the commit, nor remove a request before its result.
//! Read next: `row.rs` for one record, `export.rs` for what the batch hands out.
//!
//! ```text
//! in/NK….csv + .mf ─► commit (rows, keys, result) ─► out/NK….kekka.csv ─► .kekka.mf ─► remove in/
//! ```
//! A kill at any arrow leaves the request in place; the next night finds the stored result.

use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::Context;
use csv::ByteRecord;
use sqlx::{Connection, Row, SqliteConnection};

use super::export::{self, Manifest};
use super::row;
use super::text::Charset;
use crate::fields::{Fault, Refusal};
use crate::{files, ledger};

const RECORDS_MAX: usize = 5_000;
const FILE_BYTES_MAX: u64 = 32 * 1024 * 1024;

const TABLES: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS night_file (
        name TEXT PRIMARY KEY, sha256 TEXT NOT NULL, records INTEGER NOT NULL,
        result TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS place (
        seq INTEGER PRIMARY KEY, file TEXT NOT NULL, record INTEGER NOT NULL)",
];

/// The product: its folders and its ledger.
#[derive(Debug)]
pub(super) struct Office {
    incoming: PathBuf,
    outgoing: PathBuf,
    exports: PathBuf,
    charset: Charset,
    conn: SqliteConnection,
    journal: export::Journal,
    exported: Option<i64>,
}

impl Office {
    /// Opens the folders and the ledger.
    pub(super) async fn open(exchange: &Path, data: &Path) -> anyhow::Result<Self> {
        let folder = |name: &str| -> anyhow::Result<PathBuf> {
            let folder = exchange.join(name);
            fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
            Ok(folder)
        };
        let (incoming, outgoing, exports) = (folder("in")?, folder("out")?, folder("export")?);
        let mut conn = ledger::open(&data.join("hinoki.db")).await?;
        for table in TABLES {
            sqlx::query(table)
                .execute(&mut conn)
                .await
                .context("make the tables")?;
        }
        let journal = export::Journal::open(exports.join("journal.csv"))?;
        let charset = Charset::load()?;
        Ok(Self {
            incoming,
            outgoing,
            exports,
            charset,
            conn,
            journal,
            exported: None,
        })
    }

    /// One nightly batch.
    pub(super) async fn night(&mut self) -> anyhow::Result<()> {
        let names = self.waiting()?;
        for name in &names {
            self.process(name)
                .await
                .with_context(|| format!("process {name}"))?;
        }
        self.journal.append(&mut self.conn).await?;
        if names.is_empty() && self.exported != Some(self.journal.last()) {
            export::ledger(&self.exports, &mut self.conn, self.journal.last()).await?;
            self.exported = Some(self.journal.last());
        }
        Ok(())
    }

    /// Names (without ending) of the requests that have a manifest.
    fn waiting(&self) -> anyhow::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.incoming).context("read the folder in")? {
            let name = entry.context("read the folder in")?.file_name();
            let name = name.to_str().and_then(|name| name.strip_suffix(".mf"));
            names.extend(name.filter(|name| is_request(name)).map(str::to_owned));
        }
        names.sort_unstable();
        Ok(names)
    }

    async fn process(&mut self, name: &str) -> anyhow::Result<()> {
        let request = self.incoming.join(format!("{name}.csv"));
        let manifest = self.incoming.join(format!("{name}.mf"));
        let known = self.known(name).await?;
        let (records, result) = match read_request(&request, &manifest)? {
            Request::Absent if known.is_some() => return files::remove(&manifest),
            Request::Absent | Request::Broken => (1, "000000,,91,,,\r\n".to_owned()),
            Request::TooMany => (1, "000000,,92,,,\r\n".to_owned()),
            Request::Right { records, sha256 } => match known {
                Some(known) if known.sha256 == sha256 => (known.records, known.result),
                Some(_) => used_name(&records),
                None => self.apply(name, &sha256, &records).await?,
            },
        };
        let out = self.outgoing.join(format!("{name}.kekka.csv"));
        files::replace(&out, result.as_bytes())?;
        let text = Manifest::of(records, result.as_bytes()).text();
        files::replace(
            &self.outgoing.join(format!("{name}.kekka.mf")),
            text.as_bytes(),
        )?;
        files::remove(&request)?;
        files::remove(&manifest)
    }

    async fn known(&mut self, name: &str) -> anyhow::Result<Option<Known>> {
        let found = sqlx::query("SELECT sha256, records, result FROM night_file WHERE name = ?")
            .bind(name)
            .fetch_optional(&mut self.conn)
            .await?;
        found
            .map(|row| {
                let (sha256, result) = (row.try_get(0)?, row.try_get(2)?);
                Ok(Known {
                    sha256,
                    records: row.try_get(1)?,
                    result,
                })
            })
            .transpose()
    }

    /// Applies all records of a file and stores its result with them.
    async fn apply(
        &mut self,
        name: &str,
        sha256: &str,
        records: &[ByteRecord],
    ) -> anyhow::Result<(i64, String)> {
        let mut transaction = self.conn.begin().await?;
        let mut refused = HashSet::new();
        let mut result = String::new();
        for (index, record) in records.iter().enumerate() {
            let person = row::person(record);
            let verdict = if !person.is_empty() && refused.contains(&person) {
                Verdict::new("05")
            } else {
                apply_row(&mut transaction, &self.charset, record, (name, index + 1)).await?
            };
            if verdict.code.starts_with('1') {
                refused.insert(person.clone());
            }
            verdict.write(&mut result, index + 1, &row::key(record), &person);
        }
        let count = i64::try_from(records.len())?;
        sqlx::query("INSERT INTO night_file (name, sha256, records, result) VALUES (?, ?, ?, ?)")
            .bind(name)
            .bind(sha256)
            .bind(count)
            .bind(&result)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok((count, result))
    }
}

/// A file that was processed.
struct Known {
    sha256: String,
    records: i64,
    result: String,
}

/// What lies in the folder under one name.
enum Request {
    Absent,
    /// Manifest and file disagree.
    Broken,
    TooMany,
    Right {
        records: Vec<ByteRecord>,
        sha256: String,
    },
}

/// The outcome of one record.
struct Verdict {
    code: &'static str,
    column: String,
    held: Option<i64>,
}

impl Verdict {
    fn new(code: &'static str) -> Self {
        Self {
            code,
            column: String::new(),
            held: None,
        }
    }

    fn held(code: &'static str, version: i64) -> Self {
        Self {
            held: Some(version),
            ..Self::new(code)
        }
    }

    fn refused(refusal: Refusal) -> Self {
        let code = match refusal.fault {
            Fault::Character => "10",
            Fault::TooLong => "11",
            Fault::Width => "12",
            Fault::Date => "13",
            Fault::Value => "14",
            Fault::Malformed | Fault::UnknownItem => "15",
            Fault::Missing => "16",
        };
        Self {
            column: refusal.item,
            ..Self::new(code)
        }
    }

    fn write(&self, result: &mut String, number: usize, key: &str, person: &str) {
        let held = self.held.map(|held| held.to_string()).unwrap_or_default();
        let line = [
            &format!("{number:06}"),
            key,
            self.code,
            &self.column,
            &held,
            person,
        ];
        result.push_str(&line.join(","));
        result.push_str("\r\n");
    }
}

async fn apply_row(
    conn: &mut SqliteConnection,
    charset: &Charset,
    record: &ByteRecord,
    (name, number): (&str, usize),
) -> anyhow::Result<Verdict> {
    let change = match row::change(charset, record, number) {
        Ok(change) => change,
        Err(refusal) => return Ok(Verdict::refused(refusal)),
    };
    use ledger::Outcome::{Ahead, Already, Applied, Created, NotNewer, Refused, Unknown};
    Ok(match ledger::apply(conn, change).await? {
        Created { version } | Applied { version } | Ahead { version } => {
            sqlx::query(
                "INSERT INTO place (seq, file, record) SELECT seq, ?, ? FROM journal WHERE key = ?",
            )
            .bind(name)
            .bind(i64::try_from(number)?)
            .bind(row::key(record))
            .execute(conn)
            .await?;
            Verdict::held("00", version)
        }
        Already { version } => Verdict::held("01", version),
        NotNewer { held } => Verdict::held("02", held),
        Unknown => Verdict::new("03"),
        Refused(refusal) => Verdict::refused(refusal),
    })
}

fn used_name(records: &[ByteRecord]) -> (i64, String) {
    let mut result = String::new();
    for (index, record) in records.iter().enumerate() {
        let verdict = Verdict::new("90");
        verdict.write(
            &mut result,
            index + 1,
            &row::key(record),
            &row::person(record),
        );
    }
    (i64::try_from(records.len()).unwrap_or(i64::MAX), result)
}

fn read_request(request: &Path, manifest: &Path) -> anyhow::Result<Request> {
    let size = match fs::metadata(request) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Request::Absent),
        found => found.context("look at the request")?.len(),
    };
    if size > FILE_BYTES_MAX {
        return Ok(Request::TooMany);
    }
    let bytes = fs::read(request).context("read the request")?;
    let declared = fs::read(manifest).context("read the manifest")?;
    let reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .from_reader(bytes.as_slice())
        .into_byte_records();
    let mut records = Vec::new();
    for record in reader {
        if records.len() == RECORDS_MAX {
            return Ok(Request::TooMany);
        }
        records.push(record.context("read a record")?);
    }
    let count = i64::try_from(records.len())?;
    let found = Manifest::of(count, &bytes);
    if Manifest::parse(&declared).as_ref() != Some(&found) {
        return Ok(Request::Broken);
    }
    Ok(Request::Right {
        records,
        sha256: found.sha256,
    })
}

fn is_request(name: &str) -> bool {
    name.strip_prefix("NK")
        .is_some_and(|rest| rest.len() == 14 && rest.bytes().all(|byte| byte.is_ascii_digit()))
}
