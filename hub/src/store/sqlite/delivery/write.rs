//! Writes a group of deltas on the writing connection.
//! Called by `store/delivery/group.rs`, which gathers them.
//! Must never write a delta whose fence does not hold.
//! Read next: `store/sqlite/delivery/commit.rs`.

use std::collections::HashSet;

use async_trait::async_trait;

use super::commit::apply;
use crate::store::delivery::group::{ACTION, Unwritten, WriteDeltas};
use crate::store::sqlite::writer::Writing;
use crate::store::sqlite::{failed, rows};
use crate::store::{DeliveryDelta, Durability};

#[async_trait]
impl WriteDeltas for Writing<'_> {
    async fn write(
        &mut self,
        deltas: &[&DeliveryDelta],
        durability: Durability,
    ) -> Result<HashSet<String>, Unwritten> {
        if let Err(error) = self.keep(durability).await {
            return Err(Unwritten::Anything(failed(ACTION)(error)));
        }
        // The process ends when the disk failed: a second try could succeed and hide that it has
        // lost what came before.
        let written = write(self, deltas).await;
        written.map_err(|error| Unwritten::Together(failed(ACTION)(error)))
    }
}

/// Writes what the fence lets pass; says which subscriptions those are.
async fn write(
    writing: &mut Writing<'_>,
    deltas: &[&DeliveryDelta],
) -> Result<HashSet<String>, sqlx::Error> {
    let mut transaction = writing.begin().await?;
    let epochs: Vec<(&str, i64)> = deltas
        .iter()
        .map(|delta| (delta.subscription.as_str(), delta.owner_epoch as i64))
        .collect();
    let owned: HashSet<String> = rows::select_scalars(
        &mut transaction,
        "SELECT s.id FROM",
        &epochs,
        |row, of| {
            row.push_bind(of.map(|(subscription, _)| *subscription))
                .push_bind(of.map(|(_, epoch)| *epoch));
        },
        "JOIN subscription s ON s.id = column1
         JOIN owner o ON o.municipality = s.municipality AND o.epoch = column2",
    )
    .await?;
    let of_owner = deltas.iter().copied();
    let of_owner: Vec<&DeliveryDelta> = of_owner
        .filter(|delta| owned.contains(&delta.subscription))
        .collect();
    apply(&mut transaction, &of_owner).await?;
    transaction.commit().await?;
    Ok(owned)
}
