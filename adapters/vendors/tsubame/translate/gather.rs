//! Collects what stands around the rows of a 届出: former images, heads, households.
//! It reads the state before the group, puts the group's images in, and reads the state after.
//! It must never leave a refused group's images behind; `../capture.rs` returns to the mark.
//! Read next: `payload.rs`.

use std::collections::HashMap;

use super::digest;
use crate::vendors::tsubame::check::Judged;
use crate::vendors::tsubame::index::{Index, KnownChange};
use crate::vendors::tsubame::row::Row;

/// A row of a 届出 with what stands around it.
#[derive(Debug, Clone)]
pub(in crate::vendors::tsubame) struct Member {
    /// The row.
    pub(in crate::vendors::tsubame) row: Row,
    /// SHA-256 of the record.
    pub(in crate::vendors::tsubame) digest: Vec<u8>,
    /// The person's former image, when it is the one just before.
    pub(in crate::vendors::tsubame) before: Option<Row>,
    /// Head of the household that the person was in before, before the group.
    pub(in crate::vendors::tsubame) old_head: Option<String>,
    /// Head of that household after the group.
    pub(in crate::vendors::tsubame) new_head_of_old: Option<String>,
    /// Residents of that household after the group.
    pub(in crate::vendors::tsubame) remaining: Vec<String>,
    /// True when others than this group lived in the person's household before.
    pub(in crate::vendors::tsubame) joined_existing: bool,
    /// Head of the person's household after the group.
    pub(in crate::vendors::tsubame) head: Option<String>,
    /// 異動連番 of the row that is corrected, when it is known.
    pub(in crate::vendors::tsubame) corrected_number: Option<u64>,
    /// The row that is corrected.
    pub(in crate::vendors::tsubame) corrected: Option<KnownChange>,
    /// Version of the support measure that the row is about.
    pub(in crate::vendors::tsubame) measure_version: u32,
    /// 異動連番 of the other half of 帰化 or 国籍喪失 in the same group.
    pub(in crate::vendors::tsubame) paired_number: Option<u64>,
}

impl Member {
    /// 世帯番号 before the change.
    pub(super) fn old_household(&self) -> &str {
        let named = self.row.get("idomaesetaibango");
        if !named.is_empty() {
            return named;
        }
        self.before
            .as_ref()
            .map_or(self.row.household(), Row::household)
    }
}

/// Gathers the facts of a group whose rows are all right, and puts their images into the index.
pub(in crate::vendors::tsubame) async fn gather(
    index: &mut Index,
    rows: &[Judged],
) -> Result<Vec<Member>, sqlx::Error> {
    let mut members = Vec::with_capacity(rows.len());
    let mut images: HashMap<String, Row> = HashMap::new();
    for judged in rows {
        let Ok(row) = &judged.row else { continue };
        let before = match images.get(row.atenabango()) {
            Some(earlier) => Some(earlier.clone()),
            None => former_image(index, row).await?,
        };
        images.insert(row.atenabango().to_owned(), row.clone());
        members.push(before_group(index, row, &judged.record.raw, before).await?);
    }
    for member in &mut members {
        let household = member.row.household().to_owned();
        let there = index.members(&household).await?;
        member.joined_existing = there.iter().any(|other| !images.contains_key(other));
        member.paired_number = paired_number(&member.row, rows);
    }
    for member in &members {
        index.put_person(&member.row).await?;
    }
    for member in &mut members {
        after_group(index, member).await?;
    }
    Ok(members)
}

/// The image just before a row. An index that holds a later one knows nothing about it.
async fn former_image(index: &mut Index, row: &Row) -> Result<Option<Row>, sqlx::Error> {
    let stored = index.person(row.atenabango()).await?;
    Ok(stored
        .filter(|stored| stored.version < row.version())
        .map(|stored| stored.row))
}

async fn before_group(
    index: &mut Index,
    row: &Row,
    raw: &[u8],
    before: Option<Row>,
) -> Result<Member, sqlx::Error> {
    let corrected_number = row.get("teiseimotoidorenban").parse().ok();
    let corrected = match corrected_number {
        Some(number) => index.change(number).await?,
        None => None,
    };
    let mut member = Member {
        row: row.clone(),
        digest: digest(raw),
        before,
        old_head: None,
        new_head_of_old: None,
        remaining: Vec::new(),
        joined_existing: false,
        head: None,
        corrected_number,
        corrected,
        measure_version: row.number("shiensochihan"),
        paired_number: None,
    };
    let old_household = member.old_household().to_owned();
    member.old_head = head_of(index, &old_household).await?;
    Ok(member)
}

async fn after_group(index: &mut Index, member: &mut Member) -> Result<(), sqlx::Error> {
    let old_household = member.old_household().to_owned();
    member.head = head_of(index, member.row.household()).await?;
    member.new_head_of_old = head_of(index, &old_household).await?;
    member.remaining = index.members(&old_household).await?;
    let measure = member.row.get("taishoshiensochibango").to_owned();
    let own = member.row.get("shiensochibango") == measure;
    if !measure.is_empty() && !own {
        // Another measure than the one on the record: its version is one above the last.
        let person = member.row.atenabango().to_owned();
        member.measure_version = index.measure(&person, &measure).await?.unwrap_or_default() + 1;
        index
            .put_measure(&person, &measure, member.measure_version)
            .await?;
    }
    Ok(())
}

/// The head among the residents, or the last one of a household that nobody lives in any more.
async fn head_of(index: &mut Index, household: &str) -> Result<Option<String>, sqlx::Error> {
    match index.heads(household).await?.into_iter().next() {
        Some(head) => Ok(Some(head.atenabango)),
        None => index.last_head(household).await,
    }
}

/// Head of a row of a full file, all of which is in the index already.
pub(in crate::vendors::tsubame) async fn gather_snapshot_head(
    index: &mut Index,
    row: &Row,
) -> Result<Option<String>, sqlx::Error> {
    head_of(index, row.household()).await
}

fn paired_number(row: &Row, rows: &[Judged]) -> Option<u64> {
    let other = match row.get("idojiyukodo") {
        "23" => "04",
        "04" => "23",
        "24" => "05",
        "05" => "24",
        _ => return None,
    };
    rows.iter()
        .filter_map(|judged| judged.row.as_ref().ok())
        .find(|pair| pair.atenabango() == row.atenabango() && pair.get("idojiyukodo") == other)
        .map(Row::change_number)
}
