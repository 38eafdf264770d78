//! One unit: judged as a whole, applied with its results in one transaction.
//! Between the interface tables and the ledger.
//! It must never apply a part of a unit; an older version skips its member only.
//! Read next: `members.rs`, which judges a row.

use anyhow::Context;
use sqlx::{AnyConnection, Connection, Row};

use super::ledger;
use super::members::{self, Member};
use crate::fields::{Fault, Refusal};

const UNITS_AT_ONCE: i64 = 50;
const MEMBERS_MAX: i64 = 1000;

/// Result of a member row.
#[derive(Debug)]
pub(super) struct Verdict {
    pub(super) kekka: &'static str,
    pub(super) komoku: Option<String>,
    pub(super) held: Option<i64>,
}

impl Verdict {
    pub(super) fn new(kekka: &'static str, held: Option<i64>) -> Self {
        Self {
            kekka,
            komoku: None,
            held,
        }
    }

    fn refused(refusal: &Refusal) -> Self {
        let kekka = match refusal.fault {
            Fault::TooLong => "11",
            Fault::Character => "12",
            Fault::Date => "13",
            Fault::Value => "14",
            Fault::Malformed | Fault::UnknownItem | Fault::Width => "15",
            Fault::Missing => "16",
        };
        Self {
            kekka,
            komoku: Some(refusal.item.clone()),
            held: None,
        }
    }
}

/// Processes units that have their marker; returns how many.
pub(super) async fn process_waiting(conn: &mut AnyConnection) -> anyhow::Result<usize> {
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT unit_key FROM if_shori_marker ORDER BY uketsuke_no, unit_key LIMIT $1",
    )
    .bind(UNITS_AT_ONCE)
    .fetch_all(&mut *conn)
    .await
    .context("look for units")?;
    for key in &keys {
        process(conn, key).await.context("process a unit")?;
    }
    Ok(keys.len())
}

async fn process(conn: &mut AnyConnection, key: &str) -> anyhow::Result<()> {
    let mut transaction = conn.begin().await?;
    // The first statement writes, so that SQLite takes its lock before anything is read.
    remove(
        &mut transaction,
        "DELETE FROM if_shori_marker WHERE unit_key = $1",
        key,
    )
    .await?;
    if has_result(&mut transaction, key).await? {
        clear(&mut transaction, key).await?;
        return Ok(transaction.commit().await?);
    }
    let (members, complete) = read(&mut transaction, key).await?;
    let applied = if complete {
        apply(&mut transaction, &members).await?
    } else {
        None
    };
    if let Some(verdicts) = applied {
        write(&mut transaction, key, "00", None, &members, &verdicts).await?;
        clear(&mut transaction, key).await?;
        return Ok(transaction.commit().await?);
    }
    transaction.rollback().await?;
    refuse(conn, key, &members, complete).await
}

/// Applies all members in order; `None` if one of them is refused.
async fn apply(
    conn: &mut AnyConnection,
    members: &[Member],
) -> anyhow::Result<Option<Vec<Verdict>>> {
    if members.iter().any(|member| member.action.is_err()) {
        return Ok(None);
    }
    let mut verdicts = Vec::with_capacity(members.len());
    for member in members {
        match ledger::apply(conn, member).await? {
            Ok(verdict) => verdicts.push(verdict),
            Err(_) => return Ok(None),
        }
    }
    Ok(Some(verdicts))
}

