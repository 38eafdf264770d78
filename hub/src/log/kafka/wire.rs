//! A record of the log as a record of Kafka: CloudEvents headers for everybody, ours beside them.
//! Between the seam's records and the topic; the digest is checked at every read.
//! Must never put a name, an address or a number anywhere but into the sealed value.
//! Read next: `docs/specs/log.md` (Kafka), `log/kafka/view.rs`.

use std::fmt;

use rdkafka::Message;
use rdkafka::message::{BorrowedMessage, Header, Headers, OwnedHeaders};
use sha2::{Digest, Sha256};

use super::super::{NewRecord, Record, RecordKind};
use crate::event::seal::{IDENTITY, Sealed};
use crate::event::{Municipality, Position, Stream};

/// Bytes of the SHA-256 that are kept: against accidents, not against people.
const DIGEST_BYTES: usize = 8;

const KIND: &str = "hub-kind";
const FENCE: &str = "hub-fence";
const BATCH: &str = "hub-batch";
const BEFORE: &str = "hub-before";
const AT: &str = "hub-at";
const KEY: &str = "hub-key";
const KEY_ID: &str = "hub-key-id";
const DIGEST: &str = "hub-digest";
const ID: &str = "ce_id";

/// Which fence: an owner's epoch, and which of its fences. The later one is the greater one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(super) struct FenceId {
    pub(super) epoch: u64,
    pub(super) number: u64,
}

impl fmt::Display for FenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// Which batch of its fence a record belongs to, and where in it the record stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) batch: u64,
    pub(super) index: u64,
    pub(super) count: u64,
}

impl Member {
    pub(super) fn is_last(self) -> bool {
        self.index + 1 == self.count
    }
}

/// What stands beside a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Marks {
    pub(super) fence: FenceId,
    pub(super) member: Member,
    /// Bytes of all records before it.
    pub(super) before: u64,
    /// When it was appended, in seconds since 1970.
    pub(super) at_s: i64,
}

/// A record with what stands beside it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) record: Record,
    pub(super) marks: Marks,
}

impl Stored {
    /// Bytes of all records up to its end.
    pub(super) fn written(&self) -> u64 {
        self.marks.before + self.record.sealed.bytes.len() as u64
    }
}

/// What was found at a place of a topic.
#[derive(Debug)]
pub(super) enum Seen {
    /// A fence.
    Fence(FenceId),
    /// A record.
    Data(Box<Stored>),
    /// Nothing of ours, or not what was written.
    Foreign(&'static str),
}

/// A record ready to be sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) key: Option<String>,
    pub(super) headers: OwnedHeaders,
    pub(super) payload: Vec<u8>,
}

/// Headers with the digest of what they say.
struct Sheet {
    headers: OwnedHeaders,
    hasher: Sha256,
}

impl Sheet {
    fn new(m: &Municipality, stream: Stream) -> Self {
        let mut hasher = Sha256::new();
        absorb(&mut hasher, m.as_str().as_bytes());
        absorb(&mut hasher, stream.name().as_bytes());
        Self {
            headers: OwnedHeaders::new_with_capacity(16),
            hasher,
        }
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        absorb(&mut self.hasher, key.as_bytes());
        absorb(&mut self.hasher, value.as_bytes());
        let value = Some(value);
        self.headers = self.headers.insert(Header { key, value });
        self
    }

    /// A header of CloudEvents, when there is something to say.
    fn with_some(self, key: &str, value: &str) -> Self {
        if value.is_empty() {
            return self;
        }
        self.with(key, value)
    }

    fn seal(mut self, key: &str, payload: &[u8]) -> OwnedHeaders {
        absorb(&mut self.hasher, key.as_bytes());
        absorb(&mut self.hasher, payload);
        self.headers.insert(Header {
            key: DIGEST,
            value: Some(&digest(self.hasher)),
        })
    }
}

/// Each part with its length, so that no two records have the same bytes.
fn absorb(hasher: &mut Sha256, part: &[u8]) {
    hasher.update((part.len() as u64).to_le_bytes());
    hasher.update(part);
}

fn digest(hasher: Sha256) -> String {
    let bytes = hasher.finalize();
    let kept = bytes.iter().take(DIGEST_BYTES);
    kept.map(|byte| format!("{byte:02x}")).collect()
}

/// A fence as a record.
pub(super) fn fence(m: &Municipality, stream: Stream, id: FenceId) -> Outgoing {
    let sheet = Sheet::new(m, stream)
        .with(KIND, "fence")
        .with(FENCE, &id.to_string());
    Outgoing {
        key: None,
        headers: sheet.seal("", &[]),
        payload: Vec::new(),
    }
}

