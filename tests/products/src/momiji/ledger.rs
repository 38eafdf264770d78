//! The ledger of insured persons, their households and their support measures.
//! `units.rs` applies judged members here, inside its transaction.
//! It must never write an older version over a newer one.
//! Read next: §2 and §3 of the manual.

use std::fmt::Write;

use sqlx::{AnyConnection, AssertSqlSafe, Row};

use super::columns::RESIDENT;
use super::members::{Action, Member, Set};
use super::units::Verdict;
use crate::fields::{Fault, Refusal};

/// What the ledger holds of a person.
struct Held {
    version: i64,
    household: Option<String>,
}

/// Applies one member.
pub(super) async fn apply(
    conn: &mut AnyConnection,
    member: &Member,
) -> sqlx::Result<Result<Verdict, Refusal>> {
    let action = match &member.action {
        Ok(action) => action,
        Err(refusal) => return Ok(Err(refusal.clone())),
    };
    match action {
        Action::Measure {
            no,
            measure,
            version,
            ended,
        } => {
            let held = measure_version(conn, no, measure).await?;
            if let Some(held) = held.filter(|held| held >= version) {
                return Ok(Ok(Verdict::new("02", Some(held))));
            }
            put_measure(conn, no, measure, *version, *ended).await?;
            refresh_flag(conn, no).await?;
            Ok(Ok(Verdict::new("00", Some(*version))))
        }
        Action::Record {
            no,
            create,
            version,
            sets,
            seen,
        } => {
            let held = find(conn, no).await?;
            match &held {
                None if !create => return Ok(Ok(Verdict::new("03", None))),
                None => {
                    if let Some(field) = action.missing() {
                        let detail = "needed at TOROKU";
                        return Ok(Err(Refusal::new(Fault::Missing, field.name, detail)));
                    }
                    insert(conn, no).await?;
                }
                Some(held) if held.version >= *version => {
                    return Ok(Ok(Verdict::new("02", Some(held.version))));
                }
                Some(_) => {}
            }
            update(conn, no, *version, sets).await?;
            for measure in seen {
                if measure_version(conn, no, measure).await?.is_none() {
                    put_measure(conn, no, measure, 0, false).await?;
                }
            }
            if held.is_none() || !seen.is_empty() {
                refresh_flag(conn, no).await?;
            }
            refresh_households(conn, held.and_then(|held| held.household), sets).await?;
            Ok(Ok(Verdict::new("00", Some(*version))))
        }
    }
}

/// Why a member that is right by itself cannot be applied to what the ledger holds.
pub(super) async fn lacks(
    conn: &mut AnyConnection,
    member: &Member,
    action: &Action,
) -> sqlx::Result<Option<Refusal>> {
    let creates = matches!(action, Action::Record { create: true, .. });
    let no = member.kojin_no.as_deref().unwrap_or_default();
    if !creates || find(conn, no).await?.is_some() {
        return Ok(None);
    }
    let missing = action.missing();
    Ok(missing.map(|field| Refusal::new(Fault::Missing, field.name, "needed at TOROKU")))
}

async fn find(conn: &mut AnyConnection, no: &str) -> sqlx::Result<Option<Held>> {
    sqlx::query("SELECT rireki, setai_no FROM hihokensha WHERE kojin_no = $1")
        .bind(no.to_owned())
        .fetch_optional(conn)
        .await?
        .map(|row| {
            Ok(Held {
                version: row.try_get(0)?,
                household: row.try_get(1)?,
            })
        })
        .transpose()
}

async fn insert(conn: &mut AnyConnection, no: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO hihokensha (kojin_no, rireki, nushi_misettei, jotai_kbn, hogo_flg)
         VALUES ($1, 0, '0', $2, 0)",
    )
    .bind(no.to_owned())
    .bind(RESIDENT.to_owned())
    .execute(conn)
    .await?;
    Ok(())
}

