//! Moves the records of one stream into the topics, and reads back what stands there.
//! First step of a migration; goes on behind what a former attempt has moved.
//! Must never go on when what stands in the topic is not what the folder has.
//! Read next: `migrate/positions.rs`, `log/kafka/moved.rs`.

use musubi_proto::crash;
use prost::Message;
use sha2::{Digest, Sha256};

use super::positions::Moved;
use super::{MigrateError, Verified, hex};
use crate::event::{Event, Municipality, Position, Pseudonyms, Stream};
use crate::limits::{READ_BYTES_MAX, READ_RECORDS_MAX};
use crate::log::kafka::KafkaLog;
use crate::log::sqlite::SqliteLog;
use crate::log::{Attributes, EventLog, NewRecord, ReadLimit, Record, RecordKind};

const LIMIT: ReadLimit = ReadLimit {
    records: READ_RECORDS_MAX,
    bytes: READ_BYTES_MAX,
};

/// One stream on its way.
pub(super) struct Move<'a> {
    pub(super) old: &'a SqliteLog,
    pub(super) new: &'a KafkaLog,
    pub(super) pseudonyms: &'a Pseudonyms,
    pub(super) m: &'a Municipality,
    pub(super) stream: Stream,
}

/// What was read back.
struct Seen {
    moved: Moved,
    /// The first old record that is not in the topic.
    next: Position,
    verified: Verified,
}

impl Move<'_> {
    /// Moves what is not there yet, reads all of it back and compares.
    pub(super) async fn run(&self) -> Result<(Moved, Verified), MigrateError> {
        let (m, stream) = (self.m, self.stream);
        let old = self.old.bounds(m, stream).await?;
        let mut seen = self.compare().await?;
        if seen.next < old.next {
            self.append(seen.next, old.next).await?;
            self.new.forget_recent(m, stream);
            seen = self.compare().await?;
        }
        if seen.next != old.next {
            return Err(self.differs(seen.next));
        }
        if old.first > Position(1) {
            // What was trimmed must not be looked for where another record stands.
            let first = seen.moved.first();
            if first.is_some() || self.new.bounds(m, stream).await?.first == Position(1) {
                self.new.begin_at(m, stream, first).await?;
            }
        }
        seen.moved.bound(self.new.bounds(m, stream).await?);
        Ok((seen.moved, seen.verified))
    }

    /// Reads both side by side, as far as the new one goes.
    async fn compare(&self) -> Result<Seen, MigrateError> {
        let (m, stream) = (self.m, self.stream);
        let old = self.old.bounds(m, stream).await?;
        let mut moved = Moved::new(old);
        let mut from = self.new.bounds(m, stream).await?.first;
        let mut next = old.first;
        let mut hasher = Sha256::new();
        let mut count = 0;
        loop {
            let there = self.new.read(m, stream, from, LIMIT).await?;
            let Some(last) = there.last() else { break };
            from = last.position.after();
            let mut here = Vec::new().into_iter();
            for record in there {
                if here.len() == 0 {
                    here = self.old.read(m, stream, next, LIMIT).await?.into_iter();
                }
                let same = |old: &Record| {
                    old.kind == record.kind && old.key == record.key && old.sealed == record.sealed
                };
                let Some(old) = here.next().filter(same) else {
                    return Err(self.differs(next));
                };
                moved.push(old.position, record.position);
                for part in [record.key.as_bytes(), &record.sealed.bytes] {
                    hasher.update((part.len() as u64).to_le_bytes());
                    hasher.update(part);
                }
                count += 1;
                next = old.position.after();
            }
        }
        let verified = Verified {
            name: format!("{m} {}", stream.name()),
            count,
            digest: hex(&hasher.finalize()),
        };
        Ok(Seen {
            moved,
            next,
            verified,
        })
    }

    async fn append(&self, mut from: Position, until: Position) -> Result<(), MigrateError> {
        let (m, stream) = (self.m, self.stream);
        while from < until {
            let records = self.old.read(m, stream, from, LIMIT).await?;
            let Some(last) = records.last() else { break };
            let times = self.old.recorded_s(m, stream, from, last.position).await?;
            from = last.position.after();
            let batch = records.into_iter().zip(times);
            let batch = batch.map(|(record, at_s)| (self.again(record), at_s));
            self.new.append_moved(m, stream, batch.collect()).await?;
            crash::point("migrate.appended");
        }
        Ok(())
    }

    /// A record as it is appended, with what is said of it in clear.
    fn again(&self, record: Record) -> NewRecord {
        let Record {
            kind, key, sealed, ..
        } = record;
        let event = match kind {
            RecordKind::Control => None,
            RecordKind::Event => {
                let opened = sealed.clone().open().ok();
                opened.and_then(|bytes| Event::decode(&bytes[..]).ok())
            }
        };
        let attributes = event.map(|event| Attributes {
            subject: self.pseudonyms.of(self.m, &event.subject).0,
            time: event
                .occurred_at
                .or(event.recorded_at)
                .map(|time| time.to_string())
                .unwrap_or_default(),
            source: event.source,
            event_type: event.r#type,
        });
        NewRecord {
            kind,
            key,
            sealed,
            attributes: attributes.unwrap_or_default(),
        }
    }

    fn differs(&self, position: Position) -> MigrateError {
        MigrateError::Differs {
            what: format!(
                "the topic of {} {} holds another record than position {} of the folder",
                self.m,
                self.stream.name(),
                position.0
            ),
        }
    }
}