/// A record as a record.
pub(super) fn data(m: &Municipality, stream: Stream, marks: &Marks, new: NewRecord) -> Outgoing {
    let NewRecord {
        kind,
        key,
        sealed,
        attributes,
    } = new;
    let mut sheet = Sheet::new(m, stream);
    sheet = match kind {
        RecordKind::Event => sheet
            .with("ce_specversion", "1.0")
            .with(ID, &key)
            .with_some("ce_source", &attributes.source)
            .with_some("ce_type", &attributes.event_type)
            .with_some("ce_subject", &attributes.subject)
            .with_some("ce_time", &attributes.time)
            .with("content-type", content_type(&sealed))
            .with(KIND, "event"),
        RecordKind::Control => sheet.with(KEY, &key).with(KIND, "control"),
    };
    let Member {
        batch,
        index,
        count,
    } = marks.member;
    sheet = sheet
        .with(KEY_ID, &sealed.key_id)
        .with(FENCE, &marks.fence.to_string())
        .with(BATCH, &format!("{batch}/{index}/{count}"))
        .with(BEFORE, &marks.before.to_string())
        .with(AT, &marks.at_s.to_string());
    let headers = sheet.seal(&attributes.subject, &sealed.bytes);
    Outgoing {
        key: Some(attributes.subject).filter(|subject| !subject.is_empty()),
        headers,
        payload: sealed.bytes,
    }
}

/// A sealed value is bytes to everybody without the key.
fn content_type(sealed: &Sealed) -> &'static str {
    if sealed.key_id == IDENTITY {
        "application/protobuf"
    } else {
        "application/octet-stream"
    }
}

/// Reads what stands at a place of a topic.
pub(super) fn read(m: &Municipality, stream: Stream, message: &BorrowedMessage<'_>) -> Seen {
    let Some(headers) = message.headers() else {
        return Seen::Foreign("it has no headers of a hub");
    };
    let text = |name: &str| {
        let mut all = headers.iter().filter(|header| header.key == name);
        all.next()
            .and_then(|header| std::str::from_utf8(header.value?).ok())
    };
    let (Some(kind), Some(kept)) = (text(KIND), text(DIGEST)) else {
        return Seen::Foreign("it has no headers of a hub");
    };
    let payload = message.payload().unwrap_or_default();
    let mut hasher = Sheet::new(m, stream).hasher;
    for header in headers.iter().filter(|header| header.key != DIGEST) {
        absorb(&mut hasher, header.key.as_bytes());
        absorb(&mut hasher, header.value.unwrap_or_default());
    }
    absorb(&mut hasher, message.key().unwrap_or_default());
    absorb(&mut hasher, payload);
    if digest(hasher) != kept {
        return Seen::Foreign("its content is not what was written");
    }
    let parse = || -> Option<Seen> {
        let fence = fence_id(text(FENCE)?)?;
        let kind = match kind {
            "fence" => return Some(Seen::Fence(fence)),
            "event" => RecordKind::Event,
            "control" => RecordKind::Control,
            _ => return None,
        };
        let marks = Marks {
            fence,
            member: member(text(BATCH)?)?,
            before: text(BEFORE)?.parse().ok()?,
            at_s: text(AT)?.parse().ok()?,
        };
        let record = Record {
            position: position(message.offset()),
            kind,
            key: text(ID).or_else(|| text(KEY))?.to_owned(),
            sealed: Sealed {
                key_id: text(KEY_ID)?.to_owned(),
                bytes: payload.to_vec(),
            },
        };
        Some(Seen::Data(Box::new(Stored { record, marks })))
    };
    parse().unwrap_or(Seen::Foreign("its headers cannot be read"))
}

fn fence_id(text: &str) -> Option<FenceId> {
    let (epoch, number) = text.split_once('.')?;
    Some(FenceId {
        epoch: epoch.parse().ok()?,
        number: number.parse().ok()?,
    })
}

fn member(text: &str) -> Option<Member> {
    let mut parts = text.split('/').map(|part| part.parse::<u64>().ok());
    Some(Member {
        batch: parts.next()??,
        index: parts.next()??,
        count: parts.next()??,
    })
}

/// Positions start at 1, offsets at 0.
pub(super) fn position(offset: i64) -> Position {
    Position(offset.cast_unsigned().saturating_add(1))
}

/// The offset of a position; that of 0 is the first one.
pub(super) fn offset(position: Position) -> i64 {
    position.0.saturating_sub(1).min(i64::MAX as u64) as i64
}
