//! The book of the log's fences in PostgreSQL.
//! Implements `FenceBook`, for a log whose topics several instances can write.
//! Must never write a fence for a municipality that another instance owns.
//! Read next: `log/fences.rs`.

use async_trait::async_trait;
use sqlx::Row;

use super::PgStore;
use super::rows::{number, position};
use super::session::{Trouble, retried};
use crate::event::{Municipality, Stream};
use crate::log::fences::{Fence, FenceBook};
use crate::store::StoreError;

#[async_trait]
impl FenceBook for PgStore {
    async fn fences(&self, m: &Municipality, stream: Stream) -> Result<Vec<Fence>, StoreError> {
        retried!(self, "reading the log's fences", async {
            let mut session = self.read().await?;
            let rows = session
                .query(
                    "SELECT epoch, number, position, ends FROM fences
                     WHERE municipality = $1 AND stream = $2 ORDER BY epoch, number",
                )
                .bind(m.as_str())
                .bind(stream.number())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            let fences = rows.iter().map(|row| Fence {
                epoch: number(row, "epoch"),
                number: number(row, "number"),
                position: position(row.get("position")),
                end: row.get::<Option<i64>, _>("ends").map(position),
            });
            Ok::<_, Trouble>(fences.collect())
        })
    }

    async fn put_fence(
        &self,
        m: &Municipality,
        stream: Stream,
        fence: Fence,
    ) -> Result<(), StoreError> {
        retried!(self, "writing a fence of the log", async {
            let mut session = self.write(m).await?;
            session
                .query(
                    "INSERT INTO fences (municipality, stream, epoch, number, position, ends)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (municipality, stream, epoch, number) DO UPDATE
                       SET position = excluded.position, ends = excluded.ends",
                )
                .bind(m.as_str())
                .bind(stream.number())
                .bind(fence.epoch.cast_signed())
                .bind(fence.number.cast_signed())
                .bind(fence.position.0.cast_signed())
                .bind(fence.end.map(|end| end.0.cast_signed()))
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }

    async fn forget_fence(
        &self,
        m: &Municipality,
        stream: Stream,
        epoch: u64,
        number: u64,
    ) -> Result<(), StoreError> {
        retried!(self, "forgetting a fence of the log", async {
            let mut session = self.write(m).await?;
            session
                .query(
                    "DELETE FROM fences
                     WHERE municipality = $1 AND stream = $2 AND epoch = $3 AND number = $4",
                )
                .bind(m.as_str())
                .bind(stream.number())
                .bind(epoch.cast_signed())
                .bind(number.cast_signed())
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }
}