async fn update(
    conn: &mut AnyConnection,
    no: &str,
    version: i64,
    sets: &[Set],
) -> sqlx::Result<()> {
    let mut statement = "UPDATE hihokensha SET rireki = $2".to_owned();
    for (index, set) in sets.iter().enumerate() {
        // Column names come from the product's own list only.
        write!(statement, ", {} = ${}", set.field.name, index + 3)
            .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
    }
    statement.push_str(" WHERE kojin_no = $1");
    let mut query = sqlx::query(AssertSqlSafe(statement))
        .bind(no.to_owned())
        .bind(version);
    for set in sets {
        query = query.bind(set.value.clone());
    }
    query.execute(conn).await?;
    Ok(())
}

async fn measure_version(
    conn: &mut AnyConnection,
    no: &str,
    measure: &str,
) -> sqlx::Result<Option<i64>> {
    sqlx::query_scalar("SELECT han FROM hogo_sochi WHERE kojin_no = $1 AND sochi_no = $2")
        .bind(no.to_owned())
        .bind(measure.to_owned())
        .fetch_optional(conn)
        .await
}

async fn put_measure(
    conn: &mut AnyConnection,
    no: &str,
    measure: &str,
    version: i64,
    ended: bool,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO hogo_sochi (kojin_no, sochi_no, han, shuryo) VALUES ($1, $2, $3, $4)
         ON CONFLICT (kojin_no, sochi_no) DO UPDATE SET han = excluded.han, shuryo = excluded.shuryo",
    )
    .bind(no.to_owned())
    .bind(measure.to_owned())
    .bind(version)
    .bind(i64::from(ended))
    .execute(conn)
    .await?;
    Ok(())
}

async fn refresh_flag(conn: &mut AnyConnection, no: &str) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE hihokensha SET hogo_flg = (
            SELECT CASE WHEN COUNT(*) > 0 THEN 1 ELSE 0 END FROM hogo_sochi s
            WHERE s.kojin_no = hihokensha.kojin_no AND s.shuryo = 0)
         WHERE kojin_no = $1",
    )
    .bind(no.to_owned())
    .execute(conn)
    .await?;
    Ok(())
}

/// Counts again the households that a member left, joined or changed.
async fn refresh_households(
    conn: &mut AnyConnection,
    before: Option<String>,
    sets: &[Set],
) -> sqlx::Result<()> {
    const COUNTED: [&str; 4] = ["setai_no", "nushi_no", "nushi_misettei", "jotai_kbn"];
    if !sets.iter().any(|set| COUNTED.contains(&set.field.name)) {
        return Ok(());
    }
    let moved = sets.iter().find(|set| set.field.name == "setai_no");
    if let Some(after) = moved.and_then(|set| set.value.as_ref())
        && before.as_ref() != Some(after)
    {
        refresh_household(conn, after).await?;
    }
    match before {
        Some(before) => refresh_household(conn, &before).await,
        None => Ok(()),
    }
}

async fn refresh_household(conn: &mut AnyConnection, household: &str) -> sqlx::Result<()> {
    let row = sqlx::query(
        "SELECT COUNT(*), MAX(nushi_no), MAX(nushi_misettei) FROM hihokensha
         WHERE setai_no = $1 AND jotai_kbn = $2",
    )
    .bind(household.to_owned())
    .bind(RESIDENT.to_owned())
    .fetch_one(&mut *conn)
    .await?;
    let members: i64 = row.try_get(0)?;
    let (head, unset): (Option<String>, Option<String>) = (row.try_get(1)?, row.try_get(2)?);
    if members == 0 {
        sqlx::query("DELETE FROM setai WHERE setai_no = $1")
            .bind(household.to_owned())
            .execute(conn)
            .await?;
        return Ok(());
    }
    sqlx::query(
        "INSERT INTO setai (setai_no, nushi_no, nushi_misettei, ninzu) VALUES ($1, $2, $3, $4)
         ON CONFLICT (setai_no) DO UPDATE SET nushi_no = excluded.nushi_no,
         nushi_misettei = excluded.nushi_misettei, ninzu = excluded.ninzu",
    )
    .bind(household.to_owned())
    .bind(head)
    .bind(unset)
    .bind(members)
    .execute(conn)
    .await?;
    Ok(())
}
