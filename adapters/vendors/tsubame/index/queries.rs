//! What the capture asks and tells the index about persons, changes and measures.
//! All of it happens inside the page's transaction.
//! It must never return more than a bounded number of rows.
//! Read next: `../translate.rs`.

use super::super::limits::MEMBERS_MAX;
use super::super::row::Row;
use super::{Index, signed};

/// The last right image of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Stored {
    /// 履歴番号.
    pub(in super::super) version: u32,
    /// The image.
    pub(in super::super) row: Row,
}

/// A head of a household.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Head {
    /// 宛名番号.
    pub(in super::super) atenabango: String,
    /// True while a later row of this person was refused: the image may be old.
    pub(in super::super) held: bool,
}

/// A change that was handed out before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct KnownChange {
    /// 履歴番号 that it made.
    pub(in super::super) version: u32,
    /// 異動事由コード.
    pub(in super::super) reason: String,
    /// SHA-256 of the record.
    pub(in super::super) digest: Vec<u8>,
}

impl Index {
    /// The last right image of a person.
    pub(in super::super) async fn person(
        &mut self,
        atenabango: &str,
    ) -> Result<Option<Stored>, sqlx::Error> {
        let found: Option<(u32, String)> =
            sqlx::query_as("SELECT version, image FROM person WHERE atenabango = ?1")
                .bind(atenabango)
                .fetch_optional(&mut self.connection)
                .await?;
        Ok(found.and_then(|(version, image)| {
            Row::from_stored_image(&image).map(|row| Stored { version, row })
        }))
    }

    /// Keeps a right image, unless a later one is there.
    pub(in super::super) async fn put_person(&mut self, row: &Row) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO person (atenabango, version, household, resident, head, held, image) \
             VALUES (?1, ?2, ?3, ?4, ?5, 0, ?6) \
             ON CONFLICT (atenabango) DO UPDATE SET version = excluded.version, \
             household = excluded.household, resident = excluded.resident, \
             head = excluded.head, held = 0, image = excluded.image \
             WHERE excluded.version > person.version",
        )
        .bind(row.atenabango())
        .bind(row.version())
        .bind(row.household())
        .bind(row.is_resident())
        .bind(row.is_head())
        .bind(row.stored_image())
        .execute(&mut self.connection)
        .await?;
        if row.get("shiensochikubun") == "0" {
            return Ok(());
        }
        self.put_measure(
            row.atenabango(),
            row.get("shiensochibango"),
            row.number("shiensochihan"),
        )
        .await
    }

    /// Notes that a row of this person was refused.
    pub(in super::super) async fn mark_held(
        &mut self,
        atenabango: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("UPDATE person SET held = 1 WHERE atenabango = ?1")
            .bind(atenabango)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Heads among the residents of a household; more than one is a mistake of the registry.
    pub(in super::super) async fn heads(
        &mut self,
        household: &str,
    ) -> Result<Vec<Head>, sqlx::Error> {
        let found: Vec<(String, bool)> = sqlx::query_as(
            "SELECT atenabango, held FROM person \
             WHERE household = ?1 AND resident = 1 AND head = 1 ORDER BY atenabango LIMIT 3",
        )
        .bind(household)
        .fetch_all(&mut self.connection)
        .await?;
        Ok(found
            .into_iter()
            .map(|(atenabango, held)| Head { atenabango, held })
            .collect())
    }

    /// Who was the head of a household that nobody lives in any more.
    pub(in super::super) async fn last_head(
        &mut self,
        household: &str,
    ) -> Result<Option<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT atenabango FROM person WHERE household = ?1 AND head = 1 \
             AND NOT EXISTS (SELECT 1 FROM person WHERE household = ?1 AND resident = 1) \
             ORDER BY atenabango LIMIT 1",
        )
        .bind(household)
        .fetch_optional(&mut self.connection)
        .await
    }

    /// Residents of a household, at most [`MEMBERS_MAX`].
    pub(in super::super) async fn members(
        &mut self,
        household: &str,
    ) -> Result<Vec<String>, sqlx::Error> {
        sqlx::query_scalar(
            "SELECT atenabango FROM person WHERE household = ?1 AND resident = 1 \
             ORDER BY atenabango LIMIT ?2",
        )
        .bind(household)
        .bind(i64::try_from(MEMBERS_MAX).unwrap_or(i64::MAX))
        .fetch_all(&mut self.connection)
        .await
    }

    /// A change by its 異動連番.
    pub(in super::super) async fn change(
        &mut self,
        number: u64,
    ) -> Result<Option<KnownChange>, sqlx::Error> {
        let found: Option<(u32, String, Vec<u8>)> =
            sqlx::query_as("SELECT version, reason, digest FROM change WHERE number = ?1")
                .bind(signed(number))
                .fetch_optional(&mut self.connection)
                .await?;
        Ok(found.map(|(version, reason, digest)| KnownChange {
            version,
            reason,
            digest,
        }))
    }

    /// Lowest 異動連番 that was handed out.
    pub(in super::super) async fn first_change(&mut self) -> Result<Option<i64>, sqlx::Error> {
        sqlx::query_scalar("SELECT MIN(number) FROM change")
            .fetch_one(&mut self.connection)
            .await
    }

    /// Keeps a change.
    pub(in super::super) async fn put_change(
        &mut self,
        number: u64,
        change: &KnownChange,
    ) -> Result<(), sqlx::Error> {
        sqlx::query("INSERT OR IGNORE INTO change VALUES (?1, ?2, ?3, ?4)")
            .bind(signed(number))
            .bind(change.version)
            .bind(&change.reason)
            .bind(&change.digest)
            .execute(&mut self.connection)
            .await
            .map(drop)
    }

    /// Highest version of a measure that was handed out.
    pub(in super::super) async fn measure(
        &mut self,
        atenabango: &str,
        measure: &str,
    ) -> Result<Option<u32>, sqlx::Error> {
        sqlx::query_scalar("SELECT version FROM measure WHERE atenabango = ?1 AND measure = ?2")
            .bind(atenabango)
            .bind(measure)
            .fetch_optional(&mut self.connection)
            .await
    }

    /// Keeps the highest version of a measure.
    pub(in super::super) async fn put_measure(
        &mut self,
        atenabango: &str,
        measure: &str,
        version: u32,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO measure VALUES (?1, ?2, ?3) ON CONFLICT (atenabango, measure) \
             DO UPDATE SET version = MAX(version, excluded.version)",
        )
        .bind(atenabango)
        .bind(measure)
        .bind(version)
        .execute(&mut self.connection)
        .await
        .map(drop)
    }
}