/// Stores the results of a refused unit in a transaction of its own.
async fn refuse(
    conn: &mut AnyConnection,
    key: &str,
    members: &[Member],
    complete: bool,
) -> anyhow::Result<()> {
    let mut transaction = conn.begin().await?;
    remove(
        &mut transaction,
        "DELETE FROM if_shori_marker WHERE unit_key = $1",
        key,
    )
    .await?;
    let mut verdicts = Vec::with_capacity(members.len());
    for member in members {
        let refusal = match &member.action {
            Err(refusal) => Some(refusal.clone()),
            Ok(action) => ledger::lacks(&mut transaction, member, action).await?,
        };
        let verdict = refusal.as_ref().map(Verdict::refused);
        verdicts.push(verdict.unwrap_or_else(|| Verdict::new("20", None)));
    }
    let item = (!complete).then_some("meisai_kensu");
    write(&mut transaction, key, "10", item, members, &verdicts).await?;
    clear(&mut transaction, key).await?;
    Ok(transaction.commit().await?)
}

async fn has_result(conn: &mut AnyConnection, key: &str) -> sqlx::Result<bool> {
    let found = sqlx::query("SELECT kekka FROM if_kekka WHERE unit_key = $1 AND gyo = 0")
        .bind(key.to_owned())
        .fetch_optional(conn)
        .await?;
    Ok(found.is_some())
}

/// Reads a unit's rows and whether they are all there.
async fn read(conn: &mut AnyConnection, key: &str) -> anyhow::Result<(Vec<Member>, bool)> {
    let declared: Option<Option<i64>> =
        sqlx::query_scalar("SELECT meisai_kensu FROM if_setai_header WHERE unit_key = $1")
            .bind(key.to_owned())
            .fetch_optional(&mut *conn)
            .await?;
    let rows =
        sqlx::query("SELECT * FROM if_setaiin_meisai WHERE unit_key = $1 ORDER BY gyo LIMIT $2")
            .bind(key.to_owned())
            .bind(MEMBERS_MAX + 1)
            .fetch_all(conn)
            .await?;
    let members = rows
        .iter()
        .map(members::read)
        .collect::<sqlx::Result<Vec<_>>>()?;
    let count = i64::try_from(members.len())?;
    let numbered = members
        .iter()
        .zip(1..)
        .all(|(member, number)| member.gyo == number);
    let complete = declared.flatten() == Some(count) && (1..=MEMBERS_MAX).contains(&count);
    Ok((members, complete && numbered))
}

async fn write(
    conn: &mut AnyConnection,
    key: &str,
    kekka: &str,
    komoku: Option<&str>,
    members: &[Member],
    verdicts: &[Verdict],
) -> anyhow::Result<()> {
    let renban = sqlx::query("SELECT MAX(renban) FROM if_kekka")
        .fetch_one(&mut *conn)
        .await?
        .try_get::<Option<i64>, _>(0)?
        .unwrap_or(0)
        + 1;
    let unit =
        "INSERT INTO if_kekka (unit_key, gyo, kekka, komoku, renban) VALUES ($1, 0, $2, $3, $4)";
    sqlx::query(unit)
        .bind(key.to_owned())
        .bind(kekka.to_owned())
        .bind(komoku.map(str::to_owned))
        .bind(renban)
        .execute(&mut *conn)
        .await?;
    for (member, verdict) in members.iter().zip(verdicts) {
        sqlx::query(
            "INSERT INTO if_kekka (unit_key, gyo, kojin_no, kekka, komoku, hoji_rireki)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(key.to_owned())
        .bind(member.gyo)
        .bind(member.kojin_no.clone())
        .bind(verdict.kekka.to_owned())
        .bind(verdict.komoku.clone())
        .bind(verdict.held)
        .execute(&mut *conn)
        .await?;
    }
    Ok(())
}

async fn clear(conn: &mut AnyConnection, key: &str) -> sqlx::Result<()> {
    remove(
        conn,
        "DELETE FROM if_setaiin_meisai WHERE unit_key = $1",
        key,
    )
    .await?;
    remove(conn, "DELETE FROM if_setai_header WHERE unit_key = $1", key).await
}

async fn remove(conn: &mut AnyConnection, statement: &'static str, key: &str) -> sqlx::Result<()> {
    sqlx::query(statement)
        .bind(key.to_owned())
        .execute(conn)
        .await?;
    Ok(())
}
