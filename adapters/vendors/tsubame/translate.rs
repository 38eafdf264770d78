//! Turns right rows into standard events: one event a row, one unit a 届出.
//! `gather.rs` collects what stands around a row; everything after it is pure.
//! It must never read a file, a clock or the index once the facts are gathered.
//! Read next: `translate/gather.rs`, `translate/record.rs`, then `translate/payload.rs`.

mod attributes;
mod changed;
pub(super) mod codes;
mod gather;
mod payload;
mod record;
mod support;

use musubi_adapter_sdk::Payload;
use musubi_adapter_sdk::hub::{Event, Group, Unit};
use musubi_proto::standard::common::v1::SnapshotPart;
use musubi_proto::standard::resident::v1::ResidentSnapshotPublished;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::SYSTEM;
use super::check::Judged;
use super::ids::{Ids, traceparent};
use super::row::Row;

pub(super) use gather::{Member, gather, gather_snapshot_head};

/// What all events of a capture share.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// 全国地方公共団体コード.
    pub(super) municipality: String,
    /// Makes the ids.
    pub(super) ids: Ids,
}

impl Source {
    /// `urn:jp:lg:<municipality>:system:001`.
    pub(super) fn urn(&self) -> String {
        format!("urn:jp:lg:{}:system:{SYSTEM}", self.municipality)
    }

    /// One 届出 as a unit.
    pub(super) fn unit(&self, members: &[Member]) -> Unit {
        Unit {
            events: members.iter().map(|member| self.change(member)).collect(),
        }
    }

    fn change(&self, member: &Member) -> Event {
        let row = &member.row;
        let payload = payload::payload(member, &self.ids);
        let id = self.ids.change(row.change_number());
        let corrected = member
            .corrected_number
            .map(|number| self.ids.change(number).to_string());
        let cancels = matches!(row.get("idojiyukodo"), "09" | "26" | "58");
        let (annuls, supersedes) = match corrected {
            Some(id) if cancels => (id, String::new()),
            Some(id) => (String::new(), id),
            None => (String::new(), String::new()),
        };
        Event {
            group: Some(Group {
                id: row.get("todokedegurupuid").to_owned(),
                seq: row.number("gurupunaijunjo"),
                size: row.number("gurupukensu"),
            }),
            reason: codes::move_reason(row.get("idojiyukodo")),
            effective_on: row.date("idobi"),
            notified_on: row.date("todokedebi"),
            occurred_at: row.get("shorinichiji").parse().ok(),
            supersedes,
            annuls,
            subject: row.atenabango().to_owned(),
            subject_version: row.version(),
            ..self.event(id, &payload, member.digest.clone())
        }
    }

    /// One row of a full file.
    pub(super) fn snapshot_row(
        &self,
        snapshot: &Snapshot,
        row: &Row,
        judged: &Judged,
        head: Option<&str>,
    ) -> Event {
        let line = judged.record.line;
        let payload = Payload::from(ResidentSnapshotPublished {
            part: SnapshotPart::Record.into(),
            record_no: i64::try_from(line).ok(),
            record: Some(record::record(row, head, &snapshot.as_of)),
            ..snapshot.part()
        });
        Event {
            subject: row.atenabango().to_owned(),
            subject_version: row.version(),
            occurred_at: snapshot.as_of.parse().ok(),
            ..self.event(
                self.ids.snapshot(snapshot.file, line),
                &payload,
                digest(&judged.record.raw),
            )
        }
    }

    /// The header (item 0) or the trailer of a full file.
    pub(super) fn snapshot_edge(&self, snapshot: &Snapshot, part: SnapshotPart) -> Event {
        let item = match part {
            SnapshotPart::Header => 0,
            _ => snapshot.records + 1,
        };
        let payload = Payload::from(ResidentSnapshotPublished {
            part: part.into(),
            total_count: i64::try_from(snapshot.records).ok(),
            ..snapshot.part()
        });
        let digest = digest(format!("{part:?}:{}", snapshot.sha256).as_bytes());
        Event {
            occurred_at: snapshot.as_of.parse().ok(),
            ..self.event(self.ids.snapshot(snapshot.file, item), &payload, digest)
        }
    }

    fn event(&self, id: Uuid, payload: &Payload, source_digest: Vec<u8>) -> Event {
        Event {
            id: id.to_string(),
            source: self.urn(),
            r#type: payload.type_name(),
            municipality: self.municipality.clone(),
            traceparent: traceparent(id),
            source_digest: source_digest.into(),
            data: payload.encode().into(),
            ..Event::default()
        }
    }
}

/// A full file that is being published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    /// Number of the file.
    pub(super) file: u32,
    /// Records in it.
    pub(super) records: u64,
    /// Latest time of operation in it.
    pub(super) as_of: String,
    /// SHA-256 of the file, in hex.
    pub(super) sha256: String,
}

impl Snapshot {
    fn part(&self) -> ResidentSnapshotPublished {
        ResidentSnapshotPublished {
            snapshot_id: format!(
                "{:06}-{}",
                self.file,
                self.sha256.get(..16).unwrap_or_default()
            ),
            as_of: self.as_of.clone(),
            ..ResidentSnapshotPublished::default()
        }
    }
}

/// SHA-256 of what the registry gave.
pub(super) fn digest(raw: &[u8]) -> Vec<u8> {
    Sha256::digest(raw).to_vec()
}
