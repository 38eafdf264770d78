//! Names, places and sealed copies of events.
//! Stands at the bottom of the event path: everything above speaks of these types.
//! Must never know storage or transport.
//! Read next: `publish.rs`.

use std::fmt;

pub mod seal;

pub use musubi_proto::hub::v1::{Event, Stream as WireStream, Unit};

/// 全国地方公共団体コード: the tenant. Six digits with a right check digit.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Municipality(String);

impl Municipality {
    /// Accepts a code of six digits whose check digit is right.
    pub fn parse(code: &str) -> Option<Self> {
        musubi_proto::rules::municipality_code_valid(code).then(|| Self(code.to_owned()))
    }

    /// The six digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Municipality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of the ordered logs of a municipality.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Stream {
    /// Changes as they happen.
    Live,
    /// Snapshots and mass runs.
    Bulk,
}

impl Stream {
    /// All streams.
    pub const ALL: [Stream; 2] = [Stream::Live, Stream::Bulk];

    /// Number in stored rows.
    pub fn number(self) -> i64 {
        match self {
            Stream::Live => 1,
            Stream::Bulk => 2,
        }
    }

    /// Reads a stored number.
    pub fn from_number(number: i64) -> Stream {
        if number == 2 {
            Stream::Bulk
        } else {
            Stream::Live
        }
    }

    /// Reads the wire's value; unspecified is live.
    pub fn from_wire(value: i32) -> Stream {
        Stream::from_number(i64::from(value))
    }

    /// The wire's value.
    pub fn wire(self) -> i32 {
        match self {
            Stream::Live => WireStream::Live as i32,
            Stream::Bulk => WireStream::Bulk as i32,
        }
    }

    /// Lower-case name for logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Live => "live",
            Stream::Bulk => "bulk",
        }
    }
}

/// Place of a record in one stream: opaque, ordered, gaps are legal, 0 is before the first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Position(pub u64);

impl Position {
    /// The smallest position behind this one.
    pub fn after(self) -> Position {
        Position(self.0 + 1)
    }
}

/// True for an event that starts, changes or ends a support measure (支援措置): it overtakes
/// everything else, and somebody is told when a receiver does not apply it in time.
pub fn is_protection(event_type: &str) -> bool {
    let name = event_type.rsplit('.').next();
    name.is_some_and(|name| name.starts_with("SupportMeasure"))
}

/// Pseudonym of a subject: HMAC of municipality and 宛名番号 under the hub's own key, in hex.
/// Safe in logs, metrics and operators' lists; the number itself is not.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Subject(pub String);

/// What makes pseudonyms.
#[derive(Clone)]
pub struct Pseudonyms {
    key: [u8; 32],
}

impl fmt::Debug for Pseudonyms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonyms(..)")
    }
}

impl Pseudonyms {
    /// Uses the hub's key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Pseudonym of one subject of one municipality.
    pub fn of(&self, municipality: &Municipality, subject: &str) -> Subject {
        Subject(self.keyed(&["subject", municipality.as_str(), subject]))
    }

    /// Token that stands for a withheld value; the same value gives the same token.
    pub fn token(&self, municipality: &Municipality, value: &[u8]) -> String {
        let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
        self.keyed(&["token", municipality.as_str(), &value])
    }

    /// Digest by which two hubs find out whether they use the same key.
    pub fn key_check(&self) -> String {
        self.keyed(&["key"])
    }

    fn keyed(&self, parts: &[&str]) -> String {
        use hmac::{Hmac, KeyInit, Mac};
        // A key of any length is accepted by HMAC, so the error cannot occur; an empty
        // pseudonym would be visible at once.
        let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(&self.key) else {
            return String::new();
        };
        for part in parts {
            mac.update(part.as_bytes());
            mac.update(&[0]);
        }
        let bytes = mac.finalize().into_bytes();
        bytes
            .iter()
            .take(16)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}
