//! A unit on its way in, as the source rules see it.
//! Stands between the wire's `PublishUnit` and the rules.
//! Must never hold a 宛名番号 in clear beside the sealed content.
//! Read next: `publish/source_rules.rs`.

use prost::Message;
use sha2::{Digest, Sha256};

use crate::event::seal::Sealed;
use crate::event::{Event, Municipality, Pseudonyms, Subject, Unit};
use crate::store::Claim;
use musubi_proto::hub::v1::{Origin, RefusedUnit};

/// Rule name of a unit that is right and waits behind a held one.
pub const BEHIND_HELD: &str = "BEHIND_HELD";

/// One event of a candidate.
#[derive(Clone, PartialEq, Debug)]
pub struct CandidateEvent {
    /// What the index will hold.
    pub claim: Claim,
    /// A snapshot record: its version needs no predecessor.
    pub snapshot: bool,
    /// The event as it will be stored.
    pub event: Event,
}

/// A unit of events that passed validation.
#[derive(Clone, PartialEq, Debug)]
pub struct Candidate {
    /// Its events in group order.
    pub events: Vec<CandidateEvent>,
    /// The source's key: group id, or event id.
    pub key: String,
    /// File it was captured from; empty for a direct publish.
    pub file: String,
    /// Record in the file.
    pub line: u64,
    /// Held unit that it corrects by name; empty otherwise.
    pub corrects: String,
}

impl Candidate {
    /// Builds a candidate; `now_ms` becomes the recorded time.
    pub fn new(
        pseudonyms: &Pseudonyms,
        m: &Municipality,
        unit: Unit,
        origin: Option<&Origin>,
        corrects: String,
        now_ms: i64,
    ) -> Self {
        let (file, line) = origin.map_or((String::new(), 0), |o| (o.file.clone(), o.line));
        // A captured unit is named by its group and its place; a client may use a group's name
        // again, so that its unit is named by its first event.
        let key = unit
            .events
            .first()
            .map_or_else(String::new, |first| match &first.group {
                Some(group) if origin.is_some() => group.id.clone(),
                _ => first.id.clone(),
            });
        let events = unit
            .events
            .into_iter()
            .map(|event| candidate_event(pseudonyms, m, event, &file, line, now_ms))
            .collect();
        Self {
            events,
            key,
            file,
            line,
            corrects,
        }
    }

    /// Its subjects with their versions, in order.
    pub fn subjects(&self) -> Vec<(Subject, u32)> {
        self.events
            .iter()
            .map(|e| (e.claim.subject.clone(), e.claim.version))
            .collect()
    }

    /// Its content, sealed, for a held copy.
    pub fn sealed(&self) -> Sealed {
        let events = self
            .events
            .iter()
            .map(|event| event.event.clone())
            .collect();
        Sealed::seal(Unit { events }.encode_to_vec())
    }
}

fn candidate_event(
    pseudonyms: &Pseudonyms,
    m: &Municipality,
    mut event: Event,
    file: &str,
    line: u64,
    now_ms: i64,
) -> CandidateEvent {
    if event.source_digest.is_empty() {
        event.source_digest = Sha256::digest(&event.data).to_vec().into();
    }
    event.recorded_at = Some(crate::clock::timestamp(now_ms));
    let claim = Claim {
        id: event.id.clone(),
        digest: event.source_digest.to_vec(),
        event_type: event.r#type.clone(),
        subject: pseudonyms.of(m, &event.subject),
        version: event.subject_version,
        file: file.to_owned(),
        line,
        published_ms: now_ms,
        traceparent: event.traceparent.clone(),
    };
    CandidateEvent {
        snapshot: is_snapshot(&event.r#type),
        claim,
        event,
    }
}

/// True for the records of a snapshot, whatever the system.
pub fn is_snapshot(event_type: &str) -> bool {
    event_type.ends_with("SnapshotPublished")
}

/// A 届出 of which at least one row could not become an event.
#[derive(Clone, PartialEq, Debug)]
pub struct Refused {
    /// The unit as handed in.
    pub unit: RefusedUnit,
    /// Subjects that could be read, with versions (0 when unreadable).
    pub subjects: Vec<(Subject, u32)>,
}

impl Refused {
    /// Builds it.
    pub fn new(pseudonyms: &Pseudonyms, m: &Municipality, unit: RefusedUnit) -> Self {
        let subjects = unit
            .rows
            .iter()
            .filter(|row| !row.subject.is_empty())
            .map(|row| (pseudonyms.of(m, &row.subject), row.subject_version))
            .collect();
        Self { unit, subjects }
    }
}
