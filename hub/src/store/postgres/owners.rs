//! Who owns a municipality, in PostgreSQL: an epoch for each, a lease for each instance.
//! Under `DeliveryStore::own`, and under every write, which names the epoch it is made under.
//! Must never take a municipality whose holder's lease is still held, by this database's clock.
//! Read next: `store/owners.rs`, `store/postgres/session.rs`.
//!
//! ```text
//!   owners   142042 · epoch 7 · holder a      a write: the row FOR SHARE, if the epoch is its own
//!   holders  a · address · lease_until        a renewal: one row, whatever `a` holds
//!   own: the owner's row FOR UPDATE, then its holder's row FOR SHARE: either it waits for a
//!        renewal under way and sees it, or the next renewal waits and sees the new owner
//! ```

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use sqlx::Row;
use uuid::Uuid;

use super::session::{Session, Trouble, retried};
use super::{Identity, PgStore};
use crate::event::Municipality;
use crate::store::{Owner, Owners, StoreError};

/// What this store owns, as it knows it.
#[derive(Debug)]
pub(super) struct Owned {
    /// Names this opening of the store: an instance that starts again is another one, whose
    /// predecessor may still run.
    holder: String,
    identity: Option<Identity>,
    epochs: Mutex<HashMap<Municipality, u64>>,
    /// Being taken: what the database says of them may be newer than `epochs`.
    taking: Mutex<HashSet<Municipality>>,
}

impl Owned {
    pub(super) fn new(identity: Option<Identity>) -> Self {
        Self {
            holder: Uuid::now_v7().to_string(),
            identity,
            epochs: Mutex::default(),
            taking: Mutex::default(),
        }
    }

    /// The epoch that fences a write; `None` when nobody in particular writes, as a tool does.
    pub(super) fn epoch_to_write_under(&self, m: &Municipality) -> Result<Option<u64>, Trouble> {
        let epoch = self.epochs().get(m).copied();
        if epoch.is_none() && self.identity.is_some() {
            return Err(Trouble::fenced(m.as_str()));
        }
        Ok(epoch)
    }

    /// What is written from here on for a municipality is fenced by this epoch.
    pub(super) fn write_under(&self, m: &Municipality, epoch: u64) {
        self.epochs().insert(m.clone(), epoch);
    }

    fn lease_ms(&self) -> i64 {
        let lease = self.identity.as_ref().map(|identity| identity.lease);
        lease.map_or(0, |lease| i64::try_from(lease.as_millis()).unwrap_or(0))
    }

    fn address(&self) -> &str {
        let identity = self.identity.as_ref();
        identity.map_or("", |identity| identity.address.as_str())
    }

    fn taking(&self) -> MutexGuard<'_, HashSet<Municipality>> {
        self.taking.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn epochs(&self) -> MutexGuard<'_, HashMap<Municipality, u64>> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Raises the epoch for nobody in particular.
const RAISE: &str = "INSERT INTO owners (municipality, epoch) VALUES ($1, 1)
ON CONFLICT (municipality) DO UPDATE SET epoch = owners.epoch + 1, holder = NULL RETURNING epoch";

/// Prolongs the lease of a holder.
const PROLONG: &str = "INSERT INTO holders (id, address, lease_until)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 millisecond')
ON CONFLICT (id) DO UPDATE SET lease_until = excluded.lease_until";

/// Instances that ended long ago and left nothing behind.
const FORGET: &str = "DELETE FROM holders h WHERE lease_until < now() - interval '1 day'
AND NOT EXISTS (SELECT 1 FROM owners o WHERE o.holder = h.id)";

impl PgStore {
    /// Makes this instance known as a holder.
    pub(super) async fn introduce(&self) -> Result<(), StoreError> {
        if self.owned.identity.is_none() {
            return Ok(());
        }
        retried!(self, "making the instance known", async {
            let mut session = self.begin().await?;
            let forget = session.query(FORGET);
            forget.execute(&mut *session).await?;
            self.prolong(&mut session).await?;
            session.end().await
        })
    }

    pub(super) async fn prolong(&self, session: &mut Session<'_>) -> Result<(), sqlx::Error> {
        session
            .query(PROLONG)
            .bind(&self.owned.holder)
            .bind(self.owned.address())
            .bind(self.owned.lease_ms())
            .execute(&mut **session)
            .await?;
        Ok(())
    }

    /// Takes a municipality: `DeliveryStore::own`.
    pub(super) async fn own_town(&self, m: &Municipality) -> Result<u64, StoreError> {
        self.owned.taking().insert(m.clone());
        let taken = self.take(m).await;
        if let Ok(epoch) = taken {
            self.owned.write_under(m, epoch);
        }
        self.owned.taking().remove(m);
        taken
    }

    async fn take(&self, m: &Municipality) -> Result<u64, StoreError> {
        retried!(self, "taking ownership", async {
            let mut session = self.begin().await?;
            let epoch: i64 = match self.owned.identity {
                None => {
                    let raise = session.scalar(RAISE).bind(m.as_str());
                    raise.fetch_one(&mut *session).await?
                }
                Some(_) => self.take_over(m, &mut session).await?,
            };
            session.end().await?;
            Ok::<_, Trouble>(epoch.cast_unsigned())
        })
    }

    /// Gives back what the database says this store holds and it does not know of: the answer to
    /// its taking was lost, or its release failed.
    async fn release_unknown(&self, held: &HashMap<String, i64>) -> Result<(), StoreError> {
        let unknown: Vec<&str> = {
            let (epochs, taking) = (self.owned.epochs(), self.owned.taking());
            let known: HashSet<&str> = epochs.keys().chain(&*taking).map(|m| m.as_str()).collect();
            let codes = held.keys().map(String::as_str);
            codes.filter(|code| !known.contains(code)).collect()
        };
        for code in unknown {
            let epoch = held.get(code).copied().unwrap_or_default();
            self.give_back(code, epoch).await?;
        }
        Ok(())
    }

    async fn give_back(&self, code: &str, epoch: i64) -> Result<(), StoreError> {
        retried!(self, "giving a municipality back", async {
            let mut session = self.begin_kept().await?;
            session
                .query("UPDATE owners SET holder = NULL WHERE municipality = $1 AND epoch = $2")
                .bind(code)
                .bind(epoch)
                .execute(&mut *session)
                .await?;
            session.end().await
        })
    }

    /// Takes a municipality when nobody holds it.
    async fn take_over(&self, m: &Municipality, session: &mut Session<'_>) -> Result<i64, Trouble> {
        session
            .query("INSERT INTO owners (municipality, epoch) VALUES ($1, 0) ON CONFLICT DO NOTHING")
            .bind(m.as_str())
            .execute(&mut **session)
            .await?;
        let holder: Option<String> = session
            .scalar("SELECT holder FROM owners WHERE municipality = $1 FOR UPDATE")
            .bind(m.as_str())
            .fetch_one(&mut **session)
            .await?;
        if let Some(other) = holder.filter(|holder| *holder != self.owned.holder) {
            let lease = session
                .query(
                    "SELECT address, lease_until > clock_timestamp() FROM holders WHERE id = $1
                     FOR SHARE",
                )
                .bind(&other)
                .fetch_optional(&mut **session)
                .await?;
            if let Some(lease) = lease.filter(|lease| lease.get(1)) {
                return Err(Trouble::Answer(StoreError::Leased {
                    municipality: m.clone(),
                    holder: lease.get(0),
                }));
            }
        }
        self.prolong(session).await?;
        let epoch = session
            .scalar(
                "UPDATE owners SET epoch = epoch + 1, holder = $2 WHERE municipality = $1
                 RETURNING epoch",
            )
            .bind(m.as_str())
            .bind(&self.owned.holder)
            .fetch_one(&mut **session)
            .await?;
        Ok(epoch)
    }
}

#[async_trait]
impl Owners for PgStore {
    async fn renew(&self) -> Result<Vec<Municipality>, StoreError> {
        // What is taken from now on is not lost because this did not see it yet.
        let mine = self.owned.epochs().clone();
        let held: HashMap<String, i64> = retried!(self, "prolonging leases", async {
            let mut session = self.begin_kept().await?;
            self.prolong(&mut session).await?;
            // Behind the lock on the holder's row: whoever took something over has committed it.
            let rows = session
                .query("SELECT municipality, epoch FROM owners WHERE holder = $1")
                .bind(&self.owned.holder)
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
        })?;
        self.release_unknown(&held).await?;
        let held_at = |m: &Municipality| held.get(m.as_str()).map(|epoch| epoch.cast_unsigned());
        let lost: Vec<(Municipality, u64)> = mine
            .into_iter()
            .filter(|(m, epoch)| held_at(m).is_none_or(|held| held < *epoch))
            .collect();
        let mut epochs = self.owned.epochs();
        let gone = lost.into_iter().filter_map(|(m, epoch)| {
            let same = epochs.get(&m) == Some(&epoch);
            same.then(|| epochs.remove(&m)).flatten()?;
            Some(m)
        });
        Ok(gone.collect())
    }

    async fn release(&self, m: &Municipality) -> Result<(), StoreError> {
        // Whatever is written from here on is refused by this store itself.
        let Some(epoch) = self.owned.epochs().remove(m) else {
            return Ok(());
        };
        self.give_back(m.as_str(), epoch.cast_signed()).await
    }

    async fn others(&self) -> Result<Vec<String>, StoreError> {
        retried!(self, "asking for the other instances", async {
            let mut session = self.read().await?;
            let addresses = session
                .scalar(
                    "SELECT DISTINCT address FROM holders WHERE id <> $1 AND address <> ''
                       AND address <> $2 AND lease_until > clock_timestamp() ORDER BY address",
                )
                .bind(&self.owned.holder)
                .bind(self.owned.address())
                .fetch_all(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(addresses)
        })
    }

    async fn owner_of(&self, m: &Municipality) -> Result<Option<Owner>, StoreError> {
        retried!(self, "asking for an owner", async {
            let mut session = self.read().await?;
            let row = session
                .query(
                    "SELECT h.address, o.epoch, h.lease_until > clock_timestamp(), h.id = $2
                     FROM owners o JOIN holders h ON h.id = o.holder
                     WHERE o.municipality = $1 AND h.address <> ''",
                )
                .bind(m.as_str())
                .bind(&self.owned.holder)
                .fetch_optional(&mut *session)
                .await?;
            session.end().await?;
            Ok::<_, Trouble>(row.map(|row| Owner {
                address: row.get(0),
                epoch: row.get::<i64, _>(1).cast_unsigned(),
                holds: row.get(2),
                is_self: row.get(3),
            }))
        })
    }
}
